"""An enclave's keeper on a simulated chain: what a host would do is one call, and so is what it must not do.

world = World(tmp_path)
await world.bring_up()                                # head, freshness, vault
key_id = await world.generate()
answer = await world.answer(world.public(key_id, packed))
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cipherkeep_attestation.statements import layout
from cipherkeep_attestation.statements.answer import Answer
from cipherkeep_attestation.statements.binding import Ciphertext
from cipherkeep_attestation.statements.configuration import Configuration, KeyService
from cipherkeep_attestation.statements.eip712 import Domain
from cipherkeep_attestation.statements.governance import GRANTED_USERS, INSECURE_ALLOW_ALL, KeyTerms
from cipherkeep_attestation.statements.layout import Control, Inbox, InboxEntry, PartyRecord
from cipherkeep_attestation.statements.request import Keygen, PublicDecrypt, Request, request_digest, request_id
from cipherkeep_enclave.engine import MaterialFolder
from cipherkeep_enclave.keeper import Body, Keeper, Outcome, VaultUpdate
from cipherkeep_enclave.vault.aws_kms import DataKey
from cipherkeep_enclave.vault.vault import StoredObject
from cipherkeep_wire.errors import ServiceError

from tests.simulators.chain import SimulatedChain
from tests.simulators.coprocessor import SimulatedCoprocessors, SimulatedUser
from tests.simulators.governance import SimulatedGovernance
from tfhers import PARAMETERS

INSTANCE = "one"
TERMS = KeyTerms(
    PARAMETERS[0],
    INSECURE_ALLOW_ALL,
    GRANTED_USERS,
    31337,
    b"\xac" * 20,
    Domain("Decryption", "1", 10901, b"\xdc" * 20),
)


class MemoryKms:
    """A key service in memory, which binds to the context and can be told to lie."""

    def __init__(self) -> None:
        self.keys: dict[bytes, tuple[dict[str, str], bytes]] = {}
        self.calls = 0

    async def generate(self, context: Any) -> DataKey:
        wrapped = b"wrapped %d" % len(self.keys)
        key = hashlib.sha256(b"data key " + wrapped).digest()
        self.keys[wrapped] = (dict(context), key)
        return DataKey(key, wrapped)

    async def unwrap(self, wrapped: bytes, context: Any) -> bytes:
        self.calls += 1
        if self.keys.get(wrapped, ({}, b""))[0] != dict(context):
            raise ServiceError("vault.kms_denied", "InvalidCiphertextException")
        return self.keys[wrapped][1]


@dataclass
class Shown:
    """A request as it stands in an inbox."""

    height: int
    counter: int
    id: bytes
    body: bytes
    request: Any


class World:
    """Chain, governance, coprocessors, users; the host's store; one enclave after another."""

    def __init__(
        self,
        path: Path,
        *,
        party: str = "alpha",
        insecure: tuple[str, ...] = ("insecure_allow_all",),
        start: datetime = datetime(2026, 1, 1, tzinfo=UTC),
        roots: tuple[bytes, ...] = (b"root",),
        interval: float = 1,
    ) -> None:
        """`interval`: seconds between blocks."""
        self.path = path
        self.interval = interval
        self.governance = SimulatedGovernance(
            insecure_allow_all="insecure_allow_all" in insecure, instance=INSTANCE, roots=roots
        )
        self.coprocessors = SimulatedCoprocessors()
        self.alice, self.bob = SimulatedUser("alice"), SimulatedUser("bob")
        self.party = party
        self.statements: list[bytes] = []
        self.control = Control()
        self.counter = 0
        self.kms = MemoryKms()
        self.manifests: dict[bytes, bytes] = {}  # by digest
        self.objects: dict[bytes, StoredObject] = {}
        names = {f"{INSTANCE}/{name}": {} for name in layout.COLLECTIONS}
        self.chain = SimulatedChain(1, start=start, state={**names, f"{INSTANCE}/control": {1: self.control.encode()}})
        self.chain.produce(self.interval)
        self.configuration = Configuration(
            root=self.chain.root(),
            instance=INSTANCE,
            genesis=self.governance.genesis,
            party=party,
            kms=KeyService("arn:aws:kms:us-east-1:1:key/1", "kms.local", b"ca"),
            enclave_root=b"root",
            host_root=b"root",
            host_measurements=(bytes(32),),
            insecure=insecure,
        )
        self.record = PartyRecord(party, None, None, self.configuration.digest(), None, None, 0, None)
        self._boots = itertools.count(1)
        self.documents: list[tuple[bytes, bytes, bytes]] = []
        self.keeper = self.boot()

    # --- the enclave ---

    def boot(self) -> Keeper:
        """A new boot; the old one is gone."""
        number = next(self._boots)
        if number > 1:
            self.keeper.close()
        self.sent_height = 0
        self.sent_statements = 0

        def attest(nonce: bytes, public_key: bytes, user_data: bytes) -> bytes:
            self.documents.append((nonce, public_key, user_data))
            return b"document"

        self.keeper = Keeper(
            self.configuration,
            boot=bytes(15) + bytes([number]),
            nonce=hashlib.sha256(b"nonce %d" % number).digest(),
            now=lambda: self.now,
            kms=self.kms,
            attest=attest,
            entropy=lambda length: b"\x07" * length,
            material=MaterialFolder(self.path / f"material-{number}"),
        )
        return self.keeper

    @property
    def now(self) -> datetime:
        return self.chain.now

    # --- the chain ---

    def admission(self) -> bytes:
        """The statement that admits this party as its enclave is configured."""
        return self.governance.admit(self.party, self.configuration.digest())

    def govern(self, *statements: bytes) -> None:
        """Statements stand in state after the next block."""
        for data in statements:
            self.statements.append(data)
            self.control = self.control.after(data)
        self.chain.produce(self.interval, {f"{INSTANCE}/control": {1: self.control.encode()}})
        self.chain.produce(self.interval)

    def ask(
        self, *requests: Request | bytes, lie: Callable[[InboxEntry], InboxEntry] = lambda entry: entry
    ) -> list[Shown]:
        """One block with these requests, and the one whose header proves it."""
        height = self.chain.height + 1
        shown, entries = [], []
        for request in requests:
            self.counter += 1
            body = request if isinstance(request, bytes) else request.encode()
            digest = request_digest(body)
            identity = request_id(
                first_header=self.chain.header_hash(1), instance=INSTANCE, counter=self.counter, digest=digest
            )
            entries.append(lie(InboxEntry(self.counter, identity, digest)))
            shown.append(Shown(height, self.counter, identity, body, request))
        self.chain.produce(self.interval, {f"{INSTANCE}/inbox": {height: Inbox(tuple(entries)).encode()}})
        self.chain.produce(self.interval)
        return shown

    def write_record(self) -> None:
        self.chain.produce(self.interval, {f"{INSTANCE}/parties": {1: self.record.encode()}})
        self.chain.produce(self.interval)

    # --- what an honest host does ---

    async def advance(self, *, control: bool = True, statements: Sequence[bytes] | None = None) -> None:
        blocks = [self.chain.encoded(height) for height in range(self.sent_height + 1, self.chain.height + 1)]
        under = self.chain.height
        await self.keeper.advance(
            blocks,
            control=self.chain.value(INSTANCE, "control", 1, under=under) if control else b"",
            proof=self.chain.prove(INSTANCE, "control", 1).encode() if control else b"",
            statements=self.statements[self.sent_statements :] if statements is None else statements,
        )
        self.sent_height = self.chain.height
        if control:
            self.sent_statements = len(self.statements)

    async def freshen(self) -> None:
        self.chain.produce(self.interval, {f"{INSTANCE}/freshness": {1: self.keeper.ledger.nonce}})
        self.chain.produce(self.interval)
        await self.advance()
        self.keeper.ledger.freshen(self.chain.height, 1, self.chain.prove(INSTANCE, "freshness", 1).encode())

    def store(self, update: VaultUpdate | None) -> None:
        if update is not None:
            self.manifests[hashlib.sha256(update.manifest).digest()] = update.manifest
            for item in update.objects:
                self.objects[hashlib.sha256(item.data).digest()] = item

    async def open(
        self, *, objects: Sequence[StoredObject] | None = None, manifest: bytes | None = None
    ) -> VaultUpdate | None:
        self.write_record()
        await self.advance()
        stored = self.manifests.get(self.record.manifest or b"", b"")
        update = await self.keeper.open(
            self.chain.height,
            self.record.encode(),
            self.chain.prove(INSTANCE, "parties", 1).encode(),
            manifest=stored if manifest is None else manifest,
            objects=list(self.objects.values()) if objects is None else objects,
        )
        self.store(update)
        return update

    def land(self, pin: tuple[int, bytes]) -> None:
        """The contract notes a manifest, and with the first one the party's keys."""
        identity = self.keeper.vault.identity
        self.note(identity.evidence_key, identity.signing_key, pin)

    def note(self, evidence_key: bytes, signing_key: bytes, pin: tuple[int, bytes]) -> None:
        """The contract notes these keys, and a manifest's number and digest."""
        self.record = replace(
            self.record,
            evidence_key=evidence_key,
            signing_key=signing_key,
            manifest_serial=pin[0],
            manifest=pin[1],
        )

    async def bring_up(self) -> None:
        """Everything up to an open vault."""
        if not self.statements:
            self.govern(self.governance.set_coprocessors(self.coprocessors.policy), self.admission())
        await self.advance()
        await self.freshen()
        await self.open()
        self.land(self.keeper.vault.pin)

    async def show(self, height: int) -> None:
        self.keeper.ledger.show_inbox(
            height,
            self.chain.height,
            self.chain.value(INSTANCE, "inbox", height),
            self.chain.prove(INSTANCE, "inbox", height).encode(),
        )

    async def process(self, shown: Shown, *ciphertexts: bytes, body: bytes | None = None) -> Outcome:
        """Advance, show the inbox, process one request of it."""
        await self.advance()
        await self.show(shown.height)
        request = Body(shown.counter, shown.body if body is None else body, ciphertexts)
        outcomes, update = await self.keeper.process(shown.height, [request])
        self.store(update)
        return outcomes[0]

    def open_answer(self, outcome: Outcome) -> Answer:
        assert not outcome.code, f"{outcome.code}: {outcome.detail}"
        return Answer.open(outcome.answer, evidence_key=self.keeper.vault.identity.evidence_key)

    async def generate(self, terms: KeyTerms = TERMS) -> bytes:
        """A key, final on the chain."""
        statement = self.governance.keygen(terms)
        self.govern(statement)
        (asked,) = self.ask(Keygen(statement))
        answer = self.open_answer(await self.process(asked))
        assert answer.core.refusal is None, answer.core.refusal
        self.land(answer.context.manifest)
        return asked.id

    # --- requests ---

    def bind(self, key_id: bytes, data: bytes, *, number: int = 1, fhe_type: int = 5, **other: Any) -> Ciphertext:
        handle = number.to_bytes(32, "big")
        how = {"owner": self.alice.address, "terms": TERMS, **other}
        return self.coprocessors.bind(handle, data, key_id=key_id, fhe_type=fhe_type, **how)

    def public(self, key_id: bytes, *packed: bytes, fhe_type: int = 5, **other: Any) -> PublicDecrypt:
        items = tuple(self.bind(key_id, data, number=n, fhe_type=fhe_type, **other) for n, data in enumerate(packed, 1))
        return PublicDecrypt(key_id, items)
