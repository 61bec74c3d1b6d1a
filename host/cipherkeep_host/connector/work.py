"""The only place that carries requests through the enclave: shown inboxes in, answers on the chain out.

Heights overlap; a request that fails is tried again with growing pauses, then left open and looked at from time to
time, and never holds up another. A height is done when each of its requests is answered on the chain, needs no answer
any more, or is left open.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from cipherkeep_attestation.statements import layout
from cipherkeep_attestation.statements.layout import InboxEntry
from cipherkeep_wire import kms_pb2
from cipherkeep_wire.errors import SERVICE_RULES, RemoteError

from cipherkeep_host.client.node import Node
from cipherkeep_host.connector import material
from cipherkeep_host.connector.answers import AnswerQueue
from cipherkeep_host.connector.enclave import Enclave
from cipherkeep_host.connector.feed import Feed, Shown
from cipherkeep_host.connector.metrics import Metrics
from cipherkeep_host.connector.preparing import Prepared, Preparer, in_batches
from cipherkeep_host.connector.progress import Progress
from cipherkeep_host.connector.vault import VaultFolder
from cipherkeep_host.errors import HOST_RULES, HostError
from cipherkeep_host.store.client import StoreClient

_log = structlog.get_logger()

# The enclave is not there, or not ready: the session begins anew and everything with it.
LOST = frozenset(
    {
        "channel.broken",
        "channel.unknown_session",
        "channel.session_expired",
        "service.not_anchored",
        "service.not_fresh",
        "service.not_admitted",
        "service.closed",
    }
)
# The contract took the answer.
_FINAL = "final"
_TAKEN = frozenset({"counted", _FINAL})
_LATE = "fhevm.answer_late"  # it needs none any more


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is carried at once."""

    heights: int = 64  # heights in flight
    calls: int = 8  # calls of the enclave at once
    batch: int = 64  # requests of one call
    batch_ciphertexts: int = 2_048  # of one call; the enclave takes 4,096
    batch_bytes: int = 8 << 20  # bytes of one call; a message has at most 16 MiB
    fetches: int = 8  # calls of node and store at once; more are slower, not faster
    attempts: int = 6  # of a request, before it is left open
    first_pause: float = 0.2  # seconds before the second attempt; doubles
    longest_pause: float = 10.0  # seconds
    watch_pause: float = 2.0  # seconds between looks at whether the enclave is still the one that was brought up
    open_pause: float = 30.0  # seconds between looks at what was left open; it ends when the request expires


class RequestFailed(Exception):
    """One request could not be answered now. `code` says why, `final` whether another attempt at once is in vain."""

    def __init__(self, code: str, detail: str, *, final: bool) -> None:
        self.code = code
        self.detail = detail
        self.final = final
        super().__init__(f"{code} ({detail})")


