"""The listener for handshakes: what is refused, with which code, and what it costs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import grpc
import pytest
from cipherkeep_attestation import cbor, handshake
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.handshake import Initiator, Session
from cipherkeep_wire.channel import TlsIdentity, request_document
from cipherkeep_wire.channel.client import shake_hands
from cipherkeep_wire.channel.exchange import _raise_refusal, refusal_frame
from cipherkeep_wire.channel.identity import SERVER_NAME, pem_of
from cipherkeep_wire.errors import ServiceError
from cipherkeep_wire.limits import Limits
from cipherkeep_wire.transport import Stream, TransportError, connect, listen, read_frame, write_frame
from hypothesis import given
from hypothesis import strategies as st

from tests.simulators.attestation import SimulatedHost
from tests.wire.world import World, echo, failure, make_world


@contextlib.asynccontextmanager
async def line(world: World) -> AsyncIterator[Stream]:
    """A bare stream to the handshake listener."""
    stream = await connect(world.handshake)
    try:
        yield stream
    finally:
        stream[1].transport.abort()


def lie(**fields: Any) -> Any:
    """An edit of a draft that sets these fields."""
    return lambda draft: draft.fields.update(fields)


# --- who is refused, and how he learns why ---


async def test_an_enclave_of_another_image_is_left(world: World) -> None:
    """The host judges the enclave: another PCR0 ends the handshake on the host's side."""
    world.enclave.pcrs[0] = b"\xee" * 48
    async with world.serving() as server:
        with pytest.raises(EvidenceError) as refusal:
            await world.dial()
        assert refusal.value.code == "document.pcr_mismatch"
        assert len(server.sessions) == 0


async def test_an_enclave_in_debug_mode_is_left(world: World) -> None:
    """Zeros in PCR0 to PCR2 mean that the operator can look inside."""
    world.enclave.pcrs.update({index: bytes(48) for index in (0, 1, 2)})
    async with world.serving():
        with pytest.raises(EvidenceError) as refusal:
            await world.dial()
    assert refusal.value.code == "document.debug"


async def test_a_host_is_told_the_code_of_its_refusal(world: World) -> None:
    """The enclave judges the host, and the host's operator reads which rule failed."""
    world.host.edit = lie(user_data=b"")
    async with world.serving() as server:
        with pytest.raises(ServiceError) as refusal:
            await world.dial()
        assert (refusal.value.code, refusal.value.detail) == ("channel.refused", "handshake.user_data")
        assert world.refusals == ["handshake.user_data"]
        assert len(server.sessions) == 0


async def test_an_enclaves_document_is_no_initiators(world: World) -> None:
    """The responder's own document, shown as an initiator's, is refused as one of an enclave."""
    world.host.attest = world.enclave.attest  # type: ignore[method-assign]
    async with world.serving():
        with pytest.raises(ServiceError) as refusal:
            await world.dial()
    assert refusal.value.detail == "document.is_enclave_document"


