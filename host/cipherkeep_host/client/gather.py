"""The only place that collects from a node what `receipts.judging` judges."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cipherkeep_attestation.chain.light import LightRoot
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.receipts.judging import Evidence, Shown
from cipherkeep_attestation.statements import layout
from cipherkeep_attestation.statements.layout import RequestRecord

from cipherkeep_host.client import contract
from cipherkeep_host.client.node import Node, Proven
from cipherkeep_host.errors import HostError

_ATTEMPTS = 40  # the chain may move on between a height and its proof
_PAUSE = 0.05  # seconds


async def gather(node: Node, instance: str, counter: int, *, root: LightRoot) -> Evidence:
    """Everything about one request, proven under one header. `HostError` when the node cannot say it."""
    (found,), _ = await gather_all(node, instance, (counter,), root=root)
    return found


async def gather_all(
    node: Node, instance: str, counters: Sequence[int], *, root: LightRoot
) -> tuple[tuple[Evidence, ...], Shown]:
    """Everything about some requests, and the control leaf, all of it proven under one header.

    `HostError` when the node cannot say it.
    """
    bodies = await asyncio.gather(*(contract.body_of(node, instance, counter) for counter in counters))
    answers = await asyncio.gather(*(contract.answers_of(node, instance, counter) for counter in counters))
    last: HostError | None = None
    for _ in range(_ATTEMPTS):
        height = await node.height()
        try:
            shown = [
                await _show(node, instance, counter, height, answers[place]) for place, counter in enumerate(counters)
            ]
            control = await _under(node, instance, layout.CONTROL, layout.CONTROL_KEY, height)
        except HostError as error:
            if error.code not in ("node.query", "client.header_passed", "client.request_unknown"):
                raise
            last = error
            await asyncio.sleep(_PAUSE)
            continue
        first, newest = await asyncio.gather(node.light_block(root.height), node.light_block(height))
        blocks = (first,) if height == root.height else (first, newest)
        evidence = tuple(
            Evidence(blocks, record, body, found, parties)
            for body, (record, found, parties) in zip(bodies, shown, strict=True)
        )
        return evidence, _shown(layout.CONTROL_KEY, control)
    raise last or HostError("client.header_passed")


async def _show(
    node: Node, instance: str, counter: int, height: int, answers: list[tuple[int, bytes]]
) -> tuple[Shown, tuple[tuple[int, bytes], ...], tuple[Shown, ...]]:
    record = await _under(node, instance, layout.REQUESTS, counter, height)
    if record.value is None:
        # The node knows it, so it stands in a block above, and the next header will prove it.
        raise HostError("client.request_unknown", f"request {counter}")
    if _ended(record.value) and not answers:
        # It ended after we looked for its answers.
        answers += await contract.answers_of(node, instance, counter)
    parties = await asyncio.gather(*(_under(node, instance, layout.PARTIES, party, height) for party, _ in answers))
    shown = tuple(_shown(party, proven) for (party, _), proven in zip(answers, parties, strict=True))
    return _shown(counter, record), tuple(answers), shown


async def _under(node: Node, instance: str, collection: str, key: int, height: int) -> Proven:
    """A key's state as it is proven under the header of `height`."""
    found = await node.prove(instance, collection, key, height=height - 1)
    if not found.first_header <= height <= found.last_header:
        raise HostError("client.header_passed", f"{collection}: header {height} of {found.first_header}")
    return found


def _shown(key: int, proven: Proven) -> Shown:
    return Shown(key, proven.value or b"", proven.proof)


def _ended(record: bytes) -> bool:
    try:
        return RequestRecord.decode(record).state in (layout.FINAL, layout.REFUSED)
    except EvidenceError as error:
        raise HostError("node.answer", str(error)[:300]) from None
