"""The only place that keeps what handles stand for: a SQLite database, and expanded ciphertexts beside it.

    DIR/handles.sqlite      handle → type, format, digest of the packed form, owner, signature
    DIR/expanded/HANDLE     the form that is computed on; written and synced before the row that names it

What has been acknowledged survives kill -9 and a loss of power. A handle is written once and never changes.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cipherkeep_attestation.statements.binding import Ciphertext

from cipherkeep_host import durable
from cipherkeep_host.errors import HostError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS handles (
    handle BLOB PRIMARY KEY CHECK (length(handle) = 32),
    type INTEGER NOT NULL,
    format INTEGER NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    owner BLOB NOT NULL CHECK (length(owner) = 20),
    signature BLOB NOT NULL CHECK (length(signature) = 65)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A bound ciphertext and the form that is computed on."""

    binding: Ciphertext
    expanded: bytes


class Table:
    """One coprocessor's handles, for one key. Blocks: callers run what writes in a thread."""

    def __init__(self, path: Path, *, key_id: bytes) -> None:
        folder = durable.make_folder(path)
        self._expanded = durable.make_folder(folder / "expanded")
        durable.sweep(self._expanded)
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise HostError("coprocessor.state", f"{path} is in use") from None
        file = folder / "handles.sqlite"
        try:
            # One thread at a time uses it: the service holds a lock around what writes.
            self._database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.executescript(_SCHEMA)
            self._database.execute("INSERT OR IGNORE INTO facts VALUES ('key_id', ?)", (key_id,))
            (kept,) = self._database.execute("SELECT value FROM facts WHERE name = 'key_id'").fetchone()
            # A connection of its own sees what is committed, and with it on disk; the writing one sees its rows before.
            self._reader = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        except sqlite3.Error as problem:
            self._lock.close()
            raise HostError("coprocessor.state", f"{path}: {problem}"[:200]) from None
        if kept != key_id:
            self.close()
            raise HostError("coprocessor.state", f"{path} is of key {kept.hex()}")

    def close(self) -> None:
        """Close the database and let another process have the folder."""
        self._reader.close()
        self._database.close()
        self._lock.close()

    def count(self) -> int:
        """How many handles there are."""
        return int(self._reader.execute("SELECT count(*) FROM handles").fetchone()[0])

    def find(self, handle: bytes) -> Ciphertext | None:
        """The binding of a handle, once it is durable."""
        row = self._reader.execute(
            "SELECT type, format, digest, owner, signature FROM handles WHERE handle = ?", (handle,)
        ).fetchone()
        return None if row is None else Ciphertext(handle, row[0], row[1], row[2], row[3], (row[4],))

    def expanded(self, handle: bytes) -> bytes:
        """The form that is computed on. `HostError("coprocessor.state")` when it is gone."""
        try:
            return (self._expanded / handle.hex()).read_bytes()
        except OSError:
            raise HostError("coprocessor.state", f"the ciphertext of {handle.hex()} is gone") from None

    def add(self, entries: Sequence[Entry]) -> None:
        """Keep all of them; durable when this returns. A handle that is there stays as it is."""
        for entry in entries:
            path = self._expanded / entry.binding.handle.hex()
            if not path.exists():
                durable.write(path, entry.expanded)
        rows = [
            (item.handle, item.fhe_type, item.format, item.digest, item.owner, item.signatures[0])
            for item in (entry.binding for entry in entries)
        ]
        try:
            with self._database:  # commits, or rolls back
                self._database.execute("BEGIN IMMEDIATE")
                self._database.executemany("INSERT OR IGNORE INTO handles VALUES (?, ?, ?, ?, ?, ?)", rows)
        except sqlite3.Error as problem:
            raise HostError("coprocessor.state", str(problem)[:200]) from None
