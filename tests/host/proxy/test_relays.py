"""The bounds of the proxy's ways."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cipherkeep_host.proxy import relays
from cipherkeep_host.proxy.config import Config, Pair
from cipherkeep_host.proxy.relays import Limits, Relays
from cipherkeep_wire.transport import Address, Stream, TransportError, connect, listen
from prometheus_client import CollectorRegistry

from tests.host.proxy.conftest import unix


@pytest.fixture
def config(folder: Path) -> Config:
    """Three ways that all lead to one place."""
    far = unix(folder / "far")
    ways = [Pair(unix(folder / name), far) for name in ("handshake", "grpc", "kms")]
    return Config(Address("tcp"), *ways)


@pytest.fixture
async def opened(config: Config) -> AsyncIterator[list[Stream]]:
    """Connections that the test makes; cut at its end."""
    made: list[Stream] = []
    yield made
    for _, writer in made:
        writer.transport.abort()
    await asyncio.sleep(0)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts and says nothing."""
    await reader.read()


async def test_a_stuck_peer_is_dropped_after_the_idle_time(
    config: Config, opened: list[Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection on which nothing moves is cut, counted and no longer open."""
    monkeypatch.setattr(relays, "HANDSHAKE", Limits(idle=0.2, connections=4))
    registry = CollectorRegistry()
    async with await listen(config.grpc.connect, silent), Relays(config, registry) as ways:
        opened.append(await connect(config.handshake.listen))
        async with asyncio.timeout(3):
            assert await opened[0][0].read() == b""
        await asyncio.sleep(0.05)
        assert ways.listeners["handshake"].open_connections == 0
        labels = {"way": "handshake", "code": "transport.timeout"}
        assert registry.get_sample_value("cipherkeep_proxy_failures_total", labels) == 1
        assert registry.get_sample_value("cipherkeep_proxy_open_connections", {"way": "handshake"}) == 0


async def test_one_way_that_is_full_does_not_fill_another(
    config: Config, opened: list[Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each way has its own bound; beyond it a connection is closed as it comes."""
    monkeypatch.setattr(relays, "HANDSHAKE", Limits(idle=60, connections=2))
    registry = CollectorRegistry()
    async with await listen(config.grpc.connect, silent), Relays(config, registry) as ways:
        opened += [await connect(config.handshake.listen) for _ in range(3)]
        async with asyncio.timeout(3):
            assert await opened[2][0].read() == b""
        opened.append(await connect(config.kms.listen))
        await asyncio.sleep(0.05)
        assert {name: one.open_connections for name, one in ways.listeners.items()} == {
            "handshake": 2,
            "grpc": 0,
            "kms": 1,
        }
        assert registry.get_sample_value("cipherkeep_proxy_turned_away", {"way": "handshake"}) == 1


async def test_all_ways_open_or_none(config: Config, folder: Path) -> None:
    """When one address is taken nothing stays open, and what has it is left alone."""
    async with await listen(config.kms.listen, silent):
        with pytest.raises(TransportError) as refusal:
            await Relays(config, CollectorRegistry()).open()
        assert refusal.value.code == "transport.in_use"
        assert os.listdir(folder) == ["kms"]  # noqa: PTH208  (names, in one expression)
