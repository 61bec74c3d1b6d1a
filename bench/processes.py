"""The only place that reads how much memory and processor time processes have taken."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

KIB = 1024


@dataclass(frozen=True, slots=True)
class Resident:
    """Resident memory in MiB: now, and the most there ever was."""

    now: float
    peak: float


def resident(pid: int) -> Resident:
    """Of one process. FileNotFoundError when it is gone."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return Resident(*(int(fields[name].split()[0]) / KIB for name in ("VmRSS", "VmHWM")))


def processor(pid: int) -> float:
    """Seconds of processor time that a process has used, threads and kernel included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime and stime


def below(pid: int) -> dict[int, str]:
    """A process and all its descendants: process id and name of the module or program it runs."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue  # it has ended meanwhile
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found, waiting = {}, [pid]
    while waiting:
        one = waiting.pop()
        try:
            command = Path(f"/proc/{one}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        waiting += parents.get(one, [])
        found[one] = command[command.index("-m") + 1] if "-m" in command else Path(command[0]).name
    return found
