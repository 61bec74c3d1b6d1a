"""A chain that makes headers, commits, validator sets and state proofs on demand, honest ones and any others.

    chain = SimulatedChain(validators=4)
    client = LightClient(chain.root(), trusting_period=…, clock_drift=…, skipping=True)
    client.anchor(chain.light_block(1), now=chain.now)
    chain.set_state({"one/inbox": {7: b"value"}})
    chain.produce()                                   # block 2; its state stands under header 3
    client.step(chain.produce(), now=chain.now)       # block 3
    proof = chain.prove("one", "inbox", 7)            # against the newest header's app hash

An attack edits a draft of a block before or after it is signed:

    chain.forge(header={"time": (0, 0)})                                  # signed as it is
    chain.forge(after=lambda draft: draft.slots[0].update(flag=3))        # changed behind the signatures

What it makes is bytes, written and hashed by code of its own (recursive trees, an encoder that never
objects), so that agreement with the verifier means something. Times are (seconds, nanoseconds) since 1970.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cipherkeep_attestation.chain.header import LightBlock
from cipherkeep_attestation.chain.light import LightRoot
from cipherkeep_attestation.chain.state import StateProof
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SENTINEL = b"cipherkeep/sentinel"
YEAR_ONE = (-62_135_596_800, 0)
ABSENT, COMMIT, NIL = 1, 2, 3
PREVOTE, PRECOMMIT = 1, 2

Edit = Callable[["Draft"], object]
Collections = Mapping[str, Mapping[int, bytes]]


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


# --- protobuf: written without a question ---


def uvarint(value: int) -> bytes:
    """64 bits of any integer: what does not fit wraps around, as it does on the attacker's side."""
    value %= 1 << 64
    out = b""
    while value > 127:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def number(field_number: int, value: int) -> bytes:
    return uvarint(field_number * 8) + uvarint(value) if value % (1 << 64) else b""


def sized(field_number: int, value: bytes) -> bytes:
    return uvarint(field_number * 8 + 2) + uvarint(len(value)) + value if value else b""


def message(field_number: int, body: bytes) -> bytes:
    return uvarint(field_number * 8 + 2) + uvarint(len(body)) + body


def fixed(field_number: int, value: int) -> bytes:
    return uvarint(field_number * 8 + 1) + value.to_bytes(8, "little", signed=True) if value else b""


def timestamp(at: tuple[int, int]) -> bytes:
    return number(1, at[0]) + number(2, at[1])


# --- hash trees, top down ---


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 §2.1 as it is written there."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0])
    split = split_point(len(leaves))
    return sha256(b"\x01" + tree_root(leaves[:split]) + tree_root(leaves[split:]))


def split_point(count: int) -> int:
    split = 1
    while split * 2 < count:
        split *= 2
    return split


def audit_path(leaves: Sequence[bytes], index: int) -> list[tuple[bytes, bool]]:
    """Siblings from the leaf up, each with whether it is on the left."""
    if len(leaves) <= 1:
        return []
    split = split_point(len(leaves))
    if index < split:
        return [*audit_path(leaves[:split], index), (tree_root(leaves[split:]), False)]
    return [*audit_path(leaves[split:], index - split), (tree_root(leaves[:split]), True)]


def state_leaf(key: bytes, value: bytes) -> bytes:
    return uvarint(len(key)) + key + b"\x20" + sha256(value)


class Tree:
    """An ordered map with its root and its ICS-23 proofs."""

    def __init__(self, content: Mapping[bytes, bytes]) -> None:
        self.keys = sorted(content)
        self.content = dict(content)
        self.leaves = [state_leaf(key, content[key]) for key in self.keys]

    def root(self) -> bytes:
        return tree_root(self.leaves)

    def existence(self, key: bytes) -> bytes:
        """ics23.ExistenceProof."""
        index = self.keys.index(key)
        leaf_op = number(1, 1) + number(3, 1) + number(4, 1) + sized(5, b"\x00")
        body = sized(1, key) + sized(2, self.content[key]) + message(3, leaf_op)
        for sibling, left in audit_path(self.leaves, index):
            step = sized(2, b"\x01" + sibling) if left else sized(2, b"\x01") + sized(3, sibling)
            body += message(4, number(1, 1) + step)
        return body

    def prove(self, key: bytes) -> bytes:
        """ics23.CommitmentProof of existence."""
        return message(1, self.existence(key))

    def prove_absent(self, key: bytes) -> bytes:
        """ics23.CommitmentProof of absence, or, for a key that is there, a lie with its neighbours."""
        below = [other for other in self.keys if other < key]
        above = [other for other in self.keys if other > key]
        body = sized(1, key)
        body += message(2, self.existence(below[-1])) if below else b""
        body += message(3, self.existence(above[0])) if above else b""
        return message(2, body)


