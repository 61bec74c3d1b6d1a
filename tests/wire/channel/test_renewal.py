"""A channel outlives its sessions, its connections and its peer's restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import grpc
import grpc.aio
import pytest
from cipherkeep_wire.channel import AttestedChannel, client
from cipherkeep_wire.errors import ServiceError
from cipherkeep_wire.limits import Limits
from cipherkeep_wire.transport import Address, Stream, connect, forward, listen, relay

from tests.wire.world import World, echo, failure, make_world


async def until(condition: object, seconds: float = 5) -> None:
    """Wait for something that happens elsewhere."""
    async with asyncio.timeout(seconds):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def eventually(channel: AttestedChannel) -> None:
    """A call works again: each one fails or answers, none hangs."""
    async with asyncio.timeout(5):
        while True:
            try:
                assert await echo(channel, wait_for_ready=True) == b"x"
                return
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE
                await asyncio.sleep(0.02)


async def test_calls_in_flight_survive_a_renewal(world: World) -> None:
    """A stream goes on under its old session while new calls use the new one; then the old one is given back."""
    async with world.serving() as server, await world.dial() as channel:
        old = channel.session
        mirror = channel.grpc.stream_stream("/test.Service/Mirror")
        who = channel.grpc.unary_unary("/test.Service/Who")
        gate = asyncio.Event()

        async def questions() -> AsyncIterator[bytes]:
            yield b"before"
            await gate.wait()
            yield b"after"

        answers = mirror(questions())
        assert await answers.read() == old.session_id + b"before"
        await channel.renew()
        assert channel.session.session_id != old.session_id
        assert await who(b"") == channel.session.session_id
        assert len(server.sessions) == 2
        gate.set()
        assert await answers.read() == old.session_id + b"after"
        assert await answers.read() is grpc.aio.EOF
        await until(lambda: len(server.sessions) == 1)
        assert await who(b"") == channel.session.session_id


async def test_many_renewals_lose_no_call(world: World) -> None:
    """Calls that are made all the time notice nothing of renewals."""
    async with world.serving() as server, await world.dial() as channel:
        over = False

        async def busy() -> int:
            count = 0
            while not over:
                assert await echo(channel) == b"x"
                count += 1
            return count

        callers = [asyncio.create_task(busy()) for _ in range(4)]
        for _ in range(5):
            await channel.renew()
        over = True
        assert min(await asyncio.gather(*callers)) > 0
        await until(lambda: len(server.sessions) == 1)


async def test_a_session_is_renewed_at_two_thirds_of_its_life(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody needs to ask: the channel renews while the old session still holds."""
    monkeypatch.setattr(client, "_RENEW_AFTER", 0.5 / 8000)  # of the simulated 2 h 25 min: half a second
    async with world.serving(), await world.dial() as channel:
        first = channel.session.session_id
        await until(lambda: channel.session.session_id != first)
        assert await echo(channel) == b"x"


async def test_a_failed_renewal_is_tried_again_and_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the peer refuses, the old session serves; the operator hears the code of each failure."""
    monkeypatch.setattr(client, "_RENEW_AFTER", 0.3 / 8000)
    monkeypatch.setattr(client, "_RETRY_FIRST", 0.05)
    async with world.serving(), await world.dial() as channel:
        first = channel.session.session_id
        world.host.edit = lambda draft: draft.fields.update(user_data=b"")
        await until(lambda: len(world.renewal_failures) >= 2)
        assert set(world.renewal_failures) == {"channel.refused"}
        assert await channel.grpc.unary_unary("/test.Service/Who")(b"") == first
        world.host.edit = lambda draft: None
        await until(lambda: channel.session.session_id != first)


async def test_a_renewal_that_fails_in_an_unforeseen_way_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the host's attester raises, the channel keeps trying and says what it was."""
    monkeypatch.setattr(client, "_RENEW_AFTER", 0.3 / 8000)
    monkeypatch.setattr(client, "_RETRY_FIRST", 0.05)
    honest = world.host.attest

    def broken(**claims: bytes) -> bytes:
        raise ZeroDivisionError

    async with world.serving(), await world.dial() as channel:
        first = channel.session.session_id
        world.host.attest = broken  # type: ignore[method-assign]
        await until(lambda: world.renewal_failures)
        world.host.attest = honest  # type: ignore[method-assign]
        await until(lambda: channel.session.session_id != first)
        assert set(world.renewal_failures) == {"ZeroDivisionError"}


