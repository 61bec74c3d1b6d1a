"""Starts the appliance, has the round run, stops it whatever happens, and turns every failure into a sentence."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from cipherkeep_host.cli import dev, output
from cipherkeep_host.cli.session import paths_of

from tools.demo.round import round_trip
from tools.demo.telling import Wrong, elapsing, say

FAILED, INTERRUPTED = 1, output.INTERRUPTED
_END = 60  # seconds that the appliance gets to stop; what is left then is killed, and all below it with it
_KEPT = """The appliance stays up. Try:
  .venv/bin/cipherkeep dev status
  .venv/bin/cipherkeep encrypt uint64:42 bool:true
  .venv/bin/cipherkeep decrypt HANDLE
  .venv/bin/cipherkeep user-decrypt HANDLE
  .venv/bin/cipherkeep attest
Stop it with
  .venv/bin/cipherkeep dev down"""
_STOPPED = """Stopped, and nothing is left running.
Next: `make demo KEEP=1` leaves the appliance up for you to use."""


@contextlib.asynccontextmanager
async def appliance(state: Path | None, *, keep: bool) -> AsyncIterator[None]:
    """A running appliance; ended with the context unless it is to be kept and all went well."""
    paths = paths_of(state)
    command = [sys.executable, "-m", "cipherkeep_host.appliance", "--state", str(paths.state)]
    command += [] if keep else ["--with-parent", str(os.getpid())]
    with dev.log_file(paths) as log:
        # From this thread and at once: nothing comes between its start and the `try` that ends it.
        process = subprocess.Popen(  # noqa: ASYNC220
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    done = False
    try:
        async with elapsing("starting", 40):
            await asyncio.to_thread(dev.follow, process)
        yield
        done = True
    finally:
        if not (keep and done):
            process.terminate()
            await asyncio.to_thread(_ended, process)


def _ended(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


async def demo(*, keep: bool) -> None:
    """Start, run, tell, stop."""
    with tempfile.TemporaryDirectory(prefix="ck-demo-") as folder:
        state = None if keep else Path(folder) / "state"
        say("[bold]Starting a whole party on this machine[/bold] [dim](about 40 s; 15 s longer the first time)[/dim]")
        async with appliance(state, keep=keep):
            say("[bold]One round[/bold]")
            await round_trip(state)
    say()
    say("All of it was as it must be.")
    say(_KEPT if keep else _STOPPED)


async def interruptible(*, keep: bool) -> None:
    """The demo, ended in good order by the first signal; later ones change nothing."""
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(demo(keep=keep))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, _once(running.cancel))
    await running


def _once(act: Callable[[], object]) -> Callable[[], None]:
    left = [act]

    def handler() -> None:
        if left:
            left.pop()()

    return handler


def main(*, keep: bool) -> int:
    """0 when all was as it must be, 130 after Ctrl-C, 1 otherwise."""
    try:
        try:
            asyncio.run(interruptible(keep=keep))
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is over; only the outcome is still to be said
    except (asyncio.CancelledError, KeyboardInterrupt):
        output.err.print("Stopped, and nothing is left running.")
        return INTERRUPTED
    except Exception as problem:  # noqa: BLE001  (whatever it is, a newcomer reads a sentence)
        explain(problem)
        return FAILED
    return 0


def explain(problem: Exception) -> None:
    """What went wrong, and what to look at."""
    if isinstance(problem, Wrong):
        sentence, rest = str(problem), []
    elif sentence := getattr(problem, "sentence", ""):
        code, detail, hint = (getattr(problem, name, "") for name in ("code", "detail", "hint"))
        rest = [f"{code}: {detail}", f"→ {hint}"]
    else:
        sentence, rest = "Something failed that should not have.", [f"{type(problem).__name__}: {problem}"]
    output.err.print(f"✗ {sentence}", style="red", markup=False)
    for line in rest:
        output.err.print(f"  {line}", markup=False)
    output.err.print("What the demo started has been stopped.")
