"""The only place that reads ICS-23 proofs of IAVL trees, the stores of Cosmos chains. For auditors only.

A leaf's prefix is (height 0, size 1, version), an inner node's (height, size, version) and the lengths of its
children's hashes; the three are zigzag varints. Stricter than the specification, which looks at a prefix's length and
at heights: each integer has its shortest form, a leaf's height and size are 0 and 1, heights and sizes rise on the way
to the root, and every length byte is 32. As in `ics23`, no byte can move between key and prefix, a proof of absence
names its key, and batches are not read.

Unlike any tree, the reference's own test data has nodes with one child. They are read: no node of a tree hashes what
they hash, so they show nothing that is not there.

Sources: cosmos/ics23 proofs.proto and its IAVL rules of 2024; cosmos/iavl, node hashing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cipherkeep_attestation.chain import ics23, protobuf
from cipherkeep_attestation.chain.protobuf import Kind
from cipherkeep_attestation.errors import Malformed, Refused

MAX_DEPTH = 127  # a node's height has eight signed bits

_SHA256, _NO_HASH, _VAR_PROTO = 1, 0, 1
_LENGTH = b"\x20"  # before each hash
_LEAF_KINDS = {1: Kind.VARINT, 2: Kind.VARINT, 3: Kind.VARINT, 4: Kind.VARINT, 5: Kind.BYTES}
_INNER_KINDS = {1: Kind.VARINT, 2: Kind.BYTES, 3: Kind.BYTES}


def _varint(data: bytes, at: int, code: str) -> tuple[int, int]:
    """A zigzag varint that is not negative, in its shortest form, and the position behind it."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Malformed(code, "not a varint")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            break
        shift += 7
    if value >> 64 or (byte == 0 and shift) or value & 1:
        raise Malformed(code, "a number that no node has")
    return value >> 1, at


def _prefix(data: bytes, code: str) -> tuple[int, int, int]:
    """Height, size, and the position behind the version."""
    height, at = _varint(data, 0, code)
    size, at = _varint(data, at, code)
    _, at = _varint(data, at, code)
    return height, size, at


@dataclass(frozen=True, slots=True)
class Step:
    """One inner node on the way to the root: what stands before and behind the child's hash."""

    prefix: bytes
    suffix: bytes
    height: int
    size: int
    sibling_is_left: bool

    @classmethod
    def decode(cls, data: bytes) -> Step:
        """Read ics23.InnerOp."""
        found = protobuf.decode(data, _INNER_KINDS)
        prefix, suffix = protobuf.octets(found, 2), protobuf.octets(found, 3)
        if protobuf.integer(found, 1) != _SHA256:
            raise Malformed("proof.inner_op", "another hash")
        height, size, at = _prefix(prefix, "proof.inner_op")
        rest = prefix[at:]
        left = len(rest) == 34 and rest[:1] == _LENGTH and rest[33:] == _LENGTH and not suffix
        right = rest == _LENGTH and (not suffix or (len(suffix) == 33 and suffix[:1] == _LENGTH))
        if not left and not right:
            raise Malformed("proof.inner_op", "not two children")
        return cls(prefix, suffix, height, size, left)

    def apply(self, child: bytes) -> bytes:
        """The hash of the inner node above `child`."""
        return hashlib.sha256(self.prefix + child + self.suffix).digest()


@dataclass(frozen=True, slots=True)
class Existence:
    """A key, its value, and the way from their leaf to the root."""

    key: bytes
    value: bytes
    prefix: bytes
    path: tuple[Step, ...]

    def __post_init__(self) -> None:
        if not self.key or not self.value:
            raise Malformed("proof.empty")
        height, size = 0, 1
        for step in self.path:
            if step.height <= height or step.size <= size:
                raise Malformed("proof.inner_op", "heights and sizes rise towards the root")
            height, size = step.height, step.size

    def root(self) -> bytes:
        """The root that the path leads to (32 bytes)."""
        digest = hashlib.sha256(self.value).digest()
        leaf = self.prefix + protobuf.varint(len(self.key)) + self.key + _LENGTH + digest
        node = hashlib.sha256(leaf).digest()
        for step in self.path:
            node = step.apply(node)
        return node

    @classmethod
    def decode(cls, data: bytes) -> Existence:
        """Read ics23.ExistenceProof."""
        kinds = {1: Kind.BYTES, 2: Kind.BYTES, 3: Kind.MESSAGE, 4: Kind.REPEATED}
        found = protobuf.decode(data, kinds)
        prefix = _leaf_prefix(protobuf.octets(found, 3))
        steps = protobuf.repeated(found, 4)
        if len(steps) > MAX_DEPTH:
            raise Malformed("proof.depth", f"{len(steps)} steps")
        path = tuple(Step.decode(step) for step in steps)
        return cls(protobuf.octets(found, 1), protobuf.octets(found, 2), prefix, path)


def _leaf_prefix(data: bytes) -> bytes:
    """ics23.LeafOp: SHA-256 over the prefix, the key with its length, the value's SHA-256 with its length."""
    found = protobuf.decode(data, _LEAF_KINDS)
    how = tuple(protobuf.integer(found, field) for field in (1, 2, 3, 4))
    prefix = protobuf.octets(found, 5)
    height, size, at = _prefix(prefix, "proof.leaf_op")
    if how != (_SHA256, _NO_HASH, _SHA256, _VAR_PROTO) or (height, size) != (0, 1) or at != len(prefix):
        raise Malformed("proof.leaf_op")
    return prefix


def _read(data: bytes) -> tuple[Existence | None, bytes | None]:
    if len(data) > ics23.MAX_PROOF:
        raise Malformed("proof.size", f"{len(data)} bytes, at most {ics23.MAX_PROOF}")
    existence, absence = ics23.single(data)
    return None if existence is None else Existence.decode(existence), absence


def verify_existence(root: bytes, *, key: bytes, value: bytes, proof: bytes) -> None:
    """`key` has `value` in the tree with this root, or `Malformed` or `Refused` is raised."""
    found, _ = _read(proof)
    if found is None:
        raise Refused("proof.shape", "absence where existence is to be shown")
    if found.key != key:
        raise Refused("proof.key", f"{found.key.hex()} for {key.hex()}"[:200])
    if found.value != value:
        raise Refused("proof.value")
    if found.root() != root:
        raise Refused("proof.root")


def verify_absence(root: bytes, *, key: bytes, proof: bytes) -> None:
    """The tree with this root has no `key`, or `Malformed` or `Refused` is raised."""
    _, absence = _read(proof)
    if absence is None:
        raise Refused("proof.shape", "existence where absence is to be shown")
    found = protobuf.decode(absence, {1: Kind.BYTES, 2: Kind.OPTIONAL, 3: Kind.OPTIONAL})
    shown = protobuf.octets(found, 1)
    left, right = (_side(protobuf.optional(found, field)) for field in (2, 3))
    if left is None and right is None:
        raise Refused("proof.shape", "absence without a neighbour")
    if not key or shown != key:
        raise Refused("proof.key", f"{shown.hex()} for {key.hex()}"[:200])
    for side in (left, right):
        if side is not None and side.root() != root:
            raise Refused("proof.root")
    if (left is not None and left.key >= key) or (right is not None and right.key <= key):
        raise Refused("proof.not_between")
    if not ics23.neighbours(None if left is None else left.path, None if right is None else right.path):
        raise Refused("proof.not_neighbours")


def _side(data: bytes | None) -> Existence | None:
    return None if data is None else Existence.decode(data)
