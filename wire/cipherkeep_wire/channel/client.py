"""The only place that opens the attested channel: handshake, then gRPC pinned to the peer that was attested.

A session ends with the documents it rests on, so the channel renews itself: a new handshake with a new identity and a
new connection, to which new calls go; the old connection closes when its calls have ended. What callers hold
(`AttestedChannel.grpc`, stubs made from it) stays the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Callable
from datetime import datetime
from typing import Final

import grpc
import grpc.aio
from cipherkeep_attestation.handshake import Initiator, Session
from cipherkeep_attestation.nitro.verify import Attestation

from cipherkeep_wire.channel.exchange import SESSION_SERVICE, receive, send
from cipherkeep_wire.channel.identity import SERVER_NAME, TlsIdentity, pem_of
from cipherkeep_wire.channel.rebinding import Link, RebindingChannel
from cipherkeep_wire.channel.sessions import Clock
from cipherkeep_wire.errors import ServiceError, remote_error
from cipherkeep_wire.limits import DEFAULT, Limits
from cipherkeep_wire.transport import Address, TransportError, connect, finish, forward

InitiatorFactory = Callable[[TlsIdentity], Initiator]

_RENEW_AFTER: Final = 2 / 3  # of a session's life
_RETRY_FIRST: Final = 0.5  # seconds until a failed renewal is tried again; doubles each time
_RETRY_MOST: Final = 60.0  # seconds; each try may take a place in the other side's table
_BEGIN_REFUSALS: Final = ("channel.other_document", "channel.unknown_session", "channel.session_expired")
_END_TIMEOUT: Final = 2.0  # seconds for telling the other side that a session is over


async def shake_hands(
    address: Address, identity: TlsIdentity, initiator_factory: InitiatorFactory, *, clock: Clock, limits: Limits
) -> Session:
    """One handshake with the responder at `address`.

    EvidenceError when the responder is not what it must be, ServiceError when it refuses, TransportError.
    """
    try:
        async with asyncio.timeout(limits.handshake_deadline):
            initiator = await asyncio.to_thread(initiator_factory, identity)
            stream = await connect(address, timeout=limits.connect_timeout)
            try:
                await send(stream, initiator.start(os.urandom(32)), limits)
                offer = await receive(stream, limits)
                await send(stream, await asyncio.to_thread(initiator.receive, offer, at=clock()), limits)
                return initiator.finish(await receive(stream, limits), at=clock())
            finally:
                await finish(stream[1])
    except TimeoutError:
        raise TransportError("transport.timeout", f"handshake with {address}") from None


async def open_channel(
    *,
    handshake_address: Address,
    grpc_address: Address,
    initiator_factory: InitiatorFactory,
    clock: Clock,
    limits: Limits = DEFAULT,
    on_renewal_failure: Callable[[str], None] = lambda code: None,
) -> AttestedChannel:
    """Run the handshake and connect. The channel renews its session until it is closed.

    `initiator_factory` makes the initiator of one handshake for the identity it is given; it and what it calls run in
    a worker thread. `on_renewal_failure` hears the code of every renewal that failed; it is tried again. Errors as
    `shake_hands`, and `channel.broken` when gRPC cannot be reached after it.
    """
    channel = AttestedChannel(handshake_address, grpc_address, initiator_factory, clock, limits, on_renewal_failure)
    await channel._open()
    return channel


class AttestedChannel:
    """gRPC to one attested peer. Made by `open_channel`; an asynchronous context manager that closes it."""

    def __init__(
        self,
        handshake_address: Address,
        grpc_address: Address,
        initiator_factory: InitiatorFactory,
        clock: Clock,
        limits: Limits,
        on_renewal_failure: Callable[[str], None],
    ) -> None:
        self._handshake_address = handshake_address
        self._grpc_address = grpc_address
        self._initiator_factory = initiator_factory
        self._clock = clock
        self._limits = limits
        self._on_renewal_failure = on_renewal_failure
        self._renewing = asyncio.Lock()
        self._retired: set[asyncio.Task[None]] = set()
        self._resources = contextlib.AsyncExitStack()
        self._closed = False

    async def _open(self) -> None:
        try:
            self._target = await self._local_target()
            self._link, self._session = await self._connect()
        except BaseException:
            await self._resources.aclose()
            raise
        self.grpc: grpc.aio.Channel = RebindingChannel(lambda: self._link)
        self._keeper = asyncio.create_task(self._keep())

    @property
    def session(self) -> Session:
        """The session that new calls use."""
        return self._session

    @property
    def peer(self) -> Attestation:
        """What the peer's document says, judged by the initiator's policy."""
        return self._session.peer

    @property
    def expires(self) -> datetime:
        """When the session ends; it has been renewed long before."""
        return self._session.expires

    async def renew(self) -> None:
        """A new session and connection for calls to come; calls in flight end on the old. Errors as `open_channel`."""
        async with self._renewing:
            if self._closed:
                raise ServiceError("channel.closed")
            old = self._link
            self._link, self._session = await self._connect()
        task = asyncio.create_task(self._retire(old))
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)

    async def close(self) -> None:
        """End the session and close the connection; calls in flight are cancelled. Twice is once."""
        if self._closed:
            return
        self._closed = True
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        async with self._renewing:
            for task in list(self._retired):
                task.cancel()
            await asyncio.gather(*self._retired, return_exceptions=True)
            await _end(self._link)
        await self._resources.aclose()

    async def __aenter__(self) -> AttestedChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- connecting ---

    async def _local_target(self) -> str:
        """gRPC dials unix sockets only: any other form gets a socket of our own in front of it."""
        if self._grpc_address.scheme == "unix":
            return f"unix:{self._grpc_address.path}"
        folder = self._resources.enter_context(tempfile.TemporaryDirectory(prefix="ck-"))
        front = await forward(Address("unix", f"{folder}/grpc.sock"), self._grpc_address)
        self._resources.push_async_callback(front.close)
        return f"unix:{folder}/grpc.sock"

    async def _connect(self) -> tuple[Link, Session]:
        identity = TlsIdentity.generate("initiator", self._clock())
        session = await shake_hands(
            self._handshake_address, identity, self._initiator_factory, clock=self._clock, limits=self._limits
        )
        credentials = grpc.ssl_channel_credentials(
            root_certificates=pem_of(session.peer_certificate),
            private_key=identity.private_key_pem,
            certificate_chain=identity.certificate_pem,
        )
        channel = grpc.aio.secure_channel(self._target, credentials, options=_client_options(self._limits))
        try:
            async with asyncio.timeout(self._limits.connect_timeout):
                await channel.channel_ready()
                await _begin(channel, session)
        except BaseException as problem:
            await channel.close(None)
            if isinstance(problem, TimeoutError):
                raise ServiceError("channel.broken", f"gRPC at {self._grpc_address}") from None
            if isinstance(problem, grpc.aio.AioRpcError):
                told = remote_error(problem).code
                raise ServiceError(told if told in _BEGIN_REFUSALS else "channel.broken") from None
            raise
        return Link(channel), session

    async def _retire(self, link: Link) -> None:
        """Close a connection once its calls have ended."""
        try:
            async with asyncio.timeout(self._limits.session_drain):
                await link.drained()
        except TimeoutError:
            pass
        finally:
            await _end(link)

    # --- keeping ---

    async def _keep(self) -> None:
        """Renew at two thirds of the session's life, and whenever the connection cannot be had any more."""
        while True:
            await self._until_due()
            wait = _RETRY_FIRST
            while not await self._renewed():
                await asyncio.sleep(wait)
                wait = min(2 * wait, _RETRY_MOST)

    async def _renewed(self) -> bool:
        try:
            await self.renew()
        except Exception as problem:  # noqa: BLE001  (whatever failed, the next try may not; nothing is swallowed unheard)
            self._on_renewal_failure(getattr(problem, "code", type(problem).__name__))
            return False
        return True

    async def _until_due(self) -> None:
        while True:
            link = self._link
            life = (self._session.expires - self._clock()).total_seconds() * _RENEW_AFTER
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(life, 0)):
                    await link.lost()
            if link is self._link:  # else somebody called `renew` meanwhile
                return


