"""The only place for the appliance's own process.

    python -m cipherkeep_host.appliance --state DIR [--with-parent PID]

It writes one JSON line to stdout for each stage of its start and one when all serves, keeps everything running until
SIGTERM, and leaves no process behind. From the start on it serves `/healthz` and `/metrics`, its launcher's included.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import structlog
from starlette.applications import Starlette

from cipherkeep_host import process
from cipherkeep_host.appliance import lock
from cipherkeep_host.appliance.bringup import Appliance
from cipherkeep_host.appliance.metrics import Processes
from cipherkeep_host.appliance.plan import Paths, default_state
from cipherkeep_host.chain.home import Pace
from cipherkeep_host.errors import HostError

log = structlog.get_logger()


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

    registry = appliance.launcher.registry
    registry.register(Processes(appliance.pids, appliance.restarts))
    pages = Starlette(routes=list(process.health_routes(registry, health)))
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
    parser.add_argument("--with-parent", type=int, metavar="PID", help="end when this process, which starts it, ends")
    given = parser.parse_args(arguments)
    if given.with_parent is not None:
        process.die_with_parent(given.with_parent)
    process.configure_logs("appliance")
    state = given.state.absolute()
    try:
        # Whoever sees the lock free finds nothing left of this run.
        with lock.held(Paths(state, Path("/")).lock), _run_folder() as run:
            asyncio.run(serve(Paths(state, run), Pace(commit_ms=given.commit_ms)))
    except (HostError, OSError) as problem:
        error = problem if isinstance(problem, HostError) else HostError("appliance.start", str(problem))
        log.error("stopped", code=error.code, detail=error.detail, hint=error.hint)
        _tell(code=error.code, sentence=error.sentence, detail=error.detail, hint=error.hint)
        return 1
    return 0


@contextlib.contextmanager
def _run_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ck-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
