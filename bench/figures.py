"""The only place that turns durations and rates into rows: name, unit, median, p95, n, target, whether it is met.

For durations p95 is the 95th percentile. For rates, where more is better, it is the fifth: in both cases the figure
that nineteen of twenty are at least as good as.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

T = TypeVar("T")
SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
RATE, MEMORY = "/s", "MiB"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `target`: what the median must stay below, or for rates above; None where nothing is demanded."""

    group: str
    name: str
    unit: str
    median: float
    p95: float
    n: int
    target: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.median > self.target if self.unit == RATE else self.median < self.target

    def to_map(self) -> dict[str, str | float | int | bool | None]:
        """For JSON."""
        return {**asdict(self), "met": self.met}


def row(group: str, name: str, unit: str, values: Sequence[float], *, target: float | None = None) -> Row:
    """A row of these values, all in `unit`. ValueError for none."""
    if not values:
        raise ValueError(f"{group}: {name}: nothing was measured")
    ordered = sorted(values, reverse=unit == RATE)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    return Row(group, name, unit, statistics.median(values), p95, len(values), target)


def timed(
    group: str, name: str, unit: str, count: int, work: Callable[[], object], *, target: float | None = None
) -> Row:
    """Call `work` once unmeasured and then `count` times."""
    work()
    taken = []
    for _ in range(count):
        begun = time.perf_counter()
        work()
        taken.append((time.perf_counter() - begun) / SECONDS[unit])
    return row(group, name, unit, taken, target=target)


async def clocked(work: Callable[[], Awaitable[T]], taken: list[float], unit: str = "ms") -> T:
    """Await `work` and append what it took, in `unit`."""
    begun = time.perf_counter()
    result = await work()
    taken.append((time.perf_counter() - begun) / SECONDS[unit])
    return result


def table(rows: Sequence[Row]) -> str:
    """The rows as text, a heading for each group."""
    lines = [f"{'':58} {'median':>10} {'p95':>10} {'unit':4} {'n':>6} {'target':>9}  met"]
    group = ""
    for one in rows:
        if one.group != group:
            group = one.group
            lines.append(group)
        target = "" if one.target is None else f"{one.target:9g}"
        met = {None: "", True: "yes", False: "NO"}[one.met]
        lines.append(
            f"  {one.name:56} {one.median:10.2f} {one.p95:10.2f} {one.unit:4} {one.n:6} {target:>9}  {met}".rstrip()
        )
    return "\n".join(lines)


def say(text: str) -> None:
    """Progress, beside the table and the JSON."""
    print(text, file=sys.stderr, flush=True)
