"""The only place that decides whose call it is: the table of live sessions and the interceptor in front of the service.

TLS lets in whoever holds a key of some live session, because gRPC's trust list is one for the whole server. Here each
call is matched with *its* session by the certificate itself; TLS older than 1.3, a certificate of no session, a session
past its end and one that its peer has not begun are refused before the service sees anything.

A handshake does not prove that its sender holds the key of the certificate in it: a hostile host could have an honest
one's certificate admitted under its own document. So a session counts only once the holder of the key has named, inside
TLS, the document that it was attested by (`InitiatorAgreement` in the protocol model).
"""

from __future__ import annotations

import asyncio
import hmac
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import grpc.aio
from cipherkeep_attestation.handshake import Session

from cipherkeep_wire.channel.exchange import SESSION_SERVICE
from cipherkeep_wire.channel.identity import TlsIdentity, pem_of
from cipherkeep_wire.errors import CODE_KEY, ServiceError, status_of

Clock: TypeAlias = Callable[[], datetime]
RpcHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

if TYPE_CHECKING:  # generic in the stubs, not so at run time
    _Interceptor: TypeAlias = grpc.aio.ServerInterceptor[Any, Any]
else:
    _Interceptor = grpc.aio.ServerInterceptor

_current: ContextVar[Session] = ContextVar("session")


def current_session() -> Session:
    """The session of the call that is being served. LookupError outside of a call."""
    return _current.get()


class SessionTable:
    """Live sessions by their certificates. Read from gRPC's threads, written from the event loop only."""

    def __init__(self, *, limit: int, clock: Clock) -> None:
        self._limit = limit
        self._clock = clock
        self._sessions: dict[bytes, Session] = {}
        self._begun: set[bytes] = set()
        # With an empty list BoringSSL would fall back to the system's authorities: this one's key is gone.
        self._nobody = TlsIdentity.generate("initiator", clock()).certificate_pem
        self.trusted = self._nobody  # PEM; replaced as a whole, so that a reader in another thread sees old or new

    def __len__(self) -> int:
        return len(self._sessions)

    def admit(self, session: Session) -> None:
        """Let the peer of `session` in. `channel.sessions_full` and `channel.certificate_in_use`: nobody is evicted."""
        self.forget_expired()
        pem = pem_of(session.peer_certificate)
        if pem in self._sessions:
            raise ServiceError("channel.certificate_in_use")
        if len(self._sessions) >= self._limit:
            raise ServiceError("channel.sessions_full", f"{self._limit} sessions")
        self._sessions[pem] = session
        self._publish()

    def end(self, session: Session) -> None:
        """Forget a session. Calls that run under it are not touched."""
        pem = pem_of(session.peer_certificate)
        if self._sessions.get(pem) is session:
            del self._sessions[pem]
            self._begun.discard(pem)
            self._publish()

    def begin(self, session: Session, named: bytes) -> None:
        """The peer names the document it was attested by: SHA-384, 48 bytes.

        `channel.other_document`: the session stands in somebody else's name, and is over.
        """
        if not hmac.compare_digest(named, session.initiator_document):
            self.end(session)
            raise ServiceError("channel.other_document")
        self._begun.add(pem_of(session.peer_certificate))

    def find(self, pem: bytes, *, begun: bool = True) -> Session:
        """The session of a certificate: `channel.unknown_session`, `.session_expired`, and `.not_begun` if `begun`."""
        session = self._sessions.get(pem)
        if session is None:
            raise ServiceError("channel.unknown_session")
        if session.expires <= self._clock():
            raise ServiceError("channel.session_expired")
        if begun and pem not in self._begun:
            raise ServiceError("channel.not_begun")
        return session

    def remaining(self, session: Session) -> timedelta:
        """How long a session still lives; negative once it has ended."""
        return session.expires - self._clock()

    def forget_expired(self) -> None:
        """Make room where sessions have ended."""
        now = self._clock()
        live = {pem: session for pem, session in self._sessions.items() if session.expires > now}
        if len(live) != len(self._sessions):
            self._sessions = live
            self._begun &= live.keys()
            self._publish()

    def _publish(self) -> None:
        self.trusted = b"".join([self._nobody, *self._sessions])


