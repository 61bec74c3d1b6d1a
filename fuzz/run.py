"""Fuzzes every parser for a while: coverage-guided mutation from honest messages, one process per target.

    python -m fuzz.run --seconds 600            all targets, the time divided among them; `make fuzz` calls this
    python -m fuzz.run --seconds 60 cbor image  these
    python -m fuzz.run --seconds 0              only what is known: seeds, and the inputs in `fuzz/found/`

A finding is: an exception that the target does not name, a property that does not hold, more than a second of work,
or more than 50 MiB of growth in one call. The input is kept and named; moved to `fuzz/found/TARGET/` it is tried for
ever. What was learned stays in the cache, so that the next run goes on from there. Exit status 1 after a finding.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import atheris

if TYPE_CHECKING:
    from fuzz.targets import Target

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cipherkeep" / "fuzz"
FOUND = ROOT / "fuzz" / "found"
SLOW = 1.0  # seconds of processor time for one input
GROWTH = 50 << 10  # KiB that one input may add to the peak of resident memory
GRACE = 60  # seconds beyond its time after which a target is stopped


class LimitError(Exception):
    """An input took too long or too much memory."""


def guarded(target: Target, keep: Path) -> Callable[[bytes], None]:
    """The target, with what it may refuse taken out and its limits held. A finding's input goes to `keep`-DIGEST."""

    def watched(data: bytes) -> None:
        try:
            run(data)
        except BaseException:
            path = keep.with_name(f"{keep.name}-{hashlib.sha256(data).hexdigest()[:16]}")
            path.write_bytes(data)
            print(f"input kept as {path}", file=sys.stderr)
            raise

    def run(data: bytes) -> None:
        memory, began = peak(), time.process_time()
        with contextlib.suppress(*target.refusals):
            target.run(data)
        took = time.process_time() - began
        grew = peak() - memory
        if took > SLOW:
            raise LimitError(f"{took:.2f} s for {len(data)} bytes")
        if grew > GROWTH:
            raise LimitError(f"{grew >> 10} MiB for {len(data)} bytes")

    return watched


def peak() -> int:
    """The most resident memory that this process has had, in KiB.

    Not `ru_maxrss`: it begins with the peak of whoever started the process (getrusage(2), proc_pid_status(5)).
    """
    with Path("/proc/self/status").open("rb") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(b"VmHWM:"))


def fuzz(name: str, target: Target, corpus: Path, findings: Path, seconds: int) -> None:
    """Fuzz one target in this process, and leave it. `corpus` grows."""
    with tempfile.TemporaryDirectory(prefix="ck-") as scratch:
        known = Path(scratch) / "known"
        known.mkdir()
        for index, seed in enumerate(target.seeds()):
            (known / f"seed{index}").write_bytes(seed)
        for path in (FOUND / name).glob("*"):
            shutil.copy(path, known / path.name)
        run = guarded(target, findings / name)
        for path in sorted(known.iterdir()):
            run(path.read_bytes())
        if seconds == 0:
            print(f"stat::number_of_executed_units: {len(list(known.iterdir()))}", file=sys.stderr)
            return
        # libFuzzer stops in the first second beyond its time.
        flags = [f"-max_total_time={max(seconds - 1, 1)}", f"-max_len={target.longest}"]
        flags += [f"-artifact_prefix={findings}/{name}-", "-timeout=30", "-rss_limit_mb=2048"]
        flags += ["-print_final_stats=1", "-len_control=0"]
        atheris.Setup(["fuzz", *flags, str(corpus), str(known)], run)
        atheris.Fuzz()


def apart(name: str, target: Target, corpus: Path, findings: Path, seconds: int) -> tuple[int, str]:
    """Fuzz one target in a child of this process: its exit status and what it wrote."""
    with tempfile.TemporaryFile() as written:
        child = os.fork()
        if child == 0:
            status = 70
            try:
                os.dup2(written.fileno(), 1)
                os.dup2(written.fileno(), 2)
                fuzz(name, target, corpus, findings, seconds)
                status = 0
            except SystemExit as left:
                status = left.code if isinstance(left.code, int) else 70
            except BaseException:  # noqa: BLE001  (a seed or a known input fails: the parent reports it)
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stderr.flush()
                os._exit(status)
        status = waited(child, time.monotonic() + seconds + GRACE)
        written.seek(0)
        return status, written.read().decode(errors="replace")


def waited(child: int, until: float) -> int:
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -signal.SIGKILL


def main(arguments: Sequence[str]) -> int:
    """Fuzz and report, one line per target."""
    parser = argparse.ArgumentParser(prog="fuzz", description="Fuzz the parsers.")
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together")
    parser.add_argument("--corpus", type=Path, default=CACHE, help="where what was learned is kept")
    parser.add_argument("target", nargs="*", help="all of them if none is named")
    options = parser.parse_args(arguments)
    # Coverage is counted in what is imported here for the first time; atheris names every module as it goes.
    packages = [
        "cipherkeep_attestation",
        "cipherkeep_wire.transport",
        "cipherkeep_wire.channel",
        "cipherkeep_enclave.vault",
    ]
    with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=packages):
        from fuzz.targets import TARGETS
    unknown = [name for name in options.target if name not in TARGETS]
    if unknown:
        parser.error(f"no target is called {unknown[0]}; there are: {', '.join(TARGETS)}")
    names = options.target or list(TARGETS)
    for name in names:
        TARGETS[name].seeds()  # what they share is made once, and not again in each child
    findings = options.corpus / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    failed, share = 0, options.seconds / len(names)
    began = time.monotonic()
    for index, name in enumerate(names):
        # libFuzzer counts whole seconds; what rounding takes from one target the next one gets.
        seconds = round(share * (index + 1)) - round(share * index)
        corpus = options.corpus / name
        corpus.mkdir(exist_ok=True)
        status, text = apart(name, TARGETS[name], corpus, findings, seconds)
        units = re.search(r"number_of_executed_units: (\d+)", text)
        coverage = re.findall(r"cov: (\d+)", text)
        reached = f"{units[1] if units else '?':>9} inputs, {coverage[-1] if coverage else '-':>5} edges"
        print(f"{'ok     ' if status == 0 else 'FINDING'} {name:18} {reached}", flush=True)
        if status != 0:
            failed += 1
            print(f"exit status {status}\n{text[-3000:]}", flush=True)
    print(f"{failed} findings in {len(names)} targets, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
