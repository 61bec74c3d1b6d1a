"""The only place that joins two streams: bounded buffers, half-close, an idle time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cipherkeep_wire.limits import DEFAULT, KIB
from cipherkeep_wire.transport.address import Address, TransportError
from cipherkeep_wire.transport.listener import Listener, listen
from cipherkeep_wire.transport.streams import Stream, connect, finish


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
