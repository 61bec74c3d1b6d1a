"""The only place that keeps the appliance's processes running: started in order, restarted when they end, ended in
reverse order.

One that ends by itself is started again after a pause that doubles up to a limit, as an operator's init system would.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from cipherkeep_host.child_process import ChildProcess
from cipherkeep_host.errors import HostError

GRACE = 8.0  # seconds between SIGTERM and SIGKILL
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds before a child is started again
QUICK = 10.0  # seconds; who lives longer than this starts again after the first pause
READY = 90.0  # seconds until a child must serve; a loaded laptop is slow

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Program:
    """What a child runs. `ready` returns once it serves, and is tried again while it raises."""

    name: str
    arguments: Sequence[str]  # of `python -m`, the module's name first
    ready: Callable[[], Awaitable[object]]


class Pauses:
    """How long to wait before a process that ended is started again: longer each time that it ended soon."""

    def __init__(self) -> None:
        self.quick_ends = 0  # in a row

    def after(self, lived: float) -> float:
        """Seconds to wait, when it lived for so many."""
        self.quick_ends = 0 if lived > QUICK else self.quick_ends + 1
        return min(FIRST_PAUSE * 2.0 ** min(self.quick_ends, 20), LONGEST_PAUSE)


class Child:
    """One supervised process."""

    def __init__(self, program: Program, logs: Path) -> None:
        self.program = program
        self._command = [sys.executable, "-m", *program.arguments]
        self._log = logs / f"{program.name}.log"
        self._process = ChildProcess(program.name, self._command, log=self._log)
        self.restarts = 0
        self.watcher: asyncio.Task[None] | None = None  # ends only when the child cannot be kept running

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process.alive else None

    async def start(self) -> None:
        """Start it and wait until it serves. `HostError("appliance.start")` when it does not."""
        await self._process.start()
        await self._until_ready()
        self.watcher = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End it in an orderly way."""
        if self.watcher is not None:
            self.watcher.cancel()
            await asyncio.gather(self.watcher, return_exceptions=True)
        await self._process.stop(GRACE)

    async def _until_ready(self) -> None:
        loop = asyncio.get_running_loop()
        deadline, last = loop.time() + READY, ""
        while loop.time() < deadline:
            if not self._process.alive:
                raise HostError("appliance.start", f"{self.program.name} ended: {self._process.tail(400)}")
            try:
                await self.program.ready()
            except Exception as error:  # noqa: BLE001  (whatever keeps it from serving, it is tried again)
                last = f"{type(error).__name__}: {error}"[:200]
                await asyncio.sleep(0.05)
            else:
                return
        raise HostError("appliance.start", f"{self.program.name} does not serve ({last}): {self._log}")

    async def _watch(self) -> None:
        loop, pauses = asyncio.get_running_loop(), Pauses()
        while True:
            begun = loop.time()
            status = await self._process.wait()
            pause = pauses.after(loop.time() - begun)
            log.warning("child ended", child=self.program.name, status=status, again_in=pause)
            await asyncio.sleep(pause)
            while not await self._started_again():
                pause = pauses.after(0)
                await asyncio.sleep(pause)

    async def _started_again(self) -> bool:
        """Whether it could be: a machine that has no room for another process may have it later."""
        fresh = ChildProcess(self.program.name, self._command, log=self._log)
        try:
            await fresh.start()
        except OSError as error:
            log.warning("child not started", child=self.program.name, error=str(error))
            return False
        self.restarts += 1
        self._process = fresh
        return True


class Children:
    """All of them."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._started: dict[str, Child] = {}

    def pids(self) -> dict[str, int | None]:
        """Process ids by name; None for one that is being restarted."""
        return {name: child.pid for name, child in self._started.items()}

    def restarts(self) -> dict[str, int]:
        """How often each was started again."""
        return {name: child.restarts for name, child in self._started.items()}

    def watchers(self) -> list[asyncio.Task[None]]:
        """The tasks that start them again; one that is done has failed."""
        return [child.watcher for child in self._started.values() if child.watcher is not None]

    async def start(self, program: Program) -> None:
        """Start one and remember it."""
        child = Child(program, self._logs)
        self._started[program.name] = child
        await child.start()

    async def stop(self) -> None:
        """Stop all, the last one first, whatever happens to any of them."""
        for child in reversed(list(self._started.values())):
            with contextlib.suppress(OSError):
                await child.stop()
        self._started.clear()
