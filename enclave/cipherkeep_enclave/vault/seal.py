"""The only place that seals and opens objects: AES-256-GCM-SIV under an epoch's data key.

Form: version (1 byte, 01) ‖ nonce (12) ‖ ciphertext with tag. The additional data is deterministic CBOR of
[label, party, kind, id, epoch, context], so that an object opens only where it belongs.

The nonce is derived from the key, the place and the content: what is sealed again is sealed to the same bytes, so that
a manifest made again after a crash is the manifest that was made before it. GCM-SIV stays safe were a nonce to repeat.
Source: RFC 8452.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from cipherkeep_attestation import cbor
from cipherkeep_wire.errors import ServiceError
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

LABEL = "cipherkeep/sealed/v1"
DATA_KEY_BYTES = 32
_VERSION = b"\x01"
_NONCE = 12
_TAG = 16


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed object belongs. `context` is a digest of what is stored in clear beside it (may be empty)."""

    party: str
    kind: str
    id: bytes
    epoch: int
    context: bytes = b""

    def encode(self) -> bytes:
        """The additional data."""
        return cbor.encode([LABEL, self.party, self.kind, self.id, self.epoch, self.context])


class Sealer:
    """Seals and opens under one data key of 32 bytes (ValueError for another length)."""

    __slots__ = ("_aead", "_nonces")

    def __init__(self, data_key: bytes) -> None:
        if len(data_key) != DATA_KEY_BYTES:
            raise ValueError("a data key has 32 bytes")
        self._aead = AESGCMSIV(_derive(data_key, b"seal"))
        self._nonces = _derive(data_key, b"nonce")

    def __repr__(self) -> str:
        return "<Sealer>"

    def seal(self, place: Place, plaintext: bytes) -> bytes:
        """The sealed bytes; the same for the same place and content."""
        additional = place.encode()
        content = hashlib.sha256(additional).digest() + hashlib.sha256(plaintext).digest()
        nonce = hmac.digest(self._nonces, content, "sha256")[:_NONCE]
        return _VERSION + nonce + self._aead.encrypt(nonce, plaintext, additional)

    def open(self, place: Place, sealed: bytes) -> bytes:
        """The plaintext. `ServiceError("vault.object_sealed")` for another key, place or form, or changed bytes."""
        nonce = sealed[1 : 1 + _NONCE]
        if sealed[:1] != _VERSION or len(sealed) < 1 + _NONCE + _TAG:
            raise ServiceError("vault.object_sealed", f"{place.kind} {place.id.hex()}: form")
        try:
            return self._aead.decrypt(nonce, sealed[1 + _NONCE :], place.encode())
        except InvalidTag:
            raise ServiceError("vault.object_sealed", f"{place.kind} {place.id.hex()}") from None


def _derive(data_key: bytes, use: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, None, LABEL.encode() + b"/" + use).derive(data_key)
