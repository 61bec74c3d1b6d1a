"""The only place that reads light blocks: a header, the commit that vouches for it, who signed.

Every type checks its own ranges when it is made, whether it was decoded or not, so that no arithmetic further
on meets a voting power, height or time that the chain's own 64-bit integers could not hold. What no hash
covers (proposer priorities, the cached total, the named proposer) has no field here and is refused in the
encoding.

Sources: CometBFT v0.38 specification, core/data_structures and core/encoding.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum

from cipherkeep_attestation.chain import merkle, protobuf
from cipherkeep_attestation.chain.protobuf import Kind
from cipherkeep_attestation.errors import Malformed

BLOCK_VERSION = 11  # of the block protocol of CometBFT 0.38
MAX_INT64 = (1 << 63) - 1
MAX_POWER = MAX_INT64 // 8  # of a whole set: leaves room for the arithmetic of others
PRECOMMIT = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a light block may be before it is read."""

    light_block: int = 1 << 18  # bytes; about 180 for each validator
    validators: int = 1000  # in a set; their signatures take a quarter of a second to check
    chain_id: int = 50  # characters, CometBFT's own limit
    app_hash: int = 64  # bytes; its length belongs to the application


LIMITS = Limits()


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """A time of the chain: seconds since 1970 and nanoseconds, UTC, years 1 to 9999."""

    seconds: int
    nanos: int = 0

    def __post_init__(self) -> None:
        if not -62_135_596_800 <= self.seconds <= 253_402_300_799 or not 0 <= self.nanos <= 999_999_999:
            raise Malformed("lightclient.time_range", f"{self.seconds} s, {self.nanos} ns"[:80])

    @classmethod
    def of(cls, at: datetime) -> Timestamp:
        """The same time; `at` must know its zone."""
        since = at - datetime(1970, 1, 1, tzinfo=UTC)
        return cls(since.days * 86_400 + since.seconds, since.microseconds * 1000)

    def after(self, other: Timestamp) -> int:
        """How many nanoseconds later than `other` this is; an integer, which ends at no year."""
        return (self.seconds - other.seconds) * 1_000_000_000 + self.nanos - other.nanos

    @property
    def datetime(self) -> datetime:
        """The same time, cut to microseconds."""
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds, microseconds=self.nanos // 1000)

    def encode(self) -> bytes:
        """google.protobuf.Timestamp."""
        return protobuf.put_integer(1, self.seconds) + protobuf.put_integer(2, self.nanos)

    @classmethod
    def decode(cls, data: bytes) -> Timestamp:
        """Read google.protobuf.Timestamp."""
        found = protobuf.decode(data, {1: Kind.VARINT, 2: Kind.VARINT})
        return cls(protobuf.signed(found, 1), protobuf.signed(found, 2))


def nanoseconds(duration: timedelta) -> int:
    """A duration in the unit of `Timestamp.after`."""
    return duration // timedelta(microseconds=1) * 1000


ZERO_TIME = Timestamp(-62_135_596_800)  # the start of year 1: what an absent signature carries


@dataclass(frozen=True, slots=True)
class BlockId:
    """Names a block by the hash of its header and the root over its parts. All empty before the first."""

    hash: bytes = b""
    parts: int = 0
    parts_hash: bytes = b""

    def __post_init__(self) -> None:
        complete = len(self.hash) == 32 and len(self.parts_hash) == 32 and 1 <= self.parts < 1 << 32
        if not complete and (self.hash or self.parts or self.parts_hash):
            raise Malformed("lightclient.block_id")

    def encode(self) -> bytes:
        """tendermint.types.BlockID; CanonicalBlockID has the same fields."""
        parts = protobuf.put_integer(1, self.parts) + protobuf.put_bytes(2, self.parts_hash)
        return protobuf.put_bytes(1, self.hash) + protobuf.put_message(2, parts)

    @classmethod
    def decode(cls, data: bytes) -> BlockId:
        """Read tendermint.types.BlockID."""
        found = protobuf.decode(data, {1: Kind.BYTES, 2: Kind.MESSAGE})
        parts = protobuf.decode(protobuf.octets(found, 2), {1: Kind.VARINT, 2: Kind.BYTES})
        return cls(protobuf.octets(found, 1), protobuf.integer(parts, 1), protobuf.octets(parts, 2))


_HEADER = {1: Kind.MESSAGE, 2: Kind.BYTES, 3: Kind.VARINT, 4: Kind.MESSAGE, 5: Kind.MESSAGE}
_HEADER |= dict.fromkeys(range(6, 15), Kind.BYTES)


