"""A store's process on a unix socket, and a client."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cipherkeep_host.store.client import StoreClient
from cipherkeep_wire.transport import Address


class StoreProcess:
    """One store that can be killed and started again on its folder."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.address = Address("unix", str(folder / "s.sock"))
        self.arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None

    def _spawn(self) -> subprocess.Popen[bytes]:
        Path(self.address.path).unlink(missing_ok=True)
        command = [sys.executable, "-m", "cipherkeep_host.store", "--dir", str(self.data)]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen([*command, "--listen", str(self.address), *self.arguments], stderr=log)

    def _serves(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        return Path(self.address.path).exists()

    async def start(self) -> None:
        self.process = self._spawn()
        async with asyncio.timeout(20):
            while not self._serves():  # noqa: ASYNC110  (another process's socket gives no event)
                await asyncio.sleep(0.025)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(10)


@pytest.fixture
async def store(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[StoreProcess]:
    """A running store; a test's `limits` marker adds arguments."""
    process = StoreProcess(folder, *getattr(request, "param", ()))
    await process.start()
    yield process
    if process.process is not None and process.process.poll() is None:
        process.kill()


@pytest.fixture
async def client(store: StoreProcess) -> AsyncIterator[StoreClient]:
    """A client of that store."""
    async with StoreClient(store.address) as made:
        yield made
