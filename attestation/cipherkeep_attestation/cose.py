"""The only place that makes and opens COSE_Sign1: our own messages (EdDSA) and the envelope of documents (ES384).

Our messages are untagged, in deterministic CBOR, with exactly `{1: -8}` protected and nothing unprotected, so that
nothing in an envelope can be changed without breaking it:

    envelope = sign1(payload, key=key, external_aad=b"what it is for")
    payload = open1(envelope, public_key=raw_key, external_aad=b"what it is for")

Source: RFC 9052 §4.2 and §4.4, RFC 9053 §2 (EdDSA -8, ES384 -35), RFC 8032.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Malformed, Untrusted

EDDSA = -8
PROTECTED_EDDSA = bytes.fromhex("a10127")  # {1: -8}
PROTECTED_ES384 = bytes.fromhex("a1013822")  # {1: -35}

LIMIT = cbor.DEFAULT.size  # bytes of an envelope; the payload is a slice of it, never a second copy to fear
P384_ORDER = int("ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16)
_P384_BYTES = 48
_SHA384 = ec.ECDSA(Prehashed(hashes.SHA384()))


def sig_structure(protected: bytes, payload: bytes, external_aad: bytes = b"") -> bytes:
    """The bytes that a COSE_Sign1 signature covers (RFC 9052 §4.4)."""
    return cbor.encode(["Signature1", protected, external_aad, payload])


def sign1(payload: bytes, *, key: Ed25519PrivateKey, external_aad: bytes = b"") -> bytes:
    """An untagged COSE_Sign1 over `payload`, EdDSA; `external_aad` is signed too and travels outside."""
    signature = key.sign(sig_structure(PROTECTED_EDDSA, payload, external_aad))
    return cbor.encode([PROTECTED_EDDSA, {}, payload, signature])


def open1(data: bytes, *, public_key: bytes, external_aad: bytes = b"", limit: int = LIMIT) -> bytes:
    """The payload of an envelope that `sign1` made with the key whose 32 raw public bytes are given.

    Raises `Malformed("encoding.…" or "cose.…")` for another encoding, `Untrusted("cose.signature")` for another signer.
    """
    payload, signature = _parts(data, limit)
    if len(public_key) != 32:
        raise Malformed("cose.key", f"{len(public_key)} bytes")
    try:
        key = Ed25519PublicKey.from_public_bytes(public_key)
        key.verify(signature, sig_structure(PROTECTED_EDDSA, payload, external_aad))
    except (ValueError, InvalidSignature):
        raise Untrusted("cose.signature") from None
    return payload


def unverified_payload(data: bytes, limit: int = LIMIT) -> bytes:
    """The payload of an envelope in our encoding, whoever signed it: only to learn whose key to open it with."""
    return _parts(data, limit)[0]


def _parts(data: bytes, limit: int) -> tuple[bytes, bytes]:
    protected, payload, signature = envelope(cbor.decode(data, limits=cbor.Limits(size=limit, depth=2, items=8)))
    if protected != PROTECTED_EDDSA:
        raise Malformed("cose.algorithm", f"protected header {protected[:16].hex()}")
    if len(signature) != 64:
        raise Malformed("cose.signature_length", f"{len(signature)} bytes instead of 64")
    return payload, signature


def envelope(value: object) -> tuple[bytes, bytes, bytes]:
    """Protected header, payload and signature of a decoded COSE_Sign1; nothing may be unprotected."""
    if type(value) is not list or len(value) != 4:
        raise Malformed("cose.shape", "not an array of four")
    protected, unprotected, payload, signature = value
    if type(protected) is not bytes or type(payload) is not bytes or type(signature) is not bytes:
        raise Malformed("cose.shape", "header, payload and signature must be byte strings")
    if type(unprotected) is not dict:
        raise Malformed("cose.shape", "the unprotected header must be a map")
    if unprotected:
        raise Malformed("cose.unprotected", f"{len(unprotected)} entries")
    return protected, payload, signature


def sign1_es384(payload: bytes, *, key: ec.EllipticCurvePrivateKey) -> bytes:
    """What an NSM or NitroTPM makes: untagged, protected `{1: -35}`, signature of 96 raw bytes. For emulators."""
    if not isinstance(key.curve, ec.SECP384R1):
        raise TypeError("ES384 needs a P-384 key")
    der = key.sign(sig_structure(PROTECTED_ES384, payload), ec.ECDSA(hashes.SHA384()))
    r, s = decode_dss_signature(der)
    return cbor.encode([PROTECTED_ES384, {}, payload, r.to_bytes(_P384_BYTES, "big") + s.to_bytes(_P384_BYTES, "big")])


def verify_es384(message: bytes, *, signature: bytes, point: bytes) -> bool:
    """Whether 96 raw bytes r ‖ s are a P-384/SHA-384 signature over `message` by the uncompressed 97-byte `point`.

    Works on integers only: whatever encoding a signature came in has been judged before. s has no canonical half
    here (AWS signs with either), so a signature's bytes identify nothing.
    """
    if len(signature) != 2 * _P384_BYTES:
        return False
    r = int.from_bytes(signature[:_P384_BYTES], "big")
    s = int.from_bytes(signature[_P384_BYTES:], "big")
    if not (0 < r < P384_ORDER and 0 < s < P384_ORDER):
        return False
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), point)
        key.verify(encode_dss_signature(r, s), hashlib.sha384(message).digest(), _SHA384)
    except (ValueError, InvalidSignature):
        return False
    return True
