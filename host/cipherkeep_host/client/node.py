"""The only place that says what connector, coprocessor and clients need of a chain node, in their own types.

`Node` is the seam: `RpcNode` asks a real one, tests a simulated one. Nothing that comes through it is believed: light
blocks and proofs are judged by whoever uses them.

A proof stands for a stretch of the chain: the state it shows is under the app hash of every header from
`Proven.first_header` to `Proven.last_header`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from cipherkeep_attestation.chain.header import LightBlock
from cipherkeep_attestation.chain.state import StateProof
from cipherkeep_attestation.statements.transaction import Message

from cipherkeep_host.chain.client import ChainClient, Sent


@dataclass(frozen=True, slots=True)
class Proven:
    """What stands at a key, or that nothing does (`value` None), under headers `first_header` to `last_header`."""

    value: bytes | None
    proof: StateProof
    first_header: int
    last_header: int


class Sender(Protocol):
    """Signs and sends transactions, one sender's nonces in order. `chain.client.ChainClient` is one."""

    async def send(self, messages: Sequence[Message]) -> Sent:
        """Put the messages into one transaction and wait until it took effect; `TransactionRefused` when it did not."""
        ...


class Node(Protocol):
    """What is asked of a node. Every call raises `HostError("node.…")`."""

    async def height(self) -> int:
        """Of the newest block."""
        ...

    async def light_block(self, height: int) -> LightBlock:
        """Header, commit and validators of a height; well-formed and unjudged."""
        ...

    async def prove(self, instance: str, collection: str, key: int, *, height: int = 0) -> Proven:
        """What stands at a key after the block of `height`, the newest at 0. Only the last few are kept."""
        ...

    async def index(self, instance: str, name: str, key: bytes) -> bytes | None:
        """An entry of a contract's index; unproven."""
        ...

    async def transactions(self, height: int) -> list[bytes]:
        """The transactions of a block, in order; whatever became of them."""
        ...

    def heights(self) -> AsyncGenerator[int, None]:
        """Rising heights as hints, the newest at once."""
        ...


class RpcNode:
    """A node behind its JSON-RPC."""

    def __init__(self, client: ChainClient) -> None:
        self._client = client

    async def height(self) -> int:
        """See `Node`."""
        return (await self._client.rpc.status()).height

    async def light_block(self, height: int) -> LightBlock:
        """See `Node`."""
        return await self._client.rpc.light_block(height)

    async def prove(self, instance: str, collection: str, key: int, *, height: int = 0) -> Proven:
        """See `Node`."""
        value, proof, first, last = await self._client.state(instance, collection, key, height=height)
        return Proven(value, proof, first + 1, last + 1)

    async def index(self, instance: str, name: str, key: bytes) -> bytes | None:
        """See `Node`."""
        return await self._client.index(instance, name, key)

    async def transactions(self, height: int) -> list[bytes]:
        """See `Node`."""
        return await self._client.rpc.transactions(height)

    def heights(self) -> AsyncGenerator[int, None]:
        """See `Node`."""
        return self._client.rpc.heights()
