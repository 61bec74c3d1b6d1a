"""The only place for how state is read and written: collections and indexes, of the committed state or of a block.

A `View` is one state as a whole. Both kinds of it, `State` and `Block`, hand out the same `Collection` and `Index`;
those of `State` refuse to be written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from cipherkeep_attestation.chain.state import SENTINEL_KEY, store_key

from cipherkeep_host.contracts.refusal import ContractRefusal

MAX_KEY = (1 << 63) - 1  # of a collection: SQLite's integers, and CometBFT's heights
MAX_VALUE = 128 << 10  # bytes of a value in a collection: what a proof of absence can carry twice
MAX_INDEX_KEY = 1 << 10  # bytes


class View(ABC):
    """A state that can be read, and perhaps written. `store` below is `instance/name`."""

    def collection(self, instance: str, name: str) -> Collection:
        """A collection that exists. KeyError for one that was never made."""
        store = f"{instance}/{name}"
        if not self.has_collection(store):
            raise KeyError(store)
        return Collection(self, store)

    def index(self, instance: str, name: str) -> Index:
        """An index; one that was never written is empty."""
        return Index(self, store_key(instance, name).decode())

    @abstractmethod
    def has_collection(self, store: str) -> bool: ...

    @abstractmethod
    def value(self, store: str, key: int) -> bytes | None: ...

    @abstractmethod
    def last_key(self, store: str) -> int: ...

    @abstractmethod
    def keys(self, store: str, start: int, limit: int) -> list[int]: ...

    @abstractmethod
    def derived(self, store: str, key: bytes) -> bytes | None: ...

    @abstractmethod
    def derived_items(self, store: str, start: bytes, limit: int) -> list[tuple[bytes, bytes]]: ...

    def put_value(self, store: str, key: int, value: bytes) -> None:
        """Write into a collection; only a block can."""
        raise TypeError("the committed state is read-only")

    def put_derived(self, store: str, key: bytes, value: bytes | None) -> None:
        """Write into an index, or delete with None; only a block can."""
        raise TypeError("the committed state is read-only")


class Collection:
    """Values by counter, 1 to 2^63-1, under the app hash. The sentinel at key 0 is not shown."""

    __slots__ = ("_store", "_view")

    def __init__(self, view: View, store: str) -> None:
        self._view = view
        self._store = store

    def get(self, key: int) -> bytes | None:
        """The value, or None."""
        return None if key == SENTINEL_KEY else self._view.value(self._store, key)

    def last_key(self) -> int:
        """The highest key; 0 while there is none."""
        return self._view.last_key(self._store)

    def put(self, key: int, value: bytes) -> None:
        """Replace the value of a key that exists, or add one above the highest: keys only rise.

        `ContractRefusal("contract.value_size")` for an empty value (it could not be proven) or one above 128 KiB;
        ValueError, a defect, for a new key below the highest.
        """
        if not 1 <= len(value) <= MAX_VALUE:
            raise ContractRefusal("contract.value_size", f"{len(value)} bytes, 1 to {MAX_VALUE}")
        if not 1 <= key <= MAX_KEY:
            raise ValueError(f"key {key} of {self._store} is not from 1 to 2^63-1")
        self._view.put_value(self._store, key, bytes(value))

    def append(self, value: bytes) -> int:
        """Put a value at the next key, and return the key."""
        key = self.last_key() + 1
        self.put(key, value)
        return key

    def items(self, start: int = 1, limit: int = 100) -> list[tuple[int, bytes]]:
        """At most `limit` keys from `start` on with their values, by rising key."""
        found = []
        for key in self._view.keys(self._store, max(start, 1), limit):
            value = self._view.value(self._store, key)
            assert value is not None
            found.append((key, value))
        return found


class Index:
    """Bytes → bytes, for finding things; not proven."""

    __slots__ = ("_store", "_view")

    def __init__(self, view: View, store: str) -> None:
        self._view = view
        self._store = store

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        return self._view.derived(self._store, key)

    def put(self, key: bytes, value: bytes) -> None:
        """Write. `ContractRefusal("contract.value_size")` for a key above 1 KiB or a value above 128 KiB."""
        if len(key) > MAX_INDEX_KEY or len(value) > MAX_VALUE:
            raise ContractRefusal("contract.value_size", f"{len(key)} and {len(value)} bytes")
        self._view.put_derived(self._store, bytes(key), bytes(value))

    def delete(self, key: bytes) -> None:
        """Forget a key; nothing happens where there is none."""
        self._view.put_derived(self._store, bytes(key), None)

    def items(self, start: bytes = b"", limit: int = 100) -> list[tuple[bytes, bytes]]:
        """At most `limit` pairs from `start` on, by rising key (bytewise)."""
        return self._view.derived_items(self._store, start, limit)
