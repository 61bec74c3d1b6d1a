"""The only place that reads and writes the store's folder.

    DIR/lock             held by the one process that serves the folder
    DIR/incoming/        blobs being written; swept at start
    DIR/blobs/ab/abcd…   whole blobs by the SHA-256 of their bytes, mode 0400

A blob appears under its name only when its bytes were compared with it and are on disk, so that kill -9 at any moment
leaves whole blobs and temporary files. No function here is asynchronous: callers run what waits for the disk in a
thread.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cipherkeep_host import durable
from cipherkeep_host.errors import HostError

_DIGEST = re.compile(r"[0-9a-f]{64}")
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the store takes."""

    blob: int = 256 * MIB  # bytes of one blob; a compressed server key has 46 to 110 MB
    quota: int = 8 << 30  # bytes of all blobs together, those being written included
    blobs: int = 1_000_000  # number of blobs; a ciphertext takes one inode
    writers: int = 64  # blobs being written at once


def digest_of(name: str) -> str:
    """The name of a blob. `HostError("store.name")` unless it is a SHA-256 in lowercase hexadecimal."""
    if not _DIGEST.fullmatch(name):
        raise HostError("store.name", name[:80])
    return name


class Folder:
    """A folder of blobs, opened by one process at a time."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.limits = limits
        self._path = durable.make_folder(path)
        self._blobs = durable.make_folder(path / "blobs")
        self._incoming = durable.make_folder(path / "incoming")
        self._lock = (path / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise HostError("store.locked", str(path)) from None
        self.swept = durable.sweep(self._incoming)
        self.reserved = 0
        self.writers = 0
        self.used, self.count = self._measure()

    def _measure(self) -> tuple[int, int]:
        used = count = 0
        for shelf in self._blobs.iterdir():
            durable.sweep(shelf)
            for entry in os.scandir(shelf):
                used += entry.stat().st_size
                count += 1
        return used, count

    def close(self) -> None:
        """Let another process serve the folder."""
        self._lock.close()

    def path(self, digest: str) -> Path:
        """Where a blob lies, if it does."""
        return self._blobs / digest[:2] / digest

    def size(self, digest: str) -> int | None:
        """Bytes of a blob, or None when there is none."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def holds(self, digest: str) -> bool:
        """Whether the blob is there and has its digest. Blocks: the whole blob is read."""
        try:
            with self.path(digest).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == digest
        except FileNotFoundError:
            return False
        except OSError as problem:
            raise _disk(problem) from None

    def begin(self, digest: str, size: int) -> Writer:
        """Make room for a blob of `size` bytes. `HostError`: `store.too_large`, `store.full`, `store.busy`."""
        if size > self.limits.blob:
            raise HostError("store.too_large", f"{size} bytes, at most {self.limits.blob}")
        if self.writers >= self.limits.writers:
            raise HostError("store.busy", f"{self.writers} blobs are being written")
        damaged = self.size(digest)  # what is there and is about to be replaced
        full = damaged is None and self.count + self.writers >= self.limits.blobs
        if full or self.used - (damaged or 0) + self.reserved + size > self.limits.quota:
            raise HostError("store.full", f"{self.used} of {self.limits.quota} bytes, {self.count} blobs")
        return Writer(self, digest, size, durable.temporary_beside(self._incoming / digest))


class Writer:
    """One blob on its way in. Exactly one of `commit` and `abandon` ends it; `abandon` after `commit` does nothing."""

    def __init__(self, folder: Folder, digest: str, size: int, temporary: Path) -> None:
        self._folder = folder
        self._digest = digest
        self._size = size
        self._temporary = temporary
        self._hash = hashlib.sha256()
        self._written = 0
        self._file: BinaryIO | None = None
        self._ended = False
        folder.reserved += size
        folder.writers += 1

    def write(self, piece: bytes) -> None:
        """Append. `HostError("store.length")` beyond the announced size, before anything is written."""
        self._written += len(piece)
        if self._written > self._size:
            raise HostError("store.length", f"more than the announced {self._size} bytes")
        try:
            if self._file is None:
                descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
                self._file = os.fdopen(descriptor, "wb")
            self._hash.update(piece)
            self._file.write(piece)
        except OSError as problem:
            raise _disk(problem) from None

    def sync(self) -> None:
        """Compare length and digest, and put the bytes on disk. Blocks; changes nothing of the folder's counts."""
        if self._written != self._size:
            raise HostError("store.length", f"{self._written} of {self._size} bytes")
        if self._hash.hexdigest() != self._digest:
            raise HostError("store.digest", f"the bytes are {self._hash.hexdigest()}")
        self.write(b"")
        assert self._file is not None
        target = self._folder.path(self._digest)
        try:
            durable.sync_file(self._file)
            self._file.close()
            if not target.parent.is_dir():
                durable.make_folder(target.parent)
                durable.sync_folder(target.parent.parent)
            self._temporary.rename(target)
            durable.sync_folder(target.parent)
        except OSError as problem:
            raise _disk(problem) from None

    def commit(self, *, before: int | None) -> None:
        """Count the blob, after `sync` has returned. `before`: bytes of the one that it replaced, None without."""
        self._folder.used += self._size - (before or 0)
        self._folder.count += before is None
        self._end()

    def abandon(self) -> None:
        """Forget what was written."""
        if not self._ended:
            if self._file is not None:
                self._file.close()
            self._temporary.unlink(missing_ok=True)
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._folder.reserved -= self._size
        self._folder.writers -= 1


def _disk(problem: OSError) -> HostError:
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return HostError("store.full", "the disk is full")
    return HostError("store.disk", problem.strerror or type(problem).__name__)
