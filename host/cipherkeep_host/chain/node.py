"""The only place that runs a validator: the consensus engine and the application, as one thing.

    node = Node(home)
    await node.start()
    await node.wait_ready()
    …
    await node.stop()

Both may be killed at any moment; started again, the chain goes on where it was. Neither outlives this process.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from cipherkeep_host.chain.home import free_ports, node_id, read_json
from cipherkeep_host.chain.rpc import RpcClient
from cipherkeep_host.chain.stubs import consensus_engine
from cipherkeep_host.child_process import GRACE_SECONDS, ChildProcess
from cipherkeep_host.errors import HostError

MAX_SOCKET_PATH = 100  # bytes; the kernel's limit is 108
RESTARTS, RESTART_SECONDS = 5, 60.0  # so many in so long are tried, then it is given up
READY_SECONDS = 30.0
_LOOK_SECONDS = 0.02

log = structlog.get_logger("cipherkeep.node")


class Node:
    """One validator. `home` was made by `make_home`; `run` holds the sockets and is short (HOME/run by default).

    `application`: the command that runs the application, without its arguments; this release's own by default.
    """

    def __init__(self, home: Path, *, run: Path | None = None, application: Sequence[str] | None = None) -> None:
        self.home = home
        self.run = home / "run" if run is None else run
        # Not a unix socket: CometBFT tells subscribers apart by their address, all clients of a unix socket have the
        # same one, and whoever leaves first would end the subscriptions of all others.
        rpc, metrics = free_ports(2)
        self.rpc_address = f"http://127.0.0.1:{rpc}"
        self.metrics_address = f"http://127.0.0.1:{metrics}/metrics"  # the engine's, in Prometheus' form
        self.health_address = f"unix://{self.run / 'health.sock'}"
        self._socket = self.run / "app.sock"
        self._command = list(application or (sys.executable, "-m", "cipherkeep_host.chain"))
        if any(len(str(self.run / name)) > MAX_SOCKET_PATH for name in ("health.sock", "app.sock")):
            raise HostError("node.socket_path", str(self.run))
        self.application: ChildProcess
        self.engine: ChildProcess
        self._made()

    def _made(self) -> None:
        """Fresh processes, to be started."""
        application = [
            *self._command,
            *("--home", str(self.home / "application")),
            *("--socket", str(self._socket)),
            *("--health", self.health_address),
        ]
        engine = [
            str(consensus_engine()),
            "node",
            *("--home", str(self.home / "node")),
            *("--proxy_app", f"unix://{self._socket}"),
            *("--rpc.laddr", self.rpc_address.replace("http://", "tcp://")),
        ]
        # There is no option for these; the engine reads each setting also from its environment.
        settings = {
            "CMT_INSTRUMENTATION_PROMETHEUS": "true",
            "CMT_INSTRUMENTATION_PROMETHEUS_LISTEN_ADDR": urlsplit(self.metrics_address).netloc,
        }
        self.application = ChildProcess("application", application, log=self.home / "application.log")
        log, environment = self.home / "node.log", {**os.environ, **settings}
        self.engine = ChildProcess("node", engine, log=log, environment=environment)

    @property
    def processes(self) -> tuple[ChildProcess, ChildProcess]:
        """The application and the engine."""
        return self.application, self.engine

    @property
    def chain_id(self) -> str:
        """From the genesis file."""
        genesis = read_json(self.home / "node" / "config" / "genesis.json")
        return str(genesis.get("chain_id"))

    @property
    def id(self) -> str:
        """By which other nodes know it."""
        return node_id(self.home)

    async def start(self) -> None:
        """Start both; returns when the engine runs, which is before it answers."""
        if self.application.alive or self.engine.alive:
            return
        if not (self.home / "node" / "config" / "genesis.json").is_file():
            raise HostError("node.home_missing", str(self.home))
        self._made()
        self.run.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in ("app.sock", "health.sock"):  # a killed process leaves them behind
            (self.run / name).unlink(missing_ok=True)
        await self.application.start()
        try:
            # The engine tries once and then waits three seconds: let it find the application at once.
            await self._until(self._application_listens, READY_SECONDS, "application")
        except BaseException:
            await self.application.kill()
            raise
        await self.engine.start()

    async def _application_listens(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(str(self._socket))
        except OSError:
            return False
        writer.close()
        return True

    async def wait_ready(self, *, height: int = 1, within: float = READY_SECONDS) -> None:
        """Return once the node answers and has come to this height.

        `HostError("node.start")` when it does not in so many seconds, or ended.
        """

        async def reached() -> bool:
            try:
                return (await rpc.status()).height >= height
            except HostError:
                return False

        async with RpcClient(self.rpc_address) as rpc:
            await self._until(reached, within, "node")

    async def _until(self, reached: Callable[[], Awaitable[bool]], within: float, name: str) -> None:
        ends = time.monotonic() + within
        while not await reached():
            for process in self.processes if name == "node" else (self.application,):
                if not process.alive:
                    raise HostError("node.start", f"{process.name} ended: {process.tail(600)}")
            if time.monotonic() > ends:
                raise HostError("node.start", f"{name} not ready after {within:g} s; {self.engine.log}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def stop(self, grace: float = GRACE_SECONDS) -> None:
        """End both, the engine first, so that no block is cut in two."""
        await self.engine.stop(grace)
        await self.application.stop(grace)

    async def kill(self) -> None:
        """End both at once, as a power failure would."""
        await asyncio.gather(*(process.kill() for process in self.processes))

    async def supervise(self) -> None:
        """Keep both running until cancelled; when one ends, both are started again.

        `HostError("node.crash_loop")` when one of them ends by itself more than five times in a minute: each is counted
        alone, since the other is ended for its sake.
        """
        ended: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=RESTARTS + 1))
        while True:
            await self.start()
            waits = {asyncio.create_task(process.wait()): process for process in self.processes}
            try:
                done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waits:
                    task.cancel()
            names = [(waits[task].name, task.result()) for task in done]
            log.error("node.ended", processes=names)
            for name, _ in names:
                times = ended[name]
                times.append(time.monotonic())
                if len(times) > RESTARTS and times[-1] - times[0] < RESTART_SECONDS:
                    raise HostError("node.crash_loop", str(names))
            await self.kill()
