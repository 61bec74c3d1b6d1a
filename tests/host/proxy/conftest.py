"""A simulated enclave behind an emulated VM monitor, and the proxy's process in front of it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cipherkeep_wire.limits import GRPC_PORT, HANDSHAKE_PORT, KMS_EGRESS_PORT
from cipherkeep_wire.transport import Address, Stream, connect, listen, relay

from tests.wire.world import World, make_world


def unix(path: Path) -> Address:
    """The address of a socket."""
    return Address("unix", str(path))


@dataclass
class Proxy:
    """The running process and its addresses."""

    process: asyncio.subprocess.Process
    port: int
    folder: Path
    log: Path

    @property
    def handshake(self) -> Address:
        """Where the host dials for handshakes."""
        return unix(self.folder / "handshake.sock")

    @property
    def grpc(self) -> Address:
        """Where the host dials for gRPC."""
        return unix(self.folder / "grpc.sock")

    @property
    def kms(self) -> Address:
        """Where the monitor delivers the enclave's egress."""
        return unix(self.folder / f"e.vsock_{KMS_EGRESS_PORT}")

    def client(self) -> httpx.AsyncClient:
        """A client of its HTTP side."""
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=10, trust_env=False)

    def events(self) -> list[dict[str, object]]:
        """Its log."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def write_config(folder: Path, listen: str = "tcp://127.0.0.1:0") -> Path:
    """The configuration of a proxy whose sockets all lie in this folder."""
    monitor = f"unix-vsock://{folder}/e.vsock"
    config = {
        "listen": listen,
        "handshake": {"listen": f"unix://{folder}/handshake.sock", "connect": f"{monitor}#{HANDSHAKE_PORT}"},
        "grpc": {"listen": f"unix://{folder}/grpc.sock", "connect": f"{monitor}#{GRPC_PORT}"},
        "kms": {"listen": f"{monitor}#{KMS_EGRESS_PORT}", "connect": f"unix://{folder}/kms.sock"},
    }
    path = folder / "proxy.json"
    path.write_text(json.dumps(config))
    return path


async def start_proxy(folder: Path, config: Path | None = None) -> Proxy:
    """Start the process and wait until it says that it is up."""
    log = folder / "proxy.log"
    with log.open("w") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cipherkeep_host.proxy", "--config", str(config or write_config(folder))),
            stderr=file,
            env={**os.environ},
        )
    proxy = Proxy(process, 0, folder, log)
    async with asyncio.timeout(20):
        up = False
        while not up:
            assert process.returncode is None, log.read_text()
            await asyncio.sleep(0.05)
            for line in log.read_text().splitlines():
                event = json.loads(line)
                if event["event"] == "proxy is up":
                    up, proxy.port = True, event["port"] or 0
    return proxy


async def stop_proxy(proxy: Proxy) -> int:
    """SIGTERM, and the exit code."""
    if proxy.process.returncode is None:
        proxy.process.terminate()
    async with asyncio.timeout(10):
        return await proxy.process.wait()


@pytest.fixture
def world() -> object:
    """A simulated enclave; its sockets lie in a folder of their own, apart from the host's."""
    with make_world() as made:
        yield made


@pytest.fixture
async def monitor(world: World) -> AsyncIterator[Path]:
    """The host's folder, with a VM monitor that connects ports 5001 and 5002 to the enclave."""
    folder = world.folder / "host"
    folder.mkdir()
    ports = {HANDSHAKE_PORT: world.handshake, GRPC_PORT: world.grpc}

    async def connecting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words = (await reader.readline()).split()
        far: Stream = await connect(ports[int(words[1])])
        writer.write(b"OK 1073741824\n")
        await relay((reader, writer), far)

    async with await listen(unix(folder / "e.vsock"), connecting):
        yield folder


@pytest.fixture
async def proxy(monitor: Path) -> AsyncIterator[Proxy]:
    """The proxy's process, ended after the test."""
    running = await start_proxy(monitor)
    try:
        yield running
    finally:
        await stop_proxy(running)
