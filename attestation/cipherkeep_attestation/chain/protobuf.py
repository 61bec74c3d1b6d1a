"""The only place that reads and writes protobuf, and it knows one encoding for each message.

The wire format lets a message be written in many ways; what is hashed and signed needs one. `decode`
therefore refuses unknown, repeated and unordered fields, integers longer than needed, zeros that are written
out, and required messages that are left out. Whatever it accepts, encoding the same values again gives the
same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from cipherkeep_attestation.errors import Malformed

VARINT, FIXED64, LENGTH = 0, 1, 2


class Kind(Enum):
    """What may stand in a field."""

    VARINT = "integer, absent when zero"
    BYTES = "bytes or text, absent when empty"
    MESSAGE = "message, always present, may be empty"
    OPTIONAL = "message or member of a oneof, present or not"
    REPEATED = "messages, any number"


Fields = dict[int, "int | bytes | list[bytes] | None"]

_WIRE = {
    Kind.VARINT: VARINT,
    Kind.BYTES: LENGTH,
    Kind.MESSAGE: LENGTH,
    Kind.OPTIONAL: LENGTH,
    Kind.REPEATED: LENGTH,
}


def _varint_at(data: bytes, position: int, end: int) -> tuple[int, int]:
    """An unsigned integer of at most 64 bits in its shortest form, and the position behind it."""
    value = shift = 0
    while True:
        if position >= end:
            raise Malformed("protobuf.truncated")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise Malformed("protobuf.integer", "more than ten bytes")
    if value >> 64:
        raise Malformed("protobuf.integer", "more than 64 bits")
    if byte == 0 and shift:
        raise Malformed("protobuf.integer", "not the shortest form")
    return value, position


def decode(data: bytes, kinds: Mapping[int, Kind]) -> Fields:
    """Read a message whose fields are `kinds`. `Malformed("protobuf.…")` unless the bytes are its encoding.

    The result has every field of `kinds`: absent integers as 0, bytes as b"", optional ones as None, repeated
    as []. Integers come as unsigned 64 bits; `signed` turns them into int64.
    """
    found: Fields = {}
    position, end, previous = 0, len(data), 0
    while position < end:
        tag, position = _varint_at(data, position, end)
        number, wire = tag >> 3, tag & 7
        kind = kinds.get(number)
        if kind is None:
            raise Malformed("protobuf.unknown_field", f"field {number}"[:40])
        if wire != _WIRE[kind]:
            raise Malformed("protobuf.wire_type", f"field {number}")
        if number == previous and kind is not Kind.REPEATED:
            raise Malformed("protobuf.repeated_field", f"field {number}")
        if number < previous:
            raise Malformed("protobuf.field_order", f"field {number} after {previous}")
        previous = number
        value, position = _varint_at(data, position, end)
        if kind is Kind.VARINT:
            if value == 0:
                raise Malformed("protobuf.default_value", f"field {number}")
            found[number] = value
            continue
        stop = position + value
        if stop > end:
            raise Malformed("protobuf.truncated", f"field {number}")
        if value == 0 and kind is Kind.BYTES:
            raise Malformed("protobuf.default_value", f"field {number}")
        piece = data[position:stop]
        position = stop
        if kind is Kind.REPEATED:
            items = found.setdefault(number, [])
            assert isinstance(items, list)
            items.append(piece)
        else:
            found[number] = piece
    for number, kind in kinds.items():
        if number not in found:
            if kind is Kind.MESSAGE:
                raise Malformed("protobuf.missing_field", f"field {number}")
            found[number] = _absent(kind)
    return found


def _absent(kind: Kind) -> int | bytes | list[bytes] | None:
    if kind is Kind.VARINT:
        return 0
    if kind is Kind.BYTES:
        return b""
    return [] if kind is Kind.REPEATED else None


def integer(fields: Fields, number: int) -> int:
    """An unsigned integer field."""
    value = fields[number]
    assert isinstance(value, int)
    return value


def signed(fields: Fields, number: int) -> int:
    """An int64 (or int32, or enum) field: negative ones travel as 64-bit two's complement."""
    value = integer(fields, number)
    return value - (1 << 64) if value >> 63 else value


def octets(fields: Fields, number: int) -> bytes:
    """A bytes, text or required message field."""
    value = fields[number]
    assert isinstance(value, bytes)
    return value


def optional(fields: Fields, number: int) -> bytes | None:
    """An optional message or member of a oneof."""
    value = fields[number]
    assert value is None or isinstance(value, bytes)
    return value


def repeated(fields: Fields, number: int) -> list[bytes]:
    """A repeated message field."""
    value = fields[number]
    assert isinstance(value, list)
    return value


# --- writing ---


def varint(value: int) -> bytes:
    """The shortest form of an unsigned 64-bit integer, or of the two's complement of a negative int64."""
    if not -(1 << 63) <= value < 1 << 64:  # wrapping around would let another value have the same bytes
        raise OverflowError("an integer outside -2^63 .. 2^64-1 has no encoding")
    if value < 0:
        value += 1 << 64
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def put_integer(number: int, value: int) -> bytes:
    """An integer field; nothing when zero."""
    return bytes((number << 3,)) + varint(value) if value else b""


def put_fixed64(number: int, value: int) -> bytes:
    """An sfixed64 field; nothing when zero."""
    return bytes((number << 3 | FIXED64,)) + value.to_bytes(8, "little", signed=True) if value else b""


def put_bytes(number: int, value: bytes) -> bytes:
    """A bytes or text field; nothing when empty."""
    return bytes((number << 3 | LENGTH,)) + varint(len(value)) + value if value else b""


def put_message(number: int, body: bytes) -> bytes:
    """A message field, written even when empty."""
    return bytes((number << 3 | LENGTH,)) + varint(len(body)) + body
