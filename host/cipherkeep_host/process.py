"""The only place for how a process of the host begins and ends: logs, signals, its parent's death, serving HTTP.

Every process of the host calls `die_with_parent()` first (or is started on a leash, see `leash`), then `run(name, …)`,
and serves `/healthz` and `/metrics` beside its own routes until SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from cipherkeep_wire.errors import ServiceError
from cipherkeep_wire.transport import Address, TransportError
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp
from structlog.tracebacks import ExceptionDictTransformer

from cipherkeep_host.errors import HostError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_BACKLOG = 128  # connections that wait to be accepted
_DRAIN = 5  # seconds that running requests get after SIGTERM
_CONNECTIONS = 512  # open HTTP connections of one process; beyond it 503


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent's thread ends; exit at once if the parent is gone already.

    `parent` is the process id that the parent gave; without it, whoever is the parent now.
    """
    expected = os.getppid() if parent is None else parent
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != expected:
        raise SystemExit(f"the parent {expected} of this process is gone")


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set. To be called inside the running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def announce(addresses: Sequence[str]) -> None:
    """Tell the parent on stdout, in one line of JSON, that this process listens, and where."""
    sys.stdout.write(json.dumps({"listening": list(addresses)}) + "\n")
    sys.stdout.flush()


def run(process: str, main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Configure the logs and run to the end; the exit status is 1 when a refusal ended it, which is then logged."""
    configure_logs(process)
    try:
        asyncio.run(main())
    except (HostError, ServiceError) as error:
        structlog.get_logger().error("stopped", code=error.code, detail=error.detail, hint=error.hint)
        return 1
    return 0


def configure_logs(process: str) -> None:
    """Structured JSON on stderr, one line per event, each naming the process. Byte strings are shown as lengths."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Without local variables: a traceback must not show what a function held.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
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
    """A listening socket: unix (mode 0600, in place of a dead one) or loopback, where port 0 takes any that is free.

    `HostError("process.listen")` for other forms of address, `"process.address_in_use"` where something lives.
    """
    if address.scheme == "tcp":
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return _listening(listener, ("127.0.0.1", address.port), address)
    if address.scheme != "unix":
        raise HostError("process.listen", str(address))
    path = Path(address.path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _lives(path):
            raise HostError("process.address_in_use", str(address))
        path.unlink(missing_ok=True)
    except OSError as problem:
        raise HostError("process.address_in_use", f"{address}: {problem}") from None
    return _listening(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), str(path), address)


def _lives(path: Path) -> bool:
    """Whether something listens there. A socket whose queue is full raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            probe.connect(str(path))
            return True
    return False


def _listening(listener: socket.socket, name: tuple[str, int] | str, address: Address) -> socket.socket:
    try:
        listener.bind(name)
        if isinstance(name, str):
            Path(name).chmod(0o600)  # before listen(): until then nobody can connect, whatever its mode
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as problem:
        listener.close()
        raise HostError("process.address_in_use", f"{address}: {problem}") from None
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


async def serve_http(
    app: ASGIApp, listener: socket.socket, stop: asyncio.Event, *, tls: ssl.SSLContext | None = None
) -> None:
    """Serve until `stop` is set; running requests get five seconds to end. The socket is closed and taken away."""
    path = Path(listener.getsockname()) if listener.family == socket.AF_UNIX else None
    server = _Server(
        uvicorn.Config(
            app,
            log_level="critical",
            access_log=False,
            lifespan="off",
            ws="none",
            ssl_context_factory=None if tls is None else lambda *_: tls,
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
        if path is not None:
            remove(path)
        listener.close()


def remove(path: Path) -> None:
    """Take a socket away when its server ends, so that a client sees at once that nobody serves."""
    path.unlink(missing_ok=True)


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


def refusal_handlers(
    statuses: Mapping[str, int], refused: Counter
) -> dict[type[HostError], Callable[[Request, Exception], Awaitable[Response]]]:
    """Exception handlers of an application: a `HostError` is counted by its code and answered with the code's status.

    500 for a code that has none in `statuses`.
    """

    async def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, HostError)
        refused.labels(error.code).inc()
        return problem(error, statuses.get(error.code, 500))

    return {HostError: refuse}
