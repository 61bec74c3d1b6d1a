"""The only place that drives an enclave's service the way a connector does, on a simulated chain, for measurements."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc.aio
from cipherkeep_attestation.statements.answer import Answer
from cipherkeep_attestation.statements.configuration import Configuration
from cipherkeep_attestation.statements.request import Keygen, PublicDecrypt, Request
from cipherkeep_enclave.operations import signcryption
from cipherkeep_wire import kms_pb2 as pb
from cipherkeep_wire import kms_pb2_grpc

import tfhers
from tests.enclave.harness import INSTANCE, TERMS, Shown, World

INSECURE = ("insecure_allow_all", "insecure_any_host_measurement")
CIPHERTEXTS = 16  # different ones that requests are made of in turn
USER_KEY = signcryption._ENVELOPE + tfhers.ml_kem_512_keypair(bytes(32), bytes(32))[0]


def stub_of(channel: grpc.aio.Channel) -> Any:
    """The service's client on a channel."""
    return kms_pb2_grpc.KmsStub(channel)  # type: ignore[no-untyped-call]


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


@dataclass
class Host:
    """What stands between the chain and one enclave. `stub`: of the service of `kms.proto`."""

    world: World
    configuration: Configuration
    stub: Any

    def proof(self, collection: str, key: int) -> bytes:
        return self.world.chain.prove(INSTANCE, collection, key).encode()

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
        """From a booted enclave to one with a new vault and one key's identity on the chain."""
        world = self.world
        nonce = (await self.stub.Status(pb.StatusRequest())).freshness_nonce
        world.chain.produce(world.interval, {f"{INSTANCE}/freshness": {1: nonce}})
        world.write_record()
        await self.advance()
        height = world.chain.height
        await self.stub.Freshen(pb.FreshenRequest(header_height=height, key=1, proof=self.proof("freshness", 1)))
        await self.stub.Open(
            pb.OpenRequest(header_height=height, record=world.record.encode(), proof=self.proof("parties", 1))
        )
        status = await self.stub.Status(pb.StatusRequest())
        pin = (status.manifest_serial, status.manifest_digest)
        world.note(status.evidence_key, status.signing_key, pin)

    async def ask(self, requests: Sequence[Request]) -> list[Shown]:
        """One block with these requests, whose evidence the enclave has seen."""
        shown = self.world.ask(*requests)
        await self.advance()
        height = shown[0].height
        await self.stub.Inbox(
            pb.InboxRequest(
                height=height,
                header_height=self.world.chain.height,
                inbox=self.world.chain.value(INSTANCE, "inbox", height),
                proof=self.proof("inbox", height),
            )
        )
        return shown

    async def generate(self) -> bytes:
        """A key with production parameters; its id."""
        statement = self.world.governance.keygen(TERMS)
        self.world.govern(statement)
        (asked,) = await self.ask([Keygen(statement)])
        reply = await self.stub.Process(call([asked], [()]))
        answer = self.opened(reply.outcomes[0])
        assert answer.core.refusal is None, answer.core.refusal
        return asked.id

    async def ciphertexts(self, key_id: bytes) -> list[bytes]:
        """Packed lists with one FheUint64 each, under the key's published material, as a coprocessor makes them."""
        pieces = {kind: await self._material(key_id, kind) for kind in ("public_key", "server_key")}
        return await asyncio.to_thread(_packed, pieces["public_key"], pieces["server_key"])

    async def _material(self, key_id: bytes, kind: str) -> bytes:
        request = pb.MaterialRequest(key_id=key_id, kind=kind)
        return b"".join([chunk.data async for chunk in self.stub.Material(request)])

    def opened(self, outcome: pb.Outcome) -> Answer:
        """The answer, whose signature holds."""
        assert not outcome.code, f"{outcome.code}: {outcome.detail}"
        assert self.world.record.evidence_key is not None
        return Answer.open(outcome.answer, evidence_key=self.world.record.evidence_key)

    def public(self, key_id: bytes, number: int, packed: bytes) -> PublicDecrypt:
        """A request to open one ciphertext under a handle of this number."""
        return PublicDecrypt(key_id, (self.world.bind(key_id, packed, number=number),))

    def user(self, key_id: bytes, number: int, packed: bytes) -> Request:
        """The same, re-encrypted to a user's key, signed by her."""
        world = self.world
        start = int(world.now.timestamp()) - 60
        item = world.bind(key_id, packed, number=number)
        return world.alice.request(key_id, item, start=start, terms=TERMS, public_key=USER_KEY)


def call(shown: Sequence[Shown], ciphertexts: Sequence[Sequence[bytes]]) -> pb.ProcessRequest:
    """One call for requests of one block."""
    bodies = [
        pb.RequestBody(counter=one.counter, body=one.body, ciphertexts=data)
        for one, data in zip(shown, ciphertexts, strict=True)
    ]
    return pb.ProcessRequest(height=shown[0].height, requests=bodies)


def digest_of(value: int) -> bytes:
    """What a public decryption's result says for one value."""
    return value.to_bytes(32, "big")


def value_of(number: int) -> int:
    """The plaintext of the ciphertext of this number: never zero, all 64 bits in use."""
    return int.from_bytes(hashlib.sha256(b"value %d" % number).digest()[:8], "big")


def _packed(public_key: bytes, server_key: bytes) -> list[bytes]:
    server = tfhers.ServerKey.load(server_key)
    encrypted = tfhers.PublicKey.from_bytes(public_key).encrypt([("uint64", value_of(n)) for n in range(CIPHERTEXTS)])
    return [tfhers.compress([one], server) for one in tfhers.expand(encrypted, server)]
