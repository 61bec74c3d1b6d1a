"""The only place that holds the application's committed state and proves it.

Two trees stand under the app hash, as `cipherkeep_attestation.chain.state` checks them: one for each collection, and
one on top of them. Their nodes are kept in memory and made from the values at start, which also shows the file whole.

    state = State(path)
    block = state.begin(height)           # writes on top, see `block`
    block.root()                          # the app hash
    state.commit(block, time=…)           # durable
    state.prove("one", "inbox", 7)        # value or absence, with the heights at which it holds
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cipherkeep_attestation import cbor
from cipherkeep_attestation.chain import ics23, merkle
from cipherkeep_attestation.chain.header import Timestamp
from cipherkeep_attestation.chain.state import StateProof, collection_key, store_key
from cipherkeep_attestation.errors import Malformed

from cipherkeep_host.chain.block import Block
from cipherkeep_host.chain.database import Database
from cipherkeep_host.chain.tree import Delta, Tree, state_leaf
from cipherkeep_host.chain.view import View
from cipherkeep_host.errors import HostError

EPOCH = Timestamp(0)
HISTORY = 4  # earlier states that can still be proven: what a block changed, not what stands in it


@dataclass(frozen=True, slots=True)
class Proven:
    """A value, or None, and its proof.

    The proof holds under the app hash of every header from `height` + 1 to `until` + 1: the same state stands after
    all blocks from `height` to `until`, the newest one committed when the proof was made.
    """

    value: bytes | None
    proof: StateProof
    height: int
    until: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the newest committed block. `since`: the first height after which this app hash stood."""

    height: int = 0
    app_hash: bytes = merkle.EMPTY
    since: int = 0
    chain_id: str = ""
    time: Timestamp = EPOCH
    genesis_hash: bytes = b""

    def encode(self) -> bytes:
        """Deterministic CBOR."""
        return cbor.encode(
            {
                "app_hash": self.app_hash,
                "chain_id": self.chain_id,
                "genesis_hash": self.genesis_hash,
                "height": self.height,
                "nanos": self.time.nanos,
                "seconds": self.time.seconds,
                "since": self.since,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Facts:
        """Read what `encode` writes."""
        found = cbor.fields(
            cbor.decode(data),
            app_hash=cbor.raw(32),
            chain_id=cbor.text(50),
            genesis_hash=cbor.raw(0, 32),
            height=cbor.uint(),
            nanos=cbor.uint(999_999_999),
            seconds=cbor.uint(253_402_300_799),
            since=cbor.uint(),
        )
        time = Timestamp(found.pop("seconds"), found.pop("nanos"))
        return cls(time=time, **found)


class _Top:
    """The tree over the collections' roots, made anew for every change: there are few."""

    __slots__ = ("names", "roots", "tree")

    def __init__(self, roots: Mapping[str, bytes]) -> None:
        self.roots = roots
        self.names = sorted(name.encode() for name in roots)
        self.tree = Tree(state_leaf(name, roots[name.decode()]) for name in self.names)

    def root(self) -> bytes:
        return self.tree.root()

    def prove(self, name: bytes) -> bytes:
        root = self.roots[name.decode()]
        path = self.tree.path(bisect_left(self.names, name))
        return ics23.encode(ics23.Existence(name, root, path))


class _Store:
    """One collection's keys, rising, and its tree."""

    __slots__ = ("keys", "tree")

    def __init__(self, keys: array[int], tree: Tree) -> None:
        self.keys = keys
        self.tree = tree


@dataclass(frozen=True, slots=True)
class _Back:
    """The way from one state to the one before it."""

    top: _Top
    since: int
    until: int
    nodes: Mapping[str, Delta]
    values: Mapping[str, Mapping[int, bytes | None]]


class State(View):
    """The state after the last committed block. For one thread."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path)
        meta = self._database.meta()
        self._stores = {name: self._load(name) for name in self._database.collections()}
        self._top = _Top({name: store.tree.root() for name, store in self._stores.items()})
        self._history: deque[_Back] = deque(maxlen=HISTORY)  # newest first
        try:
            self.facts = Facts() if meta is None else Facts.decode(meta)
        except Malformed as error:
            raise HostError("chain.state_corrupt", str(error)) from None
        if self.facts.app_hash != self._top.root():
            raise HostError("chain.state_corrupt", f"height {self.facts.height}")

    def _load(self, name: str) -> _Store:
        keys: array[int] = array("Q")
        leaves = bytearray()
        for key, value in self._database.entries(name):
            keys.append(key)
            leaves += state_leaf(collection_key(key), value)
        return _Store(keys, Tree([bytes(leaves)]))

    def close(self) -> None:
        """Give the file back."""
        self._database.close()

    @property
    def height(self) -> int:
        """Of the newest committed block; 0 before the first."""
        return self.facts.height

    def root(self) -> bytes:
        """The app hash after it (32 bytes)."""
        return self._top.root()

    # --- blocks ---

    def begin(self, height: int) -> Block:
        """The next block's state. Blocks are made one at a time; one that is not committed is simply dropped."""
        return Block(self, height)

    def reset(self) -> Block:
        """Forget everything and begin again with a genesis that is repeated. Only before block 1."""
        if self.facts.height:
            raise HostError("chain.genesis_again", f"height {self.facts.height}")
        self._database.wipe()
        self._stores = {}
        self._top = _Top({})
        self._history.clear()
        self.facts = Facts()
        return Block(self, 0)

    def commit(self, block: Block, *, time: Timestamp, chain_id: str, genesis_hash: bytes) -> None:
        """Make a block the newest one: on disk when this returns. Nothing is changed where it raises."""
        top = self.top_with(block)
        same = top.root() == self.facts.app_hash
        since = self.facts.since if same else block.height
        facts = Facts(block.height, top.root(), since, chain_id, time, genesis_hash)
        values = {
            store: {key: self.value(store, key) for key in written}
            for store, written in block.entries.items()
            if store in self._stores
        }
        self._database.write(facts.encode(), block.entries, block.derived_entries)
        nodes = {}
        for name, delta in block.deltas.items():
            store = self._stores.setdefault(name, _Store(array("Q"), Tree()))
            nodes[name] = store.tree.apply(delta)
            store.keys.extend(block.added(name))
        if not same:
            self._history.appendleft(_Back(self._top, self.facts.since, self.facts.height, nodes, values))
        self._top = top
        self.facts = facts

    def top_with(self, block: Block) -> _Top:
        """The top tree as the block leaves it."""
        changed = {}
        for name, delta in block.deltas.items():
            store = self._stores.get(name)
            root = (Tree() if store is None else store.tree).root(delta)
            if self._top.roots.get(name) != root:
                changed[name] = root
        return _Top({**self._top.roots, **changed}) if changed else self._top

    # --- proofs ---

    def prove(self, instance: str, name: str, key: int, *, height: int | None = None) -> Proven:
        """The value at a key, or its absence, with the proof; after the block of `height`, the newest by default.

        `HostError("chain.no_collection")`, or `HostError("chain.height_not_kept")` for a state older than the last
        few that differed.
        """
        back = self._way_back(self.facts.height if height is None else height)
        top = back[0].top if back else self._top
        store = store_key(instance, name)
        root = top.roots.get(store.decode())
        if root is None:
            raise HostError("chain.no_collection", store.decode())
        since, until = (back[0].since, back[0].until) if back else (self.facts.since, self.facts.height)
        value, proof = self._prove_key(store.decode(), key, back)
        return Proven(value, StateProof(top.prove(store), ics23.encode(proof), root), since, until)

    def _prove_key(
        self, name: str, key: int, back: list[_Back]
    ) -> tuple[bytes | None, ics23.Existence | ics23.Absence]:
        store = self._stores[name]
        undo = [step.nodes[name] for step in back if name in step.nodes]
        size = undo[0].size if undo else store.tree.size
        place = bisect_left(store.keys, key, hi=size)

        def existence(position: int) -> ics23.Existence:
            at = store.keys[position]
            return ics23.Existence(
                collection_key(at), self._value_before(name, at, back), store.tree.path(position, undo)
            )

        if place < size and store.keys[place] == key:
            found = existence(place)
            return found.value, found
        right = existence(place) if place < size else None
        return None, ics23.Absence(collection_key(key), existence(place - 1), right)

    def _value_before(self, name: str, key: int, back: list[_Back]) -> bytes:
        for step in back:
            value = step.values.get(name, {}).get(key)
            if value is not None:
                return value
        value = self._database.value(name, key)
        assert value is not None
        return value

    def _way_back(self, height: int) -> list[_Back]:
        """What leads to the state after this block, the oldest first."""
        back: list[_Back] = []
        if self.facts.since <= height <= self.facts.height:
            return back
        for step in self._history:
            back.insert(0, step)
            if step.since <= height <= step.until:
                return back
        raise HostError("chain.height_not_kept", f"height {height}, newest {self.facts.height}")

    # --- reading ---

    def has_collection(self, store: str) -> bool:
        """Whether the collection exists."""
        return store in self._stores

    def has_key(self, store: str, key: int) -> bool:
        """Whether the collection has the key."""
        found = self._stores.get(store)
        if found is None:
            return False
        place = bisect_left(found.keys, key)
        return place < len(found.keys) and found.keys[place] == key

    def value(self, store: str, key: int) -> bytes | None:
        """A value of a collection."""
        return self._database.value(store, key) if self.has_key(store, key) else None

    def last_key(self, store: str) -> int:
        """The highest key of a collection."""
        return self._stores[store].keys[-1]

    def keys(self, store: str, start: int, limit: int) -> list[int]:
        """Keys of a collection from `start` on; `start` is at least 1, above the sentinel."""
        keys = self._stores[store].keys
        place = bisect_left(keys, start)
        return list(keys[place : place + limit])

    def derived(self, store: str, key: bytes) -> bytes | None:
        """A value of an index."""
        return self._database.derived(store, key)

    def derived_items(self, store: str, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Pairs of an index from `start` on."""
        rows = islice(self._database.derived_from(store, start), limit)
        return [(bytes(key), bytes(value)) for key, value in rows]

    # --- for a block in the making ---

    def size(self, store: str) -> int:
        """The number of leaves of a collection's tree; 0 where there is none."""
        found = self._stores.get(store)
        return 0 if found is None else found.tree.size

    def position(self, store: str, key: int) -> int:
        """The place of an existing key among the leaves."""
        return bisect_left(self._stores[store].keys, key)

    def tree(self, store: str) -> Tree:
        """A collection's tree."""
        return self._stores[store].tree
