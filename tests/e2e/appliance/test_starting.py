"""The life of an appliance from outside: kept by the demo, stopped, started again, killed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.appliance.running import naming, started, until

ROOT = Path(__file__).resolve().parent.parent.parent.parent
PROGRAM = Path(sys.executable).parent / "cipherkeep"
# The demo with a round that only looks: encrypting takes half a minute.
SHORT_DEMO = """
import sys
from cipherkeep_host.cli.session import open_session
from tools.demo import running
async def round_trip(state):
    async with open_session(state) as session:
        assert await session.client.keys()
running.round_trip = round_trip
sys.exit(running.main(keep=True))
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A place for state of its own."""
    folder = Path(tempfile.mkdtemp(prefix="ck-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def environment(home: Path) -> dict[str, str]:
    """In which the default state folder lies there."""
    return {**os.environ, "XDG_STATE_HOME": str(home), "NO_COLOR": "1", "COLUMNS": "200", "PYTHONPATH": str(ROOT)}


def cipherkeep(home: Path, *arguments: str, status: int = 0) -> Any:
    """The JSON that a command prints, or that it fails with."""
    command = [str(PROGRAM), *arguments, "--json"]
    done = subprocess.run(command, env=environment(home), capture_output=True, text=True, timeout=200)
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout if status == 0 else done.stderr)


def wait(over: Callable[[], bool], what: str) -> None:
    """Until it is so."""
    asyncio.run(until(lambda: over() or None, what, seconds=20))


def test_kept_stopped_started_again_and_killed(home: Path) -> None:
    """`KEEP=1` leaves what `dev down` stops; the same chain and keys go on; no death leaves a process behind."""
    demo = subprocess.run(
        [sys.executable, "-c", SHORT_DEMO],
        cwd=ROOT,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=400,
    )
    try:
        assert demo.returncode == 0, demo.stdout + demo.stderr
        assert "The appliance stays up." in demo.stdout
        first, keys = cipherkeep(home, "dev", "env"), cipherkeep(home, "key", "list")
        runs = {Path(first["connector"].removeprefix("unix://")).parent}
        assert cipherkeep(home, "dev", "down")["stopped"] is True
        assert not naming(str(home)) and not naming(str(*runs)) and not any(run.exists() for run in runs)
        assert cipherkeep(home, "dev", "env", status=3)["code"] == "appliance.not_running"

        up = cipherkeep(home, "dev", "up", "--commit-ms", "0")
        again = cipherkeep(home, "dev", "env")
        assert up["started"] is True
        for name in ("genesis_hash", "configuration_digest", "chain_id"):
            assert again[name] == first[name]
        assert [key["id"] for key in cipherkeep(home, "key", "list")] == [key["id"] for key in keys]

        processes = cipherkeep(home, "dev", "status")["processes"]
        alive = {pid: started(pid) for pid in processes.values()}
        run = Path(again["connector"].removeprefix("unix://")).parent
        os.kill(processes["supervisor"], signal.SIGKILL)
        wait(lambda: not any(started(pid) == at for pid, at in alive.items()), "its processes to end")
        wait(lambda: not naming(str(home)) and not naming(str(run)), "what was below them to end")
        shutil.rmtree(run)  # nobody was there to do it
        assert cipherkeep(home, "dev", "down")["stopped"] is False
        assert cipherkeep(home, "attest", status=3)["code"] == "appliance.not_running"
    finally:
        cipherkeep(home, "dev", "down")


def test_interrupted_while_it_starts(home: Path) -> None:
    """Ctrl-C before the appliance serves: it ends, although it was to be kept."""
    with subprocess.Popen(
        [sys.executable, "-m", "tools.demo"],
        cwd=ROOT,
        env={**environment(home), "KEEP": "1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "✓ chain" in line:
                break
        demo.send_signal(signal.SIGINT)
        _, err = demo.communicate(timeout=120)
    assert (demo.returncode, err) == (130, "Stopped, and nothing is left running.\n")
    assert not naming(str(home))
