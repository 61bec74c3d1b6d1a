"""`cipherkeep encrypt`, `decrypt`, `user-decrypt`: the three things that users do with values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from cipherkeep_attestation.receipts.judging import Verified
from cipherkeep_attestation.statements import fhevm

from cipherkeep_host.cli import output
from cipherkeep_host.cli.dev import Json, State
from cipherkeep_host.cli.keys import served
from cipherkeep_host.cli.session import address_of, open_session, user_key
from cipherkeep_host.client.user_decryption import UserKey
from cipherkeep_host.errors import HostError

# Stands for a dApp's contract until a local EVM runs one.
CONTRACT = bytes.fromhex("c000000000000000000000000000000000000001")
Key = Annotated[str | None, typer.Option("--key", help="Key id or its first digits; the coprocessor's without one.")]
User = Annotated[Path | None, typer.Option("--user-key", help="File with the user's key (hex); a test user without.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait for the answer.")]
Handles = Annotated[list[str], typer.Argument(help="Handles, 64 hexadecimal digits each.", metavar="HANDLE…")]


def parse_value(text: str) -> tuple[str, int]:
    """`TYPE:VALUE`, such as `uint64:42`, `bool:true`, `address:0x…`. `HostError("cli.value")`."""
    name, _, value = text.partition(":")
    if name == "address" and re.fullmatch(r"0x[0-9a-fA-F]{40}", value):
        return "uint160", int(value, 16)
    if name == "bool" and value in ("true", "false"):
        return "bool", int(value == "true")
    try:
        number = int(value, 0)
    except ValueError:
        raise HostError("cli.value", text[:80]) from None
    if name not in fhevm.TYPES or not 0 <= number < 1 << fhevm.TYPES[name][1]:
        raise HostError("cli.value", text[:80])
    return name, number


def parse_handles(texts: list[str]) -> list[bytes]:
    """Handles from the command line. `HostError("cli.handle")`."""
    found = []
    for text in texts:
        digits = text.removeprefix("0x")
        if not re.fullmatch(r"[0-9a-fA-F]{64}", digits):
            raise HostError("cli.handle", text[:80])
        found.append(bytes.fromhex(digits))
    return found


def report(verified: Verified, values: tuple[tuple[bytes, str, int], ...]) -> dict[str, object]:
    """A verified answer with its values, as JSON."""
    return {
        "request": verified.id.hex(),
        "values": [{"handle": handle.hex(), "type": name, "value": value} for handle, name, value in values],
        "request_block": verified.height,
        "proven_under_header": verified.header.height,
        "signed_by": [
            {"party": item.name, "address": "0x" + item.signer.hex(), "typed_data": item.typed_data}
            for item in verified.vouchers
        ],
    }


def show(found: dict[str, object], title: str) -> None:
    """A report on a terminal."""
    values, signers = found["values"], found["signed_by"]
    assert isinstance(values, list)
    assert isinstance(signers, list)
    output.show_table(title, ("type", "value", "handle"), [(v["type"], v["value"], v["handle"]) for v in values])
    output.out.print(
        f"request {found['request']}\nin block {found['request_block']}, answer proven under header "
        f"{found['proven_under_header']}, signed by {', '.join(item['party'] for item in signers)}",
        markup=False,
    )


def encrypt(
    values: Annotated[list[str], typer.Argument(help="TYPE:VALUE, such as uint64:42 or bool:true.", metavar="VALUE…")],
    state: State = None,
    key: Key = None,
    user: User = None,
    as_json: Json = False,
) -> None:
    """Encrypt values here, prove it, and have the coprocessor bind them to handles that you own."""

    async def work() -> list[dict[str, object]]:
        parsed = [parse_value(text) for text in values]
        async with open_session(state) as session:
            owner = address_of(user_key(session.environment, user))
            key_id = await served(session, key)
            bound = await session.client.encrypt(key_id, parsed, user=owner, contract_address=CONTRACT)
            return [
                {"handle": item.handle.hex(), "type": name, "digest": item.digest.hex(), "owner": "0x" + owner.hex()}
                for item, (name, _) in zip(bound, parsed, strict=True)
            ]

    rows = output.run(work())
    if as_json:
        output.show_json(rows)
        return
    output.show_table(
        "Encrypted and bound",
        ("type", "handle", "sha256 of the ciphertext"),
        [(row["type"], row["handle"], row["digest"]) for row in rows],
    )


def decrypt(
    handles: Handles, state: State = None, key: Key = None, as_json: Json = False, timeout: Timeout = 60.0
) -> None:
    """Have ciphertexts opened for everyone, and verify the answer."""

    async def work() -> dict[str, object]:
        wanted = parse_handles(handles)
        async with open_session(state) as session:
            asked = await session.client.request_public_decrypt(await served(session, key), wanted)
            verified = await session.client.wait(asked.id, timeout=timeout)
            return report(verified, verified.values)

    found = output.run(work())
    output.show_json(found) if as_json else show(found, "Opened for everyone")


def user_decrypt(
    handles: Handles,
    state: State = None,
    key: Key = None,
    user: User = None,
    as_json: Json = False,
    timeout: Timeout = 60.0,
) -> None:
    """Have ciphertexts that you own re-encrypted to a key made for this call, and open them here."""

    async def work() -> dict[str, object]:
        wanted = parse_handles(handles)
        async with open_session(state) as session:
            pair = UserKey.generate()
            asked = await session.client.request_user_decrypt(
                await served(session, key),
                wanted,
                user=user_key(session.environment, user),
                user_key=pair,
                contracts=[CONTRACT],
            )
            verified = await session.client.wait(asked.id, timeout=timeout)
            return report(verified, await session.client.open(verified, user_key=pair))

    found = output.run(work())
    output.show_json(found) if as_json else show(found, "Opened for you alone")
