"""Calls over the attested channel, and whose they are."""

from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta

import grpc
import grpc.aio
import pytest
from cipherkeep_attestation.handshake import judge_responder, judge_with
from cipherkeep_wire.channel import TlsIdentity, current_session, request_document
from cipherkeep_wire.channel.client import shake_hands
from cipherkeep_wire.channel.identity import SERVER_NAME, pem_of
from cipherkeep_wire.errors import ServiceError
from cipherkeep_wire.limits import Limits
from cipherkeep_wire.transport import Address, TransportError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from tests.simulators.attestation import IMAGE
from tests.wire.world import TERMS, World, echo, failure, make_world


async def test_every_kind_of_call_is_served_under_its_session(world: World) -> None:
    """Unary and streaming calls, both ways, see the session of the channel they came by."""
    async with world.serving(), await world.dial() as channel:
        session = channel.session.session_id
        assert await echo(channel) == b"x"
        assert await channel.grpc.unary_unary("/test.Service/Who")(b"") == session
        assert [part async for part in channel.grpc.unary_stream("/test.Service/Count")(b"3")] == [b"0", b"1", b"2"]
        mirrored = channel.grpc.stream_stream("/test.Service/Mirror")(iter([b"a", b"b"]))
        assert [part async for part in mirrored] == [session + b"a", session + b"b"]
        assert await channel.grpc.stream_unary("/test.Service/Total")(iter([b"ab", b"c"])) == b"3"
    with pytest.raises(LookupError):
        current_session()


async def test_each_side_knows_whom_it_speaks_with(world: World) -> None:
    """The client holds the enclave's judged document, the server the host's, and both the same end."""
    async with world.serving() as server, await world.dial() as channel:
        (session,) = server.sessions._sessions.values()
        assert session.session_id == channel.session.session_id
        assert session.peer.module_id.split("-")[2].startswith("tpm")
        assert channel.peer.pcrs[0] == IMAGE.pcrs[0]
        assert session.expires == channel.expires


async def test_two_channels_are_two_sessions(world: World) -> None:
    """A call is matched with the session of its own certificate, never with another live one."""
    async with world.serving(), await world.dial() as one, await world.dial() as two:
        for _ in range(3):
            for channel in (one, two):
                who = await channel.grpc.unary_unary("/test.Service/Who")(b"")
                assert who == channel.session.session_id
    assert one.session.session_id != two.session.session_id


async def test_a_method_nobody_serves_is_said_to_be_none(world: World) -> None:
    """An unknown method is UNIMPLEMENTED, not a crash of the interceptor."""
    async with world.serving(), await world.dial() as channel:
        status, _ = await failure(channel.grpc.unary_unary("/test.Service/None")(b""))
        assert status is grpc.StatusCode.UNIMPLEMENTED


async def test_a_timeout_of_the_service_is_not_the_sessions_end(world: World) -> None:
    """A handler's own TimeoutError is an error of the handler."""
    async with world.serving(), await world.dial() as channel:
        status, code = await failure(channel.grpc.unary_unary("/test.Service/Fail")(b""))
        assert (status, code) == (grpc.StatusCode.UNKNOWN, "")


async def test_an_auditor_needs_no_document_of_his_own(world: World) -> None:
    """Step 1 alone gives a document that a stranger judges for himself."""
    judge = judge_with(root=world.platform.root(), kind="enclave", measurements=(IMAGE,), max_age=timedelta(minutes=5))
    async with world.serving():
        message = await request_document(world.handshake, b"\1" * 32)
    statement = judge_responder(message, nonce=b"\1" * 32, judge=judge, at=world.clock())
    assert statement.terms == TERMS


async def test_other_forms_of_address_are_relayed_to_grpc(world: World) -> None:
    """Where gRPC's own socket is not what is dialled, a relay on either side carries the bytes."""
    tcp = Address("tcp")
    async with world.serving(handshake_address=tcp, grpc_address=tcp) as server:
        front = server.grpc_listener
        assert front is not None
        addresses = {"handshake_address": server.handshake_listener.address, "grpc_address": front.address}
        async with await world.dial(**addresses) as channel:
            assert await echo(channel, bytes(1 << 20)) == bytes(1 << 20)


async def test_messages_have_a_size_limit(world: World) -> None:
    """A message over the limit is refused by either side; one at the limit passes."""
    async with world.serving(), await world.dial() as channel:
        most = world.limits.grpc_message
        assert len(await echo(channel, bytes(most))) == most
        status, _ = await failure(echo(channel, bytes(most + 1)))
        assert status is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_stopping_leaves_nothing_behind(world: World) -> None:
    """No task, no socket file."""
    before = len(asyncio.all_tasks())
    async with world.serving(), await world.dial() as channel:
        await echo(channel)
    await asyncio.sleep(0.05)
    assert len(asyncio.all_tasks()) == before
    assert list(world.folder.iterdir()) == []


async def test_a_live_server_is_not_taken_over(world: World) -> None:
    """A second server at the same address is refused, and the first goes on."""
    async with world.serving(), await world.dial() as channel:
        for second in (
            world.server(handshake_address=Address("unix", str(world.folder / "other"))),
            world.server(grpc_address=Address("unix", str(world.folder / "other"))),
        ):
            with pytest.raises(TransportError) as refusal:
                await second.start()
            assert refusal.value.code == "transport.in_use"
        assert await echo(channel) == b"x"


# --- who gets in ---


