"""The only place that starts the appliance for measurements, times its stages, weighs its processes, and ends it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.figures import MEMORY, Row, row
from bench.processes import Resident, below, processor, resident

START = 180.0  # seconds
STOP = 30.0
ENCLAVE_MIB = 150  # target of the design
ENCLAVE = "cipherkeep_enclave"


@dataclass(frozen=True, slots=True)
class Running:
    """An appliance that is ready: its process, its state folder, when each stage began (seconds), and the whole."""

    pid: int
    state: Path
    stages: Mapping[str, float]
    seconds: float

    def startup(self, name: str, *, stages: bool) -> list[Row]:
        """How long the start took, and with `stages` how long each part of it."""
        rows = [row("start of the appliance", f"{name}, all", "s", [self.seconds])]
        if stages:
            ends = [*list(self.stages.values())[1:], self.seconds]
            for (stage, begun), end in zip(self.stages.items(), ends, strict=True):
                rows.append(row("start of the appliance", f"{name}: {stage}", "s", [end - begun]))
        return rows

    def memory(self) -> dict[str, Resident]:
        """Resident memory of each process by what it runs."""
        found: dict[str, Resident] = {}
        for pid, name in sorted(below(self.pid).items()):
            with contextlib.suppress(OSError, KeyError):  # it has ended meanwhile
                held = resident(pid)
                earlier = found.get(name, Resident(0, 0))
                found[name] = Resident(earlier.now + held.now, earlier.peak + held.peak)
        return found

    def processor(self) -> dict[str, float]:
        """Seconds of processor time so far, by what a process runs."""
        found: dict[str, float] = {}
        for pid, name in below(self.pid).items():
            with contextlib.suppress(OSError):
                found[name] = found.get(name, 0) + processor(pid)
        return found


@contextlib.asynccontextmanager
async def appliance(state: Path, *, commit_ms: int) -> AsyncIterator[Running]:
    """A running appliance with this wait after each block. RuntimeError when it does not come up."""
    arguments = ["--state", str(state), "--with-parent", str(os.getpid()), "--commit-ms", str(commit_ms)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cipherkeep_host.appliance", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        stages: dict[str, float] = {}
        async with asyncio.timeout(START):
            async for line in process.stdout:
                event = json.loads(line)
                if "stage" in event:
                    stages[event["stage"]] = event["seconds"]
                elif event.get("ready"):
                    break
                else:
                    raise RuntimeError(f"the appliance did not start: {event}")
            else:
                raise RuntimeError("the appliance ended before it was ready")
        yield Running(process.pid, state, stages, event["seconds"])
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP)
            except TimeoutError:
                process.kill()  # its children end with it
                await process.wait()


def memory_rows(name: str, found: Mapping[str, Resident]) -> list[Row]:
    """A row for each process; the enclave's has the target."""
    group, rows = "resident memory (p95: highest ever)", []
    for program, held in sorted(found.items()):
        target = ENCLAVE_MIB if program == ENCLAVE else None
        rows.append(Row(group, f"{name}: {program}", MEMORY, held.now, held.peak, 1, target))
    total = sum(held.now for held in found.values())
    rows.append(row(group, f"{name}: all", MEMORY, [total]))
    return rows
