"""The only place that opens byte streams between host and enclave: addresses, framing, relays.

Four forms of address, one kind of stream:

    vsock://CID:PORT            AF_VSOCK, on real hardware
    unix:///path                a unix socket
    unix-vsock:///path#PORT     the hybrid form of VM monitors: dialling connects to `path`, writes
                                `CONNECT PORT` and reads `OK n`; listening means `path_PORT`, where the
                                monitor delivers
    tcp://127.0.0.1:PORT        loopback, on the host only

Neither a CID nor a path authenticates anybody: whoever needs to know his peer runs the handshake of
`channel`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from cipherkeep_wire.errors import ServiceError
from cipherkeep_wire.limits import DEFAULT, KIB

Scheme: TypeAlias = Literal["vsock", "unix", "unix-vsock", "tcp"]
Stream: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Handler: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_PATH_BYTES: Final = 107  # sockaddr_un.sun_path less its NUL, Linux unix(7)
_CONNECT_LINE: Final = 32  # bytes; "OK 4294967295\n" has 14
_ANY_CID: Final = 0xFFFFFFFF  # VMADDR_CID_ANY, Linux vsock(7)
_ACCEPT_PAUSE: Final = 0.1  # seconds; when the process is out of descriptors accept(2) fails at once, for ever
_BACKLOG: Final = 256  # connections that wait to be accepted
_CLOSE_TIMEOUT: Final = 1.0  # seconds a closing stream may take to flush before it is aborted

_PATH = r"(?P<path>/[^#\x00-\x1f\ud800-\udfff]+)"
_PORT = r"(?P<port>0|[1-9][0-9]{0,9})"
_FORMS: Final[dict[Scheme, re.Pattern[str]]] = {
    "vsock": re.compile(rf"vsock://(?P<cid>0|[1-9][0-9]{{0,9}}):{_PORT}"),
    "unix": re.compile(rf"unix://{_PATH}"),
    "unix-vsock": re.compile(rf"unix-vsock://{_PATH}#{_PORT}"),
    "tcp": re.compile(rf"tcp://127\.0\.0\.1:{_PORT}"),
}


class TransportError(ServiceError):
    """A stream could not be had or broke, with a code `transport.…`; `detail` is for people, without payload."""


def _unreachable(address: Address, problem: OSError) -> TransportError:
    return TransportError("transport.unreachable", f"{address}: {problem.strerror or type(problem).__name__}")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a stream goes. `path` is absolute; port 0 of tcp: the kernel chooses; vsock has 32-bit numbers."""

    scheme: Scheme
    path: str = ""
    cid: int = 0
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read one of the four forms, exactly. `TransportError("transport.address")` for anything else."""
        if len(text) > 256:
            raise TransportError("transport.address", "longer than 256 characters")
        matches = ((scheme, form.fullmatch(text)) for scheme, form in _FORMS.items())
        scheme, found = next((match for match in matches if match[1]), ("unix", None))
        if found is None:
            raise TransportError("transport.address", text)
        part = found.groupdict()
        address = cls(scheme, part.get("path", ""), int(part.get("cid", 0)), int(part.get("port", 0)))
        most = 0xFFFF if scheme == "tcp" else _ANY_CID - 1
        least = 0 if scheme in ("tcp", "unix") else 1
        if not least <= address.port <= most or address.cid > _ANY_CID:
            raise TransportError("transport.address", text)
        if len(os.fsencode(address.path)) > _PATH_BYTES:
            raise TransportError("transport.address", text)
        return address

    def __str__(self) -> str:
        match self.scheme:
            case "vsock":
                return f"vsock://{self.cid}:{self.port}"
            case "unix":
                return f"unix://{self.path}"
            case "unix-vsock":
                return f"unix-vsock://{self.path}#{self.port}"
            case "tcp":
                return f"tcp://127.0.0.1:{self.port}"


# --- connecting and listening ---


async def connect(
    address: Address,
    *,
    timeout: float = DEFAULT.connect_timeout,  # noqa: ASYNC109
    buffer: int = DEFAULT.relay_buffer,
) -> Stream:
    """Open a stream within `timeout` seconds, holding at most about `buffer` bytes per direction.

    `TransportError`: `transport.unreachable` when nobody listens, `transport.refused` when the monitor's
    answer to CONNECT is not OK, `transport.timeout`.
    """
    try:
        async with asyncio.timeout(timeout):
            match address.scheme:
                case "unix" | "unix-vsock":
                    plug = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                    reader, writer = await _connected(plug, address.path, buffer)
                case "tcp":
                    plug = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                    reader, writer = await _connected(plug, ("127.0.0.1", address.port), buffer)
                case "vsock":
                    plug = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
                    reader, writer = await _connected(plug, (address.cid, address.port), buffer)
            if address.scheme == "unix-vsock":
                await _ask_monitor(reader, writer, address)
    except TimeoutError:
        raise TransportError("transport.timeout", f"connecting to {address}") from None
    except OSError as problem:
        raise TransportError(
            "transport.unreachable", f"{address}: {problem.strerror or type(problem).__name__}"
        ) from None
    return reader, writer


async def _adopt(plug: socket.socket, buffer: int) -> Stream:
    """The stream of a connected socket, which it closes."""
    try:
        reader, writer = await asyncio.open_connection(sock=plug, limit=buffer)
    except BaseException:
        plug.close()
        raise
    writer.transport.set_write_buffer_limits(high=buffer)
    return reader, writer


async def _connected(plug: socket.socket, name: tuple[int, int] | tuple[str, int] | str, buffer: int) -> Stream:
    try:
        plug.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plug, name)
    except BaseException:
        plug.close()
        raise
    return await _adopt(plug, buffer)


async def _ask_monitor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: Address) -> None:
    """The monitor's own handshake: a line each way, read byte by byte because payload may follow at once."""
    try:
        writer.write(f"CONNECT {address.port}\n".encode())
        await writer.drain()
        line = b""
        while not line.endswith(b"\n"):
            byte = await reader.read(1)
            if not byte or len(line) >= _CONNECT_LINE:
                raise TransportError("transport.refused", str(address))
            line += byte
        if not re.fullmatch(rb"OK [0-9]{1,10}\n", line):
            raise TransportError("transport.refused", str(address))
    except BaseException:
        writer.transport.abort()
        raise


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
        reader, writer = await _adopt(plug, self._buffer)
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
        raise _unreachable(address, problem) from None
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
    if len(os.fsencode(path)) > _PATH_BYTES:
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


