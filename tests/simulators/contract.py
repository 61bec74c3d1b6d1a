"""A chain with one instance of the contract `fhevm` and nothing else: blocks are made on demand, on the real state.

    world = World(tmp_path / "state", parties=4, answers=3)
    world.set_up()                                        # coprocessors, releases, parties, one key
    found = world.ask("public_decrypt", world.public([7]))          # one block with one request
    world.vote([party.answer(party.public_core(found.id, asked, [7]), world.head) for party in world.parties])

A block's messages are (name, body) or (name, body, sender); each is a transaction of its own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cipherkeep_attestation import cbor
from cipherkeep_attestation.chain.header import Timestamp
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements import layout
from cipherkeep_attestation.statements.binding import Ciphertext
from cipherkeep_attestation.statements.governance import KeyTerms, Release
from cipherkeep_attestation.statements.layout import Control, Inbox, PartyRecord, RequestRecord
from cipherkeep_attestation.statements.request import Keygen, Origin, PublicDecrypt, Request, UserDecrypt
from cipherkeep_host.chain.state import State
from cipherkeep_host.contracts.fhevm import Fhevm
from cipherkeep_host.contracts.interface import Context, ContractRefusal, ContractState

from tests.simulators.attestation import PCRS, SimulatedPlatform
from tests.simulators.coprocessor import TERMS, SimulatedCoprocessors, SimulatedUser
from tests.simulators.governance import SimulatedGovernance
from tests.simulators.party import SimulatedParty, configuration

START = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
CHAIN_ID = "simulated-1"
SENDER = b"\x5e" * 32
RELEASE = Release("v1", PCRS[0], PCRS[1], PCRS[2])
NAMES = ("alpha", "beta", "gamma", "delta")


@dataclass(frozen=True)
class Outcome:
    """What became of a message: its data, or the code that refused it."""

    code: str
    data: bytes = b""
    detail: str = ""

    @property
    def value(self) -> Any:
        assert self.code == "ok", f"{self.code}: {self.detail}"
        return cbor.decode(self.data)


@dataclass(frozen=True)
class Found:
    """The result of a request that was accepted."""

    counter: int
    id: bytes
    state: str
    duplicate: bool


class World:
    """The chain, its governors, coprocessors, parties and users."""

    def __init__(self, path: Path, *, parties: int = 1, instance: str = "one", **genesis: Any) -> None:
        self.platform = SimulatedPlatform(at=START)
        self.instance = instance
        roots = (self.platform.root().certificate_der,)
        self.governance = SimulatedGovernance(instance=instance, roots=roots, **genesis)
        self.coprocessors = SimulatedCoprocessors()
        self.alice, self.bob = SimulatedUser("alice"), SimulatedUser("bob")
        self.parties = [
            SimulatedParty(name, index, self.platform, self.configured(name))
            for index, name in enumerate(NAMES[:parties], 1)
        ]
        self.contract = Fhevm()
        self.state = State(path)
        block = self.state.begin(0)
        for name in Fhevm.collections:
            block.create_collection(instance, name)
        Fhevm.create(ContractState(block, instance), self.governance.genesis.encode())
        self.state.commit(block, time=Timestamp.of(START), chain_id=CHAIN_ID, genesis_hash=b"")
        self.key_id = b""
        self.keygen = Keygen(b"")  # the request that the newest key came from
        self.block()

    # --- blocks ---

    @property
    def height(self) -> int:
        return self.state.height

    @property
    def now(self) -> datetime:
        return self.time(self.height)

    @property
    def seconds(self) -> int:
        return int(self.now.timestamp())

    def time(self, height: int) -> datetime:
        return START + timedelta(seconds=height)

    def hash(self, height: int) -> bytes:
        return hashlib.sha256(f"{CHAIN_ID} block {height}".encode()).digest()

    @property
    def head(self) -> tuple[int, bytes]:
        """The newest header, under which an honest enclave answers."""
        return self.height, self.hash(self.height)

    def context(self, height: int, sender: bytes = b"") -> Context:
        return Context(
            height,
            Timestamp.of(self.time(height)),
            CHAIN_ID,
            self.hash(1),
            self.instance,
            sender,
            self.hash(height),
        )

    def block(self, *messages: tuple[Any, ...]) -> list[Outcome]:
        """Make the next block; what became of each message."""
        height = self.height + 1
        block = self.state.begin(height)
        view = ContractState(block, self.instance)
        self.contract.begin_block(view, self.context(height))
        outcomes = []
        for name, body, *sender in messages:
            savepoint = block.savepoint()
            try:
                context = self.context(height, sender[0] if sender else SENDER)
                data = self.contract.execute(view, context, name, body)
                outcomes.append(Outcome("ok", data))
            except (ContractRefusal, EvidenceError) as refusal:
                block.rollback(savepoint)
                outcomes.append(Outcome(refusal.code, detail=str(refusal)))
        self.contract.end_block(view, self.context(height))
        self.state.commit(block, time=Timestamp.of(self.time(height)), chain_id=CHAIN_ID, genesis_hash=self.hash(1))
        return outcomes

    def skip(self, blocks: int) -> None:
        for _ in range(blocks):
            self.block()

    # --- messages ---

    def govern(self, statement: bytes) -> str:
        return self.block(("govern", {"statement": statement}))[0].code

    def register(self, party: SimulatedParty, registration: bytes) -> str:
        return self.block(("register", {"party": party.name, "registration": registration}))[0].code

    def honest_registration(self, party: SimulatedParty, **other: Any) -> bytes:
        return party.register(self.height, self.hash(self.height), at=self.now, **other)

    def ask(self, request: Request, sender: bytes = SENDER) -> Found:
        """One block with one request, which must be accepted."""
        return Found(**self.block((request.operation, {"request": request.encode()}, sender))[0].value)

    def refused(self, request: Request) -> str:
        """One block with one request; the code that refused it, `ok` if none did."""
        return self.block((request.operation, {"request": request.encode()}))[0].code

    def vote(self, answers: list[bytes]) -> list[str]:
        """One block with one message of answers; their verdicts."""
        return [verdict for _, verdict in self.block(("answer", {"answers": answers}))[0].value]

    # --- what an honest world does ---

    def configured(self, name: str, **other: Any) -> Any:
        return configuration(
            name,
            genesis=self.governance.genesis,
            platform=self.platform,
            chain_id=CHAIN_ID,
            header=self.hash(1),
            instance=self.instance,
            **other,
        )

    def set_up(self, terms: KeyTerms = TERMS) -> bytes:
        """Coprocessors, releases, parties, one key; its id."""
        assert self.govern(self.governance.set_coprocessors(self.coprocessors.policy)) == "ok"
        assert self.govern(self.governance.set_releases(RELEASE)) == "ok"
        for party in self.parties:
            assert self.govern(self.governance.admit(party.name, party.configuration.digest())) == "ok"
            assert self.register(party, self.honest_registration(party)) == "ok"
        self.key_id = self.generate(terms)
        return self.key_id

    def generate(self, terms: KeyTerms = TERMS) -> bytes:
        statement = self.governance.keygen(terms)
        assert self.govern(statement) == "ok"
        self.keygen = Keygen(statement)
        found = self.ask(self.keygen)
        self.block()
        answers = [
            party.answer(party.keygen_core(found.id, self.keygen, terms=terms), self.head) for party in self.parties
        ]
        assert "final" in self.vote(answers)
        return found.id

    def ciphertext(self, number: int = 1, **other: Any) -> Ciphertext:
        handle = number.to_bytes(32, "big")
        how = {"key_id": self.key_id, "owner": self.alice.address, **other}
        return self.coprocessors.bind(handle, b"ciphertext %d" % number, **how)

    def public(self, *numbers: int, source: Origin | None = None, **other: Any) -> PublicDecrypt:
        """A request for the ciphertexts of these numbers."""
        items = tuple(self.ciphertext(number, **other) for number in numbers)
        return PublicDecrypt(self.key_id, items, b"", source)

    def user(self, *numbers: int, by: SimulatedUser | None = None, **other: Any) -> UserDecrypt:
        """Alice's request for her ciphertexts of these numbers, or another's."""
        items = tuple(self.ciphertext(number) for number in numbers)
        return (by or self.alice).request(self.key_id, *items, start=self.seconds - 60, **other)

    # --- what stands in state ---

    def value(self, collection: str, key: int) -> bytes | None:
        return self.state.collection(self.instance, collection).get(key)

    def record(self, counter: int) -> RequestRecord:
        data = self.value(layout.REQUESTS, counter)
        assert data is not None
        return RequestRecord.decode(data)

    def party_record(self, index: int) -> PartyRecord:
        data = self.value(layout.PARTIES, index)
        assert data is not None
        return PartyRecord.decode(data)

    def control(self) -> Control:
        data = self.value(layout.CONTROL, layout.CONTROL_KEY)
        assert data is not None
        return Control.decode(data)

    def inbox(self, height: int) -> Inbox | None:
        data = self.value(layout.INBOX, height)
        return None if data is None else Inbox.decode(data)

    def index(self, name: str, key: bytes) -> bytes | None:
        return self.state.index(self.instance, name).get(key)
