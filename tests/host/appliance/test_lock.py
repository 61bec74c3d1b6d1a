"""Who holds a state folder, and who is asked to end: never a process that only has a dead supervisor's number."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cipherkeep_host.appliance import lock
from cipherkeep_host.cli.session import environment_of
from cipherkeep_host.errors import HostError

PROGRAM = Path(sys.executable).parent / "cipherkeep"
HOLDER = """
import sys, time
from pathlib import Path
from cipherkeep_host.appliance import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def start(*command: str) -> subprocess.Popen[bytes]:
    """A process that ends with its test."""
    return subprocess.Popen([sys.executable, "-c", *command], stdout=subprocess.PIPE)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody else."""
    with start("import time; print(flush=True); time.sleep(60)") as process:
        assert process.stdout is not None and process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_a_number_that_a_crash_left_behind_is_nobodys(tmp_path: Path, stranger: subprocess.Popen[bytes]) -> None:
    """`dev down` says that nothing runs, `dev up` and the others likewise, and the process is left alone."""
    path = tmp_path / "lock"
    path.write_text(str(stranger.pid))
    assert lock.holder(path) is None
    assert lock.end_holder(path) is None
    command = [str(PROGRAM), "dev", "down", "--state", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "No appliance runs here.\n")
    assert stranger.poll() is None
    (tmp_path / "environment.json").write_text("{}")
    with pytest.raises(HostError) as refusal:
        environment_of(tmp_path)
    assert refusal.value.code == "appliance.not_running"


def test_the_holder_is_named_asked_to_end_and_succeeded(tmp_path: Path) -> None:
    """While it lives nobody else gets the folder; once it has ended, however it ended, the next one does."""
    path = tmp_path / "lock"
    for end in (lock.end_holder, lambda _: process.kill()):
        with start(HOLDER, str(path)) as process:
            assert process.stdout is not None and process.stdout.readline() == b"held\n"
            assert lock.holder(path) == process.pid
            with pytest.raises(HostError) as refusal, lock.held(path):
                pass
            assert refusal.value.code == "appliance.running"
            end(path)
            process.wait(10)
        assert lock.holder(path) is None
    with lock.held(path):
        pass


def test_looking_keeps_nobody_from_starting(tmp_path: Path) -> None:
    """`dev status` in a loop, as scripts do, is no supervisor."""
    path = tmp_path / "lock"
    path.touch()
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.0001):
            lock.holder(path)

    looking = [threading.Thread(target=look) for _ in range(2)]
    for thread in looking:
        thread.start()
    try:
        for _ in range(50):
            with lock.held(path):
                time.sleep(0.0005)
    finally:
        stop.set()
        for thread in looking:
            thread.join()


def test_the_supervisor_ends_where_its_parent_is_gone_already(tmp_path: Path) -> None:
    """The parent's number is the one it gave, not that of whoever took the orphan in."""
    command = [sys.executable, "-m", "cipherkeep_host.appliance", "--state", str(tmp_path / "s"), "--with-parent", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "parent 1 of this process is gone" in done.stderr
    assert not (tmp_path / "s").exists()
