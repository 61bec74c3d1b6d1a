"""A simulated enclave that serves the attested channel, and hosts that may dial it; each can lie."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from cipherkeep_attestation.handshake import Initiator, Responder, Terms, judge_with
from cipherkeep_attestation.nitro.verify import InsecureAnyMeasurement
from cipherkeep_wire.channel import AttestedChannel, AttestedServer, TlsIdentity, current_session, open_channel
from cipherkeep_wire.limits import Limits
from cipherkeep_wire.transport import Address

from tests.simulators.attestation import IMAGE, SimulatedEnclave, SimulatedHost, SimulatedPlatform

CONFIGURATION = b"\7" * 48
TERMS = Terms("chain-1", CONFIGURATION, "party-1")


class Clock:
    """Time that moves when told, and otherwise with the machine's."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset


@dataclass
class World:
    """One platform, one enclave, one host, and where the enclave listens."""

    folder: Path
    clock: Clock
    platform: SimulatedPlatform
    enclave: SimulatedEnclave
    host: SimulatedHost
    limits: Limits
    handshake: Address
    grpc: Address
    refusals: list[str] = field(default_factory=list)
    renewal_failures: list[str] = field(default_factory=list)

    def responder(self, identity: TlsIdentity) -> Responder:
        """What the enclave's factory makes."""
        return Responder(
            certificate=identity.certificate_der,
            attest=self.enclave.attest,
            judge=judge_with(
                root=self.platform.root(),
                kind="host",
                measurements=InsecureAnyMeasurement(),
                max_age=timedelta(minutes=5),
            ),
            terms=TERMS,
            session_id=os.urandom(16),
            nonce=os.urandom(32),
        )

    def initiator(self, identity: TlsIdentity) -> Initiator:
        """What the host's factory makes."""
        return Initiator(
            certificate=identity.certificate_der,
            attest=self.host.attest,
            judge=judge_with(
                root=self.platform.root(), kind="enclave", measurements=(IMAGE,), max_age=timedelta(minutes=5)
            ),
            terms=TERMS,
        )

    def server(self, **changes: Any) -> AttestedServer:
        """An enclave's server, not yet started."""
        settings: dict[str, Any] = {
            "responder_factory": self.responder,
            "handlers": [handlers()],
            "handshake_address": self.handshake,
            "grpc_address": self.grpc,
            "clock": self.clock,
            "limits": self.limits,
            "on_refusal": self.refusals.append,
        }
        return AttestedServer(**{**settings, **changes})

    @contextlib.asynccontextmanager
    async def serving(self, **changes: Any) -> AsyncIterator[AttestedServer]:
        """The enclave's server, for the length of the block."""
        server = self.server(**changes)
        await server.start()
        try:
            yield server
        finally:
            await server.stop(0)

    async def dial(self, **changes: Any) -> AttestedChannel:
        """The host's channel; the caller closes it."""
        settings: dict[str, Any] = {
            "handshake_address": self.handshake,
            "grpc_address": self.grpc,
            "initiator_factory": self.initiator,
            "clock": self.clock,
            "limits": self.limits,
            "on_renewal_failure": self.renewal_failures.append,
        }
        return await open_channel(**{**settings, **changes})


def handlers() -> grpc.GenericRpcHandler[Any, Any]:
    """Bytes in, bytes out: echo, whose call it is, a stream that lasts, one that answers what it is asked."""

    async def echo(request: bytes, context: Any) -> bytes:
        return request

    async def who(request: bytes, context: Any) -> bytes:
        return current_session().session_id

    async def count(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number
            await asyncio.sleep(0.05)

    async def mirror(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield current_session().session_id + request

    async def total(requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"%d" % sum([len(request) async for request in requests])

    async def fail(request: bytes, context: Any) -> bytes:
        raise TimeoutError

    return grpc.method_handlers_generic_handler(
        "test.Service",
        {
            "Echo": grpc.unary_unary_rpc_method_handler(echo),
            "Who": grpc.unary_unary_rpc_method_handler(who),
            "Count": grpc.unary_stream_rpc_method_handler(count),
            "Mirror": grpc.stream_stream_rpc_method_handler(mirror),
            "Total": grpc.stream_unary_rpc_method_handler(total),
            "Fail": grpc.unary_unary_rpc_method_handler(fail),
        },
    )


def echo(channel: AttestedChannel, data: bytes = b"x", **settings: Any) -> Any:
    """One unary call."""
    return channel.grpc.unary_unary("/test.Service/Echo", None, None)(data, timeout=5, **settings)


async def failure(call: Any) -> tuple[grpc.StatusCode, str]:
    """Status and code of a call that must fail."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code(), dict(error.trailing_metadata() or ()).get("cipherkeep-code", "")
    raise AssertionError("the call did not fail")


@contextlib.contextmanager
def make_world(limits: Limits | None = None) -> Any:
    """A world in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="ck-", dir="/tmp") as path:
        folder = Path(path)
        clock = Clock()
        platform = SimulatedPlatform(at=clock())
        yield World(
            folder=folder,
            clock=clock,
            platform=platform,
            enclave=SimulatedEnclave(platform, name="enclave", configuration=CONFIGURATION),
            host=SimulatedHost(platform, name="host"),
            limits=limits or Limits(),
            handshake=Address("unix", str(folder / "handshake.sock")),
            grpc=Address("unix", str(folder / "grpc.sock")),
        )
