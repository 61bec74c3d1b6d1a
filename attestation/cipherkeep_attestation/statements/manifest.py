"""The only place for the vault's manifest: which sealed objects there are, in which version.

Its number and digest stand in the party's record on the chain, so that neither old nor missing objects pass unnoticed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Malformed

LABEL = "cipherkeep/manifest/v1"
ROOT, KEY = "root", "key"
MAX_OBJECTS = 4096
MAX_MANIFEST = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class SealedObject:
    """One sealed object: what it is, whose id it has (32 bytes; zero for the root), the SHA-256 of its sealed bytes."""

    kind: str
    id: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Manifest:
    """All objects of a vault. `serial` rises by one with every change; `epoch` names the data key."""

    party: str
    serial: int
    epoch: int
    objects: tuple[SealedObject, ...]

    def encode(self) -> bytes:
        """Deterministic CBOR."""
        return cbor.encode(
            {
                "epoch": self.epoch,
                "label": LABEL,
                "objects": [[item.kind, item.id, item.digest] for item in self.objects],
                "party": self.party,
                "serial": self.serial,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Read what `encode` writes; objects are distinct."""
        if len(data) > MAX_MANIFEST:
            raise Malformed("encoding.size", f"{len(data)} bytes")
        found = cbor.fields(
            cbor.decode(data),
            epoch=cbor.uint(least=1),
            label=cbor.exactly(LABEL),
            objects=cbor.sequence(cbor.anything, MAX_OBJECTS, least=1),
            party=cbor.text(64),
            serial=cbor.uint(least=1),
        )
        objects = []
        for item in found["objects"]:
            if type(item) is not list or len(item) != 3:
                raise Malformed("encoding.schema", "an object is [kind, id, digest]")
            row = {"kind": item[0], "id": item[1], "digest": item[2]}
            objects.append(
                SealedObject(**cbor.fields(row, kind=cbor.one_of(ROOT, KEY), id=cbor.raw(32), digest=cbor.raw(32)))
            )
        if len({(item.kind, item.id) for item in objects}) != len(objects):
            raise Malformed("manifest.duplicate")
        return cls(found["party"], found["serial"], found["epoch"], tuple(objects))

    def digest(self) -> bytes:
        """SHA-256: what the party's record pins."""
        return hashlib.sha256(self.encode()).digest()
