"""`cipherkeep key`: generate keys through governance, and show them with what was verified about them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from cipherkeep_attestation.receipts.judging import Key
from cipherkeep_attestation.statements import governance

from cipherkeep_host import key_files
from cipherkeep_host.appliance.governance import Council
from cipherkeep_host.appliance.plan import key_terms
from cipherkeep_host.chain.client import ChainClient
from cipherkeep_host.cli import output
from cipherkeep_host.cli.dev import Json, State
from cipherkeep_host.cli.session import Session, open_session
from cipherkeep_host.errors import HostError

app = typer.Typer(no_args_is_help=True, help="FHE keys: generated inside the enclave, as governance decides.")


async def row(session: Session, key: Key) -> dict[str, object]:
    """A verified key, as JSON. `served`: whether the coprocessor serves it; null when it does not say."""
    try:
        served: bool | None = await session.client.served_key() == key.id
    except HostError:
        served = None
    return {
        "id": key.id.hex(),
        "served": served,
        "parameters": key.terms.parameters,
        "authorisers": {"public_decrypt": key.terms.public_decrypt, "user_decrypt": key.terms.user_decrypt},
        "material": [{"kind": item.kind, "sha256": item.digest.hex(), "bytes": item.size} for item in key.material],
        "request_block": key.generation.height,
        "proven_under_header": key.generation.header.height,
        "answered_by": [voucher.name for voucher in key.generation.vouchers],
    }


def key_id_of(text: str | None, keys: list[Key]) -> bytes:
    """The id that a command line names in full or by its first digits; the newest key without one."""
    if text is None and keys:
        return keys[-1].id
    found = [key.id for key in keys if text is not None and key.id.hex().startswith(text.lower())]
    if len(found) != 1:
        raise HostError("client.key_unknown", text or "there is no key yet")
    return found[0]


@app.command(epilog="Example: cipherkeep key generate")
def generate(
    state: State = None,
    as_json: Json = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = 180.0,
) -> None:
    """Decide on a new key as this machine's governor, and wait until the enclave has generated it."""

    async def work() -> dict[str, object]:
        async with open_session(state) as session:
            keys = Path(session.environment.keys)
            operator = ChainClient(
                session.chain.rpc, chain_id=session.chain.chain_id, key=key_files.load_ed25519(keys / "operator.key")
            )
            genesis = session.configuration.genesis.digest()
            council = Council(
                operator, session.trust.instance, genesis, [key_files.load_ed25519(keys / "governor.key")]
            )
            signed = await council.decide(governance.KEYGEN, key_terms().to_map())
            asked = await session.client.request_keygen(signed)
            await session.client.wait(asked.id, timeout=timeout)
            return await row(session, await session.client.key(asked.id))

    found = output.run(work())
    output.show_json(found) if as_json else _show(found)


@app.command("list", epilog="Example: cipherkeep key list --json")
def list_(state: State = None, as_json: Json = False) -> None:
    """All keys of the instance."""
    rows = output.run(_all(state))
    if as_json:
        output.show_json(rows)
        return
    words = {True: "yes", False: "no", None: "unknown"}
    cells = [(one["id"], one["parameters"], ", ".join(one["answered_by"]), words[one["served"]]) for one in rows]
    header = ("id", "parameters", "answered by", "served by the coprocessor")
    output.show_table("Keys, each proven from the trust root on", header, cells)


@app.command(epilog="Example: cipherkeep key show 5f0c")
def show(
    key: Annotated[str | None, typer.Argument(help="Id, or its first digits; the newest without one.")] = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """One key: terms, fingerprints of its public material, who answered."""

    async def work() -> dict[str, object]:
        async with open_session(state) as session:
            keys = await session.client.keys()
            return await row(session, await session.client.key(key_id_of(key, keys)))

    found = output.run(work())
    output.show_json(found) if as_json else _show(found)


async def _all(state: Path | None) -> list[dict[str, object]]:
    async with open_session(state) as session:
        return [await row(session, key) for key in await session.client.keys()]


def _show(found: dict[str, object]) -> None:
    lines = dict(found)
    material = lines.pop("material")
    assert isinstance(material, list)
    for item in material:
        lines[item["kind"]] = f"sha256 {item['sha256']}, {item['bytes']:,} bytes"
    output.show_fields("Key, proven from the trust root on", lines)


async def served(session: Session, text: str | None) -> bytes:
    """The key that a command names; without a name the first one, which is the one that the coprocessor serves."""
    keys = await session.client.keys()
    return key_id_of(text, keys[:1] if text is None else keys)
