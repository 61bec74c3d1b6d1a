"""The only place for the bytes of a user decryption as today's client library reads them.

`vec(x)` is the length of x in eight bytes, little-endian, and x. For each ciphertext:

    message      = vec(plaintext) ‖ type (4, little-endian) ‖ vec(link)
    signature    = ECDSA-SHA256("USER_DEC" ‖ message ‖ user (20) ‖ H("SIGNCRYP" ‖ vec(ML-KEM public key)))
    inner        = message ‖ signature (64) ‖ H("SIGNCRYP" ‖ vec(verification key))
    signcrypted  = nonce (12) ‖ vec(ML-KEM ciphertext) ‖ vec(AES-256-GCM(shared secret, nonce, inner))

with H = SHAKE-256 to 32 bytes, and the shared secret used as the key as it is. The plaintext is little-endian, in as
many bytes as the type has. Source: the client library's behaviour at 0.12.8, which the tests let judge.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import coincurve
from cipherkeep_attestation.statements import fhevm
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import tfhers

KEM_KEY_BYTES = 800  # ML-KEM-512, FIPS 203
NONCE_BYTES = 12
# How the client library writes a key before its 800 bytes: version of the form "0.5", versioned, version of the type
# "0.1", name of the type, first version, ML-KEM-512, length.
_ENVELOPE = (
    (3).to_bytes(8, "little")
    + b"0.5"
    + bytes(4)
    + (3).to_bytes(8, "little")
    + b"0.1"
    + (19).to_bytes(8, "little")
    + b"UnifiedPublicEncKey"
    + bytes(8)
    + KEM_KEY_BYTES.to_bytes(8, "little")
)
_PACKING_FACTOR = 1
_SEPARATOR_SIGNATURE, _SEPARATOR_DIGEST = b"USER_DEC", b"SIGNCRYP"


class WrongPublicKeyError(Exception):
    """The user's public key is not one that today's clients make."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """The user: address (20 bytes) and ML-KEM-512 public key (800 bytes)."""

    user: bytes
    kem_key: bytes

    @classmethod
    def of(cls, user: bytes, public_key: bytes) -> Recipient:
        """Take the key out of the client library's envelope. `WrongPublicKeyError` for any other bytes."""
        if len(public_key) != len(_ENVELOPE) + KEM_KEY_BYTES or not public_key.startswith(_ENVELOPE):
            raise WrongPublicKeyError
        return cls(user, public_key[len(_ENVELOPE) :])


def vec(data: bytes) -> bytes:
    """Length in eight bytes, little-endian, and the bytes."""
    return len(data).to_bytes(8, "little") + data


def verification_key(public: bytes) -> bytes:
    """The server's compressed public key (33 bytes) as the library writes it (41 bytes)."""
    return vec(public)


def plaintext_bytes(type_name: str, value: int) -> bytes:
    """A plaintext, little-endian; a bool is one byte."""
    bits = fhevm.TYPES[type_name][1]
    return value.to_bytes((bits + 7) // 8, "little")


def signcrypt(
    plaintext: bytes,
    fhe_type: int,
    *,
    link: bytes,
    recipient: Recipient,
    key: coincurve.PrivateKey,
    verification: bytes,
    randomness: bytes,
) -> bytes:
    """One ciphertext's answer. `randomness`: 32 bytes for the encapsulation, 12 for the nonce; never used for another.

    `WrongPublicKeyError` when the user's key has coefficients out of range.
    """
    message = vec(plaintext) + fhe_type.to_bytes(4, "little") + vec(link)
    signed = _SEPARATOR_SIGNATURE + message + recipient.user + _digest(vec(recipient.kem_key))
    signature = key.sign_recoverable(signed)[:64]  # coincurve hashes with SHA-256, s is in the lower half
    inner = message + signature + _digest(verification)
    try:
        encapsulated, shared = tfhers.ml_kem_512_encapsulate(recipient.kem_key, randomness[:32])
    except tfhers.TfheError:
        raise WrongPublicKeyError from None
    nonce = randomness[32 : 32 + NONCE_BYTES]
    return nonce + vec(encapsulated) + vec(AESGCM(shared).encrypt(nonce, inner, None))


def payload(
    entries: Sequence[tuple[int, bytes, bytes]], *, link: bytes, verification: bytes, party: int, degree: int
) -> bytes:
    """The response's payload over (type, signcrypted, handle) of every ciphertext."""
    rows = b"".join(
        fhe_type.to_bytes(4, "little") + vec(signcrypted) + vec(handle) + _PACKING_FACTOR.to_bytes(4, "little")
        for fhe_type, signcrypted, handle in entries
    )
    count = len(entries).to_bytes(8, "little")
    numbers = party.to_bytes(4, "little") + degree.to_bytes(4, "little")
    return vec(verification) + vec(link) + count + rows + numbers


def _digest(data: bytes) -> bytes:
    return hashlib.shake_256(_SEPARATOR_DIGEST + data).digest(32)
