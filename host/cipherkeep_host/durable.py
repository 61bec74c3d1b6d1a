"""The only place for files that must survive kill -9 and a loss of power: whole or not at all, old or new.

A file is written under a temporary name that begins with a dot, synced, renamed, and its folder synced. What a crash
leaves behind are temporary files, which `sweep` removes at the next start.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import BinaryIO

_PREFIX = ".incoming-"


def make_folder(path: Path) -> Path:
    """The folder, made with mode 0700 where it is missing."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def write(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace `path` by `data`. When this returns, the content is on disk."""
    temporary = temporary_beside(path)
    try:
        write_new(temporary, data, mode=mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def create(path: Path, data: bytes, *, mode: int = 0o600) -> bool:
    """Write `path` unless it exists, and say whether it was made. What exists is never overwritten."""
    temporary = temporary_beside(path)
    try:
        write_new(temporary, data, mode=mode)
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def write_new(path: Path, data: bytes, *, mode: int) -> None:
    """Put a new file's content on disk, not yet its name: `sync_folder` does. FileExistsError where there is a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        sync_file(file)


def temporary_beside(path: Path) -> Path:
    """A name in the same folder that no reader looks at and `sweep` removes."""
    return path.with_name(f"{_PREFIX}{secrets.token_hex(8)}")


def sync_file(file: BinaryIO) -> None:
    """Put a file's content on disk, with what Python still holds of it."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Put a folder's entries on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> int:
    """Remove what a crash left half-written in this folder; how many files that were."""
    left = list(folder.glob(f"{_PREFIX}*"))
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)
