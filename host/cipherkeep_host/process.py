"""The only place for how a process of the host begins and ends: logs, signals, its parent's death, serving HTTP.

Every process of the host is `asyncio.run(main())` that calls `die_with_parent()` first, then `configure_logs(name)`,
and serves `/healthz` and `/metrics` beside its own routes until SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from cipherkeep_wire.transport import Address, TransportError
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from cipherkeep_host.errors import HostError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_BACKLOG = 128  # connections that wait to be accepted
_DRAIN = 5  # seconds that running requests get after SIGTERM
_CONNECTIONS = 512  # open HTTP connections of one process; beyond it 503


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends. Exits at once when the parent is gone already."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit("the parent of this process is gone")


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set. To be called inside the running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def configure_logs(process: str) -> None:
    """Structured JSON on stderr, one line per event, each naming the process. Byte strings are shown as lengths."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_bytes,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)


def _without_bytes(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Bytes may be anything, also what must not be read: what a log should name is given as hexadecimal text."""
    for name, value in event.items():
        if isinstance(value, (bytes, bytearray, memoryview)):
            event[name] = f"<{len(value)} bytes>"
    return event


def bind(address: Address) -> socket.socket:
    """A listening socket: unix (mode 0600, in place of a dead one) or loopback.

    `HostError("process.listen")` for other forms of address, `"process.address_in_use"` where something lives.
    """
    if address.scheme == "tcp":
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return _listening(listener, ("127.0.0.1", address.port), address)
    if address.scheme != "unix":
        raise HostError("process.listen", str(address))
    path = Path(address.path)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            probe.connect(str(path))
            raise HostError("process.address_in_use", str(address))
    path.unlink(missing_ok=True)
    listener = _listening(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), str(path), address)
    path.chmod(0o600)
    return listener


def _listening(listener: socket.socket, name: tuple[str, int] | str, address: Address) -> socket.socket:
    try:
        listener.bind(name)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as problem:
        listener.close()
        raise HostError("process.address_in_use", f"{address}: {problem.strerror}") from None
    return listener


def parse_address(text: str) -> Address:
    """An address to listen on or connect to. `HostError("process.listen")` unless it is unix:// or loopback tcp://."""
    try:
        address = Address.parse(text)
    except TransportError:
        raise HostError("process.listen", text[:120]) from None
    if address.scheme not in ("unix", "tcp"):
        raise HostError("process.listen", text[:120])
    return address


class _Server(uvicorn.Server):
    """Leaves signals to the process: SIGTERM is an orderly end, with exit code 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_http(app: ASGIApp, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve until `stop` is set; running requests get five seconds to end. The socket is closed."""
    server = _Server(
        uvicorn.Config(
            app,
            log_level="critical",
            access_log=False,
            lifespan="off",
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=_DRAIN,
            timeout_keep_alive=30,
            server_header=False,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
    finally:
        stopping.cancel()
        server.should_exit = True
        server.force_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        listener.close()


def health_routes(registry: CollectorRegistry, state: Callable[[], Awaitable[dict[str, object]]]) -> list[Route]:
    """`/healthz`: what `state` says (200 when its "ready" is true, else 503). `/metrics`: Prometheus text."""

    async def healthz(_: Request) -> Response:
        found = await state()
        return JSONResponse(found, 200 if found.get("ready") else 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})

    return [Route("/healthz", healthz, methods=["GET"]), Route("/metrics", metrics, methods=["GET"])]


def problem(error: HostError, status: int) -> JSONResponse:
    """How a refusal travels over HTTP: its code, sentence, hint and detail."""
    body = {"code": error.code, "sentence": error.sentence, "hint": error.hint, "detail": error.detail}
    return JSONResponse(body, status)
