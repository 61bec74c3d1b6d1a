"""The only place for the emulated NSM's process: `python -m cipherkeep_host.emulated.nsm`, one per enclave boot.

It serves a unix socket (0600): a four-byte big-endian length, then the CBOR that an ioctl on /dev/nsm would carry. An
oversized request is answered `InputTooLarge` before it is read, and its connection is closed. `/healthz` and `/metrics`
are served beside it, as every process of the host does.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from cipherkeep_attestation.cbor import decode, encode
from cipherkeep_attestation.eif import extend
from prometheus_client import CollectorRegistry, Counter
from starlette.applications import Starlette

from cipherkeep_host import process
from cipherkeep_host.emulated.documents import sign_document
from cipherkeep_host.emulated.pcrs import REQUEST_LIMIT, ZERO, PcrBank
from cipherkeep_host.emulated.pki import Pki

MAX_CONNECTIONS = 64  # an enclave opens a few; each may hold one request of 4 KiB


def new_module_id() -> str:
    """The id of a new emulated enclave, in the form that hardware uses."""
    return f"i-0{secrets.token_hex(8)}-enc{secrets.token_hex(8)}"


def make_bank(state: Path, measurements: Mapping[int, bytes], *, module_id: str) -> PcrBank:
    """A bank fresh from boot: PCR0-2 as measured, PCR4 the instance's id, all else zero."""
    pki = Pki(state, module_id=module_id)
    pki.credentials()  # a missing or damaged root shows at start, not at the first document

    def attest(
        pcrs: Mapping[int, bytes], public_key: bytes | None, user_data: bytes | None, nonce: bytes | None
    ) -> bytes:
        return sign_document(
            pki.credentials(),
            module_id=module_id,
            kind="pcrs",
            pcrs=pcrs,
            at=datetime.now(UTC),
            public_key=public_key,
            user_data=user_data,
            nonce=nonce,
        )

    instance = extend(ZERO, module_id.rpartition("-")[0].encode())
    return PcrBank({**measurements, 4: instance}, module_id=module_id, attest=attest)


async def serve(bank: PcrBank, socket: Path, health: str) -> None:
    """Answer requests on `socket`, and for `health` say how it is, until SIGTERM."""
    stop = process.stop_on_signals()
    connections: set[asyncio.StreamWriter] = set()
    registry = CollectorRegistry()
    requests = Counter("nsm_requests", "Requests, by call or by error", ["outcome"], registry=registry)

    async def state() -> dict[str, object]:
        return {"ready": True, "module_id": bank.module_id, "connections": len(connections)}

    pages = Starlette(routes=list(process.health_routes(registry, state)))
    paging = asyncio.create_task(process.serve_http(pages, process.bind(process.parse_address(health)), stop))

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(connections) >= MAX_CONNECTIONS:
            writer.close()
            return
        connections.add(writer)
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(4), "big")
                if length > REQUEST_LIMIT:
                    requests.labels("InputTooLarge").inc()
                    await _send(writer, encode({"Error": "InputTooLarge"}))
                    return
                answer = bank.answer(await reader.readexactly(length))
                requests.labels(_outcome(answer)).inc()
                await _send(writer, answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            connections.discard(writer)
            writer.close()

    address = process.parse_address(f"unix://{socket}")
    server = await asyncio.start_unix_server(connection, sock=process.bind(address), limit=2 * REQUEST_LIMIT)
    process.announce([str(address)])
    await stop.wait()
    server.close()
    for writer in list(connections):
        writer.close()
    process.remove(socket)
    await paging


def _outcome(answer: bytes) -> str:
    """The call that was answered, or the error: there are few of both."""
    found = decode(answer)
    name = next(iter(found)) if isinstance(found, dict) else found
    return str(found["Error"] if isinstance(found, dict) and name == "Error" else name)


async def _send(writer: asyncio.StreamWriter, answer: bytes) -> None:
    writer.write(len(answer).to_bytes(4, "big") + answer)
    await writer.drain()


def _measurement(text: str) -> bytes:
    value = bytes.fromhex(text)
    if len(value) != 48:
        raise ValueError("a PCR has 48 bytes")
    return value


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and serve; the exit code is 1 when it could not start."""
    parser = argparse.ArgumentParser(prog="cipherkeep-emulated-nsm", description="An emulated Nitro Security Module.")
    parser.add_argument("--socket", type=Path, required=True, help="unix socket to serve")
    parser.add_argument("--health", required=True, help="unix:///PATH of /healthz and /metrics")
    parser.add_argument("--state", type=Path, required=True, help="folder whose pki/ holds the emulated root")
    for index in range(3):
        parser.add_argument(f"--pcr{index}", type=_measurement, required=True, help="96 hexadecimal digits")
    parser.add_argument("--module-id", default=None, help="i-…-enc…; a new one by default")
    parser.add_argument("--parent", type=int, default=None, help="process id without which this process ends")
    options = parser.parse_args(arguments)
    process.die_with_parent(options.parent)
    measurements = {0: options.pcr0, 1: options.pcr1, 2: options.pcr2}

    async def run() -> None:
        bank = make_bank(options.state, measurements, module_id=options.module_id or new_module_id())
        await serve(bank, options.socket, options.health)

    return process.run("nsm", run)


if __name__ == "__main__":
    sys.exit(main())
