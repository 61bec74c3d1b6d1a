"""`cipherkeep request`, `party`, `attest`: what the chain and the enclave can prove."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from cipherkeep_attestation.chain.state import verify_present
from cipherkeep_attestation.handshake import judge_responder, judge_with
from cipherkeep_attestation.nitro.verify import Measurements, TrustRoot
from cipherkeep_attestation.receipts.judging import follow
from cipherkeep_attestation.statements import layout

from cipherkeep_host import durable
from cipherkeep_host.appliance.plan import Environment
from cipherkeep_host.cli import output
from cipherkeep_host.cli.dev import Json, State
from cipherkeep_host.cli.session import Session, configuration_of, environment_of, open_session
from cipherkeep_host.client.receipts import make_receipt
from cipherkeep_host.errors import HostError

request_app = typer.Typer(no_args_is_help=True, help="Requests, with the proof of their state.")
party_app = typer.Typer(no_args_is_help=True, help="Parties: who holds keys, and in which image.")
_DOCUMENT_AGE = timedelta(minutes=5)


@request_app.command("show", epilog="Example: cipherkeep request show 5f0c… --json")
def show_request(
    request_id: Annotated[str, typer.Argument(help="The request's id, 64 hexadecimal digits.")],
    state: State = None,
    as_json: Json = False,
    receipt: Annotated[Path | None, typer.Option(help="Write the answer's receipt here, for auditors.")] = None,
) -> None:
    """A request's state, proven from the trust root on. With --json the proof itself is printed too."""

    async def work() -> dict[str, object]:
        try:
            wanted = bytes.fromhex(request_id)
        except ValueError:
            raise HostError("client.request_unknown", request_id[:80]) from None
        async with open_session(state) as session:
            found = await session.client.state(wanted)
            record, shown = found.record, found.evidence.record
            why = await session.client.obstacle(found) if record.state == layout.PENDING else None
            if receipt is not None:
                made = await make_receipt(session.node, found.counter, trust=session.trust)
                durable.write(receipt, made.encode(), mode=0o644)
            return {
                "request": record.id.hex(),
                "operation": record.operation,
                "state": record.state,
                "obstacle": None if why is None else output.problem(why),
                "counter": found.counter,
                "block": record.height,
                "digest": record.digest.hex(),
                "agreement": None if record.agreement is None else record.agreement.hex(),
                "answers": {str(party): digest.hex() for party, digest in record.answers},
                "proven_under": {"height": found.header_height, "hash": found.header_hash.hex()},
                "proof": {"key": shown.key, "value": shown.value.hex(), "proof": shown.proof.encode().hex()},
            }

    found = output.run(work())
    if as_json:
        output.show_json(found)
        return
    found.pop("proof")
    if (obstacle := found.pop("obstacle")) is not None:
        found |= {f"obstacle, {name}": text for name, text in obstacle.items()}
    output.show_fields("Request, proven from the trust root on", found)


@party_app.command("list", epilog="Example: cipherkeep party list")
def list_parties(state: State = None, as_json: Json = False) -> None:
    """All parties of the instance."""
    rows = output.run(_parties(state))
    if as_json:
        output.show_json(rows)
        return
    cells = [(row["index"], row["name"], row["evidence_key"] or "not registered") for row in rows]
    output.show_table("Parties, each proven from the trust root on", ("index", "name", "evidence key"), cells)


@party_app.command("show", epilog="Example: cipherkeep party show party-1 --json")
def show_party(
    name: Annotated[str, typer.Argument(help="The party's name.")], state: State = None, as_json: Json = False
) -> None:
    """One party: its keys, image, configuration and vault."""

    async def work() -> dict[str, object]:
        for row in await _parties(state):
            if row["name"] == name:
                return row
        raise HostError("cli.party", name[:80])

    found = output.run(work())
    output.show_json(found) if as_json else output.show_fields("Party, proven from the trust root on", found)


