"""`cipherkeep-audit party`: a live party: what its enclave attests to now, beside what it registered on the chain."""

from __future__ import annotations

import argparse
import os
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from cipherkeep_attestation.chain.header import Header
from cipherkeep_attestation.chain.state import verify_present
from cipherkeep_attestation.cli.inputs import UsageError, reason, utf8
from cipherkeep_attestation.cli.live import Node, ask_document
from cipherkeep_attestation.cli.output import Section, Verdict, show
from cipherkeep_attestation.cli.parsers import verify_command
from cipherkeep_attestation.cli.trusted import Enclave, add_trust, enclave_of, instance_of, open_trust
from cipherkeep_attestation.errors import EvidenceError, Refused, Stale
from cipherkeep_attestation.handshake import CLOCK_DRIFT, ResponderStatement, judge_responder, judge_with
from cipherkeep_attestation.handshake_messages import CERTIFICATE_FIELD, DOCUMENT_FIELD, read_message
from cipherkeep_attestation.nitro.verify import InsecureAnyMeasurement
from cipherkeep_attestation.receipts.judging import lead
from cipherkeep_attestation.receipts.trust import TrustFile
from cipherkeep_attestation.statements.layout import PARTIES, PartyRecord
from cipherkeep_attestation.statements.registration import measurements_digest
from cipherkeep_attestation.trace import Trace

MAX_HEADER_AGE = timedelta(minutes=10)  # unless the trust file says otherwise: a live party is judged by a live chain
DOCUMENT_AGE = timedelta(minutes=5)
_SECONDS = 60.0  # for everything that is asked, together
_ATTEMPTS = 20  # the chain may move on between a header and a proof
_PAUSE = 0.1  # seconds

PLAN = MappingProxyType(
    {
        "lightclient.root": "The node's chain begins at your trust root.",
        "lightclient.quorum": "Validators with more than two thirds of the power signed its newest header.",
        "receipt.old_header": "The newest header is recent.",
        "proof.root": "The party's record stands in the state under that header.",
        "party.unknown": "The record is that of the party you named.",
        "party.not_registered": "The party is registered, and its registration has not lapsed.",
        "document.nonce": "The document was made for the nonce that was drawn just now.",
        "document.signature": "The document holds under the root that you named, and is no debug enclave's.",
        "document.pcr_mismatch": "The image is one that your own policy names.",
        "handshake.configuration_pcr": "PCR16 is that of the configuration which the enclave claims.",
        "party.registration": "Chain, party, configuration and image are those of the party's record.",
    }
)
_DESCRIPTION = """\
Draw a nonce, have the party's enclave make a document over it, judge the document under the root of the trust file, and
compare it with the party's record on the chain, which is proven from the trust root on. The trust file needs [instance]
and [enclave]; with a policy the image must be one of its releases too. Without --attestation the document is asked for
where $CIPHERKEEP_ATTESTATION says (`cipherkeep dev env` names it), and else at the --node itself, where an operator may
serve both: it is judged by what it says, wherever it comes from."""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `party verify`."""
    verify = verify_command(
        subparsers,
        "party",
        about="live parties",
        judges="compare a live enclave with its party's record",
        description=_DESCRIPTION,
        example="party-1 --node https://kms.example --trust trust.toml",
    )
    verify.add_argument("name", metavar="NAME", help="the party's name")
    verify.add_argument("--node", metavar="URL", required=True, help="JSON-RPC of a node: http://, https:// or unix://")
    verify.add_argument("--attestation", metavar="URL", help="where POST /attestation is served")
    verify.add_argument("--document", metavar="FILE", help="write the document here, where nothing may be yet")
    add_trust(verify)
    verify.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Judge one live party."""
    trust = open_trust(arguments.trust)
    name = utf8(arguments.name, "NAME")
    until = time.monotonic() + _SECONDS
    enclave, instance = enclave_of(trust, arguments.trust), instance_of(trust).name
    trace = Trace()
    refusal: EvidenceError | None = None
    sections: tuple[Section, ...] = ()
    details: dict[str, object] = {}
    try:
        header, index, record = _record(Node(arguments.node, until), name, trust, instance, trace)
        said = _document(arguments, enclave, trace, until=until)
        _compare(arguments.name, trust, record, said, trace)
        rows = _rows(header, index, record, said, enclave)
        sections, details = (Section(f"party {record.name}", tuple(rows.items())),), {"party": rows}
    except EvidenceError as error:
        refusal = error
    checks = trace.checks(
        PLAN, failed=None if refusal is None else refusal.code, detail="" if refusal is None else refusal.detail
    )
    verdict = Verdict(
        subject="party",
        checks=checks,
        refusal=refusal,
        conclusion=f"{arguments.name} runs what it registered",
        sections=sections,
        details=details,
    )
    return show(verdict, as_json=arguments.json)