@dataclass(frozen=True, slots=True)
class Header:
    """A block's header. `time` is the median of its parent's votes; `app_hash` the state before the block."""

    app_version: int
    chain_id: str
    height: int
    time: Timestamp
    last_block_id: BlockId
    last_commit_hash: bytes
    data_hash: bytes
    validators_hash: bytes
    next_validators_hash: bytes
    consensus_hash: bytes
    app_hash: bytes
    last_results_hash: bytes
    evidence_hash: bytes
    proposer_address: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.app_version < 1 << 64:
            raise Malformed("lightclient.app_version")
        if not 1 <= len(self.chain_id) <= LIMITS.chain_id or not self.chain_id.isascii():
            raise Malformed("lightclient.chain_id_form", f"{len(self.chain_id)} characters")
        if not 1 <= self.height <= MAX_INT64:
            raise Malformed("lightclient.height_range", str(self.height)[:40])
        for digest in (self.validators_hash, self.next_validators_hash, self.consensus_hash):
            if len(digest) != 32:
                raise Malformed("lightclient.hash_length", f"{len(digest)} bytes")
        for digest in (self.last_commit_hash, self.data_hash, self.last_results_hash, self.evidence_hash):
            if len(digest) not in (0, 32):
                raise Malformed("lightclient.hash_length", f"{len(digest)} bytes")
        if len(self.app_hash) > LIMITS.app_hash:
            raise Malformed("lightclient.hash_length", f"an app hash of {len(self.app_hash)} bytes")
        if len(self.proposer_address) != 20:
            raise Malformed("lightclient.proposer_address", f"{len(self.proposer_address)} bytes")

    def _hashes(self) -> tuple[bytes, ...]:
        """Fields 6 to 14, in order."""
        return (
            self.last_commit_hash,
            self.data_hash,
            self.validators_hash,
            self.next_validators_hash,
            self.consensus_hash,
            self.app_hash,
            self.last_results_hash,
            self.evidence_hash,
            self.proposer_address,
        )

    def _version(self) -> bytes:
        return protobuf.put_integer(1, BLOCK_VERSION) + protobuf.put_integer(2, self.app_version)

    def hash(self) -> bytes:
        """The block's hash: the Merkle root over the 14 fields, each as a message of its own."""
        leaves = [
            self._version(),
            protobuf.put_bytes(1, self.chain_id.encode()),
            protobuf.put_integer(1, self.height),
            self.time.encode(),
            self.last_block_id.encode(),
        ]
        leaves.extend(protobuf.put_bytes(1, value) for value in self._hashes())
        return merkle.root(leaves)

    def encode(self) -> bytes:
        """tendermint.types.Header."""
        head = (
            protobuf.put_message(1, self._version())
            + protobuf.put_bytes(2, self.chain_id.encode())
            + protobuf.put_integer(3, self.height)
            + protobuf.put_message(4, self.time.encode())
            + protobuf.put_message(5, self.last_block_id.encode())
        )
        return head + b"".join(protobuf.put_bytes(number, value) for number, value in enumerate(self._hashes(), 6))

    @classmethod
    def decode(cls, data: bytes) -> Header:
        """Read tendermint.types.Header."""
        found = protobuf.decode(data, _HEADER)
        version = protobuf.decode(protobuf.octets(found, 1), {1: Kind.VARINT, 2: Kind.VARINT})
        if protobuf.integer(version, 1) != BLOCK_VERSION:
            raise Malformed("lightclient.block_version", f"version {protobuf.integer(version, 1)}")
        try:
            chain_id = protobuf.octets(found, 2).decode()
        except UnicodeDecodeError:
            raise Malformed("protobuf.text") from None
        return cls(
            protobuf.integer(version, 2),
            chain_id,
            protobuf.signed(found, 3),
            Timestamp.decode(protobuf.octets(found, 4)),
            BlockId.decode(protobuf.octets(found, 5)),
            *(protobuf.octets(found, number) for number in range(6, 15)),
        )


class Flag(IntEnum):
    """What a validator did in the round that decided."""

    ABSENT = 1
    COMMIT = 2
    NIL = 3


