"""The only place for a block in the making: writes that nobody else sees until the block is committed.

Everything is kept in overlays on the committed state, and a journal of what was there before takes a refused
transaction's writes back. A process that dies loses the overlay, and the same block gives the same result again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from cipherkeep_attestation.chain.state import SENTINEL_KEY, SENTINEL_VALUE, collection_key, store_key

from cipherkeep_host.chain.tree import Delta, Tree, state_leaf
from cipherkeep_host.chain.view import Collection, View

if TYPE_CHECKING:
    from cipherkeep_host.chain.state import State


class _Writes:
    """What a block writes into one collection. `added`: new keys, rising."""

    __slots__ = ("added", "values")

    def __init__(self) -> None:
        self.values: dict[int, bytes] = {}
        self.added: list[int] = []


class Block(View):
    """The state as it will be after the block of this height."""

    def __init__(self, state: State, height: int) -> None:
        self.height = height
        self._state = state
        self._writes: dict[str, _Writes] = {}
        self._created: set[str] = set()
        self._derived: dict[str, dict[bytes, bytes | None]] = {}
        # What was read of the committed state, which stays as it is until this block is committed or dropped: the
        # same few values are asked for again by every message.
        self._read: dict[tuple[str, int | bytes], bytes | None] = {}
        self._journal: list[Callable[[], object]] = []
        self._deltas: dict[str, Delta] | None = None

    # --- what was written, for the commit ---

    @property
    def entries(self) -> dict[str, Mapping[int, bytes]]:
        """Written values by collection and key; sentinels of new collections are among them."""
        return {store: writes.values for store, writes in self._writes.items() if writes.values}

    @property
    def derived_entries(self) -> Mapping[str, Mapping[bytes, bytes | None]]:
        """Written pairs by index; None where one is deleted."""
        return self._derived

    def added(self, store: str) -> list[int]:
        """The new keys of a collection, rising."""
        return self._writes[store].added

    @property
    def deltas(self) -> Mapping[str, Delta]:
        """How each written collection's tree changes."""
        if self._deltas is None:
            self._deltas = {store: self._delta(store, values) for store, values in self.entries.items()}
        return self._deltas

    def root(self) -> bytes:
        """The app hash after this block (32 bytes)."""
        return self._state.top_with(self).root()

    def _delta(self, store: str, values: Mapping[int, bytes]) -> Delta:
        fresh = self._state.size(store)
        places = {key: fresh + position for position, key in enumerate(self._writes[store].added)}
        leaves = {}
        for key, value in values.items():
            place = places.get(key)
            leaf = state_leaf(collection_key(key), value)
            leaves[self._state.position(store, key) if place is None else place] = leaf
        return (Tree() if store in self._created else self._state.tree(store)).change(leaves)

    # --- savepoints ---

    def savepoint(self) -> int:
        """Where `rollback` can return to."""
        return len(self._journal)

    def rollback(self, savepoint: int) -> None:
        """Take back everything written since."""
        while len(self._journal) > savepoint:
            self._journal.pop()()
        self._deltas = None

    # --- writing ---

    def create_collection(self, instance: str, name: str) -> Collection:
        """Make a collection, empty but for its sentinel. ValueError where there is one."""
        store = store_key(instance, name).decode()
        if self.has_collection(store):
            raise ValueError(f"{store} exists")
        self._created.add(store)
        self._journal.append(lambda: self._created.discard(store))
        self._write(store, SENTINEL_KEY, SENTINEL_VALUE)
        return Collection(self, store)

    def put_value(self, store: str, key: int, value: bytes) -> None:
        """Write into a collection."""
        current = self.value(store, key)
        if current == value:
            return
        if current is None and key <= self.last_key(store):
            raise ValueError(f"key {key} of {store} is below its highest and was left out before")
        self._write(store, key, value)

    def _write(self, store: str, key: int, value: bytes) -> None:
        writes = self._writes.setdefault(store, _Writes())
        if key in writes.values:
            old = writes.values[key]
            self._journal.append(lambda: writes.values.__setitem__(key, old))
        else:
            self._journal.append(lambda: writes.values.__delitem__(key))
            if store in self._created or not self._state.has_key(store, key):
                writes.added.append(key)
                self._journal.append(writes.added.pop)
        writes.values[key] = value
        self._deltas = None

    def put_derived(self, store: str, key: bytes, value: bytes | None) -> None:
        """Write into an index, or delete with None."""
        pairs = self._derived.setdefault(store, {})
        if key in pairs:
            old = pairs[key]
            self._journal.append(lambda: pairs.__setitem__(key, old))
        else:
            self._journal.append(lambda: pairs.__delitem__(key))
        pairs[key] = value

    # --- reading ---

    def has_collection(self, store: str) -> bool:
        """Whether the collection exists."""
        return store in self._created or self._state.has_collection(store)

    def value(self, store: str, key: int) -> bytes | None:
        """A value of a collection."""
        writes = self._writes.get(store)
        if writes is not None and key in writes.values:
            return writes.values[key]
        return None if store in self._created else self._committed(store, key)

    def _committed(self, store: str, key: int | bytes) -> bytes | None:
        """A value of a collection (an integer's) or of an index (that of bytes), as it was before this block."""
        name = (store, key)
        if name not in self._read:
            state = self._state
            self._read[name] = state.value(store, key) if isinstance(key, int) else state.derived(store, key)
        return self._read[name]

    def last_key(self, store: str) -> int:
        """The highest key of a collection."""
        writes = self._writes.get(store)
        if writes is not None and writes.added:
            return writes.added[-1]
        return self._state.last_key(store)

    def keys(self, store: str, start: int, limit: int) -> list[int]:
        """Keys of a collection from `start` on."""
        found = [] if store in self._created else self._state.keys(store, start, limit)
        writes = self._writes.get(store)
        if writes is not None and len(found) < limit:
            new = [key for key in writes.added if key >= max(start, 1)]
            found = found + new[: limit - len(found)]
        return found

    def derived(self, store: str, key: bytes) -> bytes | None:
        """A value of an index."""
        pairs = self._derived.get(store)
        if pairs is not None and key in pairs:
            return pairs[key]
        return self._committed(store, key)

    def derived_items(self, store: str, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Pairs of an index from `start` on."""
        pairs = self._derived.get(store, {})
        # At most as many committed pairs can be hidden as the block has written.
        committed = self._state.derived_items(store, start, limit + len(pairs))
        merged: dict[bytes, bytes | None] = dict(committed)
        if len(committed) == limit + len(pairs) and committed:
            merged.update({key: value for key, value in pairs.items() if start <= key <= committed[-1][0]})
        else:
            merged.update({key: value for key, value in pairs.items() if start <= key})
        found = [(key, value) for key, value in sorted(merged.items()) if value is not None]
        return found[:limit]