async def test_a_client_that_does_not_attest_gets_nothing(world: World) -> None:
    """Anything but the handshake's own messages is answered by a code and the end."""
    async with world.serving() as server:
        for words in (b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", os.urandom(500)):
            async with line(world) as (reader, writer):
                await write_frame(writer, words, maximum=1000, timeout=1)
                answer = cbor.decode(await read_frame(reader, maximum=1000, timeout=5))
                assert isinstance(answer, dict)
                assert str(answer["code"]).startswith("handshake.")
                assert await reader.read() == b""
        assert len(server.sessions) == 0


@given(st.dictionaries(st.text(max_size=8), st.one_of(st.text(max_size=60), st.integers(0, 5)), max_size=4))
def test_a_refusal_frame_cannot_say_just_anything(content: dict[str, Any]) -> None:
    """What the peer writes into a refusal reaches an exception only if it has the form of a code."""
    frame = cbor.encode({"label": "cipherkeep refusal", "version": 1, **content})
    try:
        _raise_refusal(frame)
    except ServiceError as refusal:
        assert refusal.detail == "without a known code" or refusal.detail == content.get("code", "")
        assert len(refusal.detail) < 200
        assert "\n" not in str(refusal)


# --- bounds ---


def test_a_frame_holds_every_message_of_the_handshake() -> None:
    """The limit of frames leaves room for the largest message that the handshake reads."""
    assert Limits().handshake_frame >= handshake.MESSAGE_LIMIT


async def test_an_oversize_message_is_not_read(world: World) -> None:
    """A frame longer than the limit ends the connection by its length."""
    async with world.serving(), line(world) as (reader, writer):
        writer.write((world.limits.handshake_frame + 1).to_bytes(4))
        assert await reader.read() == b""


async def test_a_slow_handshake_meets_the_deadline() -> None:
    """Connections that trickle or say nothing are closed in time and hold up nobody else."""
    with make_world(Limits(handshake_deadline=0.5)) as world:
        async with world.serving() as server, contextlib.AsyncExitStack() as stack:
            slow = [await stack.enter_async_context(line(world)) for _ in range(10)]
            slow[0][1].write(b"\0\0")
            async with await world.dial() as channel:
                assert await echo(channel) == b"x"
            async with asyncio.timeout(3):
                for reader, _ in slow:
                    await reader.read()
            await asyncio.sleep(0.05)
            assert server.handshake_listener.open_connections == 0


async def test_a_full_table_refuses_newcomers_and_keeps_members() -> None:
    """Sessions are never evicted for others; whoever leaves makes room; documents stay free for all."""
    with make_world(Limits(sessions=2)) as world:
        async with world.serving(), await world.dial() as one:
            two = await world.dial()
            with pytest.raises(ServiceError) as refusal:
                await world.dial()
            assert refusal.value.code == "channel.sessions_full"
            assert await echo(one) == await echo(two) == b"x"
            assert await request_document(world.handshake, bytes(32))
            await two.close()
            async with await world.dial() as three:
                assert await echo(three) == b"x"


async def test_ended_sessions_make_room() -> None:
    """A client that vanished holds its place only as long as its documents hold."""
    with make_world(Limits(sessions=1)) as world:
        async with world.serving() as server, await world.dial():
            (session,) = server.sessions._sessions.values()
            object.__setattr__(session, "expires", world.clock())
            async with await world.dial() as channel:
                assert await echo(channel) == b"x"


async def test_handshakes_are_limited_per_second() -> None:
    """A burst is served, more is told to come back, and later it is served again."""
    with make_world(Limits(handshakes_per_second=10, handshake_burst=3)) as world:
        async with world.serving():
            for _ in range(3):
                await request_document(world.handshake, bytes(32))
            with pytest.raises(ServiceError) as refusal:
                await request_document(world.handshake, bytes(32))
            assert refusal.value.code == "channel.busy"
            assert refusal.value.retryable
            await asyncio.sleep(0.15)
            await request_document(world.handshake, bytes(32))


async def test_handshakes_are_limited_at_once() -> None:
    """Connections beyond the bound are told so, however many are held open."""
    with make_world(Limits(handshakes_at_once=2, handshake_deadline=1)) as world:
        async with world.serving(), contextlib.AsyncExitStack() as stack:
            for _ in range(2):
                await stack.enter_async_context(line(world))
            await asyncio.sleep(0.05)
            with pytest.raises(ServiceError) as refusal:
                await request_document(world.handshake, bytes(32))
            assert refusal.value.code == "channel.busy"


async def test_an_attester_that_hangs_is_not_waited_for() -> None:
    """A stuck NSM costs its own handshake the deadline, on the server and on the client."""
    with make_world(Limits(handshake_deadline=0.4)) as world:
        honest = world.enclave.attest
        release = threading.Event()

        def stuck(**claims: bytes) -> bytes:
            release.wait(5)
            return honest(**claims)

        world.enclave.attest = stuck
        async with world.serving():
            with pytest.raises(TransportError):
                await world.dial()
            release.set()
            world.enclave.attest = honest
            async with await world.dial() as channel:
                assert await echo(channel) == b"x"


async def test_a_responder_that_floods_is_left(world: World) -> None:
    """The client bounds what it reads from whoever plays the responder."""

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x7f\xff\xff\xff" + bytes(100_000))
        await writer.drain()

    async with await listen(world.handshake, flood):
        with pytest.raises(TransportError) as refusal:
            await world.dial()
    assert refusal.value.code == "transport.frame_size"


async def test_a_refusal_of_the_other_side_names_its_code(world: World) -> None:
    """A code that the channel knows comes through as itself, another as the detail of `channel.refused`."""
    for code in ("channel.busy", "document.too_old"):

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, code: str = code) -> None:
            await read_frame(reader, maximum=1000, timeout=1)
            await write_frame(writer, refusal_frame(code), maximum=1000, timeout=1)

        async with await listen(world.handshake, refuse):
            with pytest.raises(ServiceError) as refusal:
                await world.dial()
        assert code in (refusal.value.code, refusal.value.detail)