@dataclass(frozen=True, slots=True)
class CommitSignature:
    """One slot of a commit: validator i's precommit for the block, or for nil, or nothing."""

    flag: Flag
    validator_address: bytes = b""
    time: Timestamp = ZERO_TIME
    signature: bytes = b""

    def __post_init__(self) -> None:
        if self.flag is Flag.ABSENT:
            if self.validator_address or self.signature or self.time != ZERO_TIME:
                raise Malformed("lightclient.absent_with_data")
        elif len(self.validator_address) != 20:
            raise Malformed("lightclient.address_length", f"{len(self.validator_address)} bytes")
        elif len(self.signature) != 64:
            raise Malformed("lightclient.signature_length", f"{len(self.signature)} bytes")

    def encode(self) -> bytes:
        """tendermint.types.CommitSig."""
        return (
            protobuf.put_integer(1, self.flag)
            + protobuf.put_bytes(2, self.validator_address)
            + protobuf.put_message(3, self.time.encode())
            + protobuf.put_bytes(4, self.signature)
        )

    @classmethod
    def decode(cls, data: bytes) -> CommitSignature:
        """Read tendermint.types.CommitSig."""
        found = protobuf.decode(data, {1: Kind.VARINT, 2: Kind.BYTES, 3: Kind.MESSAGE, 4: Kind.BYTES})
        flag = protobuf.integer(found, 1)
        if flag not in (1, 2, 3):
            raise Malformed("lightclient.flag", f"flag {flag}")
        time = Timestamp.decode(protobuf.octets(found, 3))
        return cls(Flag(flag), protobuf.octets(found, 2), time, protobuf.octets(found, 4))


