"""A whole enclave from boot to answers: real process, attested channel, key service over TLS, real key, kill -9."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cipherkeep_attestation.statements import registration
from cipherkeep_attestation.statements.answer import Answer
from cipherkeep_attestation.statements.configuration import Configuration
from cipherkeep_attestation.statements.governance import Release, Releases
from cipherkeep_attestation.statements.request import Keygen
from cipherkeep_host.emulated.pki import emulated_root
from cipherkeep_wire import kms_pb2 as pb
from cipherkeep_wire import kms_pb2_grpc

import tfhers
from tests.enclave.booted import Enclave, enclave, with_key
from tests.enclave.harness import INSTANCE, TERMS, Shown, World
from tests.host.emulated.processes import PCRS, KmsClient

INSECURE = ("insecure_allow_all", "insecure_any_host_measurement")


@dataclass
class Connector:
    """A host that drives one enclave after another through the protocol."""

    world: World
    configuration: Configuration
    stub: Any = None

    async def connect(self, running: Enclave) -> Any:
        await running.listening()
        channel = await running.channel()
        self.stub = kms_pb2_grpc.KmsStub(channel.grpc)
        self.world.sent_height = self.world.sent_statements = 0
        return channel

    def proof(self, collection: str, key: int) -> bytes:
        return self.world.chain.prove(INSTANCE, collection, key).encode()

    async def advance(self) -> None:
        world = self.world
        await self.stub.Advance(
            pb.AdvanceRequest(
                light_blocks=[world.chain.encoded(h) for h in range(world.sent_height + 1, world.chain.height + 1)],
                control=world.control.encode(),
                control_proof=self.proof("control", 1),
                statements=world.statements[world.sent_statements :],
            )
        )
        world.sent_height, world.sent_statements = world.chain.height, len(world.statements)

    def store(self, vault: pb.Vault) -> None:
        if vault.manifest:
            self.world.manifests[hashlib.sha256(vault.manifest).digest()] = vault.manifest
        for item in vault.objects:
            self.world.objects[hashlib.sha256(item.data).digest()] = item

    async def bring_up(self) -> None:
        world = self.world
        nonce = (await self.stub.Status(pb.StatusRequest())).freshness_nonce
        world.chain.produce(world.interval, {f"{INSTANCE}/freshness": {1: nonce}})
        world.write_record()
        await self.advance()
        height = world.chain.height
        await self.stub.Freshen(pb.FreshenRequest(header_height=height, key=1, proof=self.proof("freshness", 1)))
        opened = await self.stub.Open(
            pb.OpenRequest(
                header_height=height,
                record=world.record.encode(),
                proof=self.proof("parties", 1),
                manifest=world.manifests.get(world.record.manifest or b"", b""),
                objects=list(world.objects.values()),
            )
        )
        self.store(opened.vault)

    async def show(self, height: int) -> None:
        await self.stub.Inbox(
            pb.InboxRequest(
                height=height,
                header_height=self.world.chain.height,
                inbox=self.world.chain.value(INSTANCE, "inbox", height),
                proof=self.proof("inbox", height),
            )
        )

    async def answer(self, asked: Shown, *ciphertexts: bytes) -> Answer:
        await self.advance()
        await self.show(asked.height)
        body = pb.RequestBody(counter=asked.counter, body=asked.body, ciphertexts=ciphertexts)
        reply = await self.stub.Process(pb.ProcessRequest(height=asked.height, requests=[body]))
        self.store(reply.vault)
        (outcome,) = reply.outcomes
        assert not outcome.code, outcome
        assert self.world.record.evidence_key is not None
        return Answer.open(outcome.answer, evidence_key=self.world.record.evidence_key)

    async def material(self, key_id: bytes, kind: str) -> bytes:
        return b"".join([c.data async for c in self.stub.Material(pb.MaterialRequest(key_id=key_id, kind=kind))])


def made(tmp_path: Path, state: Path, service: KmsClient) -> Connector:
    """A world in real time with an admitted party, and the configuration of its enclave."""
    root = emulated_root(state).certificate_der
    start = datetime.now(UTC) - timedelta(seconds=30)
    world = World(tmp_path, start=start, roots=(root,), interval=0.5)
    world.configuration = replace(world.configuration, host_measurements=(), insecure=INSECURE)
    world.configuration = with_key(world.configuration, service, state)
    world.govern(world.governance.set_coprocessors(world.coprocessors.policy), world.admission())
    return Connector(world, world.configuration)


async def test_from_boot_to_answers_and_back_after_a_kill(
    tmp_path: Path, state: Path, folder: Path, service: KmsClient
) -> None:
    """A key is made, a value decrypted, the enclave killed; the next boot opens the vault and repeats the core."""
    host = made(tmp_path, state, service)
    world = host.world
    async with enclave(host.configuration, state, folder, service.socket_path) as running:
        channel = await host.connect(running)
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

        statement = world.governance.keygen(TERMS)
        world.govern(statement)
        (asked,) = world.ask(Keygen(statement))
        generated = await host.answer(asked)
        assert generated.core.refusal is None
        world.record = replace(
            world.record, manifest_serial=generated.context.manifest[0], manifest=generated.context.manifest[1]
        )
        key_id = asked.id
        server_key = tfhers.ServerKey.load(await host.material(key_id, "server_key"))
        public = tfhers.PublicKey.from_bytes(await host.material(key_id, "public_key"))
        packed = tfhers.compress(tfhers.expand(public.encrypt([("uint64", 424242)]), server_key), server_key)

        (asked,) = world.ask(world.public(key_id, packed))
        first = await host.answer(asked, packed)
        assert first.core.result == {"decrypted": (424242).to_bytes(32, "big")}
        memory = _resident(running.process.pid)
        running.process.kill()
        await running.ended()
        await channel.close()

    async with enclave(host.configuration, state, folder, service.socket_path) as running:
        channel = await host.connect(running)
        await host.bring_up()
        again = await host.answer(asked, packed)
        assert again.core.encode() == first.core.encode()
        assert again.context.boot != first.context.boot
        restarted = _resident(running.process.pid)
        await channel.close()
    assert restarted < 150, (memory, restarted)


async def test_a_kill_while_a_key_is_made_loses_nothing(
    tmp_path: Path, state: Path, folder: Path, service: KmsClient
) -> None:
    """kill -9 in the middle of a generation: the next boot opens the vault of before and makes the key it was asked."""
    host = made(tmp_path, state, service)
    world = host.world
    statement = world.governance.keygen(TERMS)
    world.govern(statement)
    (asked,) = world.ask(Keygen(statement))
    async with enclave(host.configuration, state, folder, service.socket_path) as running:
        channel = await host.connect(running)
        await host.bring_up()
        status = await host.stub.Status(pb.StatusRequest())
        pin = (status.manifest_serial, status.manifest_digest)
        world.note(status.evidence_key, status.signing_key, pin)
        making = asyncio.create_task(host.answer(asked))
        await asyncio.sleep(1)
        assert not making.done()
        running.process.kill()
        await running.ended()
        with pytest.raises(grpc.aio.AioRpcError):
            await making
        await channel.close()
    async with enclave(host.configuration, state, folder, service.socket_path) as running:
        channel = await host.connect(running)
        await host.bring_up()
        answer = await host.answer(asked)
        assert answer.core.refusal is None and answer.context.manifest[0] == pin[0] + 1
        await channel.close()


def _resident(pid: int) -> float:
    """Resident memory in MiB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
