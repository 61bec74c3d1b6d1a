"""The only place that measures the whole path: a request's transaction, the chain, the connector, the enclave's signed
answer in a block. Everything is real and runs here: CometBFT with one validator, store, proxy, attested channel.

Requests are new ones, each of an origin of its own, over sixteen ciphertexts in turn; a sample of answers is verified
from the trust root on.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import httpx
from cipherkeep_attestation import cbor
from cipherkeep_attestation.statements import layout, request
from cipherkeep_attestation.statements.binding import Ciphertext
from cipherkeep_attestation.statements.layout import RequestRecord
from cipherkeep_attestation.statements.transaction import Message
from cipherkeep_host.cli.session import Session, open_session

from bench.appliance import Running, appliance, memory_rows
from bench.figures import RATE, Row, row, say
from bench.processes import processor

ANSWER_MS, SUSTAINED = 100, 300  # targets of the design
ALONE, WARM_UP = 60, 8  # requests one after the other
REQUESTS, PER_TRANSACTION, TRANSACTIONS = 1500, 100, 3  # of one round; at once on their way
ROUNDS = 3
LIST = 16  # ciphertexts of one request in the round of large requests
CIPHERTEXTS, PER_LIST = 16, 4  # different ones, and how many a client proves in one list
CLIENT = "the client (this process)"
_LEAST = 0.005  # ms; a process that used less is not named
_LOOK = 0.05  # seconds between looks at the connector's counters
_WAIT = 90.0  # seconds for one round
_FINAL = re.compile(r'^connector_answers_total\{verdict="final"\} (\S+)', re.M)
_CONTRACT, _USER = b"\xc0" * 20, b"\xda" * 20


async def run() -> list[Row]:
    """Both paces, the start cold and warm, memory at rest and under load; about three minutes."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="ck-bench-") as folder:
        state = Path(folder) / "200"
        say("appliance, 200 ms: first start")
        async with appliance(state, commit_ms=200) as running:
            rows += running.startup("first, with a key generated", stages=True)
            rows += await _measured(running, "200 ms after each block", rounds=1)
        say("appliance, 200 ms: second start")
        async with appliance(state, commit_ms=200) as running:
            rows += running.startup("again, over the same state", stages=True)
            await asyncio.sleep(1)
            rows += memory_rows("at rest", running.memory())
        say("appliance, 0 ms")
        async with appliance(Path(folder) / "0", commit_ms=0) as running:
            rows += await _measured(running, "no wait after blocks", rounds=ROUNDS, target=True)
            rows += memory_rows("after load", running.memory())
    return rows


async def _measured(running: Running, name: str, *, rounds: int, target: bool = False) -> list[Row]:
    group = f"whole path, one validator, {name}"
    async with open_session(running.state) as session:
        (key,) = await session.client.keys()
        path = WholePath(session, key.id, await _inputs(session, key.id))
        say(f"{group}: one at a time")
        rows = await path.alone(group, target=ANSWER_MS if target else None)
        say(f"{group}: many")
        used = running.processor() | {CLIENT: processor(os.getpid())}
        rows.append(await path.sustained(group, rounds, target=SUSTAINED if target else None))
        after = running.processor() | {CLIENT: processor(os.getpid())}
        if target:
            rows.append(await path.large(group))
            rows += _shares(used, after, rounds * REQUESTS)
    return rows


def _shares(before: Mapping[str, float], after: Mapping[str, float], decryptions: int) -> list[Row]:
    """Where the time of a decryption goes: it does not depend on what else runs on the machine, unlike rates."""
    group = "processor time of one decryption in transactions of many"
    shares = {name: (seconds - before.get(name, 0)) / decryptions * 1e3 for name, seconds in after.items()}
    rows = [row(group, name, "ms", [share]) for name, share in sorted(shares.items()) if share > _LEAST]
    return [*rows, row(group, "all", "ms", [sum(shares.values())])]


