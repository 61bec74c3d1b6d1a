"""The only place that judges the signature section of an enclave image: one certificate, one COSE_Sign1 over PCR0.

The section is CBOR: an array of one map {signing_certificate: PEM, signature: COSE_Sign1}, both as arrays of integers;
the signed payload is {register_index: 0, register_value: PCR0}. PCR8 measures the certificate and nothing else: the
platform does not ask who issued it, and neither is that judged here.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from cipherkeep_attestation import cbor, cose
from cipherkeep_attestation.eif.pcr import PCR_BYTES, measured
from cipherkeep_attestation.errors import Malformed, Refused, Untrusted
from cipherkeep_attestation.nitro.certificate import Certificate, read_certificate

LIMIT = 64 * 1024  # bytes of the section: certificate and signature take two bytes for one

_LIMITS = cbor.Limits(size=LIMIT, depth=3, items=LIMIT // 2)
_COSE_LIMITS = cbor.Limits(size=4096, depth=2, items=16)
_PAYLOAD_LIMITS = cbor.Limits(size=1024, depth=2, items=64)
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"

# By the protected header: name, curve, hash, bytes of r and of s (RFC 9053 §2.1).
_ALGORITHMS: dict[bytes, tuple[str, type[ec.EllipticCurve], hashes.HashAlgorithm, int]] = {
    bytes.fromhex("a10126"): ("ES256", ec.SECP256R1, hashes.SHA256(), 32),
    bytes.fromhex("a1013822"): ("ES384", ec.SECP384R1, hashes.SHA384(), 48),
    bytes.fromhex("a1013823"): ("ES512", ec.SECP521R1, hashes.SHA512(), 66),
}


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature that holds: whose certificate, and the PCR8 that an enclave of the image shows."""

    algorithm: str
    pcr8: bytes
    certificate_der: bytes = field(repr=False)
    not_before: datetime
    not_after: datetime


def judge_signature(section: bytes, *, pcr0: bytes) -> Signature:
    """Judge the section against the PCR0 that was computed.

    Raises `Malformed("eif.signature_form", "eif.signature_certificate", "eif.signature_key")`,
    `Refused("eif.signature_pcr")`, `Untrusted("eif.signature")`. Validity is reported: judging it needs a time.
    """
    pem, message = _entry(section)
    certificate = _certificate(pem)
    try:
        protected, payload, signature = cose.envelope(cbor.decode(message, limits=_COSE_LIMITS))
    except Malformed as malformed:
        raise Malformed("eif.signature_form", malformed.code) from None
    if protected not in _ALGORITHMS:
        raise Malformed("eif.signature_form", f"protected header {protected[:16].hex()}")
    _register(payload, pcr0)
    name, curve, digest, width = _ALGORITHMS[protected]
    _verify(certificate, curve, digest, width, cose.sig_structure(protected, payload), signature)
    return Signature(name, measured(certificate.der), certificate.der, certificate.not_before, certificate.not_after)


def _entry(section: bytes) -> tuple[bytes, bytes]:
    try:
        value = cbor.decode_foreign(section, limits=_LIMITS)
    except Malformed as malformed:
        raise Malformed("eif.signature_form", malformed.code) from None
    if type(value) is not list or len(value) != 1:
        raise Malformed("eif.signature_form", "not an array of one signature")
    entry = value[0]
    if type(entry) is not dict or entry.keys() != {"signing_certificate", "signature"}:
        raise Malformed("eif.signature_form", "not a map of signing_certificate and signature")
    return _octets(entry["signing_certificate"]), _octets(entry["signature"])


def _octets(value: object) -> bytes:
    """Bytes that are written as an array of integers."""
    if type(value) is not list or not all(type(item) is int and 0 <= item <= 255 for item in value):
        raise Malformed("eif.signature_form", "not an array of octets")
    return bytes(value)


def _certificate(pem: bytes) -> Certificate:
    before, _, rest = pem.partition(_BEGIN)
    text, end, after = rest.partition(_END)
    if not end or before.strip() or after.strip() or not text[:1].isspace():
        raise Malformed("eif.signature_certificate", "not exactly one certificate in PEM")
    try:
        der = base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        raise Malformed("eif.signature_certificate", "not base64") from None
    try:
        return read_certificate(der, 4096)
    except Malformed as malformed:
        raise Malformed("eif.signature_certificate", f"{malformed.code} {malformed.detail}".strip()) from None


def _register(payload: bytes, pcr0: bytes) -> None:
    try:
        value = cbor.decode_foreign(payload, limits=_PAYLOAD_LIMITS)
    except Malformed as malformed:
        raise Malformed("eif.signature_form", malformed.code) from None
    if type(value) is not dict or value.keys() != {"register_index", "register_value"}:
        raise Malformed("eif.signature_form", "the payload is not a register")
    index, register = value["register_index"], _octets(value["register_value"])
    if type(index) is not int or index != 0 or len(register) != PCR_BYTES:
        raise Malformed("eif.signature_form", "the payload is not PCR0")
    if register != pcr0:
        raise Refused("eif.signature_pcr", f"signed {register.hex()[:16]}…, measured {pcr0.hex()[:16]}…")


def _verify(
    certificate: Certificate,
    curve: type[ec.EllipticCurve],
    digest: hashes.HashAlgorithm,
    width: int,
    message: bytes,
    signature: bytes,
) -> None:
    try:
        key = load_der_public_key(certificate.spki)
    except (ValueError, UnsupportedAlgorithm):
        raise Malformed("eif.signature_key", "unreadable") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, curve):
        raise Malformed("eif.signature_key", "not on the curve of the algorithm")
    if len(signature) != 2 * width:
        raise Malformed("eif.signature_form", f"a signature of {len(signature)} bytes instead of {2 * width}")
    r, s = int.from_bytes(signature[:width], "big"), int.from_bytes(signature[width:], "big")
    try:
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(digest))
    except (InvalidSignature, ValueError):
        raise Untrusted("eif.signature") from None
