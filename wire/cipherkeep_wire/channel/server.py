"""The only place that serves the attested channel: a listener for handshakes, and gRPC for whoever has finished one.

Nothing but the handshake is offered before a session exists. gRPC's trust list is asked for at every TLS handshake and
holds the certificates of live sessions; the interceptor of `sessions` then matches each call with its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.handshake import Responder, Session

from cipherkeep_wire.channel.exchange import SESSION_SERVICE, receive, refusal_frame, send
from cipherkeep_wire.channel.identity import VALIDITY, TlsIdentity
from cipherkeep_wire.channel.sessions import Clock, RequireSession, SessionTable, current_session, refuse
from cipherkeep_wire.errors import ServiceError
from cipherkeep_wire.limits import DEFAULT, Limits
from cipherkeep_wire.rate import TokenBucket
from cipherkeep_wire.transport import Address, Listener, Stream, TransportError, forward, listen

RpcHandlers: TypeAlias = "grpc.GenericRpcHandler[Any, Any]"

_THREADS: Final = 4  # handshakes that make or judge a document at the same time; each takes about 5 ms
_REFUSAL_TIMEOUT: Final = 1.0  # seconds that a refused peer has to take the code


class AttestedServer:
    """Serves `handlers` to peers that have attested themselves, each call under `current_session()`.

    `responder_factory` makes the responder of one handshake for the identity it is given; it and what it calls run in
    a worker thread. `handshake_address` and `grpc_address` are of any form; gRPC itself always listens on a unix
    socket, and a relay carries any other form to it. `clock` gives UTC. `on_refusal` hears the code of every handshake
    that was refused.
    """

    def __init__(
        self,
        *,
        responder_factory: Callable[[TlsIdentity], Responder],
        handlers: Sequence[RpcHandlers],
        handshake_address: Address,
        grpc_address: Address,
        clock: Clock,
        limits: Limits = DEFAULT,
        on_refusal: Callable[[str], None] = lambda code: None,
    ) -> None:
        self.sessions = SessionTable(limit=limits.sessions, clock=clock)
        self._responder_factory = responder_factory
        self._handlers = handlers
        self._handshake_address = handshake_address
        self._grpc_address = grpc_address
        self._clock = clock
        self._limits = limits
        self._on_refusal = on_refusal
        self._rate = TokenBucket(per_second=limits.handshakes_per_second, burst=limits.handshake_burst)
        self._running = 0
        self._relay: Listener | None = None
        self._published: tuple[bytes, bytes] | None = None
        # Threads of their own: handshakes do not queue behind what the service does in the default ones.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="handshake")
        self._resources = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Listen on both addresses. TransportError when one cannot be had; nothing is left open then."""
        self._identity = TlsIdentity.generate("responder", self._clock())
        try:
            self._server = await self._start_grpc()
            self._handshakes = await listen(self._handshake_address, self._shake, buffer=self._limits.handshake_frame)
            self._resources.push_async_callback(self._handshakes.close)
        except BaseException:
            await self._resources.aclose()
            raise

    async def stop(self, grace: float) -> None:
        """Take no more handshakes and calls; running calls have `grace` seconds."""
        await self._handshakes.close()
        await self._server.stop(grace)
        await self._resources.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def handshake_listener(self) -> Listener:
        """The running listener, whose address names the port that the kernel chose."""
        return self._handshakes

    @property
    def grpc_listener(self) -> Listener | None:
        """The relay in front of gRPC; None where gRPC itself listens at `grpc_address`."""
        return self._relay

    # --- gRPC ---

    async def _start_grpc(self) -> grpc.aio.Server:
        direct = self._grpc_address.scheme == "unix"
        folder = "" if direct else self._resources.enter_context(tempfile.TemporaryDirectory(prefix="ck-"))
        path = self._grpc_address.path if direct else f"{folder}/grpc.sock"
        self._published = None
        # gRPC asks for the first configuration here, and for changes at each TLS handshake, on its own threads.
        changed: Any = self._changed_configuration  # None says that nothing changed; the stubs do not know
        credentials = grpc.dynamic_ssl_server_credentials(self._configuration(), changed, True)
        server = grpc.aio.server(
            interceptors=[RequireSession(self.sessions, drain=self._limits.session_drain)],
            maximum_concurrent_rpcs=self._limits.grpc_calls,
            options=_server_options(self._limits),
        )
        server.add_generic_rpc_handlers((_session_service(self.sessions), *self._handlers))
        await _refuse_live_socket(Address("unix", path))
        server.add_secure_port(f"unix:{path}", credentials)
        os.chmod(path, 0o600)  # noqa: PTH101 (ASYNC240 wants no Path here); bound, and not yet listening
        self._resources.push_async_callback(server.stop, 0)
        await server.start()
        if not direct:
            relay = await forward(self._grpc_address, Address("unix", path), connections=self._limits.connections)
            self._resources.push_async_callback(relay.close)
            self._relay = relay
        return server

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        identity, trusted = self._identity, self.sessions.trusted
        self._published = (identity.certificate_der, trusted)
        pair = (identity.private_key_pem, identity.certificate_pem)
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=trusted)

    def _changed_configuration(self) -> grpc.ServerCertificateConfiguration | None:
        if self._published == (self._identity.certificate_der, self.sessions.trusted):
            return None
        return self._configuration()

    # --- handshakes ---

    async def _shake(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One handshake per connection, from the first byte to the last within the deadline."""
        stream = (reader, writer)
        try:
            async with asyncio.timeout(self._limits.handshake_deadline):
                if self._running >= self._limits.handshakes_at_once or not self._rate.take(
                    asyncio.get_running_loop().time()
                ):
                    raise ServiceError("channel.busy")
                self._running += 1
                try:
                    await self._respond(stream)
                finally:
                    self._running -= 1
        except TransportError:
            return  # an auditor leaves after step 1; who is cut off does not hear why
        except TimeoutError:
            self._on_refusal("transport.timeout")
        except (EvidenceError, ServiceError) as refusal:
            await self._refuse(stream, refusal.code, refusal.code)
        except Exception as problem:  # noqa: BLE001  (the NSM's client failed; the peer need not know how)
            await self._refuse(stream, getattr(problem, "code", type(problem).__name__), "service.internal")

    async def _refuse(self, stream: Stream, heard: str, told: str) -> None:
        self._on_refusal(heard)
        with contextlib.suppress(TransportError, TimeoutError):
            async with asyncio.timeout(_REFUSAL_TIMEOUT):
                await send(stream, refusal_frame(told), self._limits)

    async def _respond(self, stream: Stream) -> None:
        loop = asyncio.get_running_loop()
        now = self._clock()
        if self._identity.not_after - now < VALIDITY / 2:
            self._identity = self._identity.renewed(now)
        responder = await loop.run_in_executor(self._threads, self._responder_factory, self._identity)

        async def answer(message: bytes) -> bytes:
            step = functools.partial(responder.receive, message, at=self._clock())
            return await loop.run_in_executor(self._threads, step)

        await send(stream, await answer(await receive(stream, self._limits)), self._limits)
        accepted = await answer(await receive(stream, self._limits))
        session = responder.session
        self.sessions.admit(session)
        try:
            await send(stream, accepted, self._limits)
        except BaseException:
            self.sessions.end(session)
            raise


def _session_service(sessions: SessionTable) -> RpcHandlers:
    """`Begin`: a client says by which document it was attested. `End`: one that leaves gives its place back."""

    async def begin(named: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        try:
            sessions.begin(current_session(), named)
        except ServiceError as refusal:
            await refuse(context, refusal)
        return b""

    async def end(_: bytes, __: Any) -> bytes:
        session: Session = current_session()
        sessions.end(session)
        return b""

    return grpc.method_handlers_generic_handler(SESSION_SERVICE, _methods(Begin=begin, End=end))


def _methods(**behaviours: Any) -> dict[str, Any]:
    return {name: grpc.unary_unary_rpc_method_handler(behaviour) for name, behaviour in behaviours.items()}


async def _refuse_live_socket(address: Address) -> None:
    """gRPC takes a path over without asking; `listen` does not."""

    async def nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None: ...

    await (await listen(address, nothing)).close()


def _server_options(limits: Limits) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limits.grpc_message),
        ("grpc.max_send_message_length", limits.grpc_message),
        ("grpc.max_metadata_size", limits.grpc_metadata),
        ("grpc.absolute_max_metadata_size", limits.grpc_metadata),
        ("grpc.max_concurrent_streams", limits.grpc_calls),
        ("grpc.so_reuseport", 0),
        # Clients ping to notice a cut proxy, also when no call runs.
        ("grpc.http2.min_ping_interval_without_data_ms", int(limits.keepalive * 500)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_ping_strikes", 2),
    ]