async def test_a_restarted_enclave_is_found_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new boot has a new key: calls fail clearly while it is away, then the channel attests anew by itself."""
    monkeypatch.setattr(client, "_RETRY_FIRST", 0.05)
    async with world.serving():
        channel = await world.dial()
        assert await echo(channel) == b"x"
    first = channel.session.session_id
    assert (await failure(echo(channel)))[0] is grpc.StatusCode.UNAVAILABLE
    async with world.serving():
        await until(lambda: channel.session.session_id != first)
        assert await echo(channel) == b"x"
        await channel.close()


async def test_another_image_after_a_restart_is_not_accepted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Healing is a full handshake: what came up instead of the enclave is judged again, and left."""
    monkeypatch.setattr(client, "_RETRY_FIRST", 0.05)
    async with world.serving():
        channel = await world.dial()
    world.enclave.pcrs[0] = b"\xee" * 48
    async with world.serving():
        await until(lambda: "document.pcr_mismatch" in world.renewal_failures)
        assert (await failure(echo(channel)))[0] is grpc.StatusCode.UNAVAILABLE
    await channel.close()


async def test_a_cut_in_the_middle_of_a_stream_is_a_clean_error(world: World) -> None:
    """When the proxy drops the connection the call fails at once as UNAVAILABLE, and the next one works."""
    cables: list[Stream] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cables.append((reader, writer))
        await relay((reader, writer), await connect(world.grpc))

    front = Address("unix", str(world.folder / "front.sock"))
    async with world.serving(), await listen(front, carry), await world.dial(grpc_address=front) as channel:
        parts = channel.grpc.unary_stream("/test.Service/Count")(b"1000")
        assert await parts.read() == b"0"
        cables[-1][1].transport.abort()

        async def rest() -> None:
            while await parts.read() is not grpc.aio.EOF:
                pass

        async with asyncio.timeout(3):
            assert await failure(rest()) == (grpc.StatusCode.UNAVAILABLE, "")
        await eventually(channel)


async def test_a_proxy_may_restart(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections come back through a new proxy under the same session or a new one, without the caller's doing."""
    monkeypatch.setattr(client, "_RETRY_FIRST", 0.05)
    front = Address("unix", str(world.folder / "front.sock"))
    async with world.serving():
        async with await forward(front, world.grpc):
            channel = await world.dial(grpc_address=front)
            assert await echo(channel) == b"x"
        async with await forward(front, world.grpc):
            await eventually(channel)
            await channel.close()


async def test_the_servers_certificate_is_renewed_before_it_ends(world: World) -> None:
    """After half a day new handshakes get a new certificate of the same key; older connections go on."""
    async with world.serving() as server, await world.dial() as old:
        first = server._identity
        world.clock.offset = timedelta(minutes=1)
        server._identity.not_after -= timedelta(hours=13)
        async with await world.dial() as new:
            assert server._identity.spki_der == first.spki_der
            assert server._identity.certificate_der != first.certificate_der
            assert await echo(new) == await echo(old) == b"x"


async def test_a_closed_channel_renews_nothing(world: World) -> None:
    """After close nothing is left to renew; closing twice is closing once."""
    async with world.serving() as server:
        channel = await world.dial()
        await channel.close()
        await channel.close()
        assert len(server.sessions) == 0
        with pytest.raises(ServiceError) as refusal:
            await channel.renew()
        assert refusal.value.code == "channel.closed"


async def test_a_quiet_channel_stays_connected() -> None:
    """Pings keep an idle connection known to be alive, and the server does not take them for an attack."""
    cables: list[Stream] = []
    with make_world(Limits(keepalive=0.2, keepalive_timeout=1)) as world:

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            cables.append((reader, writer))
            await relay((reader, writer), await connect(world.grpc))

        front = Address("unix", str(world.folder / "front.sock"))
        async with world.serving(), await listen(front, carry), await world.dial(grpc_address=front) as channel:
            first = channel.session.session_id
            await asyncio.sleep(2)
            assert await echo(channel) == b"x"
            assert channel.session.session_id == first
            assert len(cables) == 1


async def test_a_proxy_that_stops_moving_bytes_is_noticed() -> None:
    """A connection that hangs without ending fails its calls after the ping's deadline, and is replaced."""
    with make_world(Limits(keepalive=0.5, keepalive_timeout=0.5)) as world:
        moving = asyncio.Event()
        moving.set()

        async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                await moving.wait()
                writer.write(data)

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far = await connect(world.grpc)
            try:
                await asyncio.gather(pump(reader, far[1]), pump(far[0], writer))
            finally:
                far[1].transport.abort()

        front = Address("unix", str(world.folder / "front.sock"))
        async with world.serving(), await listen(front, carry), await world.dial(grpc_address=front) as channel:
            assert await echo(channel) == b"x"
            moving.clear()
            begun = asyncio.get_running_loop().time()
            call = channel.grpc.unary_unary("/test.Service/Echo")(b"x", timeout=30)
            assert await failure(call) == (grpc.StatusCode.UNAVAILABLE, "")
            assert asyncio.get_running_loop().time() - begun < 20
            moving.set()
            await eventually(channel)
