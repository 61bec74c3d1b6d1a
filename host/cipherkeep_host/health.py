"""The only place that serves `/healthz` and `/metrics` of a process, on a unix socket or on loopback.

    async with health.serve("unix:///run/health.sock", registry=registry, check=check):
        …

`check` says how the process is: `/healthz` answers 200 with its details when it is well, 503 when it is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cipherkeep_host.errors import HostError


@dataclass(frozen=True, slots=True)
class Health:
    """How a process is. `details` are shown to whoever asks and hold no secret."""

    ok: bool
    details: Mapping[str, str | int | bool] = field(default_factory=dict)


def application(registry: CollectorRegistry, check: Callable[[], Health]) -> Starlette:
    """The two pages, for a process that serves others beside them."""

    async def healthz(_: Request) -> Response:
        health = check()
        return JSONResponse({"ok": health.ok, **health.details}, status_code=200 if health.ok else 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/healthz", healthz), Route("/metrics", metrics)])


def listen(address: str) -> socket.socket:
    """A bound socket for `unix:///path` (mode 0600) or `tcp://127.0.0.1:PORT`; port 0 takes any that is free."""
    if address.startswith("unix://"):
        path = Path(address.removeprefix("unix://"))
        path.unlink(missing_ok=True)
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            found.bind(str(path))
            path.chmod(0o600)
        except OSError as error:
            found.close()
            raise HostError("service.address", f"{address}: {error}") from None
        return found
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if not address.startswith("tcp://") or host != "127.0.0.1" or not port.isdigit():
        raise HostError("service.address", address)
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, int(port)))
    except (OSError, OverflowError) as error:
        found.close()
        raise HostError("service.address", f"{address}: {error}") from None
    return found


def _forget(address: str) -> None:
    if address.startswith("unix://"):
        Path(address.removeprefix("unix://")).unlink(missing_ok=True)


class _Server(uvicorn.Server):
    """Without handlers of signals: those are the process's own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serve(address: str, *, registry: CollectorRegistry, check: Callable[[], Health]) -> AsyncIterator[str]:
    """Serve both pages until the block is left. Gives the address, with the port that was taken."""
    bound = listen(address)
    if bound.family == socket.AF_INET:
        address = f"tcp://127.0.0.1:{bound.getsockname()[1]}"
    configuration = uvicorn.Config(
        application(registry, check), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
    )
    server = _Server(configuration)
    task = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        while not server.started:
            if task.done():
                await task
                raise HostError("service.address", address)
            await asyncio.sleep(0.005)
        yield address
    finally:
        server.should_exit = True
        await asyncio.wait([task])
        bound.close()
        _forget(address)
