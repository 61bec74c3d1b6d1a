"""A chain that a connector can follow, on the real contract and real headers, and an enclave that checks its evidence.

    async with Scene(folder) as scene:          # chain, store, enclave, connector
        await scene.up()
        found = await scene.ask(scene.world.public(1))
        assert await scene.ended(found.counter) == "final"

The enclave is a gRPC server without TLS that judges proofs as a real one does and signs whatever is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import hashlib
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from cipherkeep_attestation.chain.header import LightBlock
from cipherkeep_attestation.chain.light import LightClient
from cipherkeep_attestation.chain.state import StateProof, verify_present
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements import governance, layout, request
from cipherkeep_attestation.statements.binding import Ciphertext
from cipherkeep_attestation.statements.manifest import Manifest, SealedObject
from cipherkeep_attestation.statements.material import Material
from cipherkeep_attestation.statements.transaction import Message, Transaction
from cipherkeep_host import process
from cipherkeep_host.chain.client import Sent, TransactionRefused
from cipherkeep_host.client.node import Proven
from cipherkeep_host.connector.connector import Connector, Surroundings
from cipherkeep_host.connector.work import Limits
from cipherkeep_host.contracts.interface import ContractRefusal, ContractState
from cipherkeep_host.errors import HostError
from cipherkeep_host.store.blobs import Folder
from cipherkeep_host.store.blobs import Limits as StoreLimits
from cipherkeep_host.store.client import StoreClient
from cipherkeep_host.store.server import Service
from cipherkeep_wire import kms_pb2, kms_pb2_grpc
from cipherkeep_wire.errors import CODE_KEY, ServiceError, status_of
from cipherkeep_wire.transport import Address

from tests.simulators.chain import SimulatedChain
from tests.simulators.contract import CHAIN_ID, RELEASE, Found, World
from tests.simulators.coprocessor import TERMS
from tests.simulators.governance import ed25519, public
from tests.simulators.party import SimulatedParty

QUICK = replace(Limits(), attempts=3, first_pause=0.02, longest_pause=0.05, watch_pause=0.1, open_pause=0.2)
LIMIT = 200  # statements of one Advance
_YEARS, _MINUTE = timedelta(days=3650), timedelta(minutes=1)
MATERIAL = {"public_key": b"public key " * 100, "server_key": b"server key " * 20_000}


class ProvenWorld(World):
    """The contract's world under real headers: block h of one is block h of the other, with the same state."""

    def __init__(self, path: Path, **how: Any) -> None:
        names: dict[str, dict[int, bytes]] = {f"one/{name}": {} for name in layout.COLLECTIONS}
        names["one/control"] = {1: layout.Control().encode()}
        self.chain = SimulatedChain(1, CHAIN_ID, start=self.time(1), state=names)
        self._made = 0
        self.messages: dict[int, tuple[tuple[Any, ...], ...]] = {}
        super().__init__(path, **how)

    def hash(self, height: int) -> bytes:
        return self.chain.header_hash(height)

    def block(self, *messages: tuple[Any, ...]) -> list[Any]:
        height = self._made + 1
        self.messages[height] = messages
        if height > 1:
            self.chain.produce(1)
        outcomes = super().block(*messages)
        self._made = height
        for name in layout.COLLECTIONS:
            view = self.state.collection("one", name)
            self.chain.set_state({f"one/{name}": dict(view.items(limit=100_000))})
        self.chain._after[height] = copy.deepcopy(self.chain.state)
        return outcomes


