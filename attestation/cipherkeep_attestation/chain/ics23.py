"""The only place that reads ICS-23 proofs: the specification "tendermint", more strictly than it asks.

The specification asks that a leaf's prefix *begins* with 00. Then the head of a key can be moved into the
prefix, and the same leaf shows another, false key: a neighbour that proves the absence of what is there. Here
a leaf's prefix is 00 and an inner node's is 01 with one sibling of 32 bytes, to the byte; a tree's keys may
be demanded to have one length; a proof of absence names the key it is for; paths end at 64 steps; and only
single proofs in their one encoding are read, no batches.

Sources: cosmos/ics23 proofs.proto; RFC 6962 §2.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cipherkeep_attestation.chain import merkle, protobuf
from cipherkeep_attestation.chain.protobuf import Kind
from cipherkeep_attestation.errors import Malformed, Refused

MAX_PROOF = 1 << 19  # bytes; two neighbours with the largest values (128 KiB), and two full paths (5.5 KB)
MAX_DEPTH = 64  # steps; trees here are counted by 64 bits

_SHA256, _VAR_PROTO = 1, 1


@dataclass(frozen=True, slots=True)
class Step:
    """One inner node on the way to the root: the sibling (32 bytes) and its side."""

    sibling: bytes
    sibling_is_left: bool

    def encode(self) -> bytes:
        """ics23.InnerOp."""
        prefix, suffix = (b"\x01" + self.sibling, b"") if self.sibling_is_left else (b"\x01", self.sibling)
        head = protobuf.put_integer(1, _SHA256) + protobuf.put_bytes(2, prefix)
        return head + protobuf.put_bytes(3, suffix)

    @classmethod
    def decode(cls, data: bytes) -> Step:
        """Read ics23.InnerOp."""
        found = protobuf.decode(data, {1: Kind.VARINT, 2: Kind.BYTES, 3: Kind.BYTES})
        prefix, suffix = protobuf.octets(found, 2), protobuf.octets(found, 3)
        if protobuf.integer(found, 1) == _SHA256 and prefix[:1] == b"\x01":
            if len(prefix) == 1 and len(suffix) == 32:
                return cls(suffix, sibling_is_left=False)
            if len(prefix) == 33 and not suffix:
                return cls(prefix[1:], sibling_is_left=True)
        raise Malformed("proof.inner_op")

    def apply(self, child: bytes) -> bytes:
        """The hash of the inner node above `child`."""
        if self.sibling_is_left:
            return merkle.inner_hash(self.sibling, child)
        return merkle.inner_hash(child, self.sibling)


_LEAF_KINDS = {1: Kind.VARINT, 2: Kind.VARINT, 3: Kind.VARINT, 4: Kind.VARINT, 5: Kind.BYTES}
_LEAF = (
    protobuf.put_integer(1, _SHA256)
    + protobuf.put_integer(3, _SHA256)
    + protobuf.put_integer(4, _VAR_PROTO)
    + protobuf.put_bytes(5, b"\x00")
)


def _check_leaf(data: bytes) -> None:
    """ics23.LeafOp: SHA-256 over 00, the key with its length, the value's SHA-256 with its length."""
    protobuf.decode(data, _LEAF_KINDS)
    if data != _LEAF:
        raise Malformed("proof.leaf_op")


@dataclass(frozen=True, slots=True)
class Existence:
    """A key, its value, and the way from their leaf to the root."""

    key: bytes
    value: bytes
    path: tuple[Step, ...]

    def __post_init__(self) -> None:
        if not self.key or not self.value:
            raise Malformed("proof.empty")
        if len(self.path) > MAX_DEPTH:
            raise Malformed("proof.depth", f"{len(self.path)} steps")

    def root(self) -> bytes:
        """The root that the path leads to (32 bytes)."""
        digest = hashlib.sha256(self.value).digest()
        node = merkle.leaf_hash(protobuf.varint(len(self.key)) + self.key + b"\x20" + digest)
        for step in self.path:
            node = step.apply(node)
        return node

    def encode(self) -> bytes:
        """ics23.ExistenceProof."""
        head = protobuf.put_bytes(1, self.key) + protobuf.put_bytes(2, self.value)
        path = b"".join(protobuf.put_message(4, step.encode()) for step in self.path)
        return head + protobuf.put_message(3, _LEAF) + path

    @classmethod
    def decode(cls, data: bytes) -> Existence:
        """Read ics23.ExistenceProof."""
        kinds = {1: Kind.BYTES, 2: Kind.BYTES, 3: Kind.MESSAGE, 4: Kind.REPEATED}
        found = protobuf.decode(data, kinds)
        _check_leaf(protobuf.octets(found, 3))
        steps = protobuf.repeated(found, 4)
        if len(steps) > MAX_DEPTH:
            raise Malformed("proof.depth", f"{len(steps)} steps")
        path = tuple(Step.decode(step) for step in steps)
        return cls(protobuf.octets(found, 1), protobuf.octets(found, 2), path)


