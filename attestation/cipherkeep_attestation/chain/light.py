"""The only place that decides which headers of the chain hold.

    LightClient(root) ── anchor ──► head ── step, step, … ──► newer head
                                      │
                                      └── another header with a quorum, for a height we know ──► frozen

A step up is *adjacent* (its validators are the ones the head announced, its parent is the head) or, where the caller
asked for that, *skips*, and then more than two thirds of the power that the head's set holds has signed it, besides
more than two thirds of its own set. A third, which other clients take, would let a colluding third jump to a set of
its own making. A step down is a header we know by its hash: stored, or named as the parent of a stored one.

Order of the checks of a step up: frozen, chain, height, times, trusting period, validators, commit (shape,
then every signature, then the tally), link to the head. Nothing changes unless all hold. No clock, no I/O:
`now` is an argument.

Sources: CometBFT v0.38 specification, light-client/verification; facts on forged headers beside each check.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cipherkeep_attestation import cbor
from cipherkeep_attestation.chain.header import (
    MAX_INT64,
    Flag,
    Header,
    LightBlock,
    Timestamp,
    ValidatorSet,
    nanoseconds,
    vote_sign_bytes,
)
from cipherkeep_attestation.errors import Malformed, Refused, Stale, Untrusted

STORED_HEADERS = 512  # a few hundred bytes each; at five blocks a second the last 100 seconds
_CHECKPOINT = "cipherkeep/checkpoint/v1"
_CONFLICT = "cipherkeep/conflict/v1"


@dataclass(frozen=True, slots=True)
class LightRoot:
    """The one header that is believed without a signature, by its hash (32 bytes)."""

    chain_id: str
    height: int
    header_hash: bytes

    def __post_init__(self) -> None:
        if not 1 <= self.height <= MAX_INT64 or len(self.header_hash) != 32 or not self.chain_id:
            raise Malformed("lightclient.root_form")


class Conflict(Untrusted):
    """A quorum signed a header that contradicts one we hold: the chain has forked. Freezes the client.

    `trusted` is the header we hold: for the same height, or the child whose parent is contradicted, or the
    parent that the new header contradicts. `block` is the other side, with its commit.
    """

    def __init__(self, code: str, trusted: Header, block: LightBlock) -> None:
        super().__init__(code, f"height {block.header.height}, hash {block.header.hash().hex()}")
        self.trusted = trusted
        self.block = block

    @property
    def conflicting(self) -> Header:
        """The header of the other side."""
        return self.block.header

    @property
    def digest(self) -> bytes:
        """Names the conflict (32 bytes): what governance signs to lift the freeze."""
        return conflict_digest(self.trusted, self.conflicting)


def conflict_digest(trusted: Header, conflicting: Header) -> bytes:
    """Names two headers that contradict each other (32 bytes), and which of them is held."""
    pair = [_CONFLICT, trusted.chain_id, trusted.hash(), conflicting.hash()]
    return hashlib.sha256(cbor.encode(pair)).digest()


def check_commit(block: LightBlock) -> bytes:
    """The block's own set, whole and in order, and more than two thirds of its power, vouch for its header.

    Returns the header's hash (32 bytes), or raises `Untrusted`. Says nothing about whether that set is to be
    trusted.
    """
    header, commit, validators = block.header, block.commit, block.validators
    if validators.hash() != header.validators_hash:
        raise Untrusted("lightclient.validators_hash")
    # Comparing by slot and by address: a commit checked by one and read by the other can lie about time
    # (CSA-2026-001).
    if len(commit.signatures) != len(validators.validators):
        raise Untrusted("lightclient.commit_slots", f"{len(commit.signatures)} for {len(validators.validators)}")
    addresses = [validator.address for validator in validators.validators]
    for slot, address in zip(commit.signatures, addresses, strict=True):
        if slot.flag is not Flag.ABSENT and slot.validator_address != address:
            raise Untrusted("lightclient.slot_address")
    if header.proposer_address not in addresses:
        raise Untrusted("lightclient.proposer")
    if commit.height != header.height:
        raise Untrusted("lightclient.commit_height", f"{commit.height} for {header.height}")
    digest = header.hash()
    if commit.block_id.hash != digest:
        raise Untrusted("lightclient.commit_header")
    # Power is counted first: a header that cannot have its quorum costs no signature check.
    power = voted(block, validators)
    if power * 3 <= validators.power * 2:
        raise Untrusted("lightclient.quorum", f"{power} of {validators.power}")
    for slot, validator in zip(commit.signatures, validators.validators, strict=True):
        if slot.flag is Flag.ABSENT:
            continue
        key = Ed25519PublicKey.from_public_bytes(validator.public_key)
        try:
            key.verify(slot.signature, vote_sign_bytes(header.chain_id, commit, slot))
        except InvalidSignature:
            raise Untrusted("lightclient.signature", f"validator {validator.address.hex()}") from None
    return digest


def voted(block: LightBlock, trusted: ValidatorSet) -> int:
    """The power that `trusted` gives to the keys whose slots vote for the block; nil votes give none."""
    slots = zip(block.validators.validators, block.commit.signatures, strict=True)
    keys = {validator.public_key for validator, slot in slots if slot.flag is Flag.COMMIT}
    return sum(validator.power for validator in trusted.validators if validator.public_key in keys)


@dataclass(frozen=True, slots=True)
class _Known:
    header: Header
    hash: bytes


class LightClient:
    """Follows one chain from one root. Not safe for use by several threads at once.

    `trusting_period`: for how long after the head's time a newer header may still be judged by it.
    `clock_drift`: how far ahead of `now` a header's time may be. `skipping`: whether heights may be left out.
    """

    def __init__(
        self, root: LightRoot, *, trusting_period: timedelta, clock_drift: timedelta, skipping: bool = False
    ) -> None:
        self.root = root
        self._skipping = skipping
        self._trusting_period = trusting_period
        self._clock_drift = clock_drift
        self._head: _Known | None = None
        self._validators: ValidatorSet | None = None  # the head's own
        self._stored: OrderedDict[int, _Known] = OrderedDict()  # least recently used first
        self._conflict: Conflict | None = None

    @property
    def head(self) -> Header:
        """The newest header that holds. `Refused` before the client is anchored."""
        return self._anchored().header

    @property
    def head_hash(self) -> bytes:
        """The head's hash (32 bytes)."""
        return self._anchored().hash

    @property
    def frozen(self) -> Conflict | None:
        """The conflict that froze the client: from then on nothing is judged, and nothing should be used."""
        return self._conflict

    def header_at(self, height: int) -> Header:
        """The header that holds at this height. `Refused` when it is not among those stored."""
        known = self._held(height)
        if known is None:
            raise Refused("lightclient.height_unknown", f"height {height}")
        return known.header

    def anchor(self, block: LightBlock, *, now: datetime) -> Header:
        """Begin at the root's block: the one whose header has the root's hash. Only once."""
        if self._head is not None:
            raise Refused("lightclient.anchored")
        header = block.header
        if header.chain_id != self.root.chain_id:
            raise Untrusted("lightclient.chain_id", header.chain_id)
        known = _Known(header, header.hash())
        if header.height != self.root.height or known.hash != self.root.header_hash:
            raise Untrusted("lightclient.root", f"height {header.height}, hash {known.hash.hex()}")
        self._check_future(header, now)
        self._check_period(header, now)
        check_commit(block)
        self._advance(known, block.validators)
        return header

    def step(self, block: LightBlock, *, now: datetime) -> Header:
        """Judge another block; a newer one becomes the head. Returns its header, or raises, changing nothing.

        The one change a refusal makes: `Conflict` freezes the client.
        """
        head = self._anchored()
        if self._conflict is not None:
            raise Refused("lightclient.frozen", self._conflict.digest.hex())
        if block.header.chain_id != self.root.chain_id:
            raise Untrusted("lightclient.chain_id", block.header.chain_id)
        if block.header.height <= head.header.height:
            return self._past(block)
        return self._ahead(block, head, now)

    def checkpoint(self) -> bytes:
        """The head in few bytes, for `restore` after a restart. Its keeper must not be able to change it."""
        head = self._anchored()
        fields = {"label": _CHECKPOINT, "chain_id": head.header.chain_id, "height": head.header.height}
        return cbor.encode(fields | {"header_hash": head.hash})

    def restore(self, checkpoint: bytes) -> None:
        """Demand that the chain followed now has come as far as an earlier `checkpoint`.

        `Stale` when the head is lower. A stored header that differs at that height is `Refused`; one that was
        skipped cannot be compared: a checkpoint is a lower bound.
        """
        found = cbor.fields(
            cbor.decode(checkpoint),
            label=cbor.exactly(_CHECKPOINT),
            chain_id=cbor.exactly(self.root.chain_id),
            height=cbor.uint(MAX_INT64, 1),
            header_hash=cbor.raw(32),
        )
        if self._anchored().header.height < found["height"]:
            raise Stale("lightclient.below_checkpoint", f"head {self.head.height}, checkpoint {found['height']}")
        known = self._known(found["height"])
        if known is not None and known[0] != found["header_hash"]:
            raise Refused("lightclient.checkpoint_fork", f"height {found['height']}")

    def lift(self, digest: bytes) -> None:
        """Go on after a conflict, on the branch held so far, because whoever may decide it named `digest`."""
        if self._conflict is None or self._conflict.digest != digest:
            raise Refused("lightclient.no_such_conflict")
        self._conflict = None

    # --- steps ---

    def _past(self, block: LightBlock) -> Header:
        """A height at or below the head: known by hash, or not judged at all."""
        header = block.header
        known = self._known(header.height)
        if known is None:
            raise Refused("lightclient.height_below", f"height {header.height}, head {self.head.height}")
        expected, witness = known
        digest = header.hash()
        if digest == expected:
            self._store(_Known(header, digest))
            return header
        check_commit(block)
        same_set = witness.height == header.height and witness.validators_hash == header.validators_hash
        if same_set or self._two_thirds(block):
            self._freeze("lightclient.conflict", witness, block)
        raise Untrusted("lightclient.other_header", f"height {header.height}")

    def _ahead(self, block: LightBlock, head: _Known, now: datetime) -> Header:
        header = block.header
        if header.time <= head.header.time:
            raise Untrusted("lightclient.time_order")
        self._check_future(header, now)
        self._check_period(head.header, now)
        adjacent = header.height == head.header.height + 1
        if not adjacent and not self._skipping:
            raise Refused("lightclient.not_sequential", f"{header.height} after {head.header.height}")
        if adjacent and header.validators_hash != head.header.next_validators_hash:
            raise Untrusted("lightclient.next_validators_hash")
        # A header pins its own set and the hash of the next one; only when they are the same do we hold the
        # next.
        if not adjacent and head.header.next_validators_hash != head.header.validators_hash:
            raise Refused("lightclient.skip_unknown_set", f"from {head.header.height} to {header.height}")
        digest = check_commit(block)
        if not adjacent and not self._two_thirds(block):
            raise Untrusted("lightclient.skip_quorum", f"from {head.header.height} to {header.height}")
        if adjacent and header.last_block_id.hash != head.hash:
            self._freeze("lightclient.parent", head.header, block)
        self._advance(_Known(header, digest), block.validators)
        return header

    def _two_thirds(self, block: LightBlock) -> bool:
        """More than two thirds of the head's set voted for the block, whose signatures were checked."""
        assert self._validators is not None
        return voted(block, self._validators) * 3 > self._validators.power * 2

    def _check_future(self, header: Header, now: datetime) -> None:
        if header.time.after(Timestamp.of(now)) > nanoseconds(self._clock_drift):
            raise Stale("lightclient.time_future", f"{header.time.datetime.isoformat()} at {now.isoformat()}")

    def _check_period(self, header: Header, now: datetime) -> None:
        if Timestamp.of(now).after(header.time) >= nanoseconds(self._trusting_period):
            raise Stale("lightclient.trust_expired", f"{header.time.datetime.isoformat()} at {now.isoformat()}")

    # --- what is held ---

    def _anchored(self) -> _Known:
        if self._head is None:
            raise Refused("lightclient.not_anchored")
        return self._head

    def _held(self, height: int) -> _Known | None:
        """The header of this height, marked as used; the head is always held."""
        if self._head is not None and height == self._head.header.height:
            return self._head
        known = self._stored.get(height)
        if known is not None:
            self._stored.move_to_end(height)
        return known

    def _known(self, height: int) -> tuple[bytes, Header] | None:
        """The hash that holds at this height, and the header that says so: itself, or its child."""
        known = self._held(height)
        if known is not None:
            return known.hash, known.header
        child = self._held(height + 1)
        if child is not None and child.header.last_block_id.hash:
            return child.header.last_block_id.hash, child.header
        return None

    def _advance(self, known: _Known, validators: ValidatorSet) -> None:
        self._head, self._validators = known, validators
        self._store(known)

    def _store(self, known: _Known) -> None:
        self._stored[known.header.height] = known
        self._stored.move_to_end(known.header.height)
        while len(self._stored) > STORED_HEADERS:
            self._stored.popitem(last=False)

    def _freeze(self, code: str, trusted: Header, block: LightBlock) -> None:
        self._conflict = Conflict(code, trusted, block)
        raise self._conflict