async def _inputs(session: Session, key_id: bytes) -> list[Ciphertext]:
    """Values that the coprocessor has verified, expanded, packed and bound."""
    bound: list[Ciphertext] = []
    while len(bound) < CIPHERTEXTS:
        values = [("uint64", secrets.randbits(64)) for _ in range(PER_LIST)]
        bound += await session.client.encrypt(key_id, values, user=_USER, contract_address=_CONTRACT)
    return bound


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that is in a block."""

    id: bytes
    counter: int


class WholePath:
    """A client's end of the path."""

    def __init__(self, session: Session, key_id: bytes, inputs: Sequence[Ciphertext]) -> None:
        self._session = session
        self._key_id = key_id
        self._inputs = inputs
        self._numbers = count()
        self._source = secrets.token_bytes(20)

    def _message(self, length: int = 1) -> Message:
        """A request that nobody made before."""
        number = next(self._numbers)
        wanted = tuple(self._inputs[(number + at) % len(self._inputs)] for at in range(length))
        asked = request.PublicDecrypt(self._key_id, wanted, b"", request.Origin(1, self._source, number))
        return Message(self._session.trust.instance, asked.operation, {"request": asked.encode()})

    async def _send(self, messages: Sequence[Message]) -> list[Asked]:
        sent = await self._session.chain.send(messages)
        return [_asked(result) for result in sent.results]

    async def alone(self, group: str, *, target: float | None) -> list[Row]:
        """One request after the other: until it is in a block, and until its answer is."""
        included, answered = [], []
        for number in range(ALONE + WARM_UP):
            message = self._message()
            heights = self._session.node.heights()
            begun = time.perf_counter()
            (asked,) = await self._send([message])
            there = time.perf_counter()
            async for _ in heights:
                if (await self._state(asked.counter)).state != layout.PENDING:
                    break
            done = time.perf_counter()
            await heights.aclose()
            if number % 20 == 0:
                await self._check(asked)
            if number >= WARM_UP:
                included.append((there - begun) * 1e3)
                answered.append((done - begun) * 1e3)
        return [
            row(group, "request sent to request in a block", "ms", included),
            row(group, "request sent to signed answer in a block", "ms", answered, target=target),
        ]

    async def sustained(self, group: str, rounds: int, *, target: float | None) -> Row:
        """Requests of one ciphertext each, many in a transaction."""
        rates = [await self._round(REQUESTS, 1) for _ in range(rounds)]
        return row(group, f"decryptions, {PER_TRANSACTION} requests in a transaction", RATE, rates, target=target)

    async def large(self, group: str) -> Row:
        """Requests of many ciphertexts each."""
        rates = [await self._round(REQUESTS // 5, LIST) for _ in range(2)]
        return row(group, f"decryptions, {LIST} in a request", RATE, rates)

    async def _round(self, requests: int, length: int) -> float:
        """Decryptions per second from the first transaction sent until the contract has counted the last answer."""
        size = PER_TRANSACTION // (1 if length == 1 else 5)
        waiting = iter([[self._message(length) for _ in range(size)] for _ in range(requests // size)])
        asked: list[Asked] = []

        async def work() -> None:
            for messages in waiting:
                asked.extend(await self._send(messages))

        before = await self._final()
        begun = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(TRANSACTIONS)))
        async with asyncio.timeout(_WAIT):
            while await self._final() - before < requests:  # noqa: ASYNC110  (it is another process' counter)
                await asyncio.sleep(_LOOK)
        elapsed = time.perf_counter() - begun
        for one in asked[:: requests // 10]:
            await self._check(one)
        return requests * length / elapsed

    async def _final(self) -> int:
        """How many answers the contract has taken from this party: the connector's counter."""
        path = self._session.environment.connector.removeprefix("unix://")
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=path)) as http:
            text = (await http.get("http://connector/metrics")).text
        return int(sum(float(value) for value in _FINAL.findall(text)))

    async def _state(self, counter: int) -> RequestRecord:
        found = (await self._session.node.prove(self._session.trust.instance, layout.REQUESTS, counter)).value
        assert found is not None
        return RequestRecord.decode(found)

    async def _check(self, asked: Asked) -> None:
        """The answer holds from the trust root on, and was no refusal."""
        await self._session.client.wait(asked.id)


def _asked(result: bytes) -> Asked:
    """What the contract says about a request that it took, which must be a new one."""
    found = cbor.fields(
        cbor.decode(result),
        counter=cbor.uint(least=1),
        duplicate=cbor.boolean,
        id=cbor.raw(32),
        state=cbor.text(16),
    )
    assert not found["duplicate"]
    return Asked(found["id"], found["counter"])
