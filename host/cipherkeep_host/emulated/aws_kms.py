"""The only place for the emulated AWS KMS's process: `python -m cipherkeep_host.emulated.aws_kms`.

    --state DIR --listen unix:///PATH --listen tcp://127.0.0.1:0

It serves AWS's JSON 1.1 protocol over TLS as `kms.emulated.internal`, on unix sockets (0600) and loopback; beside it
`GET /healthz` and `GET /metrics`. One line of JSON on stdout says where it listens; the log (JSON on stderr) says why a
call was denied, which AWS never does. Keys live in STATE/kms and survive any crash; STATE/pki must exist.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import uvicorn
from prometheus_client import CollectorRegistry, Counter, generate_latest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cipherkeep_host.emulated import aws_tls, lifetime
from cipherkeep_host.emulated.aws_calls import OPERATIONS, Calls
from cipherkeep_host.emulated.aws_keys import KeyStore
from cipherkeep_host.emulated.aws_sigv4 import AccessKey, AwsError, authenticate
from cipherkeep_host.emulated.pki import emulated_root
from cipherkeep_host.errors import HostError

BODY_LIMIT = 128 * 1024  # bytes; a policy of 32 KiB as a JSON text, or a document of 16 KiB in base64, with room
MAX_CONNECTIONS = 64
SHUTDOWN = 2  # seconds for running calls after SIGTERM
_CONTENT_TYPE = "application/x-amz-json-1.1"
_TARGET = "TrentService."


class Service:
    """HTTP in front of the calls: size, signature, target, error names."""

    def __init__(self, calls: Calls, key: AccessKey) -> None:
        self._calls = calls
        self._key = key
        self._registry = CollectorRegistry()
        self._answered = Counter(
            "emulated_kms_calls", "Calls by operation and outcome", ("operation", "outcome"), registry=self._registry
        )

    def application(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/", self._call, methods=["POST"]),
                Route("/healthz", self._health, methods=["GET"]),
                Route("/metrics", self._metrics, methods=["GET"]),
            ]
        )

    async def _call(self, request: Request) -> Response:
        request_id = str(uuid.uuid4())
        operation, outcome, status = "unknown", "ok", 200
        try:
            body = await _body(request)
            # Headers that stand twice would let the signed one differ from the one that is read.
            headers = dict(request.headers.items())
            if len(headers) != len(request.headers.raw):
                raise AwsError("IncompleteSignatureException", "A header stands twice.")
            authenticate(headers, body, key=self._key, at=datetime.now(UTC))
            target = headers["x-amz-target"]
            if not target.startswith(_TARGET) or target.removeprefix(_TARGET) not in OPERATIONS:
                raise AwsError("UnknownOperationException", target[:100])
            operation = target.removeprefix(_TARGET)
            answer = self._calls.run(operation, body)
        except AwsError as error:
            answer, outcome, status = {"__type": error.name, "message": error.message}, error.name, 400
            reason = error.reason or error.message
            _log("refused", request_id=request_id, operation=operation, code=error.name, reason=reason)
        except OSError as error:
            # A full disk: nothing was answered that did not reach it.
            answer, outcome, status = {"__type": "KMSInternalException", "message": ""}, "KMSInternalException", 500
            _log("failed", request_id=request_id, operation=operation, code=outcome, reason=str(error))
        self._answered.labels(operation, outcome).inc()
        headers_out = {"content-type": _CONTENT_TYPE, "x-amzn-requestid": request_id}
        return Response(json.dumps(answer), status_code=status, headers=headers_out)

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _metrics(self, request: Request) -> Response:
        return Response(generate_latest(self._registry), media_type="text/plain; version=0.0.4")


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > BODY_LIMIT:
                raise AwsError("SerializationException", f"A request has at most {BODY_LIMIT} bytes.")
    except ClientDisconnect:
        raise AwsError("SerializationException", "The request ended early.") from None
    return bytes(body)


def _log(event: str, **values: str) -> None:
    line = {"event": event, "at": datetime.now(UTC).isoformat(timespec="milliseconds"), **values}
    sys.stderr.write(json.dumps(line) + "\n")


def prepare(state: Path) -> None:
    """Make STATE/kms if it is not there yet."""
    if not (state / "kms").exists():
        aws_tls.create(state)
    (state / "kms" / "keys").mkdir(exist_ok=True, mode=0o700)


def _listen(address: str) -> tuple[socket.socket, str]:
    scheme, _, rest = address.partition("://")
    if scheme == "unix" and rest.startswith("/"):
        return lifetime.listen_unix(Path(rest)), address
    host, _, port = rest.rpartition(":")
    if scheme == "tcp" and host == "127.0.0.1" and port.isascii() and port.isdigit() and int(port) < 1 << 16:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
        listener.listen(lifetime.BACKLOG)
        return listener, f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    raise HostError("emulator.listen", address[:200])


class _Server(uvicorn.Server):
    """Says where it listens once it does."""

    def __init__(self, config: uvicorn.Config, addresses: list[str]) -> None:
        super().__init__(config)
        self._addresses = addresses

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to serve, then tell the parent."""
        await super().startup(sockets)
        lifetime.announce(self._addresses)


async def serve(state: Path, addresses: Sequence[str]) -> None:
    """Answer calls until SIGTERM."""
    prepare(state)
    calls = Calls(KeyStore(state / "kms" / "keys"), root=emulated_root(state))
    service = Service(calls, aws_tls.access_key(state))
    context = aws_tls.server_context(state)
    config = uvicorn.Config(
        service.application(),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=SHUTDOWN,
        server_header=False,
        ssl_context_factory=lambda *_: context,
    )
    listening = [_listen(address) for address in addresses]
    # The server handles SIGTERM and SIGINT while it runs and raises them again at its end: to be taken, not died of.
    lifetime.stop_on_signals()
    await _Server(config, [address for _, address in listening]).serve([listener for listener, _ in listening])
    for _, address in listening:
        if address.startswith("unix://"):
            lifetime.remove(Path(address.removeprefix("unix://")))


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="cipherkeep-emulated-kms", description="An emulated AWS KMS.")
    parser.add_argument("--state", type=Path, required=True, help="folder with pki/ and kms/")
    parser.add_argument(
        "--listen", action="append", required=True, help="unix:///PATH or tcp://127.0.0.1:PORT; repeatable"
    )
    parser.add_argument("--parent", type=int, default=None, help="process id without which this process ends")
    options = parser.parse_args(arguments)
    lifetime.die_with_parent(options.parent)
    asyncio.run(serve(options.state, options.listen))


if __name__ == "__main__":
    main()