class SimulatedNode:
    """The node of a world, and the sender of its transactions."""

    def __init__(self, world: ProvenWorld) -> None:
        self.world = world
        self._moved = asyncio.Condition()
        self.sent: list[Message] = []
        self.down = False
        self.checks = True  # whether its pool refuses what the contract's check refuses
        self.lose_answers = 0  # transactions that are included while their sender hears nothing
        self.wrong_bodies = False
        self.looked_up = 0  # bodies asked for one by one

    def _check(self) -> None:
        if self.down:
            raise HostError("node.unreachable", "down")

    async def mine(self, *messages: tuple[Any, ...]) -> list[Any]:
        """A block with these messages and, as a real chain does when state changed, an empty one."""
        outcomes = self.world.block(*messages)
        self.world.block()
        async with self._moved:
            self._moved.notify_all()
        return outcomes

    async def height(self) -> int:
        self._check()
        return self.world.height

    async def light_block(self, height: int) -> LightBlock:
        self._check()
        return self.world.chain.light_block(height)

    async def prove(self, instance: str, collection: str, key: int, *, height: int = 0) -> Proven:
        self._check()
        try:
            found = self.world.state.prove(instance, collection, key, height=height or None)
        except HostError as error:
            raise HostError("node.query", str(error)) from None
        return Proven(found.value, found.proof, found.height + 1, found.until + 1)

    async def index(self, instance: str, name: str, key: bytes) -> bytes | None:
        self._check()
        if name == "bodies" and self.wrong_bodies:
            return b"another body"
        self.looked_up += name == "bodies"
        return self.world.state.index(instance, name).get(key)

    async def transactions(self, height: int) -> list[bytes]:
        self._check()
        if self.wrong_bodies:
            return [b"no transaction"]
        key = ed25519("sender")
        calls = self.world.messages[height]
        messages = tuple(Message("one", name, body) for name, body, *_ in calls)
        return [Transaction(CHAIN_ID, public(key), 1, messages).sign(key)] if calls else []

    async def heights(self) -> AsyncGenerator[int, None]:
        last = 0
        while True:
            if self.world.height > last:
                last = self.world.height
                yield last
                continue
            async with self._moved:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await self._moved.wait()

    def _admit_to_pool(self, messages: Sequence[Message]) -> None:
        world = self.world
        state = ContractState(world.state, "one")
        for message in messages:
            try:
                world.contract.check(state, world.context(world.height), message.name, message.body)
            except (ContractRefusal, EvidenceError) as refusal:
                raise TransactionRefused(refusal.code, str(refusal), included=False) from None

    async def send(self, messages: Sequence[Message]) -> Sent:
        self._check()
        self.sent += messages
        if self.checks:
            self._admit_to_pool(messages)
        outcomes = await self.mine(*((message.name, message.body) for message in messages))
        for outcome in outcomes:
            if outcome.code != "ok":
                raise TransactionRefused(outcome.code, outcome.detail, included=True)
        if self.lose_answers and messages[0].name == "answer":
            self.lose_answers -= 1
            raise HostError("node.timeout", "lost")
        return Sent(bytes(32), self.world.height, tuple(outcome.data for outcome in outcomes))


