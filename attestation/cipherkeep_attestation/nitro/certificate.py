"""The only place that reads X.509 certificates: strict DER, bounded, in Python, every refusal enumerated.

The same bytes give the same verdict on every machine that runs the chain's application, whatever version of OpenSSL it
has. A certificate is read whole before anything of it is believed: first every tag, length and primitive value
against DER (`der`), then the parts of RFC 5280 §4.1. Of the extensions, those that a path needs are understood, other
critical ones are refused, and the rest is skipped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from cipherkeep_attestation.errors import Malformed
from cipherkeep_attestation.nitro.der import (
    BIT_STRING,
    BOOLEAN,
    GENERALIZED_TIME,
    IA5_STRING,
    INTEGER,
    OCTET_STRING,
    OID,
    PRINTABLE_STRING,
    SEQUENCE,
    SET,
    UTC_TIME,
    UTF8_STRING,
    Cursor,
    Item,
    sequence,
    single,
)

LIMIT = 2048  # bytes; those in documents have at most 1024, those of channels rarely more

DIGITAL_SIGNATURE, KEY_CERT_SIGN = 0, 5  # bits of keyUsage, RFC 5280 §4.2.1.3

P384_SPKI = bytes.fromhex("3076301006072a8648ce3d020106052b81040022036200")  # what stands before the point
_PRINTABLE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 '()+,-./:=?")
_BASIC_CONSTRAINTS = bytes.fromhex("551d13")
_KEY_USAGE = bytes.fromhex("551d0f")
_SUBJECT_KEY_ID = bytes.fromhex("551d0e")
_AUTHORITY_KEY_ID = bytes.fromhex("551d23")
_UNDERSTOOD = (_BASIC_CONSTRAINTS, _KEY_USAGE, _SUBJECT_KEY_ID, _AUTHORITY_KEY_ID)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a path needs of a certificate; names, key and the signed part are kept in DER, byte for byte."""

    der: bytes = field(repr=False)
    tbs: bytes = field(repr=False)  # what the issuer signed
    issuer: bytes = field(repr=False)
    subject: bytes = field(repr=False)
    not_before: datetime
    not_after: datetime
    spki: bytes = field(repr=False)  # SubjectPublicKeyInfo
    algorithm: bytes = field(repr=False)  # AlgorithmIdentifier of the issuer's signature
    signature: bytes = field(repr=False)  # content of the BIT STRING
    authority: bool | None  # basicConstraints cA; None without the extension
    path_length: int | None
    key_usage: frozenset[int] | None  # numbers of the bits that are set
    subject_key_id: bytes | None
    authority_key_id: bytes | None

    def p384_point(self) -> bytes:
        """The uncompressed point (97 bytes) of the key. `Malformed("certificate.key")` for any other key."""
        head = len(P384_SPKI)
        if len(self.spki) != head + 97 or self.spki[:head] != P384_SPKI or self.spki[head] != 4:
            raise Malformed("certificate.key")
        return self.spki[head:]


@lru_cache(maxsize=256)
def read_certificate(der: bytes, limit: int = LIMIT) -> Certificate:
    """Read one certificate of at most `limit` bytes. `Malformed("certificate.…")` for anything else.

    The verdict depends on the bytes alone, so the last 256 certificates read are kept: an instance's path is the
    same for days.
    """
    if len(der) > limit:
        raise Malformed("certificate.size", f"{len(der)} bytes, at most {limit}")
    outer = sequence(der)
    tbs_item = outer.take(SEQUENCE)
    algorithm = outer.whole(SEQUENCE)
    signature = _bits(outer.body(BIT_STRING))
    outer.close()

    tbs = Cursor(der, tbs_item)
    if tbs.peek() != 0xA0:
        raise Malformed("certificate.version", "1")
    version = Cursor(der, tbs.take(0xA0), 0xA0)
    if version.body(INTEGER) != b"\x02":
        raise Malformed("certificate.version")
    version.close()
    serial = tbs.body(INTEGER)
    # AWS's instance certificates have 20 random bytes and, before them, a zero when the first is above 7f.
    if len(serial.lstrip(b"\0")) > 20 or serial[0] >= 0x80 or serial == b"\0":
        raise Malformed("certificate.serial")
    if tbs.whole(SEQUENCE) != algorithm:
        raise Malformed("certificate.algorithm", "the signed one differs from the other")
    issuer = _name(der, tbs.take(SEQUENCE))
    validity = Cursor(der, tbs.take(SEQUENCE))
    not_before = _time(validity)
    not_after = _time(validity)
    validity.close()
    subject = _name(der, tbs.take(SEQUENCE))
    spki = tbs.whole(SEQUENCE)
    extensions = _extensions(der, Cursor(der, tbs.take(0xA3), 0xA3)) if tbs.peek() == 0xA3 else {}
    tbs.close()  # issuerUniqueID and subjectUniqueID, which RFC 5280 forbids to use, end here too

    authority, path_length = _basic_constraints(extensions.get(_BASIC_CONSTRAINTS))
    return Certificate(
        der=der,
        tbs=der[tbs_item.start : tbs_item.stop],
        issuer=issuer,
        subject=subject,
        not_before=not_before,
        not_after=not_after,
        spki=spki,
        algorithm=algorithm,
        signature=signature,
        authority=authority,
        path_length=path_length,
        key_usage=_key_usage(extensions.get(_KEY_USAGE)),
        subject_key_id=_key_id(extensions.get(_SUBJECT_KEY_ID)),
        authority_key_id=_authority_key_id(extensions.get(_AUTHORITY_KEY_ID)),
    )


