"""The only place that puts a receipt together: all that an auditor needs about one answered request, from one node.

Nothing is judged here but what chooses: which statements of the governors to enclose. Whoever reads the receipt judges.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from cipherkeep_attestation.chain.header import LightBlock
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.receipts.judging import Evidence, Trust
from cipherkeep_attestation.receipts.receipt import Receipt, Registered
from cipherkeep_attestation.statements import governance, layout, registration, request
from cipherkeep_attestation.statements.binding import verify_binding
from cipherkeep_attestation.statements.governance import Coprocessors, Releases, Statement
from cipherkeep_attestation.statements.layout import Control, PartyRecord, RequestRecord

from cipherkeep_host.client import contract
from cipherkeep_host.client.gather import gather_all
from cipherkeep_host.client.node import Node
from cipherkeep_host.contracts.fhevm.records import number
from cipherkeep_host.errors import HostError

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
        asked, *key = await gather_all(node, trust.instance, counters, root=trust.root)
        record = RequestRecord.decode(asked.record.value)
        if record.state not in (layout.FINAL, layout.REFUSED):
            raise HostError("client.not_final", f"{record.id.hex()}: {record.state}")
        records = {item.key: PartyRecord.decode(item.value) for item in asked.parties}
        registered = [await _registered(node, trust.instance, party) for party in records]
        if attempt == _ATTEMPTS - 1 or all(_pinned(item, records[item.party]) for item in registered):
            break
    blocks = await _blocks(node, asked, registered, trust)
    statements = await _statements(node, trust, body, records, key)
    return Receipt(
        replace(asked, blocks=blocks),
        replace(key[0], blocks=blocks) if key else None,
        tuple(registered),
        tuple(statements),
    )


async def _registered(node: Node, instance: str, party: int) -> Registered:
    data = await node.index(instance, "registrations", number(party))
    if data is None or len(data) <= 8:
        raise HostError("node.answer", f"no registration of party {party}")
    return Registered(party, int.from_bytes(data[:8], "big"), data[8:])


def _pinned(item: Registered, record: PartyRecord) -> bool:
    # A registration that lapsed is pinned by nothing any more; it is enclosed all the same, and judged by the reader.
    return record.registration in (None, hashlib.sha256(item.registration).digest())


async def _blocks(node: Node, asked: Evidence, registered: list[Registered], trust: Trust) -> tuple[LightBlock, ...]:
    """The way from the root past every block that a registration names, to the header of the proofs."""
    last = asked.blocks[-1]
    heights = {trust.root.height}
    for item in registered:
        heights |= {item.height, registration.read(item.registration).claims.block_height}
    heights.discard(last.header.height)
    return (*[await node.light_block(height) for height in sorted(heights)], last)


async def _statements(
    node: Node, trust: Trust, body: request.Request, records: dict[int, PartyRecord], key: list[Evidence]
) -> list[bytes]:
    """The newest releases that list every party's image, and the newest coprocessors that signed every binding."""
    control = (await node.prove(trust.instance, layout.CONTROL, layout.CONTROL_KEY)).value
    found: dict[str, bytes] = {}
    for serial in range(0 if control is None else Control.decode(control).serial, 0, -1):
        data = (await node.prove(trust.instance, layout.STATEMENTS, serial)).value
        statement = None if data is None else _read(data, trust)
        if data is None or statement is None or statement.kind in found:
            continue
        content = statement.content()
        if (isinstance(content, Releases) and _lists(content, records)) or (
            isinstance(content, Coprocessors) and _signed(content, body, key, trust)
        ):
            found[statement.kind] = data
        if len(found) == 2:
            break
    return [found[kind] for kind in sorted(found)]


def _read(data: bytes, trust: Trust) -> Statement | None:
    genesis = trust.genesis
    try:
        return governance.verify(data, governors=genesis.governors, instance=trust.instance, genesis=genesis.digest())
    except EvidenceError:
        return None


def _lists(releases: Releases, records: dict[int, PartyRecord]) -> bool:
    listed = {
        registration.measurements_digest({0: item.pcr0, 1: item.pcr1, 2: item.pcr2}) for item in releases.releases
    }
    return all(record.measurements in listed for record in records.values())


def _signed(coprocessors: Coprocessors, body: request.Request, key: list[Evidence], trust: Trust) -> bool:
    if isinstance(body, request.Keygen):
        return False
    generation = request.decode(key[0].body)
    statement = _read(generation.statement, trust) if isinstance(generation, request.Keygen) else None
    if statement is None:
        return False
    domain = statement.content().bindings()
    try:
        for item in body.ciphertexts:
            verify_binding(item, key_id=body.key_id, domain=domain, coprocessors=coprocessors)
    except EvidenceError:
        return False
    return True
