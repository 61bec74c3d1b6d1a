"""`cipherkeep-audit answer`: one answer end to end, from the receipt alone: who asked what, and what held the key."""

from __future__ import annotations

import argparse
import hashlib
from datetime import UTC, datetime

from cipherkeep_attestation.cli.inputs import read_head
from cipherkeep_attestation.cli.output import Section, Verdict, show
from cipherkeep_attestation.cli.parsers import verify_command
from cipherkeep_attestation.cli.trusted import add_time, add_trust, enclave_of, instance_of, open_trust, time_of
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.receipts.judging import Trust
from cipherkeep_attestation.receipts.offline import PLAN, Audited, Holder, audit, genesis_of
from cipherkeep_attestation.receipts.receipt import MAX_RECEIPT, Receipt
from cipherkeep_attestation.statements import eip712, request
from cipherkeep_attestation.statements.material import GeneratedKey
from cipherkeep_attestation.trace import Check, Trace

_DESCRIPTION = """\
Judge a receipt (`cipherkeep request show ID --receipt FILE`) with nothing but the receipt and your trust file: headers,
the request's record, its answers, the key's generation, and for each party that answered the attested image and
configuration that hold its keys. The trust file needs [instance] and [enclave]."""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `answer verify`."""
    verify = verify_command(
        subparsers,
        "answer",
        about="answers, from their receipts",
        judges="judge one receipt end to end",
        description=_DESCRIPTION,
        example="receipt.cbor --trust trust.toml --at now",
    )
    verify.add_argument("receipt", metavar="RECEIPT", help="the receipt's file")
    verify.add_argument(
        "--decisions",
        metavar="N",
        type=_count,
        help="judge by the governors' first N statements only: for an answer that is older than a later decision",
    )
    add_time(verify)
    add_trust(verify)
    verify.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Judge one receipt and print what it shows."""
    trust_file, now = open_trust(arguments.trust), time_of(arguments)
    named, enclave = instance_of(trust_file), enclave_of(trust_file, arguments.trust)
    data = read_head(arguments.receipt, MAX_RECEIPT + 1)
    trace = Trace()
    refusal: EvidenceError | None = None
    audited: Audited | None = None
    try:
        receipt = Receipt.decode(data)
        trace.passes("encoding.schema")
        genesis = named.genesis or genesis_of(receipt, named.genesis_digest)
        trust = Trust(trust_file.root, named.name, genesis, trust_file.max_header_age)
        audited = audit(
            receipt,
            trust=trust,
            enclave_root=enclave.root,
            measurements=enclave.measurements,
            now=now,
            decided=arguments.decisions,
            trace=trace,
        )
    except EvidenceError as error:
        refusal = error
    checks = trace.checks(
        PLAN, failed=None if refusal is None else refusal.code, detail="" if refusal is None else refusal.detail
    )
    if audited is None:
        assert refusal is not None
        return show(Verdict(subject="answer", checks=checks, refusal=refusal), as_json=arguments.json)
    return show(_verdict(audited, checks, enclave.root.name), as_json=arguments.json)


