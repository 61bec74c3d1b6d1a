"""The only place that knows where the contract keeps what it must find quickly.

Collections are proven and stand in `cipherkeep_attestation.statements.layout`. Indexes are not; everybody can look into
them (`/index/INSTANCE/NAME` with the key) and must check what is found against something proven:

| index | key | value |
| --- | --- | --- |
| `policy` | `genesis`, `coprocessors`, `releases` | the genesis parameters; the bodies of the statements in force |
| `ids` | id of a request | its counter |
| `origins` | origin of a request | counter of the request that stands for it |
| `bodies` | counter | the request's bytes, until some time after it is finished; those that made a key stay |
| `pending` | counter | `[sender, height at which it expires]` |
| `votes` | counter ‖ party | `Vote` |
| `answers` | counter | `[[party, SHA-256 of the signed answer, size], …]`: those that made it final |
| `parts` | SHA-256 of a signed answer ‖ number from 0, 2 bytes | a part of it |
| `keys` | key id | `KeyRow` |
| `keys` | (empty) | `[key id, …]` in the order in which they became final |
| `statements` | SHA-256 of a signed statement | its serial number |
| `names` | name of a party | its index |
| `holders` | an evidence or signing key | index of the party that registered it |
| `registrations` | index of a party | height of the block that took its newest registration in ‖ the registration |
| `nonces` | sender | the key of its place in `freshness` |
| `hashes` | height | hash of that block, for the newest ones |
| `forks` | digest of a reported fork | height of the block that took the report |
| `queue` | height ‖ 0 or 1 ‖ counter | at that height the request expires (0), or its body is dropped (1) |
| `counts` | `pending`, sender | open requests of all, and of a sender |
| `counts` | `inboxed`, `keygens` | last counter in an inbox; key generations that governance decided |

Numbers in keys are eight bytes, big-endian; numbers as values too.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from cipherkeep_attestation import cbor
from cipherkeep_attestation.statements import layout
from cipherkeep_attestation.statements.configuration import Genesis
from cipherkeep_attestation.statements.governance import Coprocessors, KeyTerms, Releases
from cipherkeep_attestation.statements.layout import Control, PartyRecord, RequestRecord

from cipherkeep_host.contracts.fhevm.limits import LIMITS
from cipherkeep_host.contracts.interface import Collection, ContractRefusal, ContractState, Index

GENESIS, COPROCESSORS, RELEASES = b"genesis", b"coprocessors", b"releases"
PENDING, INBOXED, KEYGENS = b"pending", b"inboxed", b"keygens"
EXPIRY, DROP = 0, 1


def number(value: int) -> bytes:
    """Eight bytes, big-endian."""
    return value.to_bytes(8, "big")


@lru_cache(maxsize=16)
def _genesis(data: bytes) -> tuple[Genesis, bytes]:
    genesis = Genesis.decode(data)
    return genesis, genesis.digest()


@dataclass(frozen=True, slots=True)
class Vote:
    """What a party said about a request. A party that said two things has no vote: it is void."""

    core: bytes  # SHA-256
    agreement: bytes
    answer: bytes  # SHA-256 of the signed answer
    size: int  # of the signed answer, bytes
    refusal: bool
    void: bool = False

    def encode(self) -> bytes:
        """Deterministic CBOR."""
        return cbor.encode({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def decode(cls, data: bytes) -> Vote:
        """Read what `encode` writes."""
        digest = cbor.raw(32)
        found = cbor.fields(
            cbor.decode(data),
            agreement=digest,
            answer=digest,
            core=digest,
            refusal=cbor.boolean,
            size=cbor.uint(),
            void=cbor.boolean,
        )
        return cls(**found)


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key: counter of its request, serial number and body of its statement, whether governance retired it."""

    counter: int
    serial: int
    terms: KeyTerms
    retired: bool = False

    def encode(self) -> bytes:
        """Deterministic CBOR."""
        return cbor.encode(
            {"counter": self.counter, "retired": self.retired, "serial": self.serial, "terms": self.terms.to_map()}
        )

    @classmethod
    def decode(cls, data: bytes) -> KeyRow:
        """Read what `encode` writes."""
        found = cbor.fields(
            cbor.decode(data),
            counter=cbor.uint(least=1),
            retired=cbor.boolean,
            serial=cbor.uint(least=1),
            terms=cbor.anything,
        )
        found["terms"] = KeyTerms.of_map(found["terms"])
        return cls(**found)


