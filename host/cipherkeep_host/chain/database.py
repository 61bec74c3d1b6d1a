"""The only place that keeps the application's state on disk: one SQLite file, one transaction for each block.

    stores   what collections and indexes there are
    entries  (collection, key) → value: what is proven
    derived  (index, key) → value: what follows from it
    meta     the newest block's facts, as deterministic CBOR

A block is on disk when its transaction is (WAL, synchronous=FULL), or it is not there at all. The file is held
exclusively: a second process is refused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from cipherkeep_host.errors import HostError

FORMAT = 1  # of the file; another one is refused
COLLECTION, INDEX = 0, 1

_SCHEMA = """
CREATE TABLE stores (id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, name TEXT NOT NULL, UNIQUE (kind, name));
CREATE TABLE entries (store INTEGER, key INTEGER, value BLOB NOT NULL, PRIMARY KEY (store, key)) WITHOUT ROWID;
CREATE TABLE derived (store INTEGER, key BLOB, value BLOB NOT NULL, PRIMARY KEY (store, key)) WITHOUT ROWID;
CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), value BLOB NOT NULL);
"""

_WIPE = """
BEGIN IMMEDIATE;
DELETE FROM stores; DELETE FROM entries; DELETE FROM derived; DELETE FROM meta;
COMMIT;
"""


class Database:
    """The file. Collections and indexes are named by `instance/name`; keys of collections are below 2^63."""

    def __init__(self, path: Path) -> None:
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=0)
            self._prepare()
        except sqlite3.OperationalError as error:
            raise HostError("chain.state_locked", str(error)) from None
        except sqlite3.DatabaseError as error:
            raise HostError("chain.state_corrupt", str(error)) from None
        rows = self._connection.execute("SELECT kind, name, id FROM stores")
        self._ids: dict[tuple[int, str], int] = {(kind, name): number for kind, name, number in rows}

    def _prepare(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        found = execute("PRAGMA user_version").fetchone()[0]
        if found == 0:
            self._connection.executescript(f"BEGIN EXCLUSIVE; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
        elif found != FORMAT:
            raise HostError("chain.state_format", f"format {found}, this release knows {FORMAT}")
        # Takes the lock, which is then kept: nobody else writes between our blocks.
        execute("BEGIN IMMEDIATE")
        execute("COMMIT")

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()

    # --- reading ---

    def meta(self) -> bytes | None:
        """The newest block's facts; None before genesis."""
        row = self._connection.execute("SELECT value FROM meta").fetchone()
        return None if row is None else bytes(row[0])

    def collections(self) -> list[str]:
        """The names of all collections, in the order in which they were made."""
        found = [(number, name) for (kind, name), number in self._ids.items() if kind == COLLECTION]
        return [name for _, name in sorted(found)]

    def entries(self, collection: str) -> Iterator[tuple[int, bytes]]:
        """All of a collection, by rising key."""
        query = "SELECT key, value FROM entries WHERE store = ? ORDER BY key"
        return iter(self._connection.execute(query, (self._ids[COLLECTION, collection],)))

    def value(self, collection: str, key: int) -> bytes | None:
        """One value of a collection."""
        query = "SELECT value FROM entries WHERE store = ? AND key = ?"
        row = self._connection.execute(query, (self._ids[COLLECTION, collection], key)).fetchone()
        return None if row is None else bytes(row[0])

    def derived(self, index: str, key: bytes) -> bytes | None:
        """One value of an index."""
        number = self._ids.get((INDEX, index))
        query = "SELECT value FROM derived WHERE store = ? AND key = ?"
        row = None if number is None else self._connection.execute(query, (number, key)).fetchone()
        return None if row is None else bytes(row[0])

    def derived_from(self, index: str, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """An index from `start` on, by rising key."""
        number = self._ids.get((INDEX, index))
        query = "SELECT key, value FROM derived WHERE store = ? AND key >= ? ORDER BY key"
        return iter(()) if number is None else iter(self._connection.execute(query, (number, start)))

    # --- writing ---

    def wipe(self) -> None:
        """Forget everything."""
        self._connection.executescript(_WIPE)
        self._ids = {}

    def write(
        self,
        meta: bytes,
        entries: Mapping[str, Mapping[int, bytes]],
        derived: Mapping[str, Mapping[bytes, bytes | None]],
    ) -> None:
        """Make a block durable: all of it or nothing."""
        ids = dict(self._ids)
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            for name, values in entries.items():
                rows = [(self._id(ids, COLLECTION, name), key, value) for key, value in values.items()]
                self._many("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", rows)
            for name, pairs in derived.items():
                number = self._id(ids, INDEX, name)
                kept = [(number, key, value) for key, value in pairs.items() if value is not None]
                gone = [(number, key) for key, value in pairs.items() if value is None]
                self._many("INSERT OR REPLACE INTO derived VALUES (?, ?, ?)", kept)
                self._many("DELETE FROM derived WHERE store = ? AND key = ?", gone)
            execute("INSERT OR REPLACE INTO meta VALUES (1, ?)", (meta,))
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        self._ids = ids

    def _id(self, ids: dict[tuple[int, str], int], kind: int, name: str) -> int:
        number = ids.get((kind, name))
        if number is None:
            number = ids[kind, name] = max(ids.values(), default=0) + 1
            self._connection.execute("INSERT INTO stores VALUES (?, ?, ?)", (number, kind, name))
        return number

    def _many(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        self._connection.executemany(statement, rows)
