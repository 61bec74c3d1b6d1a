"""The only place that opens the proxy's ways: one listener for each pair, bounded in connections, bytes and time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import structlog
from cipherkeep_wire.limits import DEFAULT
from cipherkeep_wire.transport import Listener, TransportError, connect, listen, relay
from prometheus_client import CollectorRegistry, Counter, Gauge

from cipherkeep_host.proxy.config import Config, Pair

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one way carries. Each connection holds at most two buffers of `buffer` bytes."""

    idle: float  # seconds without a byte either way until a connection is cut
    connections: int  # open at once; one more is closed when it comes
    buffer: int = DEFAULT.relay_buffer  # bytes per direction


HANDSHAKE = Limits(idle=DEFAULT.handshake_deadline, connections=2 * DEFAULT.handshakes_at_once)
GRPC = Limits(idle=DEFAULT.relay_idle, connections=DEFAULT.connections)
KMS = Limits(idle=60.0, connections=16)  # a call takes milliseconds, and an enclave keeps few connections


class Metrics:
    """What the ways tell Prometheus."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.opened = Counter("cipherkeep_proxy_connections", "Connections carried", ["way"], registry=registry)
        self.failed = Counter("cipherkeep_proxy_failures", "Connections that broke", ["way", "code"], registry=registry)
        self.open = Gauge("cipherkeep_proxy_open_connections", "Connections open now", ["way"], registry=registry)
        self.full = Gauge("cipherkeep_proxy_turned_away", "Connections closed as too many", ["way"], registry=registry)

    def watch(self, way: str, listener: Listener) -> None:
        """Tell what this listener counts."""
        self.open.labels(way).set_function(lambda: listener.open_connections)
        self.full.labels(way).set_function(lambda: listener.turned_away)


class Relays:
    """The three ways. As an asynchronous context manager: open inside of it."""

    def __init__(self, config: Config, registry: CollectorRegistry) -> None:
        self._config = config
        self._metrics = Metrics(registry)
        self.listeners: dict[str, Listener] = {}

    async def open(self) -> None:
        """Listen on all three. TransportError when one address cannot be had; nothing is left open then."""
        ways = {
            "handshake": (self._config.handshake, HANDSHAKE),
            "grpc": (self._config.grpc, GRPC),
            "kms": (self._config.kms, KMS),
        }
        try:
            for name, (pair, limits) in ways.items():
                if pair.listen.path:  # the proxy may come up before the VM monitor has made its folder
                    _make_folder(Path(pair.listen.path).parent)
                listener = await self._way(name, pair, limits)
                self.listeners[name] = listener
                self._metrics.watch(name, listener)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Cut every connection."""
        for listener in self.listeners.values():
            await listener.close()

    async def __aenter__(self) -> Relays:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _way(self, name: str, pair: Pair, limits: Limits) -> Listener:
        opened, failed = self._metrics.opened.labels(name), self._metrics.failed

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            opened.inc()
            try:
                far = await connect(pair.connect, buffer=limits.buffer)
                await relay((reader, writer), far, buffer=limits.buffer, idle_timeout=limits.idle)
            except TransportError as problem:
                failed.labels(name, problem.code).inc()
                _log.warning("connection failed", way=name, code=problem.code, detail=problem.detail)

        return await listen(pair.listen, carry, connections=limits.connections, buffer=limits.buffer)


def _make_folder(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