async def _begin(channel: grpc.aio.Channel, session: Session) -> None:
    """Name our document, so that the other side has this session in our name and nobody else's.

    Whoever attests our certificate as its own opens a session that our key gets through to. Until this call the other
    side serves nothing.
    """
    await channel.unary_unary(f"/{SESSION_SERVICE}/Begin", None, None)(session.initiator_document)


async def _end(link: Link) -> None:
    """Tell the other side, if it still listens, and close."""
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
        await link.channel.unary_unary(f"/{SESSION_SERVICE}/End", None, None)(b"", timeout=_END_TIMEOUT)
    await link.channel.close(None)


def _client_options(limits: Limits) -> list[tuple[str, int | str]]:
    return [
        ("grpc.ssl_target_name_override", SERVER_NAME),
        ("grpc.use_local_subchannel_pool", 1),  # else two sessions to one target share a connection
        ("grpc.max_receive_message_length", limits.grpc_message),
        ("grpc.max_send_message_length", limits.grpc_message),
        ("grpc.max_metadata_size", limits.grpc_metadata),
        ("grpc.keepalive_time_ms", int(limits.keepalive * 1000)),
        ("grpc.keepalive_timeout_ms", int(limits.keepalive_timeout * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        # Pings that measure bandwidth count too: while one is unanswered no other is sent, and it would have a minute.
        ("grpc.http2.ping_timeout_ms", int(limits.keepalive_timeout * 1000)),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", int(limits.connect_timeout * 1000)),  # in truth the time that one try has
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.enable_http_proxy", 0),
    ]
