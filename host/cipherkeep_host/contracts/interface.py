"""The only place for what a contract may see and do: its state, the block it runs in, its handlers.

A contract is a class whose handlers compute the same everywhere: no floats, clocks, randomness, sets in an order,
input or output. All that it knows is its arguments. It ends a handler in one of three ways:

    return data                     the message took effect; `data` is hashed into the block's results
    raise ContractRefusal(code)     refused, as is any `EvidenceError`: the whole transaction is taken back
    raise anything else             a defect: the node halts before the block is committed
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from cipherkeep_attestation.chain.header import Timestamp

from cipherkeep_host.chain.view import Collection, Index, View
from cipherkeep_host.contracts.refusal import ContractRefusal

__all__ = ["Body", "Collection", "Context", "Contract", "ContractRefusal", "ContractState", "Index", "Timestamp"]

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Context:
    """Where a handler runs.

    `height` and `time` are those of the block that is executed (in `check`: of the newest one committed, as the next
    is not known). `time.datetime` is the same time as a datetime. `genesis_hash` is the hash of header 1 (32 bytes; in
    `check` before block 1 it is empty). `sender` is the Ed25519 key (32 bytes) that signed the transaction, empty in
    `begin_block` and `end_block`. `instance` is the name of the contract's instance. `block_hash` is the hash of the
    block that is executed (32 bytes), empty in `check`.
    """

    height: int
    time: Timestamp
    chain_id: str
    genesis_hash: bytes
    instance: str
    sender: bytes
    block_hash: bytes = b""


class ContractState:
    """The state of one instance: its collections, which are proven, and its indexes, which are not.

    Indexes hold what follows from the collections (an id's counter, a queue by expiry), so that it need not be
    searched for; they are committed with the block and have no part in the app hash.
    """

    __slots__ = ("_view", "instance")

    def __init__(self, view: View, instance: str) -> None:
        self._view = view
        self.instance = instance

    def collection(self, name: str) -> Collection:
        """A collection that the contract's class names in `collections`. KeyError for any other."""
        return self._view.collection(self.instance, name)

    def index(self, name: str) -> Index:
        """An index, empty until it is written."""
        return self._view.index(self.instance, name)


class Contract(ABC):
    """One kind of contract. An instance of the class serves all of the kind's instances on the chain and keeps nothing.

    `kind` and `version` are recorded when an instance is made; a release whose class has another version refuses to
    start. `collections` are made, each with its sentinel, before `create` runs.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    collections: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def create(cls, state: ContractState, genesis: bytes) -> None:
        """Read the instance's genesis parameters and write its first state. Any exception stops the chain's start."""

    @abstractmethod
    def execute(self, state: ContractState, context: Context, name: str, body: Body) -> bytes:
        """Carry out one message. `body` is decoded deterministic CBOR that nobody has judged yet."""

    def check(self, state: ContractState, context: Context, name: str, body: Body) -> None:
        """Refuse cheaply what cannot succeed, before it enters the pool of transactions. Must not write.

        Protects the queue and nothing else: a block may hold messages that were never checked.
        """
        return

    def begin_block(self, state: ContractState, context: Context) -> None:
        """Runs before a block's transactions. Must write nothing in a block that has nothing to do."""
        return

    def end_block(self, state: ContractState, context: Context) -> None:
        """Runs after a block's transactions. Must write nothing in a block that has nothing to do."""
        return
