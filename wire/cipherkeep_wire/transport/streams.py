"""The only place that dials: a stream to an address, and its end."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Final, TypeAlias

from cipherkeep_wire.limits import DEFAULT
from cipherkeep_wire.transport.address import Address, TransportError

Stream: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_CONNECT_LINE: Final = 32  # bytes; "OK 4294967295\n" has 14
_CLOSE_TIMEOUT: Final = 1.0  # seconds a closing stream may take to flush before it is aborted


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


async def adopt(plug: socket.socket, buffer: int) -> Stream:
    """The stream of a connected, non-blocking socket, which it closes."""
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
    return await adopt(plug, buffer)


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
