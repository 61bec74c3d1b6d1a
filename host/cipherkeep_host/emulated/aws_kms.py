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

import structlog
from cipherkeep_wire.transport import Address
from prometheus_client import CollectorRegistry, Counter
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from cipherkeep_host import process
from cipherkeep_host.emulated import aws_tls
from cipherkeep_host.emulated.aws_calls import OPERATIONS, Calls
from cipherkeep_host.emulated.aws_keys import KeyStore
from cipherkeep_host.emulated.aws_sigv4 import AccessKey, AwsError, authenticate
from cipherkeep_host.emulated.pki import emulated_root

BODY_LIMIT = 128 * 1024  # bytes; a policy of 32 KiB as a JSON text, or a document of 16 KiB in base64, with room
_CONTENT_TYPE = "application/x-amz-json-1.1"
_TARGET = "TrentService."
_log = structlog.get_logger()


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
                *process.health_routes(self._registry, self._health),
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
            _log.info("refused", request_id=request_id, operation=operation, code=error.name, reason=reason)
        except OSError as error:
            # A full disk: nothing was answered that did not reach it.
            answer, outcome, status = {"__type": "KMSInternalException", "message": ""}, "KMSInternalException", 500
            _log.error("failed", request_id=request_id, operation=operation, code=outcome, reason=str(error))
        self._answered.labels(operation, outcome).inc()
        headers_out = {"content-type": _CONTENT_TYPE, "x-amzn-requestid": request_id}
        return Response(json.dumps(answer), status_code=status, headers=headers_out)

    async def _health(self) -> dict[str, object]:
        return {"ready": True}


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


def prepare(state: Path) -> None:
    """Make STATE/kms if it is not there yet."""
    if not (state / "kms").exists():
        aws_tls.create(state)
    (state / "kms" / "keys").mkdir(exist_ok=True, mode=0o700)


def _announced(address: Address, listener: socket.socket) -> str:
    """The address with the port that was taken."""
    return f"tcp://127.0.0.1:{listener.getsockname()[1]}" if address.scheme == "tcp" else str(address)


async def serve(state: Path, texts: Sequence[str]) -> None:
    """Answer calls until SIGTERM."""
    stop = process.stop_on_signals()
    prepare(state)
    calls = Calls(KeyStore(state / "kms" / "keys"), root=emulated_root(state))
    app = Service(calls, aws_tls.access_key(state)).application()
    context = aws_tls.server_context(state)
    addresses = [process.parse_address(text) for text in texts]
    listening = [process.bind(address) for address in addresses]
    process.announce([_announced(*pair) for pair in zip(addresses, listening, strict=True)])
    await asyncio.gather(*(process.serve_http(app, one, stop, tls=context) for one in listening))


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and serve; the exit code is 1 when it could not start."""
    parser = argparse.ArgumentParser(prog="cipherkeep-emulated-kms", description="An emulated AWS KMS.")
    parser.add_argument("--state", type=Path, required=True, help="folder with pki/ and kms/")
    parser.add_argument(
        "--listen", action="append", required=True, help="unix:///PATH or tcp://127.0.0.1:PORT; repeatable"
    )
    parser.add_argument("--parent", type=int, default=None, help="process id without which this process ends")
    options = parser.parse_args(arguments)
    process.die_with_parent(options.parent)
    return process.run("kms", lambda: serve(options.state, options.listen))


if __name__ == "__main__":
    sys.exit(main())
