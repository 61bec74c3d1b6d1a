"""The only place that listens: bounded in connections, never in place of something that lives."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeAlias

from cipherkeep_wire.limits import DEFAULT
from cipherkeep_wire.transport.address import PATH_BYTES, Address, TransportError, unreachable
from cipherkeep_wire.transport.streams import adopt, finish

Handler: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_ACCEPT_PAUSE: Final = 0.1  # seconds; when the process is out of descriptors accept(2) fails at once, for ever
_BACKLOG: Final = 256  # connections that wait to be accepted


class Listener:
    """Accepts streams until it is closed; runs one task per stream, at most `connections` of them."""

    def __init__(self, plug: socket.socket, address: Address, handler: Handler, connections: int, buffer: int) -> None:
        self.address = address
        self.turned_away = 0  # connections closed at once because the listener was full
        self._plug = plug
        self._path = Path(plug.getsockname()) if address.scheme in ("unix", "unix-vsock") else None
        self._inode = self._path.stat().st_ino if self._path else 0
        self._handler = handler
        self._connections = connections
        self._buffer = buffer
        self._tasks: set[asyncio.Task[None]] = set()
        self._fresh: set[socket.socket] = set()  # accepted, and not yet taken up by their tasks
        self._pause: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        plug.listen(_BACKLOG)
        self._loop.add_reader(plug, self._accept)

    def _accept(self) -> None:
        # Neither asyncio.Server nor sock_accept: in Python 3.11 both leak a connection that arrives as they close.
        try:
            plug, _ = self._plug.accept()
        except BlockingIOError:
            return
        except OSError:
            self._loop.remove_reader(self._plug)
            self._pause = self._loop.call_later(_ACCEPT_PAUSE, self._loop.add_reader, self._plug, self._accept)
            return
        if len(self._tasks) >= self._connections:
            self.turned_away += 1
            plug.close()
            return
        plug.setblocking(False)
        self._fresh.add(plug)
        task = self._loop.create_task(self._serve(plug))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._forget(done, plug))

    async def _serve(self, plug: socket.socket) -> None:
        self._fresh.discard(plug)
        reader, writer = await adopt(plug, self._buffer)
        try:
            await self._handler(reader, writer)
        except (TransportError, OSError):
            pass  # a broken stream is its peer's affair; handlers report what is worth reporting
        finally:
            await finish(writer)

    def _forget(self, task: asyncio.Task[None], plug: socket.socket) -> None:
        self._tasks.discard(task)
        if plug in self._fresh:  # cancelled before its first step
            self._fresh.discard(plug)
            plug.close()

    @property
    def open_connections(self) -> int:
        """Streams whose handlers are running."""
        return len(self._tasks)

    async def close(self) -> None:
        """Stop accepting, cancel the running handlers, remove the socket's file. Twice is once."""
        if self._pause is not None:
            self._pause.cancel()
        if self._plug.fileno() >= 0:
            self._loop.remove_reader(self._plug)
            self._plug.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # aborted transports let go of their sockets in the loop's next turn
        if self._path is not None:
            # Another listener may have taken the path over since: its file has another inode.
            with contextlib.suppress(FileNotFoundError):
                if self._path.stat().st_ino == self._inode:
                    self._path.unlink()
            self._path = None

    async def __aenter__(self) -> Listener:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def listen(
    address: Address,
    handler: Handler,
    *,
    connections: int = DEFAULT.connections,
    buffer: int = DEFAULT.relay_buffer,
) -> Listener:
    """Accept streams at `address` and run `handler` for each; the stream is closed when the handler returns.

    Unix sockets get mode 0600 before the first connection can be made; a dead socket's file is replaced, a
    live one is refused with `transport.in_use`. At most `connections` handlers run; one more is cut off.
    """
    try:
        plug, bound = _bind(address)
    except OSError as problem:
        raise unreachable(address, problem) from None
    return Listener(plug, bound, handler, connections, buffer)


def _bind(address: Address) -> tuple[socket.socket, Address]:
    """A bound socket and the address it has, with the port that the kernel chose for tcp port 0."""
    match address.scheme:
        case "vsock":
            plug = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
            return _bound(plug, (address.cid, address.port)), address
        case "tcp":
            plug = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _bound(plug, ("127.0.0.1", address.port))
            return plug, Address("tcp", port=plug.getsockname()[1])
        case "unix" | "unix-vsock":
            path = Path(address.path if address.scheme == "unix" else f"{address.path}_{address.port}")
            _clear(path, address)
            plug = _bound(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), str(path))
            path.chmod(0o600)
            return plug, address


def _bound(plug: socket.socket, name: tuple[int, int] | tuple[str, int] | str) -> socket.socket:
    try:
        plug.setblocking(False)
        plug.bind(name)
    except BaseException:
        plug.close()
        raise
    return plug


def _clear(path: Path, address: Address) -> None:
    """Remove the file that a listener which is gone left behind; anything else in the way is an error."""
    if len(os.fsencode(path)) > PATH_BYTES:
        raise TransportError("transport.address", str(address))
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISSOCK(mode):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(0.2)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
                return
            except OSError:
                pass
    raise TransportError("transport.in_use", str(address))