def _name(der: bytes, name: Item) -> bytes:
    """A name in DER: sets of attributes, each an identifier and a text. Names are compared as bytes."""
    sets = Cursor(der, name)
    while sets.peek():
        attributes = Cursor(der, sets.take(SET), SET)
        while True:
            attribute = Cursor(der, attributes.take(SEQUENCE))
            attribute.take(OID)
            text = attribute.take(UTF8_STRING, PRINTABLE_STRING, IA5_STRING)
            attribute.close()
            if not _is_text(text.tag, der[text.body : text.stop]):
                raise Malformed("certificate.structure", f"text at byte {text.start}")
            if not attributes.peek():
                break
    return der[name.start : name.stop]


def _is_text(tag: int, body: bytes) -> bool:
    if tag == PRINTABLE_STRING:
        return _PRINTABLE.issuperset(body)
    if tag == IA5_STRING:
        return body.isascii()
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _bits(body: bytes) -> bytes:
    if body[0] != 0:
        raise Malformed("certificate.structure", "a bit string that is not whole bytes")
    return body[1:]


def _time(validity: Cursor) -> datetime:
    """UTCTime for the years 1950 to 2049, GeneralizedTime after, both to the second and in UTC (RFC 5280 §4.1.2.5)."""
    tag = validity.peek()
    body = validity.body(UTC_TIME, GENERALIZED_TIME)
    digits = body[:-1]
    if body[-1:] != b"Z" or len(digits) != (12 if tag == UTC_TIME else 14) or not digits.isdigit():
        raise Malformed("certificate.time")
    if tag == UTC_TIME:
        digits = (b"20" if digits[:2] < b"50" else b"19") + digits
    elif digits[:4] < b"2050":
        raise Malformed("certificate.time")
    month, day, hour, minute, second = (int(digits[at : at + 2]) for at in range(4, 14, 2))
    try:
        return datetime(int(digits[:4]), month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise Malformed("certificate.time") from None


def _extensions(der: bytes, explicit: Cursor) -> dict[bytes, bytes]:
    """Values of the extensions by object identifier (both without header); unknown critical ones are refused."""
    listed = Cursor(der, explicit.take(SEQUENCE))
    explicit.close()
    found: dict[bytes, bytes] = {}
    while listed.peek():
        extension = Cursor(der, listed.take(SEQUENCE))
        name = extension.body(OID)
        critical = False
        if extension.peek() == BOOLEAN:
            critical = extension.body(BOOLEAN) == b"\xff"
            if not critical:
                raise Malformed("certificate.encoding", "a default value is written")
        value = extension.body(OCTET_STRING)
        extension.close()
        if name in found:
            raise Malformed("certificate.duplicate_extension", name.hex())
        if critical and name not in _UNDERSTOOD:
            raise Malformed("certificate.critical_extension", name.hex())
        found[name] = value
    listed.close()
    if not found:
        raise Malformed("certificate.structure", "an empty list of extensions")
    return found


def _basic_constraints(value: bytes | None) -> tuple[bool | None, int | None]:
    if value is None:
        return None, None
    cursor = sequence(value)
    authority = False
    if cursor.peek() == BOOLEAN:
        authority = cursor.body(BOOLEAN) == b"\xff"
        if not authority:
            raise Malformed("certificate.extension", "basicConstraints: a default value is written")
    length = None
    if cursor.peek() == INTEGER:
        body = cursor.body(INTEGER)
        if not authority or len(body) != 1 or body[0] >= 0x80:
            raise Malformed("certificate.extension", "basicConstraints: path length")
        length = body[0]
    cursor.close()
    return authority, length


def _key_usage(value: bytes | None) -> frozenset[int] | None:
    if value is None:
        return None
    body = single(value, BIT_STRING, "keyUsage")
    used = 8 * (len(body) - 1) - body[0]
    bits = frozenset(at for at in range(used) if body[1 + at // 8] & (0x80 >> at % 8))
    # A list of named bits ends with the last that is set (X.690 §11.2.2): one set of usages has one encoding.
    if not bits or max(bits) != used - 1 or used > 9:
        raise Malformed("certificate.extension", "keyUsage")
    return bits


def _key_id(value: bytes | None) -> bytes | None:
    return None if value is None else single(value, OCTET_STRING, "subjectKeyIdentifier")


def _authority_key_id(value: bytes | None) -> bytes | None:
    """The key identifier; issuer and serial number beside it are read over, since the path's order is given."""
    if value is None:
        return None
    cursor = sequence(value)
    identifier = cursor.body(0x80) if cursor.peek() == 0x80 else None
    for tag in (0xA1, 0x82):
        if cursor.peek() == tag:
            cursor.take(tag)
    cursor.close()
    return identifier


def ecdsa_signature(der: bytes, width: int = 48) -> bytes:
    """r ‖ s, `width` bytes each, of an ECDSA signature in DER. `Malformed("certificate.signature")` for other forms."""
    try:
        cursor = sequence(der)
        r, s = cursor.body(INTEGER), cursor.body(INTEGER)
        cursor.close()
    except Malformed:
        raise Malformed("certificate.signature") from None
    if r[0] >= 0x80 or s[0] >= 0x80 or len(r.lstrip(b"\0")) > width or len(s.lstrip(b"\0")) > width:
        raise Malformed("certificate.signature")
    return r.lstrip(b"\0").rjust(width, b"\0") + s.lstrip(b"\0").rjust(width, b"\0")
