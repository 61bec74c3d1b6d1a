"""The only place that starts, watches and ends one child process, on a leash and with a log file of its own.

A process gets a session of its own, a log file, a leash to this process, and at its end SIGTERM, a grace period, then
SIGKILL: CometBFT has been seen to ignore the first.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

GRACE_SECONDS = 5.0
_LEASH = Path(__file__).with_name("leash.py")


class ChildProcess:
    """One child. Start it once."""

    def __init__(
        self, name: str, command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._environment = dict(os.environ if environment is None else environment)
        self._child: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process's number. Only after `start`."""
        assert self._child is not None
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.returncode is None

    async def start(self) -> None:
        """Start it; what it writes is added to the log file."""
        leash = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid())]
        with self.log.open("ab") as out:
            self._child = await asyncio.create_subprocess_exec(
                *leash,
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self._environment,
                start_new_session=True,
            )

    async def wait(self) -> int:
        """Its exit status, negative for a signal, once it has ended."""
        assert self._child is not None
        return await self._child.wait()

    async def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Ask it to end, and end it when it does not."""
        if self._child is None:
            return
        if self.alive:
            self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._child.wait(), grace)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)
        if self._child is not None:
            await self._child.wait()

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens where the process has ended."""
        if self.alive and self._child is not None:
            self._child.send_signal(number)

    def tail(self, size: int = 2000) -> str:
        """The end of its log, for messages."""
        try:
            data = self.log.read_bytes()
        except OSError:
            return ""
        return data[-size:].decode(errors="replace")
