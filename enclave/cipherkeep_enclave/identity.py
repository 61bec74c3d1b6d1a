"""The only place for the party's own keys: both follow from the vault's secret and are the same after every restart.

The evidence key (Ed25519) signs answers and registrations; the signing key (secp256k1) signs typed data for Ethereum.
All randomness inside answers comes from the same secret (`Identity.randomness`), so that a repeat is the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import coincurve
from cipherkeep_attestation import cbor
from cipherkeep_attestation.statements import eip712
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_LABEL = "cipherkeep/identity/v1"
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141  # of secp256k1, SEC 2 §2.4.1


def derive(secret: bytes, *info: Any, length: int = 32) -> bytes:
    """HKDF-SHA256 of the vault's secret; `info` is encoded so that no two uses share an output."""
    return HKDF(hashes.SHA256(), length, None, cbor.encode([_LABEL, *info])).derive(secret)


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """The keys of one party."""

    evidence: Ed25519PrivateKey
    evidence_key: bytes  # public, 32 bytes
    signing: coincurve.PrivateKey
    signing_key: bytes  # public, compressed, 33 bytes
    address: bytes  # of the signing key, 20 bytes
    _randomness: bytes

    def __repr__(self) -> str:
        return f"<Identity {eip712.checksum(self.address)}>"

    @classmethod
    def derive(cls, secret: bytes) -> Identity:
        """The identity that a vault's secret (32 bytes) stands for."""
        evidence = Ed25519PrivateKey.from_private_bytes(derive(secret, "evidence"))
        signing = coincurve.PrivateKey(_scalar(secret))
        return cls(
            evidence=evidence,
            evidence_key=evidence.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw),
            signing=signing,
            signing_key=signing.public_key.format(compressed=True),
            address=eip712.address_of(signing.public_key.format(compressed=False)),
            _randomness=derive(secret, "randomness"),
        )

    def randomness(self, request: bytes, operation: str, index: int, *digests: bytes, length: int = 32) -> bytes:
        """Randomness for one use in the answer to `request` (its id): the same whenever it is asked for."""
        info = cbor.encode([_LABEL, self.evidence_key, request, operation, index, *digests])
        return HKDF(hashes.SHA256(), length, None, info).derive(self._randomness)

    def sign_typed(self, digest: bytes) -> bytes:
        """The signing key's 65 bytes over a digest of typed data."""
        return eip712.sign(digest, self.signing)


def _scalar(secret: bytes) -> bytes:
    """A secp256k1 scalar; one in 2^128 derivations is out of range and the next is taken."""
    for attempt in range(256):
        candidate = derive(secret, "signing", attempt)
        if 0 < int.from_bytes(candidate, "big") < _ORDER:
            return candidate
    raise AssertionError("256 derivations in a row out of range")
