"""The only place on the client's side that looks into the contract's indexes: hints, each to be compared with a proof.

The names and forms are those of `contracts.fhevm.records`.
"""

from __future__ import annotations

from typing import Any

from cipherkeep_attestation import cbor, cose
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements import answer as answers
from cipherkeep_attestation.statements import request
from cipherkeep_attestation.statements.governance import Coprocessors
from cipherkeep_attestation.statements.transaction import MAX_TRANSACTION

from cipherkeep_host.client.node import Node
from cipherkeep_host.contracts.fhevm.limits import LIMITS
from cipherkeep_host.contracts.fhevm.records import KeyRow, number
from cipherkeep_host.errors import HostError


async def counter_of(node: Node, instance: str, request_id: bytes) -> int:
    """The counter of a request. `HostError("client.request_unknown")`."""
    data = await node.index(instance, "ids", request_id)
    if data is None or len(data) != 8:
        raise HostError("client.request_unknown", request_id.hex())
    return int.from_bytes(data, "big")


async def body_of(node: Node, instance: str, counter: int) -> bytes:
    """A request's bytes. `HostError("client.body_gone")` some time after it has ended."""
    data = await node.index(instance, "bodies", number(counter))
    if data is None:
        raise HostError("client.body_gone", f"request {counter}")
    return data


async def bodies_of_block(node: Node, instance: str, height: int) -> dict[bytes, bytes]:
    """The requests in a block's transactions by their SHA-256: one call for all of them. What is not there, or was
    refused, shows when digests are compared with the inbox; `body_of` finds what is missing."""
    found: dict[bytes, bytes] = {}
    for data in await node.transactions(height):
        try:
            transaction = cbor.decode(cose.unverified_payload(data, limit=MAX_TRANSACTION))
        except EvidenceError:
            continue
        messages = transaction.get("messages") if isinstance(transaction, dict) else None
        for message in messages if isinstance(messages, list) else []:
            match message:
                case [str(to), str(), {"request": bytes(body)}] if to == instance:
                    found[request.request_digest(body)] = body
    return found


async def answers_of(node: Node, instance: str, counter: int) -> list[tuple[int, bytes]]:
    """(party, signed answer) of those that made a request final; empty before."""
    rows = _read(await node.index(instance, "answers", number(counter)), _ROWS, [])
    found = []
    for party, digest, size in rows:
        if size > answers.MAX_ANSWER:
            raise HostError("node.answer", f"an answer of {size} bytes")
        parts = []
        for place in range(-(-size // LIMITS.part)):
            part = await node.index(instance, "parts", digest + place.to_bytes(2, "big"))
            if part is None:
                raise HostError("client.answer_gone", f"request {counter}, party {party}")
            parts.append(part)
        found.append((party, b"".join(parts)))
    return found


async def key_ids(node: Node, instance: str) -> tuple[bytes, ...]:
    """The ids of all keys, the oldest first."""
    found: tuple[bytes, ...] = _read(await node.index(instance, "keys", b""), _IDS, [])
    return found


async def key_row(node: Node, instance: str, key_id: bytes) -> KeyRow:
    """Where a key comes from and what it is for. `HostError("client.key_unknown")`."""
    data = await node.index(instance, "keys", key_id) if len(key_id) == 32 else None
    if data is None:
        raise HostError("client.key_unknown", key_id.hex())
    try:
        return KeyRow.decode(data)
    except EvidenceError as error:
        raise HostError("node.answer", str(error)[:300]) from None


async def coprocessors(node: Node, instance: str) -> Coprocessors | None:
    """The coprocessors in force."""
    data = await node.index(instance, "policy", b"coprocessors")
    try:
        return None if data is None else Coprocessors.of_map(cbor.decode(data))
    except EvidenceError as error:
        raise HostError("node.answer", str(error)[:300]) from None


_IDS = cbor.sequence(cbor.raw(32), LIMITS.keys)


def _row(value: object) -> tuple[int, bytes, int]:
    if not isinstance(value, list) or len(value) != 3:
        raise HostError("node.answer", "an answer is named by [party, digest, size]")
    row = {"party": value[0], "digest": value[1], "size": value[2]}
    found = cbor.fields(row, party=cbor.uint(LIMITS.parties, least=1), digest=cbor.raw(32), size=cbor.uint(least=1))
    return found["party"], found["digest"], found["size"]


_ROWS = cbor.sequence(_row, LIMITS.parties)


def _read(data: bytes | None, reader: cbor.Reader, otherwise: list[object]) -> Any:
    try:
        return cbor.fields({"value": otherwise if data is None else cbor.decode(data)}, value=reader)["value"]
    except EvidenceError as error:
        raise HostError("node.answer", str(error)[:300]) from None
