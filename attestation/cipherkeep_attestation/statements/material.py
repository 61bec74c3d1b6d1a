"""The only place for a key's public material as the answer to its generation names it.

A piece is a row [kind, SHA-256, size in bytes, typed-data digest]; there is one of each of `KINDS`, in that order. The
SHA-256 finds the piece in a store. The typed-data digest is what fhEVM's `KeygenVerification` covers: SHAKE-256,
32 bytes, over `PDAT_KEY` and the piece. Whoever holds a core can thus check the party's signature over typed data, and
whoever holds the piece that it is the signed one.

Sources: the struct of Zama's KMSVerifier contracts and the digests of its key management (2025-2026).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Malformed
from cipherkeep_attestation.statements import fhevm

PUBLIC_KEY, SERVER_KEY = "public_key", "server_key"
KINDS = (PUBLIC_KEY, SERVER_KEY)
MAX_SIZE = 1 << 40  # bytes of a piece
TYPED_DATA = "KeygenVerification"
_KEY_TYPES = {SERVER_KEY: 0, PUBLIC_KEY: 1}  # KeyDigest.keyType
_SEPARATOR = b"PDAT_KEY"


@dataclass(frozen=True, slots=True)
class Material:
    """One piece of a key's public material."""

    kind: str
    digest: bytes  # SHA-256
    size: int  # bytes
    typed_digest: bytes  # SHAKE-256, as typed data names it

    @classmethod
    def of(cls, kind: str, data: bytes) -> Material:
        """Measure a whole piece."""
        measure = Measure()
        measure.add(data)
        return measure.material(kind)

    def to_row(self) -> list[object]:
        """For cores and records."""
        return [self.kind, self.digest, self.size, self.typed_digest]

    @classmethod
    def of_row(cls, row: object) -> Material:
        """Read what `to_row` makes, of any kind. `Malformed("answer.material")` when it is no such row."""
        if type(row) is not list or len(row) != 4:
            raise Malformed("answer.material", "a piece is [kind, SHA-256, size, typed-data digest]")
        return cls(
            **cbor.fields(
                dict(zip(("kind", "digest", "size", "typed_digest"), row, strict=True)),
                kind=cbor.text(32),
                digest=cbor.raw(32),
                size=cbor.uint(MAX_SIZE, least=1),
                typed_digest=cbor.raw(32),
            )
        )


class Measure:
    """Measures a piece that comes in parts."""

    __slots__ = ("_sha256", "_shake256", "size")

    def __init__(self) -> None:
        self.size = 0
        self._sha256 = hashlib.sha256()
        self._shake256 = hashlib.shake_256(_SEPARATOR)

    def add(self, part: bytes) -> None:
        """The next part."""
        self.size += len(part)
        self._sha256.update(part)
        self._shake256.update(part)

    def material(self, kind: str) -> Material:
        """What the parts so far are."""
        return Material(kind, self._sha256.digest(), self.size, self._shake256.digest(32))


@dataclass(frozen=True, slots=True)
class GeneratedKey:
    """The result in the core of a key generation."""

    parameters: str
    material: tuple[Material, ...]  # one of each of `KINDS`, in that order

    def to_map(self) -> dict[str, object]:
        """The core's result."""
        return {"material": [item.to_row() for item in self.material], "parameters": self.parameters}

    @classmethod
    def of_map(cls, value: object) -> GeneratedKey:
        """Read what `to_map` makes. `Malformed("answer.material")` when the kinds are others."""
        rows = cbor.sequence(cbor.anything, len(KINDS), least=len(KINDS))
        found = cbor.fields(value, material=rows, parameters=cbor.text(96))
        material = tuple(map(Material.of_row, found["material"]))
        if tuple(item.kind for item in material) != KINDS:
            raise Malformed("answer.material", f"a key has {', '.join(KINDS)}")
        return cls(found["parameters"], material)

    def struct_hash(self, *, preparation: bytes, key_id: bytes) -> bytes:
        """Struct hash of what a party signs (`TYPED_DATA`). `preparation`: SHA-256 of the governance statement."""
        digests = sorted((_KEY_TYPES[item.kind], item.typed_digest) for item in self.material)
        return fhevm.key_generation(preparation, key_id, digests)