async def test_a_failing_attester_is_an_error_inside_and_no_more(world: World) -> None:
    """The peer learns that the enclave failed; how, only the enclave's log knows; the listener lives on."""
    honest = world.enclave.attest

    def broken(**claims: bytes) -> bytes:
        raise OSError("secret detail")

    world.enclave.attest = broken  # type: ignore[method-assign]
    async with world.serving():
        with pytest.raises(ServiceError) as refusal:
            await world.dial()
        assert (refusal.value.code, refusal.value.detail) == ("channel.refused", "service.internal")
        assert world.refusals == ["OSError"]
        world.enclave.attest = honest  # type: ignore[method-assign]
        async with await world.dial() as channel:
            assert await echo(channel) == b"x"


# --- in whose name a session stands ---


async def test_a_session_in_anothers_name_is_not_used(world: World) -> None:
    """A hostile host that attests an honest initiator's certificate as its own cannot lend it its session.

    Nothing in a handshake proves that its sender holds the key of the certificate. So the attacker withholds the honest
    message 3, has the same certificate accepted with a document of its own, and lets the initiator's TLS through. The
    first call tells.
    """
    thief = SimulatedHost(world.platform, name="thief")
    honest = world.initiator

    def withheld(identity: TlsIdentity) -> Initiator:
        """The honest initiator, whose message 3 the network exchanges for one about the thief's document."""
        machine = honest(identity)
        answered = machine.receive

        def receive(message: bytes, *, at: datetime) -> bytes:
            answered(message, at=at)
            stolen = Initiator(
                certificate=identity.certificate_der,
                attest=thief.attest,
                judge=machine._judge,
                terms=machine._terms,
            )
            stolen.start(machine._nonce)
            return stolen.receive(message, at=at)

        machine.receive = receive  # type: ignore[method-assign]  (the network)
        return machine

    async with world.serving() as server:
        with pytest.raises(ServiceError) as refusal:
            await world.dial(initiator_factory=withheld)
        assert refusal.value.code == "channel.other_document"
        assert len(server.sessions) == 0


async def test_nothing_is_served_before_the_peer_has_named_its_document(world: World) -> None:
    """A client that leaves `Begin` out is refused, one that names another document loses its session."""
    async with world.serving() as server:
        session, link = await dialled_by_hand(world)
        async with link:
            assert (await failure(link.unary_unary("/test.Service/Echo")(b"x")))[1] == "channel.not_begun"
            begin = link.unary_unary("/cipherkeep.channel.Session/Begin")
            assert await begin(session.initiator_document) == b""
            assert await link.unary_unary("/test.Service/Echo")(b"x") == b"x"
            assert await begin(session.initiator_document) == b""  # twice is once
            assert (await failure(begin(session.initiator_document[:-1])))[1] == "channel.other_document"
            assert (await failure(link.unary_unary("/test.Service/Echo")(b"x")))[1] == "channel.unknown_session"
        assert len(server.sessions) == 0


async def dialled_by_hand(world: World) -> tuple[Session, grpc.aio.Channel]:
    """A session and gRPC under it, without what `open_channel` does then."""
    identity = TlsIdentity.generate("initiator", world.clock())
    session = await shake_hands(world.handshake, identity, world.initiator, clock=world.clock, limits=world.limits)
    credentials = grpc.ssl_channel_credentials(
        pem_of(session.peer_certificate), identity.private_key_pem, identity.certificate_pem
    )
    options = [("grpc.ssl_target_name_override", SERVER_NAME)]
    return session, grpc.aio.secure_channel(f"unix:{world.grpc.path}", credentials, options=options)