# --- drafts of blocks ---

HEADER_HASHES = (
    "last_commit_hash",
    "data_hash",
    "validators_hash",
    "next_validators_hash",
    "consensus_hash",
    "app_hash",
    "last_results_hash",
    "evidence_hash",
    "proposer_address",
)


@dataclass
class Signer:
    """A validator: its key and power, and what it claims about itself."""

    key: Ed25519PrivateKey
    power: int = 10
    public: bytes = b""
    address: bytes = b""

    def __post_init__(self) -> None:
        self.public = self.public or self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.address = self.address or sha256(self.public)[:20]

    @classmethod
    def named(cls, name: str, power: int = 10) -> Signer:
        """The validator whose key follows from its name."""
        return cls(Ed25519PrivateKey.from_private_bytes(sha256(name.encode())), power)

    def simple(self) -> bytes:
        """tendermint.types.SimpleValidator."""
        return message(1, sized(1, self.public)) + number(2, self.power)

    def encode(self) -> bytes:
        key = message(2, sized(1, self.public))
        return sized(1, self.address) + key + number(3, self.power)


def block_id(identity: Mapping[str, Any]) -> bytes:
    parts = number(1, identity["parts"]) + sized(2, identity["parts_hash"])
    return sized(1, identity["hash"]) + message(2, parts)


@dataclass
class Draft:
    """A light block that can be anything: its parts are plain dictionaries until it is encoded."""

    header: dict[str, Any]
    validators: list[Signer]
    commit: dict[str, Any] = field(default_factory=dict)
    slots: list[dict[str, Any]] = field(default_factory=list)

    def header_leaves(self) -> list[bytes]:
        h = self.header
        return [
            number(1, h["block_version"]) + number(2, h["app_version"]),
            sized(1, h["chain_id"].encode()),
            number(1, h["height"]),
            timestamp(h["time"]),
            block_id(h["last_block_id"]),
            *(sized(1, h[name]) for name in HEADER_HASHES),
        ]

    def hash(self) -> bytes:
        return tree_root(self.header_leaves())

    def seal(self, votes: Sequence[int] | None = None) -> None:
        """Name the header in a commit and have every validator vote: one flag for each, all COMMIT by default."""
        h = self.header
        identity = {"hash": self.hash(), "parts": 1, "parts_hash": sha256(b"parts" + self.hash())}
        self.commit = {"height": h["height"], "round": 0, "block_id": identity}
        seconds, nanos = h["time"]
        self.slots = []
        for index, validator in enumerate(self.validators):
            flag = COMMIT if votes is None else votes[index]
            slot: dict[str, Any] = {"flag": flag, "address": b"", "time": YEAR_ONE, "signature": b""}
            if flag != ABSENT:
                slot |= {"address": validator.address, "time": (seconds + 1, (nanos + index) % 10**9)}
            self.slots.append(slot)
        self.sign()

    def sign(self, *, kind: int = PRECOMMIT, chain_id: str | None = None) -> None:
        """Sign every slot that votes, as it stands, with its validator's key."""
        for slot, validator in zip(self.slots, self.validators, strict=False):
            if slot["flag"] != ABSENT:
                slot["signature"] = validator.key.sign(self.vote(slot, kind=kind, chain_id=chain_id))

    def vote(self, slot: Mapping[str, Any], *, kind: int = PRECOMMIT, chain_id: str | None = None) -> bytes:
        """CanonicalVote with its length before it."""
        chosen = message(4, block_id(self.commit["block_id"])) if slot["flag"] != NIL else b""
        body = number(1, kind) + fixed(2, self.commit["height"]) + fixed(3, self.commit["round"]) + chosen
        body += message(5, timestamp(slot["time"]))
        body += sized(6, (self.header["chain_id"] if chain_id is None else chain_id).encode())
        return uvarint(len(body)) + body

    def encode_header(self) -> bytes:
        h = self.header
        body = message(1, number(1, h["block_version"]) + number(2, h["app_version"]))
        body += sized(2, h["chain_id"].encode()) + number(3, h["height"])
        body += message(4, timestamp(h["time"])) + message(5, block_id(h["last_block_id"]))
        return body + b"".join(sized(i, h[name]) for i, name in enumerate(HEADER_HASHES, 6))

    def encode_commit(self) -> bytes:
        body = number(1, self.commit["height"]) + number(2, self.commit["round"])
        body += message(3, block_id(self.commit["block_id"]))
        for slot in self.slots:
            signature = sized(2, slot["address"]) + message(3, timestamp(slot["time"])) + sized(4, slot["signature"])
            body += message(4, number(1, slot["flag"]) + signature)
        return body

    def encode_validators(self) -> bytes:
        return b"".join(message(1, validator.encode()) for validator in self.validators)

    def encode(self) -> bytes:
        """tendermint.types.LightBlock."""
        signed = message(1, self.encode_header()) + message(2, self.encode_commit())
        return message(1, signed) + message(2, self.encode_validators())

    def rename(self) -> None:
        """Let the header name the validators as they stand, in this block and as the next set."""
        root = tree_root([validator.simple() for validator in self.validators])
        self.header |= {"validators_hash": root, "next_validators_hash": root}