@dataclass(frozen=True, slots=True)
class Commit:
    """The precommits of one round for one block. Slot i belongs to validator i of the block's set."""

    height: int
    round: int
    block_id: BlockId
    signatures: tuple[CommitSignature, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.height <= MAX_INT64:
            raise Malformed("lightclient.height_range", str(self.height)[:40])
        if not 0 <= self.round < 1 << 31:
            raise Malformed("lightclient.round_range", str(self.round)[:40])
        if not self.block_id.hash:
            raise Malformed("lightclient.block_id", "a commit names a block")
        if len(self.signatures) > LIMITS.validators:
            raise Malformed("lightclient.size", f"{len(self.signatures)} signatures")

    def encode(self) -> bytes:
        """tendermint.types.Commit."""
        return (
            protobuf.put_integer(1, self.height)
            + protobuf.put_integer(2, self.round)
            + protobuf.put_message(3, self.block_id.encode())
            + b"".join(protobuf.put_message(4, slot.encode()) for slot in self.signatures)
        )

    @classmethod
    def decode(cls, data: bytes) -> Commit:
        """Read tendermint.types.Commit."""
        found = protobuf.decode(data, {1: Kind.VARINT, 2: Kind.VARINT, 3: Kind.MESSAGE, 4: Kind.REPEATED})
        return cls(
            protobuf.signed(found, 1),
            protobuf.signed(found, 2),
            BlockId.decode(protobuf.octets(found, 3)),
            tuple(CommitSignature.decode(slot) for slot in protobuf.repeated(found, 4)),
        )


def vote_sign_bytes(chain_id: str, commit: Commit, slot: CommitSignature, *, kind: int = PRECOMMIT) -> bytes:
    """What the validator of `slot` signed: a length-prefixed CanonicalVote. A vote for nil names no block."""
    block = protobuf.put_message(4, commit.block_id.encode()) if slot.flag is Flag.COMMIT else b""
    vote = (
        protobuf.put_integer(1, kind)
        + protobuf.put_fixed64(2, commit.height)
        + protobuf.put_fixed64(3, commit.round)
        + block
        + protobuf.put_message(5, slot.time.encode())
        + protobuf.put_bytes(6, chain_id.encode())
    )
    return protobuf.varint(len(vote)) + vote


@dataclass(frozen=True, slots=True)
class Validator:
    """An Ed25519 key and its voting power."""

    public_key: bytes
    power: int

    def __post_init__(self) -> None:
        if len(self.public_key) != 32:
            raise Malformed("lightclient.key_type", f"a key of {len(self.public_key)} bytes")
        if not 1 <= self.power <= MAX_POWER:
            raise Malformed("lightclient.voting_power_range", str(self.power)[:40])

    @property
    def address(self) -> bytes:
        """The first 20 bytes of the key's SHA-256."""
        return hashlib.sha256(self.public_key).digest()[:20]

    def _key(self) -> bytes:
        return protobuf.put_bytes(1, self.public_key)

    def leaf(self) -> bytes:
        """tendermint.types.SimpleValidator: what the set's hash covers."""
        return protobuf.put_message(1, self._key()) + protobuf.put_integer(2, self.power)

    def encode(self) -> bytes:
        """tendermint.types.Validator without its priority."""
        key = protobuf.put_message(2, self._key())
        return protobuf.put_bytes(1, self.address) + key + protobuf.put_integer(3, self.power)

    @classmethod
    def decode(cls, data: bytes) -> Validator:
        """Read tendermint.types.Validator; its address must be its key's."""
        found = protobuf.decode(data, {1: Kind.BYTES, 2: Kind.MESSAGE, 3: Kind.VARINT, 4: Kind.VARINT})
        if protobuf.integer(found, 4):
            raise Malformed("lightclient.unauthenticated_field", "proposer_priority")
        key = protobuf.decode(protobuf.octets(found, 2), {1: Kind.OPTIONAL, 2: Kind.OPTIONAL})
        ed25519, secp256k1 = protobuf.optional(key, 1), protobuf.optional(key, 2)
        if ed25519 is None or secp256k1 is not None:
            raise Malformed("lightclient.key_type", "not one Ed25519 key")
        validator = cls(ed25519, protobuf.signed(found, 3))
        if protobuf.octets(found, 1) != validator.address:
            raise Malformed("lightclient.validator_address")
        return validator


@dataclass(frozen=True, slots=True)
class ValidatorSet:
    """Validators with distinct keys and addresses, by falling power, then rising address."""

    validators: tuple[Validator, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.validators) <= LIMITS.validators:
            raise Malformed("lightclient.size", f"{len(self.validators)} validators")
        addresses = [validator.address for validator in self.validators]
        keys = {validator.public_key for validator in self.validators}
        # One key in two slots would count twice; one address for two keys would let one stand in for another.
        if len(set(addresses)) != len(addresses) or len(keys) != len(addresses):
            raise Malformed("lightclient.duplicate_validator")
        if self.power > MAX_POWER:
            raise Malformed("lightclient.total_power", str(self.power)[:40])
        order = [(-validator.power, address) for validator, address in zip(self.validators, addresses, strict=True)]
        if order != sorted(order):
            raise Malformed("lightclient.validator_order")

    @property
    def power(self) -> int:
        """The whole voting power."""
        return sum(validator.power for validator in self.validators)

    def hash(self) -> bytes:
        """The Merkle root over the validators' keys and powers."""
        return merkle.root([validator.leaf() for validator in self.validators])

    def encode(self) -> bytes:
        """tendermint.types.ValidatorSet with nothing but its validators."""
        return b"".join(protobuf.put_message(1, validator.encode()) for validator in self.validators)

    @classmethod
    def decode(cls, data: bytes) -> ValidatorSet:
        """Read tendermint.types.ValidatorSet."""
        found = protobuf.decode(data, {1: Kind.REPEATED, 2: Kind.OPTIONAL, 3: Kind.VARINT})
        if protobuf.optional(found, 2) is not None or protobuf.integer(found, 3):
            raise Malformed("lightclient.unauthenticated_field", "proposer or total_voting_power")
        return cls(tuple(Validator.decode(validator) for validator in protobuf.repeated(found, 1)))


@dataclass(frozen=True, slots=True)
class LightBlock:
    """What a light client needs of one height. Well-formed, and nothing more: `light` judges it."""

    header: Header
    commit: Commit
    validators: ValidatorSet

    def encode(self) -> bytes:
        """tendermint.types.LightBlock."""
        signed = protobuf.put_message(1, self.header.encode()) + protobuf.put_message(2, self.commit.encode())
        return protobuf.put_message(1, signed) + protobuf.put_message(2, self.validators.encode())

    @classmethod
    def decode(cls, data: bytes) -> LightBlock:
        """Read tendermint.types.LightBlock. `Malformed` unless these bytes are a block's one encoding."""
        if len(data) > LIMITS.light_block:
            raise Malformed("lightclient.size", f"{len(data)} bytes, at most {LIMITS.light_block}")
        both = {1: Kind.MESSAGE, 2: Kind.MESSAGE}
        found = protobuf.decode(data, both)
        signed = protobuf.decode(protobuf.octets(found, 1), both)
        return cls(
            Header.decode(protobuf.octets(signed, 1)),
            Commit.decode(protobuf.octets(signed, 2)),
            ValidatorSet.decode(protobuf.octets(found, 2)),
        )