def _verdict(audited: Audited, checks: tuple[Check, ...], root: str) -> Verdict:
    verified = audited.verified
    rows = {**_question(audited), **_outcome(audited)}
    rows["decisions of the governors"] = f"{audited.decisions.control.serial} of {audited.statements}"
    sections = [Section("the request and its answer", tuple((name, _text(value)) for name, value in rows.items()))]
    holders = [_holder(holder, root) for holder in audited.holders]
    for holder in holders:
        title = f"party {holder['party']}, which signed"
        sections.append(Section(title, tuple((name, _text(value)) for name, value in holder.items())))
    refused = "" if verified.core.refusal is None else f", which is the refusal {verified.core.refusal}"
    by = f"{len(holders)} {'party' if len(holders) == 1 else 'parties'}"
    return Verdict(
        subject="answer",
        checks=checks,
        conclusion=f"{verified.core.operation} {verified.id.hex()} was answered by {by}{refused}",
        sections=tuple(sections),
        warnings=_warnings(audited),
        details={"answer": rows, "parties": holders},
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 8 and int(text) >= 1):
        raise argparse.ArgumentTypeError("a number from 1")
    return int(text)


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _question(audited: Audited) -> dict[str, object]:
    verified, asked = audited.verified, audited.verified.asked
    rows: dict[str, object] = {"request": verified.id.hex(), "operation": asked.operation, "asked by": _asker(asked)}
    rows |= {"in block": verified.height, "proven under header": verified.header.height}
    rows |= {"of time": _time(verified.header.time.datetime), "header hash": verified.header_hash.hex()}
    if isinstance(asked, request.Keygen):
        return {**rows, "parameters": audited.terms.parameters}
    rows |= {"key": asked.key_id.hex(), "handles": [item.handle.hex() for item in asked.ciphertexts]}
    rows["ciphertext digests"] = [item.digest.hex() for item in asked.ciphertexts]
    rows["owners of the handles"] = sorted({eip712.checksum(item.owner) for item in asked.ciphertexts})
    return rows


def _asker(asked: request.Request) -> str:
    if isinstance(asked, request.UserDecrypt):
        return f"user {eip712.checksum(asked.user)}, who signed the request"
    if isinstance(asked, request.Keygen):
        return "the governors, who signed the statement"
    if asked.source is None:
        return "anyone: public decryption names no asker"
    source = asked.source
    return f"request {source.request} of contract {eip712.checksum(source.contract)} on chain {source.chain_id}"


def _outcome(audited: Audited) -> dict[str, object]:
    core = audited.verified.core
    if core.refusal is not None:
        return {"refused": core.refusal}
    if isinstance(audited.verified.asked, request.Keygen) and core.result is not None:
        made = GeneratedKey.of_map(core.result)
        return {"public material": [f"{item.kind} {item.digest.hex()}, {item.size} bytes" for item in made.material]}
    values = [f"{name} {value}" for _, name, value in audited.verified.values]
    if values:
        return {"values": values}
    if isinstance(audited.verified.asked, request.UserDecrypt):
        return {"values": "re-encrypted to the user's key, which alone opens them"}
    return {}


def _holder(holder: Holder, root: str) -> dict[str, object]:
    voucher, attestation, configuration = holder.voucher, holder.attestation, holder.configuration
    rows: dict[str, object] = {
        "party": voucher.name,
        "evidence key": voucher.evidence_key.hex(),
        "signer": eip712.checksum(voucher.signer),
        "answer": voucher.answer_hash.hex(),
        "typed data": voucher.typed_data or "none",
        "answered under header": voucher.head_height,
        "header hash": voucher.head_hash.hex(),
        "registered in block": holder.registered,
        "document made": _time(attestation.timestamp),
        "document's root": root,
        "release": holder.release,
    }
    rows |= {f"PCR{index}": attestation.pcrs[index].hex() for index in (0, 1, 2, 16)}
    kms = configuration.kms
    return rows | {
        "configuration": configuration.digest().hex(),
        "root for enclaves": hashlib.sha256(configuration.enclave_root).hexdigest(),
        "root for hosts": hashlib.sha256(configuration.host_root).hexdigest(),
        "insecure settings": list(configuration.insecure),
        "vault key": None if kms is None else kms.key_arn,
    }


def _warnings(audited: Audited) -> tuple[str, ...]:
    found = []
    left = audited.statements - audited.decisions.control.serial
    if left:
        found.append(f"{left} later decisions of the governors are left out, as you asked")
    if audited.fork is not None:
        found.append(f"the chain has forked, and governors have not lifted that: {audited.fork.hex()}")
    if audited.key_id in audited.decisions.retired:
        found.append("the governors have retired this key; whether before the answer is not shown")
    found += [
        f"{name} registered anew after it answered: the keys are the same, which image used them then is not shown"
        for name in audited.registered_later
    ]
    for holder in audited.holders:
        if holder.configuration.insecure:
            settings = ", ".join(holder.configuration.insecure)
            found.append(f"{holder.voucher.name} runs with {settings}")
    return tuple(found)


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