async def finish(writer: asyncio.StreamWriter) -> None:
    """Close a stream: what is buffered has a second to leave, then the stream is aborted."""
    writer.close()
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await writer.wait_closed()
    except (TimeoutError, OSError):
        pass
    finally:
        writer.transport.abort()


# --- frames: a length in four bytes, big-endian, and that many bytes ---


async def read_frame(reader: asyncio.StreamReader, *, maximum: int, timeout: float) -> bytes:  # noqa: ASYNC109
    """One frame of 0 to `maximum` bytes within `timeout` seconds, however slowly its bytes come.

    The length is judged before anything is allocated. `TransportError`: `transport.frame_size`,
    `transport.timeout`, `transport.closed` when the stream ends inside or before the frame.
    """
    try:
        async with asyncio.timeout(timeout):
            size = int.from_bytes(await reader.readexactly(4))
            if size > maximum:
                raise TransportError("transport.frame_size", f"{size} bytes, at most {maximum}")
            return await reader.readexactly(size)
    except TimeoutError:
        raise TransportError("transport.timeout", "reading a frame") from None
    except (asyncio.IncompleteReadError, OSError):
        raise TransportError("transport.closed", "reading a frame") from None


async def write_frame(writer: asyncio.StreamWriter, data: bytes, *, maximum: int, timeout: float) -> None:  # noqa: ASYNC109
    """Write one frame; all but the stream's buffer leaves within `timeout` seconds. Erro As `read_frame`."""
    if len(data) > maximum:
        raise TransportError("transport.frame_size", f"{len(data)} bytes, at most {maximum}")
    try:
        async with asyncio.timeout(timeout):
            writer.write(len(data).to_bytes(4) + data)
            await writer.drain()
    except TimeoutError:
        raise TransportError("transport.timeout", "writing a frame") from None
    except OSError:
        raise TransportError("transport.closed", "writing a frame") from None


# --- relaying ---


@dataclass(slots=True)
class _Activity:
    """When a byte last moved, by the loop's clock, and how many did in each direction."""

    last: float
    there: int = 0
    back: int = 0


async def relay(
    a: Stream, b: Stream, *, buffer: int = 64 * KIB, idle_timeout: float = DEFAULT.relay_idle
) -> tuple[int, int]:
    """Carry bytes both ways until both directions have ended; returns the bytes carried from a to b and back.

    An end in one direction is passed on (half-close) while the other goes on. At most about `buffer` bytes
    per direction are held. `TransportError`: `transport.timeout` when no byte moves for `idle_timeout`
    seconds, `transport.closed` when a stream breaks. Both streams are closed in every case.
    """
    loop = asyncio.get_running_loop()
    activity = _Activity(loop.time())

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, there: bool) -> None:
        while data := await reader.read(buffer):
            writer.write(data)
            await writer.drain()
            activity.last = loop.time()
            if there:
                activity.there += len(data)
            else:
                activity.back += len(data)
        if writer.can_write_eof():
            writer.write_eof()

    both = asyncio.gather(pump(a[0], b[1], there=True), pump(b[0], a[1], there=False))
    try:
        while True:
            done, _ = await asyncio.wait([both], timeout=activity.last + idle_timeout - loop.time())
            if done:
                both.result()
                await asyncio.gather(finish(a[1]), finish(b[1]))
                return activity.there, activity.back
            if loop.time() >= activity.last + idle_timeout:
                raise TransportError("transport.timeout", f"idle for {idle_timeout:g} s")
    except OSError:
        raise TransportError("transport.closed", "relaying") from None
    finally:
        both.cancel()
        a[1].transport.abort()
        b[1].transport.abort()
        await asyncio.gather(both, return_exceptions=True)


async def forward(
    source: Address,
    target: Address,
    *,
    connections: int = DEFAULT.connections,
    buffer: int = DEFAULT.relay_buffer,
    idle_timeout: float = DEFAULT.relay_idle,
    connect_timeout: float = DEFAULT.connect_timeout,
) -> Listener:
    """Listen at `source` and relay every connection to a new one to `target`; both end together."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far = await connect(target, timeout=connect_timeout, buffer=buffer)
        await relay((reader, writer), far, buffer=buffer, idle_timeout=idle_timeout)

    return await listen(source, carry, connections=connections, buffer=buffer)
