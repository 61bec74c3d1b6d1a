"""An honest host of an enclave that is a process: what `harness.World` does to a keeper, over the service's channel.

async with enclave(world.configuration, state, folder, kms) as running, connected(world, running) as host:
    await host.bring_up()
    key_id = await host.generate()
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc.aio
from cipherkeep_attestation.statements.answer import Answer
from cipherkeep_attestation.statements.configuration import Configuration
from cipherkeep_attestation.statements.request import Keygen, Request
from cipherkeep_wire import kms_pb2 as pb
from cipherkeep_wire import kms_pb2_grpc

from tests.enclave.booted import Enclave
from tests.enclave.harness import INSTANCE, TERMS, Shown, World

INSECURE = ("insecure_allow_all", "insecure_any_host_measurement")


def new_world(
    path: Path,
    *,
    roots: tuple[bytes, ...] = (b"root",),
    configured: Callable[[Configuration], Configuration] = lambda plain: plain,
) -> World:
    """A chain in real time with coprocessors and a party, admitted with what `configured` makes of the plain one."""
    start = datetime.now(UTC) - timedelta(seconds=60)
    world = World(path, start=start, roots=roots, interval=0.5)
    world.configuration = configured(replace(world.configuration, host_measurements=(), insecure=INSECURE))
    world.govern(world.governance.set_coprocessors(world.coprocessors.policy), world.admission())
    return world


def stub_of(channel: grpc.aio.Channel) -> Any:
    """The service's client on a channel."""
    return kms_pb2_grpc.KmsStub(channel)  # type: ignore[no-untyped-call]  (generated without types)


@contextlib.asynccontextmanager
async def connected(world: World, running: Enclave) -> AsyncIterator[Host]:
    """The host of an enclave that has just booted, over an attested channel."""
    await running.listening()
    channel = await running.channel()
    world.sent_height = world.sent_statements = 0
    try:
        yield Host(world, stub_of(channel.grpc))
    finally:
        await channel.close()


@dataclass
class Host:
    """What stands between the chain and one enclave. `stub`: of the service of `kms.proto`."""

    world: World
    stub: Any

    def proof(self, collection: str, key: int) -> bytes:
        return self.world.chain.prove(INSTANCE, collection, key).encode()

    def store(self, vault: pb.Vault) -> None:
        if vault.manifest:
            self.world.manifests[hashlib.sha256(vault.manifest).digest()] = vault.manifest
        for item in vault.objects:
            self.world.objects[hashlib.sha256(item.data).digest()] = item

    async def advance(self) -> None:
        """Bring the enclave to the newest header."""
        world = self.world
        await self.stub.Advance(
            pb.AdvanceRequest(
                light_blocks=[world.chain.encoded(at) for at in range(world.sent_height + 1, world.chain.height + 1)],
                control=world.control.encode(),
                control_proof=self.proof("control", 1),
                statements=world.statements[world.sent_statements :],
            )
        )
        world.sent_height, world.sent_statements = world.chain.height, len(world.statements)

    async def bring_up(self) -> None:
        """From a booted enclave to one with an open vault: a new one, or the one that the party's record names."""
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

    async def note(self) -> None:
        """The party's record on the chain names the enclave's keys and its vault, as the enclave says."""
        status = await self.stub.Status(pb.StatusRequest())
        pin = (status.manifest_serial, status.manifest_digest)
        self.world.note(status.evidence_key, status.signing_key, pin)

    async def show(self, height: int) -> None:
        """Bring the enclave to the newest header, and show it the inbox of a block."""
        await self.advance()
        await self.stub.Inbox(
            pb.InboxRequest(
                height=height,
                header_height=self.world.chain.height,
                inbox=self.world.chain.value(INSTANCE, "inbox", height),
                proof=self.proof("inbox", height),
            )
        )

    async def ask(self, *requests: Request) -> list[Shown]:
        """One block with these requests, whose evidence the enclave has seen."""
        shown = self.world.ask(*requests)
        await self.show(shown[0].height)
        return shown

    async def answer(self, asked: Shown, *ciphertexts: bytes) -> Answer:
        """Show the enclave a request, and have it processed."""
        await self.show(asked.height)
        body = pb.RequestBody(counter=asked.counter, body=asked.body, ciphertexts=ciphertexts)
        reply = await self.stub.Process(pb.ProcessRequest(height=asked.height, requests=[body]))
        self.store(reply.vault)
        (outcome,) = reply.outcomes
        return self.opened(outcome)

    def opened(self, outcome: pb.Outcome) -> Answer:
        """The answer, whose signature holds."""
        assert not outcome.code, f"{outcome.code}: {outcome.detail}"
        assert self.world.record.evidence_key is not None
        return Answer.open(outcome.answer, evidence_key=self.world.record.evidence_key)

    async def generate(self) -> bytes:
        """A key with production parameters, final on the chain; its id."""
        world = self.world
        statement = world.governance.keygen(TERMS)
        world.govern(statement)
        (asked,) = world.ask(Keygen(statement))
        answer = await self.answer(asked)
        assert answer.core.refusal is None, answer.core.refusal
        serial, manifest = answer.context.manifest
        world.record = replace(world.record, manifest_serial=serial, manifest=manifest)
        return asked.id

    async def material(self, key_id: bytes, kind: str) -> bytes:
        """A piece of a key's public material."""
        request = pb.MaterialRequest(key_id=key_id, kind=kind)
        return b"".join([chunk.data async for chunk in self.stub.Material(request)])
