"""The only place that knows where a value stands in the application's state and how that is shown.

Two trees: one for each collection, whose keys are eight-byte big-endian counters, and a small one on top,
whose keys are `instance/collection` and whose values are the roots of the collections. The root of the top
tree is the app hash; the state after block H is under the app hash of header H+1. A proof has one ICS-23
proof for each tree.

Key 0 of every collection is a sentinel, so that absence can always be shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cipherkeep_attestation import cbor
from cipherkeep_attestation.chain import ics23
from cipherkeep_attestation.errors import Malformed, Refused

KEY_LENGTH = 8
SENTINEL_KEY = 0
SENTINEL_VALUE = b"cipherkeep/sentinel"

# A slash would let one pair of names stand for another.
_NAME = re.compile(r"[a-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class StateProof:
    """The way from a value to the app hash: collection tree, the collection's root, top tree."""

    store: bytes
    collection: bytes
    collection_root: bytes

    def encode(self) -> bytes:
        """Deterministic CBOR of {"collection", "root", "store"}."""
        return cbor.encode({"collection": self.collection, "root": self.collection_root, "store": self.store})

    @classmethod
    def decode(cls, data: bytes) -> StateProof:
        """Read what `encode` writes; the two proofs inside are read when they are verified."""
        if len(data) > 2 * ics23.MAX_PROOF + 64:
            raise Malformed("proof.size", f"{len(data)} bytes")
        proof = cbor.raw(1, ics23.MAX_PROOF)
        found = cbor.fields(cbor.decode(data), collection=proof, root=cbor.raw(32), store=proof)
        return cls(found["store"], found["collection"], found["root"])


def store_key(instance: str, collection: str) -> bytes:
    """The key of a collection in the top tree."""
    if not _NAME.fullmatch(instance) or not _NAME.fullmatch(collection):
        raise Malformed("proof.name", f"{instance!r} / {collection!r}"[:160])
    return f"{instance}/{collection}".encode()


def collection_key(key: int) -> bytes:
    """The key of a value in its collection (8 bytes)."""
    if not 0 <= key < 1 << 64:
        raise Malformed("proof.key_range", str(key)[:40])
    return key.to_bytes(KEY_LENGTH, "big")


def verify_present(
    app_hash: bytes, *, instance: str, collection: str, key: int, value: bytes, proof: StateProof
) -> None:
    """`collection` of `instance` holds `value` at `key` under this app hash; otherwise `EvidenceError`."""
    _verify_collection(app_hash, instance, collection, proof)
    at = collection_key(key)
    ics23.verify_existence(proof.collection_root, key=at, value=value, proof=proof.collection, key_length=KEY_LENGTH)


def verify_absent(app_hash: bytes, *, instance: str, collection: str, key: int, proof: StateProof) -> None:
    """`collection` of `instance` exists and has no `key` under this app hash; otherwise `EvidenceError`."""
    _verify_collection(app_hash, instance, collection, proof)
    at = collection_key(key)
    ics23.verify_absence(proof.collection_root, key=at, proof=proof.collection, key_length=KEY_LENGTH)


def _verify_collection(app_hash: bytes, instance: str, collection: str, proof: StateProof) -> None:
    if len(app_hash) != 32:
        raise Refused("proof.app_hash", f"{len(app_hash)} bytes")
    if len(proof.collection_root) != 32:
        raise Malformed("proof.root", "a collection's root has 32 bytes")
    at = store_key(instance, collection)
    ics23.verify_existence(app_hash, key=at, value=proof.collection_root, proof=proof.store)
