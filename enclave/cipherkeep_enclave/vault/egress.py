"""The only place through which the enclave calls out: a relay to the one port of its parent that leads to AWS KMS.

The parent carries bytes; TLS ends on this side. HTTP clients speak to unix sockets and know nothing of vsock, so the
relay listens on one in the scratch folder.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cipherkeep_wire import transport
from cipherkeep_wire.transport import Address

CONNECTIONS = 4
IDLE = 60.0  # seconds; a call to the service takes less than one


@asynccontextmanager
async def relay(folder: Path, target: Address) -> AsyncIterator[Path]:
    """The path of a unix socket that leads to `target` while the context lasts."""
    path = folder / "egress.sock"
    address = Address("unix", path=str(path.absolute()))
    async with await transport.forward(address, target, connections=CONNECTIONS, idle_timeout=IDLE):
        yield path