async def call_as(world: World, server_pem: bytes, key_pem: bytes, chain_pem: bytes) -> tuple[grpc.StatusCode, str]:
    """Status and code of one call with these credentials."""
    credentials = grpc.ssl_channel_credentials(server_pem, key_pem, chain_pem)
    options = [("grpc.ssl_target_name_override", SERVER_NAME), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(f"unix:{world.grpc.path}", credentials, options=options) as channel:
        return await failure(channel.unary_unary("/test.Service/Echo")(b"", timeout=5))


async def test_a_certificate_of_no_session_gets_nowhere(world: World) -> None:
    """Without a handshake there is no TLS connection."""
    stranger = TlsIdentity.generate("initiator", world.clock())
    async with world.serving(), await world.dial() as channel:
        server_pem = pem_of(channel.session.peer_certificate)
        outcome = await call_as(world, server_pem, stranger.private_key_pem, stranger.certificate_pem)
        assert outcome == (grpc.StatusCode.UNAVAILABLE, "")


async def test_before_the_first_session_nobody_gets_in(world: World) -> None:
    """An empty trust list means nobody, not the system's authorities."""
    stranger = TlsIdentity.generate("initiator", world.clock())
    async with world.serving() as server:
        outcome = await call_as(
            world, server._identity.certificate_pem, stranger.private_key_pem, stranger.certificate_pem
        )
        assert outcome == (grpc.StatusCode.UNAVAILABLE, "")


async def test_a_pinned_certificate_vouches_for_no_other(world: World) -> None:
    """A certificate signed with a live session's key gets nobody in: pinned certificates are no authorities."""
    member = TlsIdentity.generate("initiator", world.clock())
    async with world.serving():
        session = await shake_hands(world.handshake, member, world.initiator, clock=world.clock, limits=world.limits)
        issuer = x509.load_der_x509_certificate(member.certificate_der)
        signing = load_pem_private_key(member.private_key_pem, None)
        assert isinstance(signing, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        child = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(issuer.subject)
            .public_key(key.public_key())
            .serial_number(7)
            .not_valid_before(issuer.not_valid_before_utc)
            .not_valid_after(issuer.not_valid_after_utc)
            .sign(signing, hashes.SHA256())
            .public_bytes(Encoding.PEM)
        )
        key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        outcome = await call_as(world, pem_of(session.peer_certificate), key_pem, child + member.certificate_pem)
        assert outcome == (grpc.StatusCode.UNAVAILABLE, "")


async def test_a_server_with_another_key_is_not_spoken_to(world: World) -> None:
    """The pin is the attested certificate: whoever answers on the gRPC socket with another is left."""
    with make_world() as impostor:
        async with world.serving(), impostor.serving():
            with pytest.raises(ServiceError) as refusal:
                await world.dial(grpc_address=impostor.grpc, limits=Limits(connect_timeout=1))
    assert refusal.value.code == "channel.broken"


async def test_one_certificate_serves_one_session(world: World) -> None:
    """A second handshake with a live session's certificate is refused: nobody takes a session's place."""
    member = TlsIdentity.generate("initiator", world.clock())
    async with world.serving() as server:
        for expected in (None, "channel.certificate_in_use"):
            try:
                await shake_hands(world.handshake, member, world.initiator, clock=world.clock, limits=world.limits)
                assert expected is None
            except ServiceError as refusal:
                assert refusal.code == expected
        assert len(server.sessions) == 1


async def test_an_ended_session_is_refused_on_its_open_connection(world: World) -> None:
    """The connection outlives the session, the right to call does not."""
    async with world.serving() as server, await world.dial() as channel:
        assert await echo(channel) == b"x"
        world.clock.offset = timedelta(hours=3)
        assert await failure(echo(channel)) == (grpc.StatusCode.UNAUTHENTICATED, "channel.session_expired")
        server.sessions.forget_expired()
        assert await failure(echo(channel)) == (grpc.StatusCode.UNAUTHENTICATED, "channel.unknown_session")


async def test_a_running_call_is_cut_some_time_after_its_session() -> None:
    """A stream that was begun in time goes on for the drain time and no longer."""
    with make_world() as world:
        async with world.serving() as server, await world.dial() as channel:
            (session,) = server.sessions._sessions.values()
            left = (session.expires - world.clock()).total_seconds() + world.limits.session_drain
            world.clock.offset = timedelta(seconds=left - 0.5)
            server.sessions.find = lambda pem, begun: session  # type: ignore[method-assign]  (still there)
            parts = []

            async def read() -> None:
                async for part in channel.grpc.unary_stream("/test.Service/Count")(b"1000", timeout=10):
                    parts.append(part)

            assert await failure(read()) == (grpc.StatusCode.UNAUTHENTICATED, "channel.session_expired")
            assert 3 <= len(parts) <= 15


def test_a_private_key_shows_nowhere() -> None:
    """Neither repr nor pickling give the key away."""
    import pickle

    with make_world() as world:
        identity = TlsIdentity.generate("responder", world.clock())
    assert "PRIVATE" not in repr(identity) + str(identity)
    with pytest.raises(TypeError):
        pickle.dumps(identity)


def test_certificates_are_no_authorities_and_never_share_a_subject(world: World) -> None:
    """CA:false, one subject each, a day; a renewed certificate has the same key."""
    now = world.clock()
    first = TlsIdentity.generate("responder", now)
    again = first.renewed(now)
    read = [x509.load_der_x509_certificate(each.certificate_der) for each in (first, again)]
    assert read[0].subject != read[1].subject
    assert first.spki_der == again.spki_der
    for certificate in read:
        assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
        assert certificate.not_valid_after_utc - now <= timedelta(days=1)
    assert ssl.PEM_cert_to_DER_cert(first.certificate_pem.decode()) == first.certificate_der
