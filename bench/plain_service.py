"""The only place that serves an enclave's service without its channel, so that the channel's share can be told.

`python -m bench.plain_service --socket PATH --configuration FILE --scratch DIR`: the same keeper and servicer as in an
enclave, over gRPC on a unix socket, with a key service in memory. For measurements only: nobody is attested here.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import grpc.aio
from cipherkeep_attestation.statements.configuration import Configuration
from cipherkeep_enclave import service
from cipherkeep_enclave.engine import MaterialFolder
from cipherkeep_enclave.keeper import Keeper
from cipherkeep_host.process import die_with_parent

from tests.enclave.harness import MemoryKms

_MESSAGE = 16 << 20  # bytes


def _no_document(nonce: bytes, public_key: bytes, user_data: bytes) -> bytes:
    raise NotImplementedError("nobody is attested here")


async def serve(socket: Path, configuration: Configuration, scratch: Path) -> None:
    """Serve until SIGTERM."""
    keeper = Keeper(
        configuration,
        boot=os.urandom(16),
        nonce=os.urandom(32),
        now=lambda: datetime.now(UTC),
        kms=MemoryKms(),
        attest=_no_document,
        entropy=os.urandom,
        material=MaterialFolder(scratch),
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    options = [("grpc.max_receive_message_length", _MESSAGE), ("grpc.max_send_message_length", _MESSAGE)]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers(tuple(service.handlers(keeper)))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    await stop.wait()
    await server.stop(0)
    keeper.close()


def main() -> None:
    """Read the command line and serve."""
    die_with_parent()
    parser = argparse.ArgumentParser(prog="bench.plain_service")
    for name in ("--socket", "--configuration", "--scratch"):
        parser.add_argument(name, type=Path, required=True)
    given = parser.parse_args()
    configuration = Configuration.decode(given.configuration.read_bytes())
    asyncio.run(serve(given.socket, configuration, given.scratch))


if __name__ == "__main__":
    main()