class RequireSession(_Interceptor):
    """Serves a call under its session, or refuses it with UNAUTHENTICATED.

    `drain` is how many seconds after its session's end a running call is cut. Handlers must be coroutines or
    asynchronous generators: others would not see the session.
    """

    def __init__(self, table: SessionTable, *, drain: float) -> None:
        self._table = table
        self._drain = drain
        self._wrapped: dict[str, tuple[RpcHandler, RpcHandler]] = {}  # by method: what is served, and what was wrapped

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[RpcHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> RpcHandler:
        """Wrap the method's handler; called by gRPC for every call."""
        handler: RpcHandler | None = await continuation(handler_call_details)
        if handler is None:
            return _UNKNOWN
        method = handler_call_details.method
        made, of = self._wrapped.get(method, (_UNKNOWN, None))
        if of is not handler:
            made = self._wrap(handler, begun=not method.startswith(f"/{SESSION_SERVICE}/"))
            self._wrapped[method] = (made, handler)
        return made

    def _wrap(self, handler: RpcHandler, begun: bool) -> RpcHandler:
        for name in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            if (behaviour := getattr(handler, name)) is not None:
                wrap = self._stream if inspect.isasyncgenfunction(behaviour) else self._unary
                wrapped = wrap(behaviour, begun)
                make = getattr(grpc, f"{name}_rpc_method_handler")
                made: RpcHandler = make(wrapped, handler.request_deserializer, handler.response_serializer)
                return made
        return _UNKNOWN

    def _unary(self, behaviour: Callable[[Any, Any], Any], begun: bool) -> Callable[[Any, Any], Awaitable[Any]]:
        async def serve(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            session = await self._admit(context, begun)
            try:
                async with asyncio.timeout(self._left(session)):
                    return await behaviour(request, context)
            except TimeoutError:
                await self._end(session, context)
                raise

        return serve

    def _stream(self, behaviour: Callable[[Any, Any], Any], begun: bool) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def serve(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            session = await self._admit(context, begun)
            try:
                async with asyncio.timeout(self._left(session)):
                    async for answer in behaviour(request, context):
                        yield answer
            except TimeoutError:
                await self._end(session, context)
                raise

        return serve

    async def _admit(self, context: grpc.aio.ServicerContext[Any, Any], begun: bool) -> Session:
        try:
            session = self._table.find(_peer_certificate(context.auth_context()), begun=begun)
        except ServiceError as refusal:
            await refuse(context, refusal)
            raise
        _current.set(session)
        return session

    def _left(self, session: Session) -> float:
        return self._table.remaining(session).total_seconds() + self._drain

    async def _end(self, session: Session, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """After a TimeoutError: is it the session's end, or one of the service's own?"""
        if self._left(session) <= 0:
            await refuse(context, ServiceError("channel.session_expired"))


def _peer_certificate(auth: Any) -> bytes:
    """The PEM of the peer's certificate, on TLS 1.3 only."""
    if list(auth.get("ssl_tls_version", ())) != [b"TLSv1.3"]:
        raise ServiceError("channel.tls_version")
    certificates = list(auth.get("x509_pem_cert", ()))
    if len(certificates) != 1:
        raise ServiceError("channel.unknown_session")
    return bytes(certificates[0])


async def refuse(context: grpc.aio.ServicerContext[Any, Any], refusal: ServiceError) -> None:
    """End a call with the status, code and text of a refusal."""
    status, code, text = status_of(refusal)
    await context.abort(status, text, ((CODE_KEY, code),))


async def _unimplemented(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such method")


_UNKNOWN: RpcHandler = grpc.unary_unary_rpc_method_handler(_unimplemented)