async def _parties(state: Path | None) -> list[dict[str, Any]]:
    async with open_session(state) as session:
        last = await session.chain.last_key(session.trust.instance, layout.PARTIES)
        return [await _party(session, index) for index in range(1, last + 1)]


async def _party(session: Session, index: int) -> dict[str, Any]:
    found = await session.chain.prove(session.trust.instance, layout.PARTIES, index)
    if found.value is None:
        raise HostError("cli.party", str(index))
    first = await session.node.light_block(session.trust.root.height)
    blocks = [first] if found.block.header.height == first.header.height else [first, found.block]
    header, _ = follow(session.trust, blocks, now=datetime.now(UTC))
    verify_present(
        header.app_hash,
        instance=session.trust.instance,
        collection=layout.PARTIES,
        key=index,
        value=found.value,
        proof=found.proof,
    )
    record = layout.PartyRecord.decode(found.value)

    def text(value: bytes | None) -> str | None:
        return None if value is None else value.hex()

    return {
        "index": index,
        "name": record.name,
        "evidence_key": text(record.evidence_key),
        "signing_key": text(record.signing_key),
        "configuration": text(record.configuration),
        "measurements": text(record.measurements),
        "registration": text(record.registration),
        "manifest": {"serial": record.manifest_serial, "digest": text(record.manifest)},
        "proven_under_header": header.height,
    }


def attest(state: State = None, as_json: Json = False) -> None:
    """Ask the enclave for a document over a fresh nonce, and judge it: image, configuration, TLS key."""
    found = output.run(attestation(environment_of_or_fail(state)))
    if as_json:
        output.show_json(found)
        return
    output.show_fields("The enclave's document is in order", found)


def environment_of_or_fail(state: Path | None) -> Environment:
    """The environment, or the error and its exit code."""
    try:
        return environment_of(state)
    except HostError as error:
        output.fail(error)


def root_of(environment: Environment) -> TrustRoot:
    """The root of this machine's emulated enclaves."""
    return TrustRoot(Path(environment.enclave_root).read_bytes(), "emulated")


async def attestation(environment: Environment) -> dict[str, object]:
    """What a fresh document of the enclave proves. `EvidenceError` names the rule that failed."""
    nonce = secrets.token_bytes(32)
    transport = httpx.AsyncHTTPTransport(uds=environment.attestation.removeprefix("unix://"))
    async with httpx.AsyncClient(transport=transport, timeout=20, trust_env=False) as client:
        try:
            answer = await client.post("http://proxy/attestation", json={"nonce": nonce.hex()})
            message = bytes.fromhex(answer.raise_for_status().json()["message"])
        except (httpx.HTTPError, KeyError, TypeError, ValueError) as problem:
            raise HostError("cli.attestation", str(problem)[:200]) from None
    measured, root = configuration_of(environment), root_of(environment)
    expected = Measurements({int(index): bytes.fromhex(value) for index, value in environment.pcrs.items()})
    judge = judge_with(root=root, kind="enclave", measurements=(expected,), max_age=_DOCUMENT_AGE)
    said = judge_responder(message, nonce=nonce, judge=judge, at=datetime.now(UTC))
    if said.terms.configuration_digest != measured.digest():
        raise HostError("cli.configuration", said.terms.configuration_digest.hex())
    pcrs = said.attestation.pcrs
    return {
        "module": said.attestation.module_id,
        "vouched for by": "the EMULATED root of this machine: whoever owns the machine can forge this",
        "PCR0 (image)": pcrs[0].hex(),
        "PCR1 (kernel)": pcrs[1].hex(),
        "PCR2 (application)": pcrs[2].hex(),
        "PCR16 (configuration)": pcrs[16].hex(),
        "configuration": measured.digest().hex(),
        "insecure settings": ", ".join(measured.insecure) or "none",
        "party": said.terms.party,
        "document made": said.attestation.timestamp.isoformat(),
        "leaf certificate ends": said.attestation.not_after.isoformat(),
    }
