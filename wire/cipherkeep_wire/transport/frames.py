"""The only place that knows frames: a length in four bytes, big-endian, and that many bytes."""

from __future__ import annotations

import asyncio

from cipherkeep_wire.transport.address import TransportError


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
