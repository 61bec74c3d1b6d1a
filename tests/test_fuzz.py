"""The fuzzer finds what it must, and a short run of it finds nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Malformed

pytest.importorskip("atheris", reason="the fuzz engine has no wheel for this Python")

from fuzz.run import LimitError, guarded
from fuzz.targets import TARGETS, FindingError, Target, one_encoding

ROOT = Path(__file__).resolve().parent.parent
SECONDS = len(TARGETS)  # one for each


def slow(_: bytes) -> None:
    until = time.process_time() + 1.1
    while time.process_time() < until:
        pass


def wrong(_: bytes) -> None:
    raise KeyError("a parser's slip")


@pytest.mark.parametrize(("run", "finding"), [(slow, LimitError), (wrong, KeyError)], ids=["slow", "wrong"])
def test_a_finding_is_raised_and_kept(run: Callable[[bytes], None], finding: type[Exception], tmp_path: Path) -> None:
    """Time and exceptions that a target does not name are findings, and their input is kept."""
    with pytest.raises(finding):
        guarded(Target(run, list), tmp_path / "target")(b"input")
    assert [path.read_bytes() for path in tmp_path.glob("target-*")] == [b"input"]


HUNGRY = """
from pathlib import Path
from fuzz.run import LimitError, guarded
from fuzz.targets import Target
try:
    guarded(Target(lambda data: bytearray(data) * (128 << 20), list), Path("{keep}"))(b"1")
except LimitError as found:
    print(found)
"""


def test_growth_is_a_finding(tmp_path: Path) -> None:
    """In a process of its own, because only what exceeds the peak so far is seen."""
    command = [sys.executable, "-c", HUNGRY.format(keep=tmp_path / "target")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.rstrip().endswith("MiB for 1 bytes"), done.stderr


def test_a_second_encoding_is_a_finding() -> None:
    """A reader that takes more than its writer writes is caught."""
    with pytest.raises(FindingError):
        one_encoding(cbor.decode_foreign, cbor.encode)(bytes.fromhex("a202000100"))


def test_a_refusal_is_no_finding(tmp_path: Path) -> None:
    """What a target names as its refusal ends quietly."""

    def refuse(_: bytes) -> None:
        raise Malformed("encoding.trailing")

    guarded(Target(refuse, list), tmp_path / "target")(b"input")
    assert not list(tmp_path.iterdir())


@pytest.mark.timeout(240)
def test_a_short_run_finds_nothing(tmp_path: Path) -> None:
    """Every target takes its seeds and all inputs that once broke something, and a second of mutations."""
    command = [sys.executable, "-m", "fuzz.run", "--seconds", str(SECONDS), "--corpus", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("ok")]
    assert len(lines) >= SECONDS
    assert all(int(line.split()[2]) > 0 for line in lines)
