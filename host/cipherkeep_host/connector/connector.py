"""The only place that keeps a connector going: a session with the enclave, brought up, worked, and begun anew.

    connect ── boot ── work until the enclave or the node is lost ── pause ── connect …

A session that ends loses nothing: heights that are not done are taken up again from the connector's own record.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import structlog
from cipherkeep_attestation.chain.light import LightRoot
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_wire.errors import SERVICE_RULES, RemoteError, ServiceError
from cipherkeep_wire.transport import TransportError

from cipherkeep_host import durable
from cipherkeep_host.client.node import Node, Sender
from cipherkeep_host.connector.answers import AnswerQueue
from cipherkeep_host.connector.boot import Boot
from cipherkeep_host.connector.enclave import Channel, Enclave
from cipherkeep_host.connector.feed import Feed
from cipherkeep_host.connector.metrics import Metrics
from cipherkeep_host.connector.progress import Progress
from cipherkeep_host.connector.vault import VaultFolder
from cipherkeep_host.connector.work import Limits, Work
from cipherkeep_host.errors import HostError
from cipherkeep_host.store.client import StoreClient

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between sessions; doubles
_log = structlog.get_logger()
_Problem = HostError | RemoteError | ServiceError | EvidenceError | TransportError
_PROBLEMS = (HostError, RemoteError, ServiceError, EvidenceError, TransportError)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Whom a connector works with. `connect` opens an attested channel to the enclave."""

    node: Node
    sender: Sender
    store: StoreClient
    connect: Callable[[], AbstractAsyncContextManager[Channel]]
    instance: str
    party: str
    root: LightRoot
    state: Path
    limits: Limits = field(default_factory=Limits)


class Connector:
    """One connector, for one enclave and one contract instance."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self.metrics = Metrics()
        folder = durable.make_folder(around.state)
        self._scratch = durable.make_folder(folder / "scratch")
        durable.sweep(self._scratch)
        self.progress = Progress(folder / "progress.cbor", start=around.root.height - 1)
        self._vault = VaultFolder(durable.make_folder(folder / "vault"), around.store)
        self.stage = "connect"
        self.problem = self._detail = self._hint = ""

    def health(self) -> dict[str, object]:
        """Where it stands, for `/healthz`."""
        return {
            "ready": self.stage == "up",
            "stage": self.stage,
            "problem": self.problem,
            "detail": self._detail,
            "hint": self._hint,
            "done_height": self.progress.done,
            "open_requests": len(self.progress.open),
        }

    async def run(self) -> NoReturn:
        """Keep going until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            begun = asyncio.get_running_loop().time()
            try:
                await self._session()
            except BaseExceptionGroup as group:
                self._note(_first(group))
            except _PROBLEMS as problem:
                self._note(problem)
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # A problem that comes up while everything ends stands in the way of the cancellation itself.
                raise asyncio.CancelledError
            if asyncio.get_running_loop().time() - begun > 2 * _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            self.stage = "connect"
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _session(self) -> None:
        around = self._around
        async with around.connect() as channel:
            self.metrics.sessions.inc()
            enclave = Enclave(channel)
            feed = Feed(around.node, enclave, instance=around.instance, root=around.root)
            boot = Boot(
                enclave=enclave,
                feed=feed,
                node=around.node,
                sender=around.sender,
                vault=self._vault,
                progress=self.progress,
                instance=around.instance,
                party=around.party,
            )
            async with self._staged(boot):
                booted = await boot.run()
            self.stage, self.problem, self._detail, self._hint = "up", "", "", ""
            _log.info("up", done=self.progress.done, open=len(self.progress.open))
            await Work(
                node=around.node,
                enclave=enclave,
                feed=feed,
                store=around.store,
                vault=self._vault,
                answers=AnswerQueue(around.sender, instance=around.instance),
                progress=self.progress,
                metrics=self.metrics,
                instance=around.instance,
                scratch=self._scratch,
                limits=around.limits,
                boot=booted.boot,
                party=booted.party_index,
            ).run()

    @contextlib.asynccontextmanager
    async def _staged(self, boot: Boot) -> AsyncIterator[None]:
        """Show the boot's stages, and what hinders it, as ours while it runs."""

        async def follow() -> NoReturn:
            while True:
                self.stage = boot.stage
                if boot.hindrance is not None:
                    self._show(boot.hindrance)
                await asyncio.sleep(0.2)

        task = asyncio.create_task(follow())
        try:
            yield
        finally:
            task.cancel()

    def _note(self, problem: _Problem) -> None:
        self._show(problem)
        _log.warning("session ended", code=problem.code, detail=self._detail, hint=self._hint, stage=self.stage)

    def _show(self, problem: _Problem) -> None:
        rule = SERVICE_RULES.get(problem.code)
        self.problem, self._detail = problem.code, str(problem)[:400]
        self._hint = getattr(problem, "hint", "") or (rule.hint if rule else "")


def _first(group: BaseExceptionGroup[BaseException]) -> _Problem:
    """The first problem of a group that holds nothing but problems we know; anything else is a defect and goes on."""
    known, unknown = group.split(_PROBLEMS)
    if unknown is not None or known is None:
        raise group
    problem: BaseException = known
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    assert isinstance(problem, _PROBLEMS)
    return problem
