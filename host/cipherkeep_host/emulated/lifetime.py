"""The only place for how an emulator's process begins and ends: it dies with its parent and says when it is ready."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
from pathlib import Path

from cipherkeep_host.errors import HostError

PR_SET_PDEATHSIG = 1  # linux/prctl.h
SOCKET_PATH_LIMIT = 107  # bytes; sockaddr_un.sun_path without its NUL
BACKLOG = 128  # connections that wait to be accepted


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent's thread ends; exit at once if the parent is gone already.

    `parent` is the process id that the parent gave; without it, whoever is the parent now.
    """
    expected = os.getppid() if parent is None else parent
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != expected:
        raise SystemExit(f"the parent {expected} of this process is gone")


def announce(addresses: list[str]) -> None:
    """Tell the parent on stdout, in one line of JSON, that this process listens, and where."""
    sys.stdout.write(json.dumps({"listening": addresses}) + "\n")
    sys.stdout.flush()


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set; to be called inside the running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def listen_unix(path: Path) -> socket.socket:
    """A listening unix socket (0600) in place of a stale one. `HostError` if the path does not fit into an address."""
    if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
        raise HostError("emulator.socket_path", f"{path} has more than {SOCKET_PATH_LIMIT} bytes")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The mode of a unix socket that nobody can reach yet: connects are refused until listen().
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def remove(path: Path) -> None:
    """Take a socket away when its server ends."""
    path.unlink(missing_ok=True)