def _record(node: Node, name: bytes, trust: TrustFile, instance: str, trace: Trace) -> tuple[Header, int, PartyRecord]:
    """The newest header, and the party's index and record under it."""
    found = node.query(f"/index/{instance}/names", name)
    if not isinstance(found, bytes) or len(found) != 8:
        raise Refused("party.unknown", f"{name.decode()}: so this node says; absence is not proven"[:160])
    index = int.from_bytes(found, "big")
    for attempt in range(_ATTEMPTS):
        header = _header(trust, node, trace)
        try:
            value, proof = node.prove(instance, PARTIES, index, under=header.height)
            break
        except Refused:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_PAUSE)
    verify_present(header.app_hash, instance=instance, collection=PARTIES, key=index, value=value, proof=proof)
    trace.passes("proof.root")
    record = PartyRecord.decode(value)
    if record.name.encode() != name:
        raise Refused("party.unknown", record.name)
    trace.passes("party.unknown")
    if record.registration is None:
        raise Refused("party.not_registered", record.name)
    trace.passes("party.not_registered")
    return header, index, record


def _header(trust: TrustFile, node: Node, trace: Trace) -> Header:
    first, newest = node.light_block(trust.root.height), node.light_block()
    now = _now()
    blocks = [first] if newest.header.height == first.header.height else [first, newest]
    header = lead(trust.root, blocks, now=now).head
    trace.passes("lightclient.root", "lightclient.quorum")
    if now - header.time.datetime > (trust.max_header_age or MAX_HEADER_AGE):
        raise Stale("receipt.old_header", _time(header.time.datetime))
    trace.passes("receipt.old_header")
    return header


def _document(arguments: argparse.Namespace, enclave: Enclave, trace: Trace, *, until: float) -> ResponderStatement:
    nonce = secrets.token_bytes(32)
    # Wherever it comes from, a document is judged for what it says.
    proxy = arguments.attestation or os.environ.get("CIPHERKEEP_ATTESTATION") or arguments.node
    message = ask_document(proxy, nonce, until=until)
    if arguments.document is not None:
        _keep(arguments.document, read_message(message, 2, document=DOCUMENT_FIELD, certificate=CERTIFICATE_FIELD))
    # Without a policy of the auditor's, the chain's record decides about the image: `_compare`.
    measurements = enclave.measurements or InsecureAnyMeasurement()
    judge = judge_with(
        root=enclave.root, kind="enclave", measurements=measurements, max_age=DOCUMENT_AGE, clock_drift=CLOCK_DRIFT
    )
    said = judge_responder(message, nonce=nonce, judge=judge, at=_now())
    trace.passes("document.nonce", "document.signature", "handshake.configuration_pcr")
    if enclave.policy is None:
        trace.waives("document.pcr_mismatch", "no policy was named: the record decides")
    else:
        trace.passes("document.pcr_mismatch")
    return said


def _keep(path: str, content: Mapping[str, bytes]) -> None:
    """Write the document for an archive, whatever is then judged of it."""
    try:
        with Path(path).open("xb") as file:
            file.write(content["document"])
    except OSError as error:
        raise UsageError(f"cannot write {path}: {reason(error)}") from None


def _compare(name: str, trust: TrustFile, record: PartyRecord, said: ResponderStatement, trace: Trace) -> None:
    terms = said.terms
    if (terms.party, terms.chain_id) != (name, trust.root.chain_id):
        raise Refused("party.registration", f"party {terms.party} of {terms.chain_id}")
    if terms.configuration_digest != record.configuration:
        raise Refused("party.registration", f"configuration {terms.configuration_digest.hex()}")
    if measurements_digest(dict(said.attestation.pcrs)) != record.measurements:
        raise Refused("party.registration", f"PCR0 {said.attestation.pcrs[0].hex()}")
    trace.passes("party.registration")


def _rows(
    header: Header, index: int, record: PartyRecord, said: ResponderStatement, enclave: Enclave
) -> dict[str, str]:
    attestation = said.attestation
    rows = {
        "index": str(index),
        "proven under header": f"{header.height} of {_time(header.time.datetime)}",
        "evidence key": "" if record.evidence_key is None else record.evidence_key.hex(),
        "signing key": "" if record.signing_key is None else record.signing_key.hex(),
        "registration": "" if record.registration is None else record.registration.hex(),
        "vault manifest": f"number {record.manifest_serial}",
        "configuration": record.configuration.hex(),
        "document's root": enclave.root.name,
        "module": attestation.module_id,
        "nonce": "" if attestation.nonce is None else attestation.nonce.hex(),
        "document made": _time(attestation.timestamp),
    }
    return rows | {f"PCR{number}": attestation.pcrs[number].hex() for number in (0, 1, 2, 16)}


def _now() -> datetime:
    return datetime.now(UTC)


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
