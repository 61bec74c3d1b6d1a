"""The only place that brings answers to the chain: many in one transaction, one transaction at a time.

While a transaction waits for its block, the answers that arrive gather for the next. Whoever hands over an answer
learns its verdict; that the party's registration has lapsed is none, but the end of the session.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

import structlog
from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Malformed
from cipherkeep_attestation.statements.transaction import Message

from cipherkeep_host.chain.client import Sent, TransactionRefused
from cipherkeep_host.client.node import Sender
from cipherkeep_host.errors import HostError

_MOST = 256  # answers of one transaction
_BYTES = 768 << 10  # bytes of their answers; a transaction has at most 1 MiB
_LAPSED = "fhevm.party_lapsed"
_log = structlog.get_logger()


@dataclass(slots=True)
class _Waiting:
    answer: bytes
    verdict: asyncio.Future[str]


class AnswerQueue:
    """Answers of one party on their way to the chain."""

    def __init__(self, sender: Sender, *, instance: str) -> None:
        self._sender = sender
        self._instance = instance
        self._waiting: deque[_Waiting] = deque()
        self._filled = asyncio.Event()

    async def send(self, answer: bytes) -> str:
        """Hand over a signed answer; the contract's verdict on it: a code. `HostError` when none was had.

        `HostError("connector.party_lapsed")` when the party must register again before any answer counts.
        """
        waiting = _Waiting(answer, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._filled.set()
        return await waiting.verdict

    async def run(self) -> None:
        """Send until cancelled."""
        try:
            while True:
                await self._filled.wait()
                self._filled.clear()
                while self._waiting:
                    await self._send(self._batch())
        finally:
            for waiting in self._waiting:
                waiting.verdict.cancel()

    def _batch(self) -> list[_Waiting]:
        batch = [self._waiting.popleft()]
        size = len(batch[0].answer)
        while self._waiting and len(batch) < _MOST and size + len(self._waiting[0].answer) <= _BYTES:
            batch.append(self._waiting.popleft())
            size += len(batch[-1].answer)
        return batch

    async def _send(self, batch: list[_Waiting]) -> None:
        body = {"answers": [waiting.answer for waiting in batch]}
        try:
            verdicts = _verdicts(await self._sender.send([Message(self._instance, "answer", body)]), len(batch))
        except HostError as error:
            lapsed = isinstance(error, TransactionRefused) and error.rule == _LAPSED
            problem = HostError("connector.party_lapsed" if lapsed else error.code, error.detail)
            _log.warning(
                "answers not sent", code=problem.code, detail=problem.detail, hint=problem.hint, answers=len(batch)
            )
            for waiting in batch:
                if not waiting.verdict.done():
                    waiting.verdict.set_exception(HostError(problem.code, problem.detail))
            return
        except BaseException:
            for waiting in batch:
                waiting.verdict.cancel()
            raise
        for waiting, verdict in zip(batch, verdicts, strict=True):
            if waiting.verdict.done():
                continue
            if verdict == _LAPSED:
                waiting.verdict.set_exception(HostError("connector.party_lapsed", verdict))
            else:
                waiting.verdict.set_result(verdict)


def _verdicts(sent: Sent, expected: int) -> list[str]:
    """One verdict for each answer of the one message."""
    try:
        rows = cbor.decode(sent.results[0])
    except (Malformed, IndexError):
        rows = None
    if not isinstance(rows, list) or len(rows) != expected:
        raise HostError("node.answer", "verdicts are one for each answer")
    verdicts = []
    for row in rows:
        if not isinstance(row, list) or len(row) != 2 or not isinstance(row[1], str):
            raise HostError("node.answer", "a verdict is [id, code]")
        verdicts.append(row[1])
    return verdicts
