"""The only place for the emulated vsock device: joins an enclave's unix sockets with its host's, as a VM monitor does.

    RUN/host/e.vsock            the host dials: `CONNECT PORT`, answered `OK n`
    RUN/host/e.vsock_PORT       the host listens, for what the enclave dials
    RUN/enclave/PORT.sock       the enclave listens
    RUN/enclave/out.sock        the enclave dials: `CONNECT PORT`, answered `OK n`

So each side sees only unix sockets in a folder of its own, in the hybrid form that `transport` knows. A port nobody
listens on closes the connection without an answer. Who connected authenticates nobody.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable
from pathlib import Path

from cipherkeep_wire.transport import Address, Listener, Stream, TransportError, connect, listen, relay

CONNECT_TIMEOUT = 5.0  # seconds for the CONNECT line to arrive
LINE_LIMIT = 32  # bytes; "CONNECT 4294967294\n" has 19
IDLE_TIMEOUT = 3600.0  # seconds; both ends have shorter ones, this only clears what they lost
MAX_STREAMS = 512  # per direction
_CONNECT = re.compile(rb"CONNECT ([1-9][0-9]{0,9})\n")
_LOCAL_PORTS = itertools.count(1 << 30)  # the numbers in `OK n`, as Firecracker counts them


def host_socket(run: Path) -> Path:
    """Where the host dials into the enclave, and the prefix of where it listens."""
    return run / "host" / "e.vsock"


def enclave_folder(run: Path) -> Path:
    """The enclave's side of the device."""
    return run / "enclave"


class VsockDevice:
    """Relays streams between the two folders below `run` until it is closed."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._listeners: list[Listener] = []

    async def open(self) -> None:
        """Make the folders (0700) and listen on both sides."""
        for folder in (host_socket(self._run).parent, enclave_folder(self._run)):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        await self._listen(host_socket(self._run), self._towards_enclave)
        await self._listen(enclave_folder(self._run) / "out.sock", self._towards_host)

    async def close(self) -> None:
        """Cut every stream and remove both sockets."""
        for listener in self._listeners:
            await listener.close()
        self._listeners.clear()

    async def _listen(self, path: Path, target: Callable[[int], Path]) -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _join((reader, writer), target)

        address = Address.parse(f"unix://{path}")
        self._listeners.append(await listen(address, handle, connections=MAX_STREAMS))

    def _towards_enclave(self, port: int) -> Path:
        return enclave_folder(self._run) / f"{port}.sock"

    def _towards_host(self, port: int) -> Path:
        return Path(f"{host_socket(self._run)}_{port}")


async def _join(near: Stream, target: Callable[[int], Path]) -> None:
    reader, writer = near
    port = await _requested_port(reader)
    far = await connect(Address.parse(f"unix://{target(port)}"), timeout=CONNECT_TIMEOUT)
    try:
        writer.write(f"OK {next(_LOCAL_PORTS)}\n".encode())
        await writer.drain()
    except BaseException:
        far[1].transport.abort()
        raise
    await relay(near, far, idle_timeout=IDLE_TIMEOUT)


async def _requested_port(reader: asyncio.StreamReader) -> int:
    """The port of a CONNECT line, read byte by byte: payload may follow at once."""
    line = b""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            while not line.endswith(b"\n"):
                line += await reader.readexactly(1)
                if len(line) > LINE_LIMIT:
                    break
    except (TimeoutError, asyncio.IncompleteReadError):
        raise TransportError("transport.refused", "no CONNECT line") from None
    found = _CONNECT.fullmatch(line)
    if found is None or int(found[1]) >= 1 << 32:
        raise TransportError("transport.refused", "no CONNECT line")
    return int(found[1])
