"""What the appliance does about processes that end, again and again, or cannot be started."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cipherkeep_host.appliance import children, enclave
from cipherkeep_host.appliance.children import Children, Pauses, Program
from cipherkeep_host.child_process import ChildProcess
from cipherkeep_host.emulated.launcher import Launcher
from cipherkeep_host.errors import HostError

LIVES = 1000.0  # seconds: longer than anything that ends soon


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(children, "LONGEST_PAUSE", 0.002)


def test_pauses_double_until_something_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to a limit, and from the first one on after a long life."""
    monkeypatch.undo()
    pauses = Pauses()
    assert [pauses.after(lived) for lived in (LIVES, 0, 0, 0, 0, 0, 0)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert pauses.quick_ends == 6
    assert (pauses.after(LIVES), pauses.quick_ends) == (0.2, 0)


async def test_a_child_that_cannot_be_started_again_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without room for another process keeps it down for as long as that lasts, and no longer."""

    async def ready() -> None:
        return

    running = Children(tmp_path)
    await running.start(Program("sleeper", ["timeit", "-n1", "-r1", "import time; time.sleep(60)"], ready))
    (pid,) = running.pids().values()
    start, failures = ChildProcess.start, [BlockingIOError(11, "no room"), OSError(12, "no memory")]

    async def refused(process: ChildProcess) -> None:
        if failures:
            raise failures.pop()
        await start(process)

    monkeypatch.setattr(ChildProcess, "start", refused)
    try:
        assert pid is not None
        running._started["sleeper"]._process.signal(signal.SIGKILL)
        for _ in range(2000):
            if running.pids()["sleeper"] not in (None, pid):
                break
            await asyncio.sleep(0.01)
        assert not failures
        assert running.restarts() == {"sleeper": 1}
        assert not any(task.done() for task in running.watchers())
    finally:
        await running.stop()


class FailingLauncher:
    """An enclave that ends as soon as it is launched, or is not launched at all."""

    def __init__(self, log: Path, *, failures: list[Exception] | None = None) -> None:
        self.launches = 0
        self.status = SimpleNamespace(log=log)
        self.failures = failures or []

    async def wait(self) -> int:
        return 70

    async def kill(self) -> None:
        return

    async def relaunch(self) -> None:
        self.launches += 1
        if self.failures:
            raise self.failures.pop()


async def _given_up(launcher: Any) -> HostError:
    with pytest.raises(HostError) as refusal:
        await asyncio.wait_for(enclave.keep(cast(Launcher, launcher), launched=lambda: None), 20)
    return refusal.value


async def test_an_enclave_that_always_ends_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    """Not tried for ever; the code is its own, and the detail says what the enclave said."""
    log = tmp_path / "enclave.log"
    log.write_text("no configuration of mine")
    launcher = FailingLauncher(log, failures=[OSError(11, "no room"), HostError("emulator.start", "busy")])
    error = await _given_up(launcher)
    assert error.code == "appliance.enclave"
    assert "exit status 70: no configuration of mine" in error.detail
    assert launcher.launches == enclave.ATTEMPTS - 1


async def test_an_enclave_whose_image_was_changed_is_not_tried_again(tmp_path: Path) -> None:
    """Trying does not mend it."""
    launcher = FailingLauncher(tmp_path / "none", failures=[HostError("emulator.image_changed")])
    assert (await _given_up(launcher)).code == "emulator.image_changed"
    assert launcher.launches == 1
