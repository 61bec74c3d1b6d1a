"""The only place for what is inside sealed objects: the root, and the record of a key."""

from __future__ import annotations

from dataclasses import dataclass, field

from cipherkeep_attestation import cbor
from cipherkeep_attestation.statements.governance import KeyTerms
from cipherkeep_attestation.statements.material import Material

ROOT_LABEL = "cipherkeep/vault-root/v1"
KEY_LABEL = "cipherkeep/key-record/v1"
SECRET_BYTES = 32
MAX_WRAPPED = 6144  # bytes of a wrapped data key: AWS KMS' own limit for a CiphertextBlob


@dataclass(frozen=True, slots=True)
class Root:
    """The root object: `wrapped` is the data key as AWS KMS wrapped it, in clear; `sealed` holds the vault's secret."""

    wrapped: bytes
    sealed: bytes

    def encode(self) -> bytes:
        """Deterministic CBOR."""
        return cbor.encode({"label": ROOT_LABEL, "sealed": self.sealed, "wrapped": self.wrapped})

    @classmethod
    def decode(cls, data: bytes) -> Root:
        """Read what `encode` writes."""
        found = cbor.fields(
            cbor.decode(data),
            label=cbor.exactly(ROOT_LABEL),
            sealed=cbor.raw(1, 256),
            wrapped=cbor.raw(1, MAX_WRAPPED),
        )
        return cls(found["wrapped"], found["sealed"])


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What binds a key: its instance, what it may be used for, and the public material that belongs to it.

    The key itself comes from a seed that is derived from the vault's secret and the key's id.
    """

    key_id: bytes
    instance: str
    genesis: bytes
    statement: bytes  # SHA-256 of the signed governance statement that asked for it
    terms: KeyTerms
    material: tuple[Material, ...] = field(repr=False)

    def encode(self) -> bytes:
        """Deterministic CBOR."""
        return cbor.encode(
            {
                "genesis": self.genesis,
                "instance": self.instance,
                "key_id": self.key_id,
                "label": KEY_LABEL,
                "material": [part.to_row() for part in self.material],
                "statement": self.statement,
                "terms": self.terms.to_map(),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> KeyRecord:
        """Read what `encode` writes."""
        found = cbor.fields(
            cbor.decode(data),
            genesis=cbor.raw(32),
            instance=cbor.text(64),
            key_id=cbor.raw(32),
            label=cbor.exactly(KEY_LABEL),
            material=cbor.sequence(cbor.anything, 8, least=1),
            statement=cbor.raw(32),
            terms=cbor.anything,
        )
        del found["label"]
        found["terms"] = KeyTerms.of_map(found["terms"])
        found["material"] = tuple(map(Material.of_row, found["material"]))
        return cls(**found)
