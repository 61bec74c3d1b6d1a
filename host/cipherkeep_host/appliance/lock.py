"""The only place for who holds a state folder: one supervisor, for as long as it lives, by a lock of the kernel.

The lock file's content is the holder's process id. It means nothing once the lock is free: whoever died by SIGKILL left
its id behind, and another process may have it by now.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from cipherkeep_host import durable
from cipherkeep_host.errors import HostError

_PATIENCE = 1.0  # seconds for what others do with the lock in no time: look at it, write their id
_AGAIN = 0.02  # seconds between looks


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold it for the length of the context. `HostError("appliance.running")` when another supervisor does."""
    durable.make_folder(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        ends = time.monotonic() + _PATIENCE  # whoever only looks holds a shared lock for a moment
        while not _taken(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > ends:
                raise HostError("appliance.running", str(path.parent))
            time.sleep(_AGAIN)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder(path: Path) -> int | None:
    """The process id of the supervisor that holds it; None when nobody does."""
    ends = time.monotonic() + _PATIENCE
    while True:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            if _taken(descriptor, fcntl.LOCK_SH):
                return None
            with contextlib.suppress(ValueError):
                return int(os.read(descriptor, 20))
        finally:
            os.close(descriptor)
        if time.monotonic() > ends:
            raise HostError("appliance.running", f"nobody's process id is in {path}")
        time.sleep(_AGAIN)


def end_holder(path: Path) -> int | None:
    """SIGTERM to the supervisor that holds it, and to nobody else; its process id, None when nobody holds it."""
    pid = holder(path)
    if pid is None:
        return None
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        # Now the id cannot come to mean another process: if it still is the holder's, this is the holder.
        if holder(path) != pid:
            return None
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGTERM)
    finally:
        os.close(process)
    return pid


def _taken(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
