"""The only place that collects what the enclave needs for requests: bodies and ciphertexts, in few calls for many.

A block's transactions hold the bodies of its requests, the store hands out many ciphertexts at once. Both are compared
with digests that are proven; what is missing or wrong is a problem of its own request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements import request
from cipherkeep_attestation.statements.binding import MAX_CIPHERTEXT
from cipherkeep_attestation.statements.layout import InboxEntry

from cipherkeep_host.client import contract
from cipherkeep_host.client.node import Node
from cipherkeep_host.errors import HostError
from cipherkeep_host.store.client import StoreClient


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request with all that the enclave needs for it."""

    entry: InboxEntry
    body: bytes
    ciphertexts: tuple[bytes, ...]
    slow: bool = False  # a key generation, which takes seconds

    @property
    def size(self) -> int:
        """Bytes, about."""
        return len(self.body) + sum(map(len, self.ciphertexts)) + 64


class Preparer:
    """Collects from one node and one store, with at most `calls` calls at once."""

    def __init__(self, node: Node, store: StoreClient, *, instance: str, calls: int) -> None:
        self._node = node
        self._store = store
        self._instance = instance
        self._calls = asyncio.Semaphore(calls)

    async def prepare(
        self, height: int, entries: Sequence[InboxEntry]
    ) -> list[tuple[InboxEntry, Prepared | HostError]]:
        """Bodies and ciphertexts, in few calls for all of them; what is missing is a problem of its own request."""
        try:
            async with self._calls:
                block = await contract.bodies_of_block(self._node, self._instance, height)
        except HostError:
            block = {}  # a node that has pruned the block still has the bodies of open requests
        bodies = await asyncio.gather(*(self._body(entry, block) for entry in entries))
        wanted = [None if isinstance(body, HostError) else _wanted(body) for body in bodies]
        digests = list(dict.fromkeys(digest for row in wanted for digest in row or ()))
        try:
            async with self._calls:
                blobs = await self._store.get_many(digests)
        except HostError as error:
            return [(entry, body if isinstance(body, HostError) else error) for entry, body in _pairs(entries, bodies)]
        prepared: list[tuple[InboxEntry, Prepared | HostError]] = []
        for (entry, body), row in zip(_pairs(entries, bodies), wanted, strict=True):
            if isinstance(body, HostError):
                prepared.append((entry, body))
            elif row is None:
                prepared.append((entry, Prepared(entry, body, (), slow=True)))
            elif missing := [digest for digest in row if digest not in blobs]:
                prepared.append((entry, await self._why(missing[0])))
            else:
                prepared.append((entry, Prepared(entry, body, tuple(blobs[digest] for digest in row))))
        return prepared

    async def _why(self, digest: bytes) -> HostError:
        """Why a ciphertext could not be had: the store lacks it, it is too large, or the store has other bytes."""
        try:
            async with self._calls:
                await self._store.get_bytes(digest, limit=MAX_CIPHERTEXT)
        except HostError as error:
            return error
        return HostError("store.unknown", f"{digest.hex()} was not there a moment ago")

    async def _body(self, entry: InboxEntry, block: dict[bytes, bytes]) -> bytes | HostError:
        if entry.digest in block:
            return block[entry.digest]
        try:
            async with self._calls:
                body = await contract.body_of(self._node, self._instance, entry.counter)
        except HostError as error:
            return error
        if request.request_digest(body) != entry.digest:
            return HostError("connector.body", f"request {entry.counter}")
        return body


def in_batches(ready: Sequence[Prepared], *, most: int, ciphertexts: int, size: int) -> list[list[Prepared]]:
    """Requests in calls of at most `most` of them, so many ciphertexts and `size` bytes; slow ones by themselves."""
    batches: list[list[Prepared]] = [[item] for item in ready if item.slow]  # nobody else waits for these
    batch: list[Prepared] = []
    held = opened = 0
    for item in ready:
        if item.slow:
            continue
        held += item.size
        opened += len(item.ciphertexts)
        full = held > size or opened > ciphertexts or len(batch) >= most
        if batch and full:
            batches.append(batch)
            batch, held, opened = [], item.size, len(item.ciphertexts)
        batch.append(item)
    return [*batches, batch] if batch else batches


def _pairs(
    entries: Sequence[InboxEntry], bodies: Sequence[bytes | HostError]
) -> list[tuple[InboxEntry, bytes | HostError]]:
    return list(zip(entries, bodies, strict=True))


def _wanted(body: bytes) -> list[bytes] | None:
    """The digests of the ciphertexts that a request names; None for a key generation, which takes long."""
    try:
        asked = request.decode(body)
    except EvidenceError:
        return []  # proven all the same: what it is worth is for the enclave to say
    return None if isinstance(asked, request.Keygen) else [item.digest for item in asked.ciphertexts]