@dataclass(frozen=True, slots=True)
class Absence:
    """A key, and the leaves on both sides of its place; None where it is at the edge."""

    key: bytes
    left: Existence | None
    right: Existence | None

    def __post_init__(self) -> None:
        if not self.key:
            raise Malformed("proof.empty")

    def encode(self) -> bytes:
        """ics23.NonExistenceProof."""
        left = b"" if self.left is None else protobuf.put_message(2, self.left.encode())
        right = b"" if self.right is None else protobuf.put_message(3, self.right.encode())
        return protobuf.put_bytes(1, self.key) + left + right

    @classmethod
    def decode(cls, data: bytes) -> Absence:
        """Read ics23.NonExistenceProof."""
        found = protobuf.decode(data, {1: Kind.BYTES, 2: Kind.OPTIONAL, 3: Kind.OPTIONAL})
        left, right = protobuf.optional(found, 2), protobuf.optional(found, 3)
        return cls(
            protobuf.octets(found, 1),
            None if left is None else Existence.decode(left),
            None if right is None else Existence.decode(right),
        )


def encode(proof: Existence | Absence) -> bytes:
    """ics23.CommitmentProof."""
    return protobuf.put_message(1 if isinstance(proof, Existence) else 2, proof.encode())


def decode(data: bytes) -> Existence | Absence:
    """Read ics23.CommitmentProof: one proof of existence or absence."""
    if len(data) > MAX_PROOF:
        raise Malformed("proof.size", f"{len(data)} bytes, at most {MAX_PROOF}")
    existence, absence = single(data)
    if existence is not None:
        return Existence.decode(existence)
    assert absence is not None
    return Absence.decode(absence)


def single(data: bytes) -> tuple[bytes | None, bytes | None]:
    """The one proof of existence or absence in an ics23.CommitmentProof; the other is None. No batches."""
    found = protobuf.decode(data, dict.fromkeys(range(1, 5), Kind.OPTIONAL))
    if protobuf.optional(found, 3) is not None or protobuf.optional(found, 4) is not None:
        raise Malformed("proof.batch")
    existence, absence = protobuf.optional(found, 1), protobuf.optional(found, 2)
    if (existence is None) == (absence is None):
        raise Malformed("proof.shape", "not one proof")
    return existence, absence


def verify_existence(root: bytes, *, key: bytes, value: bytes, proof: bytes, key_length: int | None = None) -> None:
    """`key` has `value` in the tree with this root, or `Malformed` or `Refused` is raised.

    `key_length`: in bytes, when all keys of the tree have one.
    """
    found = decode(proof)
    if not isinstance(found, Existence):
        raise Refused("proof.shape", "absence where existence is to be shown")
    _check_key_length(found, key_length)
    if found.key != key:
        raise Refused("proof.key", f"{found.key.hex()} for {key.hex()}"[:200])
    if found.value != value:
        raise Refused("proof.value")
    if found.root() != root:
        raise Refused("proof.root")


def verify_absence(root: bytes, *, key: bytes, proof: bytes, key_length: int | None = None) -> None:
    """The tree with this root has no `key`, or `Malformed` or `Refused` is raised."""
    found = decode(proof)
    if not isinstance(found, Absence):
        raise Refused("proof.shape", "existence where absence is to be shown")
    left, right = found.left, found.right
    if left is None and right is None:
        raise Refused("proof.shape", "absence without a neighbour")
    if key_length is not None and len(key) != key_length:
        raise Refused("proof.key_length", f"{len(key)} bytes")
    if found.key != key:
        raise Refused("proof.key", f"{found.key.hex()} for {key.hex()}"[:200])
    for side in (left, right):
        if side is not None:
            _check_key_length(side, key_length)
            if side.root() != root:
                raise Refused("proof.root")
    if (left is not None and left.key >= key) or (right is not None and right.key <= key):
        raise Refused("proof.not_between")
    if not neighbours(None if left is None else left.path, None if right is None else right.path):
        raise Refused("proof.not_neighbours")


def _check_key_length(existence: Existence, length: int | None) -> None:
    if length is not None and len(existence.key) != length:
        raise Refused("proof.key_length", f"{len(existence.key)} bytes")


class Side(Protocol):
    """A step of whatever kind of tree; two are equal when they are the same node's."""

    @property
    def sibling_is_left(self) -> bool:
        """Whether the path comes from the right child."""
        ...


def neighbours(left: Sequence[Side] | None, right: Sequence[Side] | None) -> bool:
    """No leaf lies between those with these paths; or, where one is missing, none beyond the other."""
    if left is None:
        return right is not None and not any(step.sibling_is_left for step in right)
    if right is None:
        return all(step.sibling_is_left for step in left)
    # From the root down: the same nodes, then one node whose left child leads to the one and whose right
    # child to the other; from there the left path keeps to the right edge and the right path to the left
    # edge.
    ours, theirs = list(left), list(right)
    while ours and theirs and ours[-1] == theirs[-1]:
        ours.pop()
        theirs.pop()
    if not ours or not theirs:
        return False
    parts = not ours.pop().sibling_is_left and theirs.pop().sibling_is_left
    return parts and all(s.sibling_is_left for s in ours) and not any(s.sibling_is_left for s in theirs)
