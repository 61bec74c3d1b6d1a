"""The only place that measures an enclave's service alone: proven requests in, signed answers out, no chain beside it.

The service is a process of its own, this one is its client. A block's evidence is verified once, then its requests are
answered, each another one, over sixteen ciphertexts in turn; every answer is kept and a sample is verified. Twice: over
gRPC as it is on a unix socket, and over the attested channel (mutual TLS 1.3) of an enclave that booted.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path

import grpc.aio
from cipherkeep_attestation.statements.request import Request
from cipherkeep_host.emulated.pki import emulated_root
from cipherkeep_host.emulated.vsock import enclave_folder
from cipherkeep_wire import kms_pb2 as pb
from cipherkeep_wire.channel import AttestedChannel, open_channel
from cipherkeep_wire.limits import GRPC_PORT, HANDSHAKE_PORT
from cipherkeep_wire.transport import Address

from bench.enclave_requests import CIPHERTEXTS, call, ciphertexts, digest_of, public, user, value_of
from bench.figures import MEMORY, RATE, Row, clocked, row, say
from bench.processes import resident
from tests.enclave.booted import Enclave, enclave, with_key
from tests.enclave.harness import World
from tests.enclave.hosting import Host, new_world, stub_of
from tests.host.emulated.processes import kms_process, new_state, short_folder

ROOT = Path(__file__).resolve().parents[1]
ONE_MS, EIGHT_RATE, RESIDENT = 2.3, 1000, 150  # targets of the design
ALONE, ROUND, ROUNDS = 400, 400, 5  # requests one at a time; of one round at full load; rounds
BATCH, CALLS = 64, 4  # as the connector does: requests of a call, calls at once
_MESSAGE = 16 << 20  # bytes
_CHANNELS = 10  # handshakes
_WAIT = 30.0  # seconds until a process must serve


async def run() -> list[Row]:
    """Both forms, about a minute together."""
    return [*await _plain(), *await _attested()]


async def _plain() -> list[Row]:
    with short_folder() as folder:
        async with _service(folder) as host:
            return await _figures(host, "enclave service, plain gRPC")


async def _attested() -> list[Row]:
    with contextlib.ExitStack() as stack:
        state = stack.enter_context(new_state())
        folders = [stack.enter_context(short_folder()) for _ in range(3)]
        service, _ = stack.enter_context(kms_process(state, folders[0]))
        root = emulated_root(state).certificate_der
        world = new_world(folders[1], roots=(root,), configured=lambda plain: with_key(plain, service, state))
        async with enclave(world.configuration, state, folders[2], service.socket_path) as running:
            await running.listening()
            opened: list[float] = []
            for _ in range(_CHANNELS):
                await (await clocked(lambda: _channel(running), opened)).close()
            async with await _channel(running) as channel:
                host = Host(world, stub_of(channel.grpc))
                rows = await _figures(host, "enclave service, attested TLS", target=True)
                memory = resident(running.process.pid)
    group = "enclave process, no proxy"
    return [
        *rows,
        row(group, "attested channel opened", "ms", opened),
        row(group, "resident, after key generation and load", MEMORY, [memory.now], target=RESIDENT),
        row(group, "resident, at most (while a key is generated)", MEMORY, [memory.peak]),
    ]


async def _channel(running: Enclave) -> AttestedChannel:
    """To the enclave's own sockets: relays of the test's vsock device would share this process."""
    folder = enclave_folder(running.run)
    return await open_channel(
        handshake_address=Address("unix", path=str(folder / f"{HANDSHAKE_PORT}.sock")),
        grpc_address=Address("unix", path=str(folder / f"{GRPC_PORT}.sock")),
        initiator_factory=running.initiators(),
        clock=lambda: datetime.now(UTC),
    )


@contextlib.asynccontextmanager
async def _service(folder: Path) -> AsyncIterator[Host]:
    """A host of the service in a process of its own, which ends with the context."""
    world = new_world(folder)
    socket, configuration = folder / "grpc.sock", folder / "configuration.cbor"
    configuration.write_bytes(world.configuration.encode())
    arguments = ["--socket", str(socket), "--configuration", str(configuration), "--scratch", str(folder / "material")]
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.plain_service", *arguments, cwd=ROOT)
    options = [("grpc.max_receive_message_length", _MESSAGE), ("grpc.max_send_message_length", _MESSAGE)]
    try:
        async with grpc.aio.insecure_channel(f"unix:{socket}", options=options) as channel:
            async with asyncio.timeout(_WAIT):
                await channel.channel_ready()
            yield Host(world, stub_of(channel))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _figures(host: Host, group: str, *, target: bool = False) -> list[Row]:
    await host.bring_up()
    await host.note()
    say(f"{group}: a key is generated")
    key_id = await host.generate()
    packed = await ciphertexts(host, key_id)
    say(f"{group}: requests")
    rows: list[Row] = []
    for name, make in (("public", public), ("user", user)):
        asking = _Asking(host, key_id, packed, make)
        rows += await asking.alone(f"{name} decryption", group, target=ONE_MS if target else None)
        rows += await asking.loaded(f"{name} decryption", group, target=EIGHT_RATE if target else None)
    rows.append(await _Asking(host, key_id, packed, public).batched(group))
    return rows


class _Asking:
    """Requests of one kind, each with a number of its own, over the ciphertexts in turn."""

    _numbers = count(1)

    def __init__(
        self, host: Host, key_id: bytes, packed: Sequence[bytes], make: Callable[[World, bytes, int, bytes], Request]
    ) -> None:
        self._host = host
        self._key_id = key_id
        self._packed = packed
        self._make = make

    async def _calls(self, requests: int, batch: int = 1) -> list[pb.ProcessRequest]:
        """Calls for this many new requests, all of one block that the enclave has seen."""
        numbers = [next(self._numbers) for _ in range(requests)]
        data = [self._packed[number % CIPHERTEXTS] for number in numbers]
        world = self._host.world
        asked = [self._make(world, self._key_id, number, packed) for number, packed in zip(numbers, data, strict=True)]
        shown = await self._host.ask(*asked)
        return [
            call(shown[first : first + batch], [(packed,) for packed in data[first : first + batch]])
            for first in range(0, requests, batch)
        ]

    async def _process(self, request: pb.ProcessRequest) -> pb.ProcessReply:
        reply: pb.ProcessReply = await self._host.stub.Process(request)
        return reply

    async def alone(self, name: str, group: str, *, target: float | None) -> list[Row]:
        """One request at a time."""
        taken: list[float] = []
        calls = await self._calls(ALONE + 20)
        for number, request in enumerate(calls):
            reply = await clocked(partial(self._process, request), taken)
            if number % 50 == 0:
                self._check(request, reply)
        return [row(group, f"{name}, one at a time", "ms", taken[20:], target=target)]

    async def loaded(self, name: str, group: str, *, target: float | None) -> list[Row]:
        """Eight in flight."""
        rates: list[float] = []
        taken: list[float] = []
        for _ in range(ROUNDS):
            calls = await self._calls(ROUND)
            rates.append(await self._together(calls, 8, taken) * ROUND)
        return [
            row(group, f"{name}, 8 in flight", RATE, rates, target=target),
            row(group, f"{name}, 8 in flight, each", "ms", taken),
        ]

    async def batched(self, group: str) -> Row:
        """Calls of many requests, as the connector makes them."""
        rates = []
        for _ in range(ROUNDS):
            calls = await self._calls(ROUND, BATCH)
            rates.append(await self._together(calls, CALLS, []) * ROUND)
        return row(group, f"public decryption, calls of {BATCH}, {CALLS} in flight", RATE, rates)

    async def _together(self, calls: Sequence[pb.ProcessRequest], width: int, taken: list[float]) -> float:
        """Make all calls, `width` at once; how often per second all of them could be made."""
        left: Iterator[pb.ProcessRequest] = iter(calls)
        replies: list[tuple[pb.ProcessRequest, pb.ProcessReply]] = []

        async def work() -> None:
            for request in left:
                replies.append((request, await clocked(partial(self._process, request), taken)))

        begun = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(width)))
        elapsed = time.perf_counter() - begun
        for request, reply in replies[::25]:
            self._check(request, reply)
        assert all(outcome.answer for _, reply in replies for outcome in reply.outcomes)
        return 1 / elapsed

    def _check(self, request: pb.ProcessRequest, reply: pb.ProcessReply) -> None:
        """Every answer is signed, of its own request, and a public one holds the value that was encrypted."""
        for asked, outcome in zip(request.requests, reply.outcomes, strict=True):
            core = self._host.opened(outcome).core
            assert core.refusal is None and core.result is not None, core.refusal
            if "decrypted" in core.result:
                place = self._packed.index(asked.ciphertexts[0])
                assert core.result["decrypted"] == digest_of(value_of(place))