class Work:
    """Carries the requests of one enclave, for one session."""

    def __init__(
        self,
        *,
        node: Node,
        enclave: Enclave,
        feed: Feed,
        store: StoreClient,
        vault: VaultFolder,
        answers: AnswerQueue,
        progress: Progress,
        metrics: Metrics,
        instance: str,
        scratch: Path,
        limits: Limits,
        boot: bytes,
        party: int,
    ) -> None:
        self._node = node
        self._enclave = enclave
        self._feed = feed
        self._store = store
        self._vault = vault
        self._answers = answers
        self._progress = progress
        self._metrics = metrics
        self._instance = instance
        self._scratch = scratch
        self._limits = limits
        self._boot = boot
        self._party = party
        self._scanned = progress.done
        self._running: dict[int, asyncio.Task[None]] = {}
        self._calls = asyncio.Semaphore(limits.calls)
        self._preparer = Preparer(node, store, instance=instance, calls=limits.fetches)
        self._vault_lock = asyncio.Lock()
        self._dirty = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled, or until enclave (`RemoteError`), node or registration (`HostError`) are lost."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._answers.run())
            tasks.create_task(self._save())
            tasks.create_task(self._look_at_open())
            tasks.create_task(self._watch())
            await self._follow(tasks)

    async def _watch(self) -> None:
        """End the session when another boot answers, the enclave has seen a fork, or the registration has lapsed.

        The channel reconnects by itself, and on a quiet chain nothing else would notice that the enclave is new and
        holds no key, or that none of its answers would count.
        """
        while True:
            await asyncio.sleep(self._limits.watch_pause)
            lapsed = False
            status = await self._enclave.status()
            if status.boot != self._boot:
                raise HostError("connector.other_boot", status.boot.hex())
            if status.fork_other:
                raise HostError("connector.forked", status.frozen)
            with contextlib.suppress(HostError):  # a node that is away is noticed where it is needed
                record = (await self._node.prove(self._instance, layout.PARTIES, self._party)).value
                lapsed = record is not None and layout.PartyRecord.decode(record).registration is None
            if lapsed:
                raise HostError("connector.party_lapsed", f"party {self._party}")

    # --- heights ---

    async def _follow(self, tasks: asyncio.TaskGroup) -> None:
        async with contextlib.aclosing(self._node.heights()) as heights:
            async for height in heights:
                self._metrics.chain_height.set(height)
                while self._scanned + 1 < height:
                    shown, scanned = await self._feed.show_inboxes(self._scanned + 1, height)
                    for item in shown:
                        await self._begin(tasks, item)
                    self._scanned = max(self._scanned, scanned)
                    self._settle()

    async def _begin(self, tasks: asyncio.TaskGroup, shown: Shown) -> None:
        while len(self._running) >= self._limits.heights:
            await asyncio.wait(self._running.values(), return_when=asyncio.FIRST_COMPLETED)
        late = shown.height + 2 < self._feed.stand.height
        task = tasks.create_task(self._height(shown, late=late))
        self._running[shown.height] = task
        task.add_done_callback(lambda _: self._running.pop(shown.height, None))

    async def _height(self, shown: Shown, *, late: bool) -> None:
        left = await self._requests(shown.height, shown.inbox.entries, late=late)
        for counter in left:
            self._progress.postpone(shown.height, counter)
        self._running.pop(shown.height, None)
        self._settle()

    def _settle(self) -> None:
        """Everything below the lowest height in flight is done."""
        done = min(self._running, default=self._scanned + 1) - 1
        if done > self._progress.done:
            self._progress.done = done
            self._metrics.done_height.set(done)
            self._dirty.set()

    async def _save(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await self._progress.save()
            self._metrics.open_requests.set(len(self._progress.open))
            await asyncio.sleep(0.2)  # one write for many heights: what is lost is only done again

    # --- what was left open ---

    async def _look_at_open(self) -> None:
        while True:
            by_height: dict[int, set[int]] = {}
            for height, counter in sorted(self._progress.open):
                by_height.setdefault(height, set()).add(counter)
            for height, counters in by_height.items():
                await self._again(height, counters)
            await asyncio.sleep(self._limits.open_pause)

    async def _again(self, height: int, counters: set[int]) -> None:
        async with self._feed.lock:
            proven, header = await self._feed.show(layout.INBOX, height)
            if proven.value is None:
                raise HostError("connector.inbox_missing", f"height {height}")
            await self._enclave.inbox(
                height=height, header_height=header, inbox=proven.value, proof=proven.proof.encode()
            )
        entries = [entry for entry in layout.Inbox.decode(proven.value).entries if entry.counter in counters]
        left = await self._requests(height, entries, late=True, attempts=1)
        self._progress.open -= {(height, counter) for counter in counters - set(left)}
        self._dirty.set()

    # --- requests ---

    async def _requests(
        self, height: int, entries: Sequence[InboxEntry], *, late: bool, attempts: int | None = None
    ) -> list[int]:
        """Carry requests of one height; the counters of those that must be left open."""
        waiting = list(entries)
        if late:
            waiting = await self._pending(waiting)
        pause = self._limits.first_pause
        left: list[InboxEntry] = []
        for attempt in range(1, (attempts or self._limits.attempts) + 1):
            if attempt > 1:
                await asyncio.sleep(pause)
                pause = min(pause * 2, self._limits.longest_pause)
            failed = await self._attempt(height, waiting)
            waiting = []
            for entry, problem in failed:
                self._report(entry, problem, attempt)
                if problem.final or attempt == (attempts or self._limits.attempts):
                    left.append(entry)
                else:
                    waiting.append(entry)
            if not waiting:
                break
        return [entry.counter for entry in await self._pending(left)]

    async def _state(self, counter: int) -> str:
        value = (await self._node.prove(self._instance, layout.REQUESTS, counter)).value
        return "" if value is None else layout.RequestRecord.decode(value).state

    async def _pending(self, entries: Sequence[InboxEntry]) -> list[InboxEntry]:
        """Those that still need an answer. The others are let go; what expired without one is named."""
        states = await asyncio.gather(*(self._state(entry.counter) for entry in entries))
        found = list(zip(entries, states, strict=True))
        expired = [entry.counter for entry, state in found if state == layout.EXPIRED]
        if expired:
            self._give_up("connector.request_expired", counters=expired)
        return [entry for entry, state in found if state == layout.PENDING]

    def _give_up(self, code: str, *, counters: Sequence[int], **more: str) -> None:
        self._metrics.failures.labels(code).inc(len(counters))
        _log.warning("given up", code=code, counters=list(counters), hint=HOST_RULES[code].hint, **more)

    def _report(self, entry: InboxEntry, problem: RequestFailed, attempt: int) -> None:
        rule = HOST_RULES.get(problem.code) or SERVICE_RULES.get(problem.code)
        self._metrics.failures.labels(problem.code).inc()
        _log.warning(
            "request not answered",
            id=entry.id.hex(),
            counter=entry.counter,
            code=problem.code,
            detail=problem.detail,
            hint=rule.hint if rule else "",
            attempt=attempt,
        )

    async def _attempt(self, height: int, entries: Sequence[InboxEntry]) -> list[tuple[InboxEntry, RequestFailed]]:
        failed: list[tuple[InboxEntry, RequestFailed]] = []
        ready: list[Prepared] = []
        for entry, outcome in await self._preparer.prepare(height, entries):
            if isinstance(outcome, Prepared):
                ready.append(outcome)
            else:
                failed.append((entry, RequestFailed(outcome.code, outcome.detail, final=False)))
        limits = self._limits
        batches = in_batches(ready, most=limits.batch, ciphertexts=limits.batch_ciphertexts, size=limits.batch_bytes)
        results = await asyncio.gather(*(self._process(height, batch) for batch in batches))
        for result in results:
            failed += result
        return failed

    async def _process(self, height: int, batch: Sequence[Prepared]) -> list[tuple[InboxEntry, RequestFailed]]:
        async with self._calls:
            reply = await self._call(height, batch)
            if isinstance(reply, kms_pb2.ProcessReply) and reply.HasField("vault"):
                # Before anything that depends on it leaves: an answer pins the manifest on the chain.
                async with self._vault_lock:
                    await self._vault.keep(reply.vault)
        if isinstance(reply, RemoteError):
            if not reply.retryable and len(batch) > 1:
                # Refused as a whole: alone, each gets what is its own.
                alone = await asyncio.gather(*(self._process(height, [item]) for item in batch))
                return [problem for problems in alone for problem in problems]
            problem = RequestFailed(reply.code, str(reply)[:300], final=not reply.retryable)
            return [(item.entry, problem) for item in batch]
        outcomes = {outcome.counter: outcome for outcome in reply.outcomes}
        done = await asyncio.gather(*(self._finish(height, item, outcomes.get(item.entry.counter)) for item in batch))
        return [(item.entry, problem) for item, problem in zip(batch, done, strict=True) if problem is not None]

    async def _call(self, height: int, batch: Sequence[Prepared]) -> kms_pb2.ProcessReply | RemoteError:
        bodies = [
            kms_pb2.RequestBody(counter=item.entry.counter, body=item.body, ciphertexts=item.ciphertexts)
            for item in batch
        ]
        try:
            with self._metrics.process_seconds.time():
                return await self._enclave.process(height, bodies)
        except RemoteError as error:
            if error.code in LOST:
                raise
            if error.code in ("service.stale_head", "service.no_control"):
                await self._feed.advance()
            elif error.code == "service.unknown_inbox":
                await self._show_again(height)
            return error

    async def _show_again(self, height: int) -> None:
        async with self._feed.lock:
            proven, header = await self._feed.show(layout.INBOX, height)
            if proven.value is not None:
                await self._enclave.inbox(
                    height=height, header_height=header, inbox=proven.value, proof=proven.proof.encode()
                )

    async def _finish(self, height: int, item: Prepared, outcome: kms_pb2.Outcome | None) -> RequestFailed | None:
        if outcome is None:
            return RequestFailed("connector.no_outcome", f"request {item.entry.counter}", final=False)
        if not outcome.answer:
            rule = SERVICE_RULES.get(outcome.code)
            retryable = rule is None or rule.retryable
            return RequestFailed(outcome.code or "connector.no_outcome", outcome.detail[:300], final=not retryable)
        try:
            if item.slow:
                await self._publish(item.entry, outcome.answer)
            verdict = await self._answers.send(outcome.answer)
        except HostError as error:
            if error.code == "connector.party_lapsed":
                raise
            return RequestFailed(error.code, error.detail, final=False)
        except RemoteError as error:
            if error.code in LOST:
                raise
            return RequestFailed(error.code, str(error)[:300], final=not error.retryable)
        self._metrics.answers.labels(verdict).inc()
        if verdict == _LATE:
            await self._late(item.entry, outcome.answer)
            return None
        if verdict in _TAKEN:
            if verdict != _FINAL:
                self._progress.voted.append((height, item.entry.counter))
            return None
        return RequestFailed("connector.not_counted", f"{verdict}, request {item.entry.counter}", final=True)

    async def _publish(self, entry: InboxEntry, answer: bytes) -> None:
        """The material of a key, unless its request has ended without it: its answer is sent all the same then, since
        it pins the vault that holds the key."""
        if await self._state(entry.counter) in (layout.PENDING, layout.FINAL):
            await material.publish(answer, enclave=self._enclave, store=self._store, scratch=self._scratch)

    async def _late(self, entry: InboxEntry, answer: bytes) -> None:
        """The answer came when the request had ended: with the same answer of others, or without any."""
        state = await self._state(entry.counter)
        if state != layout.FINAL and material.of_answer(answer)[1]:
            self._give_up("connector.key_unused", counters=[entry.counter], id=entry.id.hex(), state=state)
        elif state == layout.EXPIRED:
            self._give_up("connector.request_expired", counters=[entry.counter])
