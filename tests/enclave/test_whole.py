"""A whole enclave from boot to answers: real process, attested channel, key service over TLS, real key, kill -9."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cipherkeep_attestation.statements import registration
from cipherkeep_attestation.statements.governance import Release, Releases
from cipherkeep_attestation.statements.request import Keygen
from cipherkeep_host.emulated.pki import emulated_root
from cipherkeep_wire import kms_pb2 as pb

import tfhers
from tests.enclave.booted import enclave, with_key
from tests.enclave.harness import INSTANCE, TERMS, World
from tests.enclave.hosting import connected, new_world
from tests.host.emulated.processes import PCRS, KmsClient


def made(tmp_path: Path, state: Path, service: KmsClient) -> World:
    """A world in real time with an admitted party, and the configuration of its enclave."""
    root = emulated_root(state).certificate_der
    return new_world(tmp_path, roots=(root,), configured=lambda plain: with_key(plain, service, state))


async def test_from_boot_to_answers_and_back_after_a_kill(
    tmp_path: Path, state: Path, folder: Path, service: KmsClient
) -> None:
    """A key is made, a value decrypted, the enclave killed; the next boot opens the vault and repeats the core."""
    world = made(tmp_path, state, service)
    async with (
        enclave(world.configuration, state, folder, service.socket_path) as running,
        connected(world, running) as host,
    ):
        await host.bring_up()

        registered = (await host.stub.Register(pb.RegisterRequest(block_height=world.chain.height))).registration
        found, _ = registration.verify(
            registered,
            instance=INSTANCE,
            genesis=world.governance.genesis.digest(),
            releases=Releases((Release("v1", PCRS[0], PCRS[1], PCRS[2]),)),
            roots=(emulated_root(state).certificate_der,),
            block_hash=world.chain.header_hash(world.chain.height),
            block_time=datetime.now(UTC),
        )
        claims = found.claims
        world.note(claims.evidence_key, claims.signing_key, claims.manifest)

        key_id = await host.generate()
        server_key = tfhers.ServerKey.load(await host.material(key_id, "server_key"))
        public = tfhers.PublicKey.from_bytes(await host.material(key_id, "public_key"))
        packed = tfhers.compress(tfhers.expand(public.encrypt([("uint64", 424242)]), server_key), server_key)

        (asked,) = world.ask(world.public(key_id, packed))
        first = await host.answer(asked, packed)
        assert first.core.result == {"decrypted": (424242).to_bytes(32, "big")}
        memory = _resident(running.process.pid)
        running.process.kill()
        await running.ended()

    async with (
        enclave(world.configuration, state, folder, service.socket_path) as running,
        connected(world, running) as host,
    ):
        await host.bring_up()
        again = await host.answer(asked, packed)
        assert again.core.encode() == first.core.encode()
        assert again.context.boot != first.context.boot
        restarted = _resident(running.process.pid)
    assert restarted < 150, (memory, restarted)


async def test_a_kill_while_a_key_is_made_loses_nothing(
    tmp_path: Path, state: Path, folder: Path, service: KmsClient
) -> None:
    """kill -9 in the middle of a generation: the next boot opens the vault of before and makes the key it was asked."""
    world = made(tmp_path, state, service)
    statement = world.governance.keygen(TERMS)
    world.govern(statement)
    (asked,) = world.ask(Keygen(statement))
    async with (
        enclave(world.configuration, state, folder, service.socket_path) as running,
        connected(world, running) as host,
    ):
        await host.bring_up()
        await host.note()
        serial = world.record.manifest_serial
        making = asyncio.create_task(host.answer(asked))
        await asyncio.sleep(1)
        assert not making.done()
        running.process.kill()
        await running.ended()
        with pytest.raises(grpc.aio.AioRpcError):
            await making
    async with (
        enclave(world.configuration, state, folder, service.socket_path) as running,
        connected(world, running) as host,
    ):
        await host.bring_up()
        answer = await host.answer(asked)
        assert serial is not None
        assert answer.core.refusal is None and answer.context.manifest[0] == serial + 1


def _resident(pid: int) -> float:
    """Resident memory in MiB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
