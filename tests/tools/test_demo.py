"""How the demo ends, over a stand-in for the appliance: by a sentence and an exit status, and nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cipherkeep_attestation.errors import Refused
from cipherkeep_host.errors import HostError

from tests.e2e.appliance.running import started
from tools.demo import round as round_of_demo
from tools.demo import telling
from tools.demo.running import explain
from tools.demo.telling import Wrong, elapsing

ROOT = Path(__file__).resolve().parent.parent.parent
SUPERVISOR = """#!/bin/sh
echo $$ > "$FOLDER/supervisor"
echo '{"stage": "chain"}'
echo '{"ready": true}'
exec sleep 600
"""
DEMO = """
import asyncio, os, sys
from tools.demo import running
from tools.demo.telling import Wrong
async def round_trip(state):
    how = os.environ["HOW"]
    if how == "wrong":
        raise Wrong("Seven is not eight.")
    if how == "strange":
        raise KeyError("a slip")
    if how == "interrupted":
        print("now", flush=True)
        await asyncio.sleep(600)
running.sys.executable = os.environ["FOLDER"] + "/python"
running.round_trip = round_trip
sys.exit(running.main(keep=os.environ["KEEP"] == "1"))
"""


@pytest.mark.parametrize(
    ("how", "keep", "status", "said"),
    [
        ("well", False, 0, "All of it was as it must be.\nStopped, and nothing is left running."),
        ("well", True, 0, "cipherkeep dev down"),
        ("wrong", True, 1, "✗ Seven is not eight."),
        ("strange", False, 1, "KeyError: 'a slip'"),
        ("interrupted", False, 130, "Stopped, and nothing is left running."),
        ("interrupted", True, 130, "Stopped, and nothing is left running."),
    ],
)
def test_how_it_ends(tmp_path: Path, how: str, keep: bool, status: int, said: str) -> None:
    """With `KEEP=1` the appliance outlives a demo that went well, and no other; no failure is a traceback."""
    (tmp_path / "python").write_text(SUPERVISOR)
    (tmp_path / "python").chmod(0o755)
    environment = {**os.environ, "HOW": how, "KEEP": str(int(keep)), "FOLDER": str(tmp_path)}
    environment |= {"XDG_STATE_HOME": str(tmp_path), "NO_COLOR": "1", "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", DEMO]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        assert demo.stdout is not None
        out = ""
        if how == "interrupted":
            for line in demo.stdout:
                if line == "now\n":
                    break
            demo.send_signal(signal.SIGINT)
            demo.send_signal(signal.SIGINT)  # as impatient people do
        out += demo.communicate(timeout=60)[0]
    supervisor = int((tmp_path / "supervisor").read_text())
    try:
        assert demo.returncode == status, out
        assert said in out and "Traceback" not in out
        assert (started(supervisor) is not None) == (keep and how == "well")
    finally:
        if started(supervisor) is not None:
            os.kill(supervisor, signal.SIGKILL)


def test_interrupted_before_anything_has_begun(tmp_path: Path) -> None:
    """The imports take a second or two, in which nothing of ours runs yet."""
    with subprocess.Popen(
        [sys.executable, "-m", "tools.demo"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        ends = time.monotonic() + 30
        while not _catches(demo.pid, signal.SIGINT, signal.SIGHUP):
            assert time.monotonic() < ends
        demo.send_signal(signal.SIGINT)
        out, err = demo.communicate(timeout=30)
    assert (demo.returncode, out, err) == (130, "", "Stopped, and nothing is left running.\n")
    assert not list(tmp_path.iterdir())


def _catches(pid: int, *signals: signal.Signals) -> bool:
    """Whether a process has handlers for these signals."""
    (line,) = [row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("SigCgt:")]
    caught = int(line.split()[1], 16)
    return all(caught >> (number - 1) & 1 for number in signals)


@pytest.mark.parametrize(
    ("problem", "lines"),
    [
        (Wrong("It is not so."), ["✗ It is not so."]),
        (
            HostError("appliance.running", "/there"),
            [
                "✗ An appliance runs here already.",
                "  appliance.running: /there",
                "  → Stop it with `cipherkeep dev down`, or choose another folder with --state.",
            ],
        ),
        (
            RuntimeError("[odd] text"),
            ["✗ Something failed that should not have.", "  RuntimeError: [odd] text"],
        ),
    ],
)
def test_a_failure_is_explained(problem: Exception, lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A sentence, then the code and what to look at."""
    explain(problem)
    assert capsys.readouterr().err.splitlines() == [*lines, "What the demo started has been stopped."]


def test_refused_evidence_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    """By its own sentence."""
    problem = Refused("receipt.not_answered", "pending")
    explain(problem)
    assert problem.sentence in capsys.readouterr().err


async def test_what_takes_long_says_how_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line each ten seconds where nobody can rewrite a line."""
    monkeypatch.setattr(telling, "PIPE", 0.01)
    async with elapsing("thinking", 7):
        await asyncio.sleep(0.1)
    assert "  … thinking: 0 s of about 7 s" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("does", "sentence"), [("sleep 60", "did not end within 2 s"), ("echo no such key >&2; exit 1", "no such key")]
)
async def test_a_stranger_that_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, sentence: str
) -> None:
    """Also one that never ends: it is ended, and the demo says so."""
    (tmp_path / "node").write_text(f'#!/bin/sh\necho $$ > "{tmp_path}/pid"\n{does}\n')
    (tmp_path / "node").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(round_of_demo, "NODE_SECONDS", 2)
    with pytest.raises(Wrong, match=sentence):
        await round_of_demo.stranger("user_decrypt.js", "keypair")
    if (tmp_path / "pid").exists():  # a very busy machine may not have come that far
        assert started(int((tmp_path / "pid").read_text())) is None
