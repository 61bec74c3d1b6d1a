"""The only place on the user's side that opens what was re-encrypted to her key.

Per ciphertext, the party signs the plaintext together with the user's address, her key and the handles, and encrypts
that under an ML-KEM-512 shared secret. What opens here is a plaintext that this party signed for this user, this key
and these handles. Integers are little-endian; `vec(x)` is an eight-byte length and x.

    payload      vec(vec(verification key)) vec(link) u64 n, n × [i32 type, vec(signcrypted), vec(handle), u32 packing],
                 u32 party, u32 degree
    signcrypted  nonce 12, vec(KEM ciphertext), vec(AES-256-GCM of the inner message)
    inner        vec(plaintext) i32 type vec(link), signature 64, SHAKE256-32("SIGNCRYP" ‖ vec(verification key))

Source: the formats that node-tkms 0.11 and 0.12 read, taken from their behaviour.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import coincurve
from cipherkeep_attestation.statements import eip712, fhevm
from cipherkeep_attestation.statements.governance import KeyTerms
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import tfhers
from cipherkeep_host.errors import HostError

KEM_KEY = 800  # bytes of an ML-KEM-512 public key, FIPS 203
_KEM_CIPHERTEXT = 768  # bytes
_MAX_PLAINTEXT = 64  # bytes; the largest type has 32
_VERIFICATION_KEY = 33  # bytes, compressed SEC1
_ENVELOPE = (
    (3).to_bytes(8, "little")
    + b"0.5"
    + (0).to_bytes(4, "little")
    + (3).to_bytes(8, "little")
    + b"0.1"
    + (19).to_bytes(8, "little")
    + b"UnifiedPublicEncKey"
    + bytes(8)  # version and variant: ML-KEM-512
    + KEM_KEY.to_bytes(8, "little")
)


@dataclass(frozen=True, slots=True)
class UserKey:
    """A user's key pair for re-encryption. `public_key` is in the envelope that requests carry."""

    public_key: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> UserKey:
        """A new pair, from the system's randomness."""
        public, secret = tfhers.ml_kem_512_keypair(secrets.token_bytes(32), secrets.token_bytes(32))
        return cls(_ENVELOPE + public, secret)


def open_payload(
    payload: bytes, *, key: UserKey, user: bytes, handles: Sequence[bytes], terms: KeyTerms, signer: bytes
) -> tuple[tuple[str, int], ...]:
    """(type, value) for each handle, in their order. `signer` is the address of the party's registered key.

    `HostError("client.opening")` unless every ciphertext opens, was signed by that key, for this user, key and handles.
    """
    reader = _Reader(payload)
    signing_key = _Reader(reader.vec()).vec(_VERIFICATION_KEY)  # a length in a length: the key travels as an object
    if _address(signing_key) != signer:
        raise HostError("client.opening", "the payload names another party's key")
    link = terms.decryption.digest(fhevm.user_decryption_link(key.public_key, handles, user))
    if reader.vec(32) != link:
        raise HostError("client.opening", "the payload is for another user, key or handles")
    if reader.uint(8) != len(handles):
        raise HostError("client.opening", "the payload holds another number of ciphertexts")
    opened = []
    for handle in handles:
        fhe_type = reader.uint(4)
        signcrypted = reader.vec()
        if reader.vec(32) != handle:
            raise HostError("client.opening", "the payload is about other handles")
        if reader.uint(4) != 1:
            raise HostError("client.opening", "an unknown packing")
        opened.append(_open(signcrypted, fhe_type, key, user, link, signing_key))
    reader.uint(4)  # party
    if reader.uint(4) != 0:
        raise HostError("client.opening", "a share of several parties; they are combined elsewhere")
    reader.end()
    return tuple(opened)


def _open(
    signcrypted: bytes, fhe_type: int, key: UserKey, user: bytes, link: bytes, signing_key: bytes
) -> tuple[str, int]:
    reader = _Reader(signcrypted)
    nonce = reader.take(12)
    kem = reader.vec(_KEM_CIPHERTEXT)
    sealed = reader.vec()
    reader.end()
    try:
        shared = tfhers.ml_kem_512_decapsulate(key.secret, kem)
        inner = _Reader(AESGCM(shared).decrypt(nonce, sealed, None))
    except (InvalidTag, tfhers.TfheError):
        raise HostError("client.opening", "it does not decrypt under this key") from None
    plaintext = inner.vec()
    if inner.uint(4) != fhe_type or inner.vec(32) != link:
        raise HostError("client.opening", "the signed message is about something else")
    message = inner.done()
    signature = inner.take(64)
    verification_key = _vec(signing_key)
    if inner.take(32) != _hash(b"SIGNCRYP" + verification_key):
        raise HostError("client.opening", "it was signed for another party's key")
    inner.end()
    signed = b"USER_DEC" + message + user + _hash(b"SIGNCRYP" + _vec(key.public_key[-KEM_KEY:]))
    if not _signed(signed, signature, signing_key):
        raise HostError("client.opening", "the party did not sign it")
    try:
        name = fhevm.TYPE_NAMES[fhe_type]
    except KeyError:
        raise HostError("client.opening", f"type {fhe_type}") from None
    value = int.from_bytes(plaintext, "little")
    if len(plaintext) > _MAX_PLAINTEXT or value >> fhevm.TYPES[name][1]:
        raise HostError("client.opening", f"a value too large for {name}")
    return name, value


def _address(key: bytes) -> bytes:
    try:
        return eip712.address_of(coincurve.PublicKey(key).format(compressed=False))
    except ValueError:
        raise HostError("client.opening", "the payload names no key of this curve") from None


def _signed(message: bytes, signature: bytes, key: bytes) -> bool:
    """ECDSA over SHA-256, r ‖ s, s in the lower half."""
    try:
        public = coincurve.PublicKey(key)
        der = coincurve.ecdsa.cdata_to_der(coincurve.ecdsa.deserialize_compact(signature))
        return public.verify(der, message)
    except ValueError:
        return False


def _hash(data: bytes) -> bytes:
    return hashlib.shake_256(data).digest(32)


def _vec(data: bytes) -> bytes:
    return len(data).to_bytes(8, "little") + data


class _Reader:
    """Reads bytes in order; every length is compared with what is left before anything is taken."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            raise HostError("client.opening", "the payload ends early")
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece

    def uint(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    def vec(self, exactly: int | None = None) -> bytes:
        size = self.uint(8)
        if exactly is not None and size != exactly:
            raise HostError("client.opening", f"{size} bytes where {exactly} are expected")
        return self.take(size)

    def done(self) -> bytes:
        """What was read so far."""
        return self._data[: self._at]

    def end(self) -> None:
        if self._at != len(self._data):
            raise HostError("client.opening", "bytes follow the payload")
