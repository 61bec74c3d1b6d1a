"""The only place that names the collections of a contract instance and the values in them.

| collection | key | value |
| --- | --- | --- |
| `control` | 1 | `Control`: number of governance statements, the hash over all of them, a fork that is not lifted |
| `statements` | serial number, from 1 | a signed governance statement |
| `inbox` | height of a block | `Inbox`: the requests of that block |
| `requests` | counter, from 1 | `RequestRecord` |
| `parties` | index, from 1 | `PartyRecord` |
| `freshness` | a sender's place, from 1 | the nonce that the sender wrote last (32 bytes); only the value counts |
| `equivocations` | counter, from 1 | `Equivocation`: two different cores of one party for one request |
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Malformed

CONTROL, STATEMENTS, INBOX, REQUESTS = "control", "statements", "inbox", "requests"
PARTIES, FRESHNESS, EQUIVOCATIONS = "parties", "freshness", "equivocations"
COLLECTIONS = (CONTROL, STATEMENTS, INBOX, REQUESTS, PARTIES, FRESHNESS, EQUIVOCATIONS)
CONTROL_KEY = 1
MAX_INBOX = 1000  # requests of one block
_DIGEST = cbor.raw(32)


@dataclass(frozen=True, slots=True)
class Control:
    """The control leaf: `statements` is h_n with h_0 = 32 zero bytes, h_i = SHA-256(h_{i-1} ‖ SHA-256(statement i)).

    `fork`: the digest of a fork that was proven to the chain and that governance has not lifted, or None.
    """

    serial: int = 0
    statements: bytes = bytes(32)
    fork: bytes | None = None

    def after(self, statement: bytes) -> Control:
        """The leaf once one more signed statement stands in state."""
        digest = hashlib.sha256(self.statements + hashlib.sha256(statement).digest()).digest()
        return replace(self, serial=self.serial + 1, statements=digest)

    def counts(self, other: Control) -> bool:
        """Whether both stand for the same statements."""
        return (self.serial, self.statements) == (other.serial, other.statements)

    def encode(self) -> bytes:
        """Deterministic CBOR."""
        return cbor.encode({"fork": self.fork, "serial": self.serial, "statements": self.statements})

    @classmethod
    def decode(cls, data: bytes) -> Control:
        """Read what `encode` writes."""
        found = cbor.fields(cbor.decode(data), fork=cbor.nullable(_DIGEST), serial=cbor.uint(), statements=_DIGEST)
        return cls(**found)


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """One request of a block: its counter, its id, the SHA-256 of its bytes."""

    counter: int
    id: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Inbox:
    """The requests of one block, in the order in which they were accepted."""

    entries: tuple[InboxEntry, ...]

    def encode(self) -> bytes:
        """Deterministic CBOR: an array of [counter, id, digest]."""
        return cbor.encode([[entry.counter, entry.id, entry.digest] for entry in self.entries])

    @classmethod
    def decode(cls, data: bytes) -> Inbox:
        """Read what `encode` writes; counters rise."""
        value = cbor.decode(data)
        if type(value) is not list or not 1 <= len(value) <= MAX_INBOX:
            raise Malformed("encoding.schema", "an inbox is an array of requests")
        entries = []
        for item in value:
            if type(item) is not list or len(item) != 3:
                raise Malformed("encoding.schema", "an inbox entry is [counter, id, digest]")
            found = cbor.fields(
                {"counter": item[0], "id": item[1], "digest": item[2]},
                counter=cbor.uint(least=1),
                id=_DIGEST,
                digest=_DIGEST,
            )
            entries.append(InboxEntry(**found))
        if any(entries[i].counter >= entries[i + 1].counter for i in range(len(entries) - 1)):
            raise Malformed("request.inbox_order")
        return cls(tuple(entries))


PENDING, FINAL, EXPIRED, REFUSED = "pending", "final", "expired", "refused"


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """A request's state. `agreement` and `answers` are set once it is final or refused: what was agreed, and, by party
    index, the SHA-256 of each signed answer that counted."""

    id: bytes
    digest: bytes
    operation: str
    height: int
    state: str
    agreement: bytes | None
    answers: tuple[tuple[int, bytes], ...]

    def encode(self) -> bytes:
        """Deterministic CBOR."""
        return cbor.encode(
            {
                "agreement": self.agreement,
                "answers": [[party, digest] for party, digest in self.answers],
                "digest": self.digest,
                "height": self.height,
                "id": self.id,
                "operation": self.operation,
                "state": self.state,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> RequestRecord:
        """Read what `encode` writes."""
        found = cbor.fields(
            cbor.decode(data),
            agreement=cbor.nullable(_DIGEST),
            answers=cbor.sequence(cbor.anything, 1000),
            digest=_DIGEST,
            height=cbor.uint(least=1),
            id=_DIGEST,
            operation=cbor.text(32),
            state=cbor.one_of(PENDING, FINAL, EXPIRED, REFUSED),
        )
        answers = []
        for item in found.pop("answers"):
            if type(item) is not list or len(item) != 2:
                raise Malformed("encoding.schema", "answers are [party, digest]")
            pair = cbor.fields({"party": item[0], "digest": item[1]}, party=cbor.uint(least=1), digest=_DIGEST)
            answers.append((pair["party"], pair["digest"]))
        return cls(answers=tuple(answers), **found)


@dataclass(frozen=True, slots=True)
class PartyRecord:
    """A party: admitted with a name and a configuration, then registered by an enclave that was measured with it.

    Admission with another configuration makes a registration lapse. Number and digest pin the vault's manifest.
    """

    name: str
    evidence_key: bytes | None  # Ed25519, 32 bytes; set by the first registration and never changed
    signing_key: bytes | None  # secp256k1, compressed, 33 bytes; likewise
    configuration: bytes  # SHA-384 of the configuration that its newest admission names; no other one registers
    measurements: bytes | None  # SHA-256 over dCBOR {0: PCR0, 1: PCR1, 2: PCR2} of the document
    registration: bytes | None  # SHA-256 of the registration; None with keys set: it lapsed, by image or admission
    manifest_serial: int  # 0: nothing was ever sealed
    manifest: bytes | None  # SHA-256 of the vault's manifest

    def encode(self) -> bytes:
        """Deterministic CBOR."""
        return cbor.encode({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def decode(cls, data: bytes) -> PartyRecord:
        """Read what `encode` writes."""
        return cls(
            **cbor.fields(
                cbor.decode(data),
                name=cbor.text(64),
                evidence_key=cbor.nullable(_DIGEST),
                signing_key=cbor.nullable(cbor.raw(33)),
                configuration=cbor.raw(48),
                measurements=cbor.nullable(_DIGEST),
                registration=cbor.nullable(_DIGEST),
                manifest_serial=cbor.uint(),
                manifest=cbor.nullable(_DIGEST),
            )
        )


@dataclass(frozen=True, slots=True)
class Equivocation:
    """A party signed two different cores for one request: the SHA-256 of both signed answers, the first one first."""

    counter: int
    id: bytes
    party: int
    first: bytes
    second: bytes

    def encode(self) -> bytes:
        """Deterministic CBOR."""
        return cbor.encode({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def decode(cls, data: bytes) -> Equivocation:
        """Read what `encode` writes."""
        found = cbor.fields(
            cbor.decode(data),
            counter=cbor.uint(least=1),
            first=_DIGEST,
            id=_DIGEST,
            party=cbor.uint(1000, least=1),
            second=_DIGEST,
        )
        return cls(**found)
