"""The only place that reads DER: one encoding of each value, bounded in depth and length, every refusal enumerated.

Every tag, length and primitive value is judged against X.690 before anything is made of it: low tag numbers, definite
shortest lengths, shortest integers, booleans of 00 or ff, clean bit strings, sorted sets, strings in one piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from cipherkeep_attestation.errors import Malformed

DEPTH = 12  # nested constructed items; a certificate of a document has eight

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
UTF8_STRING, PRINTABLE_STRING, IA5_STRING = 0x0C, 0x13, 0x16
UTC_TIME, GENERALIZED_TIME, SEQUENCE, SET = 0x17, 0x18, 0x30, 0x31
_CONSTRUCTED = 0x20
_UNIVERSAL_CONSTRUCTED = (SEQUENCE, SET)
_UNIVERSAL_PRIMITIVE = (*range(0x01, 0x10), *range(0x12, 0x1F))


class Item(NamedTuple):
    """Where an item lies in the bytes: its header from `start`, its content from `body` to `stop`."""

    tag: int
    start: int  # of the header
    body: int
    stop: int


def _item(data: bytes, start: int, end: int) -> Item:
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
    return Item(tag, start, body, body + length)


def _items(data: bytes, start: int, end: int) -> Iterator[Item]:
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


class Cursor:
    """Reads the items of one constructed item in order; what is not there, or left over, is a refusal."""

    __slots__ = ("data", "end", "position")

    def __init__(self, data: bytes, item: Item, tag: int = SEQUENCE) -> None:
        if item.tag != tag:
            raise Malformed("certificate.structure", f"tag {item.tag:#04x} at byte {item.start}")
        self.data = data
        self.position = item.body
        self.end = item.stop

    def peek(self) -> int:
        """Tag of the next item; 0 when none is left."""
        return self.data[self.position] if self.position < self.end else 0

    def take(self, *tags: int) -> Item:
        """The next item, which must have one of these tags."""
        if self.peek() not in tags:
            raise Malformed("certificate.structure", f"tag {self.peek():#04x} at byte {self.position}")
        item = _item(self.data, self.position, self.end)
        self.position = item.stop
        return item

    def body(self, *tags: int) -> bytes:
        """The content of the next item."""
        item = self.take(*tags)
        return self.data[item.body : item.stop]

    def whole(self, *tags: int) -> bytes:
        """The next item with its header."""
        item = self.take(*tags)
        return self.data[item.start : item.stop]

    def close(self) -> None:
        """Nothing may be left."""
        if self.position != self.end:
            raise Malformed("certificate.structure", f"more than expected at byte {self.position}")


def sequence(data: bytes) -> Cursor:
    """A cursor over bytes that are exactly one SEQUENCE, strict DER throughout."""
    item = _item(data, 0, len(data))
    if item.stop != len(data):
        raise Malformed("certificate.encoding", f"{len(data) - item.stop} bytes after the item")
    _strict(data, 0, len(data), DEPTH)
    return Cursor(data, item)


def single(value: bytes, tag: int, name: str) -> bytes:
    """The content of bytes that are exactly one primitive item of this tag; `name` is its extension's."""
    item = _item(value, 0, len(value))
    if item.stop != len(value) or item.tag != tag:
        raise Malformed("certificate.extension", name)
    _strict(value, 0, len(value), 0)
    return value[item.body : item.stop]
