"""The only place that reads X.509 certificates: strict DER, bounded, in Python, every refusal enumerated.

The same bytes give the same verdict on every machine that runs the chain's application, whatever version of OpenSSL it
has. A certificate is read whole before anything of it is believed: first every tag, length and primitive value
against DER (X.690), then the parts of RFC 5280 §4.1. Of the extensions, those that a path needs are understood, other
critical ones are refused, and the rest is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from cipherkeep_attestation.errors import Malformed

LIMIT = 2048  # bytes; those in documents have at most 1024, those of channels rarely more
DEPTH = 12  # nested constructed items; a certificate of a document has eight

DIGITAL_SIGNATURE, KEY_CERT_SIGN = 0, 5  # bits of keyUsage, RFC 5280 §4.2.1.3

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
UTC_TIME, GENERALIZED_TIME, SEQUENCE, SET = 0x17, 0x18, 0x30, 0x31
_CONSTRUCTED = 0x20
_UNIVERSAL_CONSTRUCTED = (SEQUENCE, SET)
_UNIVERSAL_PRIMITIVE = (*range(0x01, 0x10), *range(0x12, 0x1F))

P384_SPKI = bytes.fromhex("3076301006072a8648ce3d020106052b81040022036200")  # what stands before the point
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


class _Item(NamedTuple):
    tag: int
    start: int  # of the header
    body: int
    stop: int


# --- DER ---


def _item(data: bytes, start: int, end: int) -> _Item:
    """The item that begins at `start` and lies before `end`: low tag numbers, definite shortest lengths."""
    if start + 2 > end:
        raise Malformed("certificate.encoding", f"truncated at byte {start}")
    tag, length, body = data[start], data[start + 1], start + 2
    if tag & 0x1F == 0x1F or tag == 0:
        raise Malformed("certificate.encoding", f"tag {tag:#04x} at byte {start}")
    if length >= 0x80:
        width = length & 0x7F
        if not 1 <= width <= 2 or body + width > end:
            raise Malformed("certificate.encoding", f"length at byte {start}")
        length = int.from_bytes(data[body : body + width], "big")
        if length < (0x80 if width == 1 else 0x100):
            raise Malformed("certificate.encoding", f"length at byte {start} is not the shortest")
        body += width
    if body + length > end:
        raise Malformed("certificate.encoding", f"truncated at byte {start}")
    return _Item(tag, start, body, body + length)


def _items(data: bytes, start: int, end: int) -> Iterator[_Item]:
    while start < end:
        item = _item(data, start, end)
        yield item
        start = item.stop


def _strict(data: bytes, start: int, end: int, depth: int, *, ordered: bool = False) -> None:
    """Refuse what is not DER anywhere between `start` and `end`; the items of a SET are `ordered`."""
    previous = b""
    for item in _items(data, start, end):
        if item.tag in _UNIVERSAL_CONSTRUCTED or (item.tag >= 0x80 and item.tag & _CONSTRUCTED):
            if depth == 0:
                raise Malformed("certificate.encoding", "nested too deeply")
            _strict(data, item.body, item.stop, depth - 1, ordered=item.tag == SET)
        elif item.tag < 0x80:
            _primitive(item.tag, data[item.body : item.stop], item.start)
        if ordered:
            whole = data[item.start : item.stop]
            if whole < previous:
                raise Malformed("certificate.encoding", f"set not in order at byte {item.start}")
            previous = whole


def _primitive(tag: int, body: bytes, start: int) -> None:
    good = tag in _UNIVERSAL_PRIMITIVE
    if tag == BOOLEAN:
        good = body in (b"\x00", b"\xff")
    elif tag == INTEGER:
        good = bool(body) and not (len(body) > 1 and (body[0] == 0) == (body[1] < 0x80) and body[0] in (0, 0xFF))
    elif tag == BIT_STRING:
        good = bool(body) and body[0] < 8 and (len(body) > 1 or body[0] == 0)
        good = good and body[-1] & ((1 << body[0]) - 1) == 0 if len(body) > 1 else good
    elif tag == NULL:
        good = not body
    elif tag == OID:
        good = bool(body) and body[-1] < 0x80 and body[0] != 0x80
        good = good and all(not (a < 0x80 and b == 0x80) for a, b in pairwise(body))
    if not good:
        raise Malformed("certificate.encoding", f"value of tag {tag:#04x} at byte {start}")


# --- X.509 ---


class _Cursor:
    """Reads the items of one constructed item in order; what is not there, or left over, is a refusal."""

    __slots__ = ("data", "end", "position")

    def __init__(self, data: bytes, item: _Item, tag: int = SEQUENCE) -> None:
        if item.tag != tag:
            raise Malformed("certificate.structure", f"tag {item.tag:#04x} at byte {item.start}")
        self.data = data
        self.position = item.body
        self.end = item.stop

    def peek(self) -> int:
        """Tag of the next item; 0 when none is left."""
        return self.data[self.position] if self.position < self.end else 0

    def take(self, *tags: int) -> _Item:
        if self.peek() not in tags:
            raise Malformed("certificate.structure", f"tag {self.peek():#04x} at byte {self.position}")
        item = _item(self.data, self.position, self.end)
        self.position = item.stop
        return item

    def body(self, *tags: int) -> bytes:
        item = self.take(*tags)
        return self.data[item.body : item.stop]

    def whole(self, *tags: int) -> bytes:
        item = self.take(*tags)
        return self.data[item.start : item.stop]

    def close(self) -> None:
        if self.position != self.end:
            raise Malformed("certificate.structure", f"more than expected at byte {self.position}")


def _sequence(data: bytes, tag: int = SEQUENCE) -> _Cursor:
    """A cursor over bytes that are exactly one item, strict DER throughout."""
    item = _item(data, 0, len(data))
    if item.stop != len(data):
        raise Malformed("certificate.encoding", f"{len(data) - item.stop} bytes after the item")
    _strict(data, 0, len(data), DEPTH)
    return _Cursor(data, item, tag)


@lru_cache(maxsize=256)
def read_certificate(der: bytes, limit: int = LIMIT) -> Certificate:
    """Read one certificate of at most `limit` bytes. `Malformed("certificate.…")` for anything else.

    The verdict depends on the bytes alone, so the last 256 certificates read are kept: an instance's path is the
    same for days.
    """
    if len(der) > limit:
        raise Malformed("certificate.size", f"{len(der)} bytes, at most {limit}")
    outer = _sequence(der)
    tbs_item = outer.take(SEQUENCE)
    algorithm = outer.whole(SEQUENCE)
    signature = _bits(outer.body(BIT_STRING))
    outer.close()

    tbs = _Cursor(der, tbs_item)
    if tbs.peek() != 0xA0:
        raise Malformed("certificate.version", "1")
    version = _Cursor(der, tbs.take(0xA0), 0xA0)
    if version.body(INTEGER) != b"\x02":
        raise Malformed("certificate.version")
    version.close()
    serial = tbs.body(INTEGER)
    # AWS's instance certificates have 20 random bytes and, before them, a zero when the first is above 7f.
    if len(serial.lstrip(b"\0")) > 20 or serial[0] >= 0x80 or serial == b"\0":
        raise Malformed("certificate.serial")
    if tbs.whole(SEQUENCE) != algorithm:
        raise Malformed("certificate.algorithm", "the signed one differs from the other")
    issuer = tbs.whole(SEQUENCE)
    validity = _Cursor(der, tbs.take(SEQUENCE))
    not_before = _time(validity)
    not_after = _time(validity)
    validity.close()
    subject = tbs.whole(SEQUENCE)
    spki = tbs.whole(SEQUENCE)
    extensions = _extensions(der, _Cursor(der, tbs.take(0xA3), 0xA3)) if tbs.peek() == 0xA3 else {}
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


def _bits(body: bytes) -> bytes:
    if body[0] != 0:
        raise Malformed("certificate.structure", "a bit string that is not whole bytes")
    return body[1:]


def _time(validity: _Cursor) -> datetime:
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


def _extensions(der: bytes, explicit: _Cursor) -> dict[bytes, bytes]:
    """Values of the extensions by object identifier (both without header); unknown critical ones are refused."""
    listed = _Cursor(der, explicit.take(SEQUENCE))
    explicit.close()
    found: dict[bytes, bytes] = {}
    while listed.peek():
        extension = _Cursor(der, listed.take(SEQUENCE))
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
    cursor = _sequence(value)
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
    body = _single(value, BIT_STRING, "keyUsage")
    used = 8 * (len(body) - 1) - body[0]
    bits = frozenset(at for at in range(used) if body[1 + at // 8] & (0x80 >> at % 8))
    # A list of named bits ends with the last that is set (X.690 §11.2.2): one set of usages has one encoding.
    if not bits or max(bits) != used - 1 or used > 9:
        raise Malformed("certificate.extension", "keyUsage")
    return bits


def _key_id(value: bytes | None) -> bytes | None:
    return None if value is None else _single(value, OCTET_STRING, "subjectKeyIdentifier")


def _authority_key_id(value: bytes | None) -> bytes | None:
    """The key identifier; issuer and serial number beside it are read over, since the path's order is given."""
    if value is None:
        return None
    cursor = _sequence(value)
    identifier = cursor.body(0x80) if cursor.peek() == 0x80 else None
    for tag in (0xA1, 0x82):
        if cursor.peek() == tag:
            cursor.take(tag)
    cursor.close()
    return identifier


def _single(value: bytes, tag: int, name: str) -> bytes:
    item = _item(value, 0, len(value))
    if item.stop != len(value) or item.tag != tag:
        raise Malformed("certificate.extension", name)
    _strict(value, 0, len(value), 0)
    return value[item.body : item.stop]


def ecdsa_signature(der: bytes, width: int = 48) -> bytes:
    """r ‖ s, `width` bytes each, of an ECDSA signature in DER. `Malformed("certificate.signature")` for other forms."""
    try:
        cursor = _sequence(der)
        r, s = cursor.body(INTEGER), cursor.body(INTEGER)
        cursor.close()
    except Malformed:
        raise Malformed("certificate.signature") from None
    if r[0] >= 0x80 or s[0] >= 0x80 or len(r.lstrip(b"\0")) > width or len(s.lstrip(b"\0")) > width:
        raise Malformed("certificate.signature")
    return r.lstrip(b"\0").rjust(width, b"\0") + s.lstrip(b"\0").rjust(width, b"\0")