class SimulatedEnclave(kms_pb2_grpc.KmsServicer):
    """One party's enclave. `calls` counts what it served; `before` hooks run first and may raise or wait."""

    def __init__(self, world: ProvenWorld, party: SimulatedParty, path: str) -> None:
        self.world = world
        self.party = party
        self.path = path
        self.calls: Counter[str] = Counter()
        self.before: dict[str, Callable[[Any], Any]] = {}
        self.processed: Counter[int] = Counter()
        self.material = dict(MATERIAL)
        self.named = [Material.of(kind, data) for kind, data in MATERIAL.items()]
        self.server: grpc.aio.Server | None = None
        self._manifests: dict[bytes, Manifest] = {}
        self._boot()

    def _boot(self) -> None:
        self.boot = secrets.token_bytes(16)
        self.nonce = secrets.token_bytes(32)
        self.light = LightClient(self.world.chain.root(), trusting_period=_YEARS, clock_drift=_MINUTE, skipping=True)
        self.serial = self.learnt = self.index = 0
        self.fresh = self.open = False
        self.inboxes: dict[int, layout.Inbox] = {}
        self.keys: set[bytes] = set()

    # --- life ---

    async def start(self) -> None:
        self.server = grpc.aio.server()
        kms_pb2_grpc.add_KmsServicer_to_server(self, self.server)
        self.server.add_insecure_port(f"unix:{self.path}")
        await self.server.start()

    async def stop(self) -> None:
        if self.server is not None:
            await self.server.stop(0)
            self.server = None

    async def restart(self) -> None:
        """As after kill -9: all but the sealed objects is gone."""
        await self.stop()
        self._boot()
        await self.start()

    # --- service ---

    async def _serve(self, name: str, asked: Any, context: Any, work: Callable[[], Any]) -> Any:
        self.calls[name] += 1
        try:
            hook = self.before.get(name)
            if hook is not None:
                done = hook(asked)
                if asyncio.iscoroutine(done):
                    await done
            return work()
        except Exception as error:  # noqa: BLE001  (as the enclave's service answers)
            status, code, text = status_of(error)
            context.set_trailing_metadata(((CODE_KEY, code),))
            await context.abort(status, text)

    async def Status(self, asked: Any, context: Any) -> Any:
        def work() -> Any:
            anchored = self.light._head is not None
            conflict = self.light.frozen
            return kms_pb2.StatusReply(
                frozen=conflict.code if conflict else "",
                fork_held_height=conflict.trusted.height if conflict else 0,
                fork_other=conflict.block.encode() if conflict else b"",
                party=self.party.name,
                boot=self.boot,
                freshness_nonce=self.nonce,
                fresh=self.fresh,
                open=self.open,
                head_height=self.light.head.height if anchored else 0,
                control_serial=self.serial,
                party_index=self.index,
            )

        return await self._serve("Status", asked, context, work)

    async def Advance(self, asked: Any, context: Any) -> Any:
        def work() -> Any:
            self._lift(asked.statements)
            for data in asked.light_blocks:
                block = LightBlock.decode(data)
                step = self.light.anchor if self.light._head is None else self.light.step
                step(block, now=self.world.now)
            if len(asked.statements) > LIMIT:
                raise ServiceError("service.size", f"{len(asked.statements)} statements")
            self.learnt = max(self.learnt, self.serial) + len(asked.statements)
            if asked.control:
                head = self.light.head
                self._present(head, layout.CONTROL, 1, asked.control, asked.control_proof)
                leaf = layout.Control.decode(asked.control)
                assert self.learnt == leaf.serial
                self.serial = leaf.serial
                if self.party.name in [party.name for party in self.world.parties] and self.serial >= 3:
                    self.index = self.party.index
            return kms_pb2.AdvanceReply(head_height=self.light.head.height, control_serial=self.serial)

        return await self._serve("Advance", asked, context, work)

    def _lift(self, statements: Sequence[bytes]) -> None:
        genesis = self.world.governance.genesis
        for data in statements:
            found = governance.verify(data, governors=genesis.governors, instance="one", genesis=genesis.digest())
            if found.kind == governance.LIFT_FREEZE and self.light.frozen is not None:
                self.light.lift(found.content()["conflict"])

    def _present(self, header: Any, collection: str, key: int, value: bytes, proof: bytes) -> None:
        verify_present(
            header.app_hash,
            instance="one",
            collection=collection,
            key=key,
            value=value,
            proof=StateProof.decode(proof),
        )

    async def Freshen(self, asked: Any, context: Any) -> Any:
        def work() -> Any:
            header = self.light.header_at(asked.header_height)
            self._present(header, layout.FRESHNESS, asked.key, self.nonce, asked.proof)
            self.fresh = True
            return kms_pb2.FreshenReply()

        return await self._serve("Freshen", asked, context, work)

    async def Open(self, asked: Any, context: Any) -> Any:
        def work() -> Any:
            assert self.fresh
            header = self.light.header_at(asked.header_height)
            self._present(header, layout.PARTIES, self.index, asked.record, asked.proof)
            record = layout.PartyRecord.decode(asked.record)
            self.open = True
            if record.manifest_serial == 0:
                return kms_pb2.OpenReply(vault=self._vault(1))
            manifest = Manifest.decode(asked.manifest)
            if (manifest.serial, manifest.digest()) != (record.manifest_serial, record.manifest):
                raise ServiceError("vault.object_old")
            if [item.digest for item in manifest.objects] != [_sha(item.data) for item in asked.objects]:
                raise ServiceError("vault.object_missing")
            self.keys = {item.id for item in manifest.objects if item.kind == "key"}
            self.party.manifest = (manifest.serial, manifest.digest())
            return kms_pb2.OpenReply()

        return await self._serve("Open", asked, context, work)

    def _vault(self, serial: int, key_id: bytes | None = None) -> Any:
        if key_id is not None:
            self.keys.add(key_id)
        rows = [("root", bytes(32), b"sealed root of %s" % self.party.name.encode())]
        rows += [("key", item, b"sealed key " + item) for item in sorted(self.keys)]
        objects = tuple(SealedObject(kind, identity, _sha(data)) for kind, identity, data in rows)
        manifest = Manifest(self.party.name, serial, 1, objects)
        self.party.manifest = (serial, manifest.digest())
        changed = [kms_pb2.SealedObject(kind=kind, id=identity, data=data) for kind, identity, data in rows]
        return kms_pb2.Vault(manifest=manifest.encode(), objects=changed)

    async def Register(self, asked: Any, context: Any) -> Any:
        def work() -> Any:
            height = asked.block_height
            made = self.party.register(height, self.light.header_at(height).hash(), at=self.world.time(height))
            return kms_pb2.RegisterReply(registration=made)

        return await self._serve("Register", asked, context, work)

    async def Inbox(self, asked: Any, context: Any) -> Any:
        def work() -> Any:
            assert asked.header_height > asked.height
            header = self.light.header_at(asked.header_height)
            self._present(header, layout.INBOX, asked.height, asked.inbox, asked.proof)
            self.inboxes[asked.height] = layout.Inbox.decode(asked.inbox)
            return kms_pb2.InboxReply(requests=len(self.inboxes[asked.height].entries))

        return await self._serve("Inbox", asked, context, work)

    async def Process(self, asked: Any, context: Any) -> Any:
        def work() -> Any:
            if not self.open:
                raise ServiceError("service.closed")
            if asked.height not in self.inboxes:
                raise ServiceError("service.unknown_inbox")
            entries = {entry.counter: entry for entry in self.inboxes[asked.height].entries}
            reply = kms_pb2.ProcessReply()
            for item in asked.requests:
                self.processed[item.counter] += 1
                self._answer(reply, entries[item.counter], item)
            return reply

        return await self._serve("Process", asked, context, work)

    def _answer(self, reply: Any, entry: Any, item: Any) -> None:
        assert _sha(item.body) == entry.digest
        asked = request.decode(item.body)
        head = (self.light.head.height, self.light.head_hash)
        if isinstance(asked, request.Keygen):
            reply.vault.CopyFrom(self._vault(self.party.manifest[0] + 1, entry.id))
            core = self.party.keygen_core(entry.id, asked, self.named)
        elif isinstance(asked, request.PublicDecrypt):
            digests = [_sha(data) for data in item.ciphertexts]
            if digests != [one.digest for one in asked.ciphertexts]:
                reply.outcomes.append(kms_pb2.Outcome(counter=entry.counter, code="ledger.ciphertext_digest"))
                return
            core = self.party.public_core(entry.id, asked, [7] * len(asked.ciphertexts))
        else:
            core = self.party.user_core(entry.id, asked)
        reply.outcomes.append(kms_pb2.Outcome(counter=entry.counter, answer=self.party.answer(core, head)))

    async def Material(self, asked: Any, context: Any) -> AsyncIterator[Any]:
        self.calls["Material"] += 1
        data = self.material[asked.kind]
        for start in range(0, len(data), 65_536):
            yield kms_pb2.MaterialChunk(data=data[start : start + 65_536])


