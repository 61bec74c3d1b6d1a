"""Measures everything: `make bench`, or `.venv/bin/python bench/run.py [--only PART] [--json]`.

A table goes to stdout, or JSON with `--json`; progress goes to stderr. The rows are also written as JSON into
`bench/results/`, whose files are not committed. About six minutes on two cores and 3 GB of memory; nothing that runs
beside it is without influence, so the load of the machine is noted with the figures. No process is left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # for `bench` and `tests`, which are no distributions

from bench import chain_path, enclave_service, engine, evidence  # noqa: E402
from bench.figures import Row, say, table  # noqa: E402

RESULTS = ROOT / "bench" / "results"
ENGINE_US = 50  # target of the design: a packed FheUint64, bytes to value
ENGINE_TARGETS = {"packed uint64 decrypted": ENGINE_US}


def engine_rows() -> list[Row]:
    """The engine's rows with their target."""
    rows = []
    for one in engine.run():
        name, unit = str(one["name"]), str(one["unit"])
        figures = float(one["median"]), float(one["p95"]), int(one["n"])
        rows.append(Row("engine", name, unit, *figures, ENGINE_TARGETS.get(name)))
    return rows


PARTS: dict[str, Callable[[], list[Row]]] = {
    "evidence": evidence.run,
    "engine": engine_rows,
    "service": lambda: asyncio.run(enclave_service.run()),
    "chain": lambda: asyncio.run(chain_path.run()),
}


def machine() -> dict[str, object]:
    """What the figures were measured on, and what else ran there."""
    cpu = "unknown"
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = models[0] if models else cpu
    return {"cpu": cpu, "cores": os.cpu_count(), "load": os.getloadavg(), "python": platform.python_version()}


def write(rows: Sequence[Row], seconds: float, before: dict[str, object]) -> dict[str, object]:
    """The report as it is written and printed."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "before": before,
        "after": machine(),
        "seconds": round(seconds),
        "rows": [one.to_map() for one in rows],
    }


def main(arguments: list[str] | None = None) -> int:
    """0 whatever the figures are: a missed target is a row that says so."""
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Measure, as a table and as JSON.")
    parser.add_argument("--only", choices=sorted(PARTS), action="append", help="this part; may be given again")
    parser.add_argument("--json", action="store_true", help="JSON to stdout instead of the table")
    given = parser.parse_args(arguments)
    before, begun = machine(), time.monotonic()
    rows: list[Row] = []
    for name, part in PARTS.items():
        if not given.only or name in given.only:
            say(f"== {name}")
            rows += part()
    report = write(rows, time.monotonic() - begun, before)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    text = json.dumps(report, indent=1)
    path.write_text(text + "\n")
    print(text if given.json else f"{table(rows)}\n\n{path.relative_to(ROOT)}; load before {before['load']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
