"""The only place that puts a receipt together: all that an auditor needs about one answered request, from one node.

Nothing is judged here. Whoever reads the receipt judges.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace

from cipherkeep_attestation.chain.header import LightBlock
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.receipts.judging import Evidence, Shown, Trust
from cipherkeep_attestation.receipts.receipt import MAX_STATEMENTS, Receipt, Registered
from cipherkeep_attestation.statements import answer, layout, registration, request
from cipherkeep_attestation.statements.layout import Control, PartyRecord, RequestRecord

from cipherkeep_host.client import contract
from cipherkeep_host.client.gather import gather_all
from cipherkeep_host.client.node import Node
from cipherkeep_host.contracts.fhevm.records import number
from cipherkeep_host.errors import HostError

_AT_ONCE = 16  # questions to the node
_ATTEMPTS = 5  # a party may register anew between its record's proof and its registration's bytes


async def make_receipt(node: Node, counter: int, *, trust: Trust) -> Receipt:
    """The receipt of an answered request.

    `HostError("client.not_final")` before it is answered, `client.body_gone` and `client.answer_gone` when the node
    has forgotten what it is about.
    """
    body = request.decode(await contract.body_of(node, trust.instance, counter))
    counters = [counter]
    if not isinstance(body, request.Keygen):
        counters.append((await contract.key_row(node, trust.instance, body.key_id)).counter)
    for attempt in range(_ATTEMPTS):
        (asked, *key), control = await gather_all(node, trust.instance, counters, root=trust.root)
        record = RequestRecord.decode(asked.record.value)
        if record.state not in (layout.FINAL, layout.REFUSED):
            raise HostError("client.not_final", f"{record.id.hex()}: {record.state}")
        records = {item.key: PartyRecord.decode(item.value) for item in asked.parties}
        registered = [await _registered(node, trust.instance, party) for party in records]
        if attempt == _ATTEMPTS - 1 or all(_pinned(item, records[item.party]) for item in registered):
            break
    blocks = await _blocks(node, (asked, *key), registered, trust)
    return Receipt(
        replace(asked, blocks=blocks),
        replace(key[0], blocks=blocks) if key else None,
        tuple(registered),
        control,
        await _statements(node, trust.instance, control),
    )


async def _registered(node: Node, instance: str, party: int) -> Registered:
    data = await node.index(instance, "registrations", number(party))
    if data is None or len(data) <= 8:
        raise HostError("node.answer", f"no registration of party {party}")
    return Registered(party, int.from_bytes(data[:8], "big"), data[8:])


def _pinned(item: Registered, record: PartyRecord) -> bool:
    # A registration that lapsed is pinned by nothing any more; it is enclosed all the same, and judged by the reader.
    return record.registration in (None, hashlib.sha256(item.registration).digest())


async def _blocks(
    node: Node, evidence: Sequence[Evidence], registered: list[Registered], trust: Trust
) -> tuple[LightBlock, ...]:
    """The way from the root past every block that a registration or an answer names, to the header of the proofs."""
    last = evidence[0].blocks[-1]
    heights = {trust.root.height}
    try:
        answers = [answer.unverified(data) for item in evidence for _, data in item.answers]
    except EvidenceError as error:
        raise HostError("node.answer", str(error)[:300]) from None
    heights |= {given.context.head_height for given in answers}
    for item in registered:
        heights |= {item.height, registration.read(item.registration).claims.block_height}
    heights.discard(last.header.height)
    return (*[await node.light_block(height) for height in sorted(heights)], last)


async def _statements(node: Node, instance: str, control: Shown) -> tuple[bytes, ...]:
    """All that the control leaf counts, some at a time."""
    try:
        serial = Control.decode(control.value).serial
    except EvidenceError as error:
        raise HostError("node.answer", str(error)[:300]) from None
    if serial > MAX_STATEMENTS:
        raise HostError("client.receipt_size", f"{serial} statements, at most {MAX_STATEMENTS}")
    found: list[bytes] = []
    for first in range(1, serial + 1, _AT_ONCE):
        serials = range(first, min(first + _AT_ONCE, serial + 1))
        proven = await asyncio.gather(*(node.prove(instance, layout.STATEMENTS, number) for number in serials))
        found += [item.value or b"" for item in proven]
    return tuple(found)