def _sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


class Plain:
    """A channel without attestation, for a test's own enclave."""

    def __init__(self, path: str) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 100)]
        options += [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50)]
        self.grpc = grpc.aio.insecure_channel(f"unix:{path}", options=options)


class Scene:
    """World, node, store, enclave and connector. The connector can be killed and started again on its folder."""

    def __init__(self, folder: Path, *, admitted: bool = True, **how: Any) -> None:
        self._admitted = admitted
        self.folder = folder
        self.world = ProvenWorld(folder / "chain", **how)
        self.node = SimulatedNode(self.world)
        self.enclave = SimulatedEnclave(self.world, self.world.parties[0], str(folder / "e.sock"))
        self.connector: Connector | None = None
        self._running: asyncio.Task[Any] | None = None
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Scene:
        address = Address("unix", str(self.folder / "s.sock"))
        self.blobs = Folder(self.folder / "blobs", StoreLimits())
        app = Service(self.blobs).app()
        self._serving = asyncio.create_task(process.serve_http(app, process.bind(address), self._stop))
        self.store = StoreClient(address)
        await self.enclave.start()
        world = self.world
        assert world.govern(world.governance.set_coprocessors(world.coprocessors.policy)) == "ok"
        assert world.govern(world.governance.set_releases(RELEASE)) == "ok"
        if self._admitted:
            self.admit()
        world.block()
        return self

    def admit(self) -> None:
        """Governance admits the enclave's party."""
        party = self.enclave.party
        assert self.world.govern(self.world.governance.admit(party.name, party.configuration.digest())) == "ok"

    async def __aexit__(self, *_: object) -> None:
        await self.kill()
        await self.enclave.stop()
        await self.store.close()
        self._stop.set()
        await self._serving
        self.blobs.close()
        self.world.state.close()

    @contextlib.asynccontextmanager
    async def _connect(self) -> AsyncIterator[Plain]:
        channel = Plain(self.enclave.path)
        try:
            await asyncio.wait_for(channel.grpc.channel_ready(), 2)
        except TimeoutError:
            await channel.grpc.close(None)
            raise HostError("connector.timeout", "enclave") from None
        try:
            yield channel
        finally:
            await channel.grpc.close(None)

    def start(self, limits: Limits = QUICK) -> None:
        self.connector = Connector(
            Surroundings(
                node=self.node,
                sender=self.node,
                store=self.store,
                connect=self._connect,
                instance="one",
                party=self.enclave.party.name,
                root=self.world.chain.root(),
                state=self.folder / "connector",
                limits=limits,
            )
        )
        self._running = asyncio.create_task(self.connector.run())

    async def kill(self) -> None:
        """End the connector wherever it is. What it wrote down stays."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            self._running = None

    async def until(self, condition: Callable[[], Any], what: str = "") -> None:
        """Wait up to ten seconds."""
        for _ in range(1000):
            if self._running is not None and self._running.done():
                self._running.result()
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"{what}: {self.connector and self.connector.health()}")

    async def up(self) -> None:
        """Start the connector and wait until it works."""
        if self._running is None:
            self.start()
        await self.until(lambda: self.connector is not None and self.connector.stage == "up", "up")

    async def ask(self, asked: Any) -> Found:
        """A block with one request, whose ciphertexts are in the store."""
        return (await self.ask_all(asked))[0]

    async def ask_all(self, *asked: Any) -> list[Found]:
        """A block with these requests."""
        for one in asked:
            for item in getattr(one, "ciphertexts", ()):
                await self.put(item)
        outcomes = await self.node.mine(*((one.operation, {"request": one.encode()}) for one in asked))
        return [Found(**outcome.value) for outcome in outcomes]

    async def put(self, item: Ciphertext) -> None:
        await self.store.put_bytes(b"ciphertext %d" % int.from_bytes(item.handle, "big"))

    def state(self, counter: int) -> str:
        return self.world.record(counter).state

    async def ended(self, counter: int) -> str:
        await self.until(lambda: self.state(counter) != layout.PENDING, f"request {counter}")
        return self.state(counter)

    async def generate(self) -> bytes:
        """A key, made by the enclave."""
        statement = self.world.governance.keygen(TERMS)
        assert self.world.govern(statement) == "ok"
        found = await self.ask(request.Keygen(statement))
        assert await self.ended(found.counter) == layout.FINAL
        self.world.key_id = found.id
        return found.id
