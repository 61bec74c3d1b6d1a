"""The only place for the appliance's own process: `python -m cipherkeep_host.appliance --state DIR [--parent-dies]`.

It writes one JSON line to stdout for each stage of its start and one when all serves, keeps everything running until
SIGTERM, and leaves no process behind. From the start on it serves `/healthz` and `/metrics`, its launcher's included.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import structlog
from starlette.applications import Starlette

from cipherkeep_host import durable, process
from cipherkeep_host.appliance.bringup import Appliance
from cipherkeep_host.appliance.plan import Paths, default_state
from cipherkeep_host.chain.home import Pace
from cipherkeep_host.errors import HostError

log = structlog.get_logger()


@contextlib.contextmanager
def locked(paths: Paths) -> Iterator[None]:
    """Hold the state folder. `HostError("appliance.running")` when another appliance does."""
    durable.make_folder(paths.state)
    descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HostError("appliance.running", str(paths.state)) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _tell(**event: object) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()


async def serve(paths: Paths, pace: Pace) -> None:
    """Run the appliance until SIGTERM."""
    stop = process.stop_on_signals()
    begun = time.monotonic()
    appliance = Appliance(
        paths, pace=pace, say=lambda stage: _tell(stage=stage, seconds=round(time.monotonic() - begun, 2))
    )

    async def health() -> dict[str, object]:
        return appliance.health()

    pages = Starlette(routes=list(process.health_routes(appliance.launcher.registry, health)))
    listener = process.bind(process.parse_address(f"unix://{paths.socket('appliance')}"))
    ended = asyncio.Event()
    paging = asyncio.create_task(process.serve_http(pages, listener, ended))
    stopping = asyncio.create_task(stop.wait())
    starting = asyncio.create_task(appliance.start())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            return
        starting.result()
        _tell(ready=True, seconds=round(time.monotonic() - begun, 2), environment=str(paths.environment))
        failing = asyncio.create_task(appliance.failed())
        await asyncio.wait({failing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if failing.done():
            failing.result()
        failing.cancel()
    finally:
        stopping.cancel()
        starting.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        try:
            await appliance.stop()
        finally:
            ended.set()
            await paging


def main(arguments: list[str] | None = None) -> int:
    """Run the process; 1 when the appliance could not start or keep running."""
    parser = argparse.ArgumentParser(prog="cipherkeep_host.appliance", description="Run a whole party here.")
    parser.add_argument("--state", type=Path, default=default_state(), help="folder of everything that lasts")
    parser.add_argument("--commit-ms", type=int, default=Pace().commit_ms, help="wait after each block, milliseconds")
    parser.add_argument("--with-parent", action="store_true", help="end when the starting process ends")
    given = parser.parse_args(arguments)
    if given.with_parent:
        process.die_with_parent()
    process.configure_logs("appliance")
    run = Path(tempfile.mkdtemp(prefix="ck-"))
    paths = Paths(given.state.absolute(), run)
    try:
        with locked(paths):
            asyncio.run(serve(paths, Pace(commit_ms=given.commit_ms)))
    except HostError as error:
        log.error("stopped", code=error.code, detail=error.detail, hint=error.hint)
        _tell(code=error.code, sentence=error.sentence, detail=error.detail, hint=error.hint)
        return 1
    finally:
        shutil.rmtree(run, ignore_errors=True)
    return 0