def in_order(validators: Sequence[Signer]) -> list[Signer]:
    return sorted(validators, key=lambda validator: (-validator.power, validator.address))


class SimulatedChain:
    """A chain with a clock that only `produce` and whoever sets `now` move. Block 1 exists from the start.

    `validators`: how many, of equal power, or the signers themselves. `state`: what stands after block 1.
    """

    def __init__(
        self,
        validators: int | Sequence[Signer] = 1,
        chain_id: str = "cipherkeep-test",
        *,
        start: datetime = datetime(2026, 1, 1, tzinfo=UTC),
        state: Collections | None = None,
    ) -> None:
        if isinstance(validators, int):
            validators = [Signer.named(f"{chain_id}/{index}") for index in range(validators)]
        self.chain_id = chain_id
        self.now = start
        self.validators = in_order(validators)
        self.next_validators = self.validators
        self.state: dict[str, dict[int, bytes]] = {}
        self.drafts: list[Draft] = []
        self._after: list[dict[str, dict[int, bytes]]] = [{}]  # the state after block 0, 1, …
        self._branch = b""
        self.set_state(state or {})
        self.produce(0)

    # --- what an honest chain does ---

    @property
    def height(self) -> int:
        return len(self.drafts)

    def set_state(self, changes: Collections) -> None:
        """Write values into collections ("instance/collection"); the next block makes them part of its state."""
        for collection, values in changes.items():
            self.state.setdefault(collection, {0: SENTINEL}).update(values)

    def set_validators(self, validators: Sequence[Signer]) -> None:
        """The next block announces this set, the one after has it."""
        self.next_validators = in_order(validators)

    def produce(self, seconds: float = 1, changes: Collections | None = None) -> LightBlock:
        """Make the next block, `seconds` later. The state as of now is provable under the header after it."""
        self.now += timedelta(seconds=seconds)
        self.set_state(changes or {})
        draft = self.draft()
        draft.seal()
        self.drafts.append(draft)
        self._after.append(copy.deepcopy(self.state))
        self.validators = self.next_validators
        return self.light_block(self.height)

    def light_block(self, height: int) -> LightBlock:
        return LightBlock.decode(self.encoded(height))

    def encoded(self, height: int) -> bytes:
        """The light block's bytes, as a host would send them."""
        return self.drafts[height - 1].encode()

    def header_hash(self, height: int) -> bytes:
        return self.drafts[height - 1].hash()

    def app_hash(self, height: int | None = None) -> bytes:
        """The app hash in the header of this height, of the newest by default."""
        app_hash: bytes = self.drafts[(height or self.height) - 1].header["app_hash"]
        return app_hash

    def root(self, height: int = 1) -> LightRoot:
        return LightRoot(self.chain_id, height, self.header_hash(height))

    def prove(self, instance: str, collection: str, key: int, *, under: int | None = None) -> StateProof:
        """That the key is there, under the header of this height (the newest by default)."""
        top, trees = self._trees((under or self.height) - 1)
        name = f"{instance}/{collection}"
        return StateProof(top.prove(name.encode()), trees[name].prove(key.to_bytes(8, "big")), trees[name].root())

    def prove_absent(self, instance: str, collection: str, key: int, *, under: int | None = None) -> StateProof:
        """That the key is not there; for one that is, the lie made of its neighbours."""
        top, trees = self._trees((under or self.height) - 1)
        name, at = f"{instance}/{collection}", key.to_bytes(8, "big")
        return StateProof(top.prove(name.encode()), trees[name].prove_absent(at), trees[name].root())

    def value(self, instance: str, collection: str, key: int, *, under: int | None = None) -> bytes:
        """What stands there under the header of this height (the newest by default)."""
        return self._after[(under or self.height) - 1][f"{instance}/{collection}"][key]

    # --- what an attacker does ---

    def fork_at(self, height: int) -> SimulatedChain:
        """Another chain of the same validators with the same blocks up to this height, and others from there on."""
        other = copy.copy(self)
        other.drafts = self.drafts[:height]
        other._after = self._after[: height + 1]
        other.state = copy.deepcopy(self._after[height])
        other._branch = sha256(self._branch + b"fork")
        seconds, nanos = self.drafts[height - 1].header["time"]
        other.now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=nanos // 1000)
        other.validators = self.drafts[height].validators if height < self.height else self.validators
        return other

    def forge(self, **how: Any) -> bytes:
        """The bytes of a block that `forge_draft` makes."""
        return self.forge_draft(**how).encode()

    def forge_draft(
        self,
        *,
        height: int | None = None,
        header: Mapping[str, Any] | None = None,
        validators: Sequence[Signer] | None = None,
        votes: Sequence[int] | None = None,
        before: Edit | None = None,
        after: Edit | None = None,
    ) -> Draft:
        """A block (the next, or one already made) with changes. The chain itself goes on unchanged.

        `header` fields, `validators` (the header names them unless it says otherwise) and `before` come
        before the commit is made and signed, with `votes` as flags; `after` changes whatever it likes behind
        the signatures.
        """
        draft = copy.copy(self.drafts[height - 1]) if height else self.draft(self.now + timedelta(seconds=1))
        draft.header = copy.deepcopy(draft.header)
        if validators is not None:
            draft.validators = list(validators)
            draft.rename()
        else:
            draft.validators = [copy.copy(validator) for validator in draft.validators]
        draft.header.update(header or {})
        if before is not None:
            before(draft)
        draft.seal(votes)
        if after is not None:
            after(draft)
        return draft

    def draft(self, at: datetime | None = None) -> Draft:
        """The next block before anybody signed it."""
        since = (at or self.now) - datetime(1970, 1, 1, tzinfo=UTC)
        previous = self.drafts[-1] if self.drafts else None
        empty = {"hash": b"", "parts": 0, "parts_hash": b""}
        header = {
            "block_version": 11,
            "app_version": 1,
            "chain_id": self.chain_id,
            "height": self.height + 1,
            "time": (since.days * 86_400 + since.seconds, since.microseconds * 1000),
            "last_block_id": previous.commit["block_id"] if previous else empty,
            "last_commit_hash": sha256(previous.encode_commit() if previous else b""),
            "data_hash": sha256(self._branch),
            "validators_hash": tree_root([validator.simple() for validator in self.validators]),
            "next_validators_hash": tree_root([validator.simple() for validator in self.next_validators]),
            "consensus_hash": sha256(b"consensus parameters"),
            "app_hash": self._trees(self.height)[0].root(),
            "last_results_hash": sha256(b""),
            "evidence_hash": sha256(b""),
            "proposer_address": self.validators[self.height % len(self.validators)].address,
        }
        return Draft(header, list(self.validators))

    def _trees(self, after: int) -> tuple[Tree, dict[str, Tree]]:
        """The top tree and the collections' trees as of the end of this block."""
        counters = {
            name: Tree({key.to_bytes(8, "big"): value for key, value in values.items()})
            for name, values in self._after[after].items()
        }
        return Tree({name.encode(): tree.root() for name, tree in counters.items()}), counters