class Records:
    """One instance's state, typed."""

    __slots__ = ("state",)

    def __init__(self, state: ContractState) -> None:
        self.state = state

    def collection(self, name: str) -> Collection:
        """One of the layout's collections."""
        return self.state.collection(name)

    def index(self, name: str) -> Index:
        """One of the indexes above."""
        return self.state.index(name)

    # --- policy ---

    def genesis(self) -> tuple[Genesis, bytes]:
        """The genesis parameters and their SHA-256."""
        data = self.index("policy").get(GENESIS)
        assert data is not None
        return _genesis(data)

    def control(self) -> Control:
        """The control leaf; it stands since genesis."""
        data = self.collection(layout.CONTROL).get(layout.CONTROL_KEY)
        assert data is not None
        return Control.decode(data)

    def coprocessors(self) -> Coprocessors | None:
        """The set in force."""
        data = self.index("policy").get(COPROCESSORS)
        return None if data is None else Coprocessors.of_map(cbor.decode(data))

    def releases(self) -> Releases | None:
        """The releases in force."""
        data = self.index("policy").get(RELEASES)
        return None if data is None else Releases.of_map(cbor.decode(data))

    def serial_of(self, statement: bytes) -> int | None:
        """The serial number of a statement that stands in state, byte for byte."""
        return self._number("statements", hashlib.sha256(statement).digest())

    # --- parties ---

    def party_named(self, name: str) -> tuple[int, PartyRecord]:
        """Index and record of an admitted party. `ContractRefusal("fhevm.party_unknown")`."""
        index = self._number("names", name.encode())
        if index is None:
            raise ContractRefusal("fhevm.party_unknown", name)
        record = self.party(index)
        assert record is not None
        return index, record

    def party(self, index: int) -> PartyRecord | None:
        """The record of an admitted party."""
        data = self.collection(layout.PARTIES).get(index)
        return None if data is None else PartyRecord.decode(data)

    def put_party(self, index: int, record: PartyRecord) -> None:
        """Write a party's record."""
        self.collection(layout.PARTIES).put(index, record.encode())

    # --- requests ---

    def counter_of(self, request_id: bytes) -> int | None:
        """The counter of a request of this instance."""
        return self._number("ids", request_id)

    def request(self, counter: int) -> RequestRecord:
        """The record of a request that exists."""
        data = self.collection(layout.REQUESTS).get(counter)
        assert data is not None
        return RequestRecord.decode(data)

    def put_request(self, counter: int, record: RequestRecord) -> None:
        """Write a request's record."""
        self.collection(layout.REQUESTS).put(counter, record.encode())

    def key(self, key_id: bytes) -> KeyRow | None:
        """A key whose generation is final."""
        data = self.index("keys").get(key_id) if key_id else None
        return None if data is None else KeyRow.decode(data)

    def key_ids(self) -> list[bytes]:
        """All keys' ids."""
        data = self.index("keys").get(b"")
        return [] if data is None else list(cbor.fields({"ids": cbor.decode(data)}, ids=_KEY_IDS)["ids"])

    def add_key(self, key_id: bytes, row: KeyRow) -> None:
        """A key is final."""
        self.index("keys").put(key_id, row.encode())
        self.index("keys").put(b"", cbor.encode([*self.key_ids(), key_id]))

    # --- votes ---

    def vote(self, counter: int, party: int) -> Vote | None:
        """What this party said about this request."""
        data = self.index("votes").get(number(counter) + number(party))
        return None if data is None else Vote.decode(data)

    def put_vote(self, counter: int, party: int, vote: Vote) -> None:
        """Write a vote."""
        self.index("votes").put(number(counter) + number(party), vote.encode())

    def votes(self, counter: int) -> list[tuple[int, Vote]]:
        """All votes on a request, by party."""
        parties = range(1, self.collection(layout.PARTIES).last_key() + 1)
        votes = ((index, self.vote(counter, index)) for index in parties)
        return [(index, vote) for index, vote in votes if vote is not None]

    def put_answer(self, digest: bytes, data: bytes) -> None:
        """Keep a signed answer's bytes."""
        for place, start in enumerate(range(0, len(data), LIMITS.part)):
            self.index("parts").put(digest + place.to_bytes(2, "big"), data[start : start + LIMITS.part])

    def drop_answer(self, digest: bytes, size: int) -> None:
        """Forget a signed answer's bytes."""
        for place in range(-(-size // LIMITS.part)):
            self.index("parts").delete(digest + place.to_bytes(2, "big"))

    # --- numbers ---

    def count(self, name: bytes) -> int:
        """A number of `counts`, 0 where none was written."""
        return self._number("counts", name) or 0

    def set_count(self, name: bytes, value: int) -> None:
        """Write a number of `counts`."""
        if value:
            self.index("counts").put(name, number(value))
        else:
            self.index("counts").delete(name)

    def enqueue(self, height: int, kind: int, counter: int) -> None:
        """Something is to be done at a height."""
        self.index("queue").put(queue_key(height, kind, counter), b"\x01")

    def _number(self, index: str, key: bytes) -> int | None:
        data = self.index(index).get(key)
        return None if data is None else int.from_bytes(data, "big")


_KEY_IDS = cbor.sequence(cbor.raw(32), LIMITS.keys)


def read_pending(data: bytes) -> tuple[bytes, int]:
    """Sender and height of expiry of an entry of `pending`."""
    value = cbor.decode(data)
    sender, expires = value if isinstance(value, list) else (None, None)
    found = cbor.fields({"sender": sender, "expires": expires}, sender=cbor.raw(32), expires=cbor.uint())
    return found["sender"], found["expires"]


def queue_key(height: int, kind: int, counter: int) -> bytes:
    """The key of an entry of `queue`."""
    return number(height) + bytes((kind,)) + number(counter)
