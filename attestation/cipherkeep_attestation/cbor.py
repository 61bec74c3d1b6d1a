"""The only place that reads and writes CBOR: deterministic for our own messages, strict and bounded for others'.

Our messages (RFC 8949 §4.2.1, "core deterministic encoding") have one encoding each: shortest integers, definite
lengths, sorted unique keys, no tags, no floats. `decode` accepts exactly that and nothing else, so that the digest of
a message is the digest of its meaning.

What AWS hardware sends is not deterministic: `decode_foreign` also reads indefinite-length maps and unsorted keys, and
still refuses duplicates, tags, floats, long integers and trailing bytes.

Reading a message means `fields(value, name=reader, …)`: exactly these keys, each value passed through its reader
(`raw`, `text`, `uint`, `boolean`, `sequence`, `mapping`, `nullable`, `anything`), which checks type and length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import cbor2

from cipherkeep_attestation.errors import Malformed

Value: TypeAlias = "bool | int | bytes | str | list[Value] | dict[str | int, Value] | None"
Reader: TypeAlias = Callable[[Any], Any]

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a CBOR item may be before it is read."""

    size: int = 4 * MIB  # bytes of the whole item; larger payloads travel as streams
    depth: int = 16  # nested arrays and maps; our deepest message has seven
    items: int = 100_000  # items in all arrays and maps together


DEFAULT = Limits()


def encode(value: object) -> bytes:
    """Encode deterministically. TypeError for what has no place in our messages (floats, sets, tags, other keys)."""
    _check(value, DEFAULT.depth)
    return cbor2.dumps(value, canonical=True)


_LEAVES: Final = frozenset((type(None), bool, bytes, str))


def _check(value: object, depth: int) -> None:
    if type(value) in _LEAVES:
        return
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 64:
            raise TypeError("integer outside -2^63 .. 2^64-1")
        return
    if depth == 0:
        raise TypeError("nested too deeply")
    if isinstance(value, (list, tuple)):
        for item in value:
            _check(item, depth - 1)
        return
    if isinstance(value, dict):
        kinds = {type(key) for key in value}
        # One kind of key in a map: cbor2 sorts by length first, which is the deterministic order only then.
        if not kinds <= {str} and not kinds <= {int}:
            raise TypeError("map keys must be all text or all integers")
        if kinds == {int} and any(key < 0 for key in value) and any(key >= 0 for key in value):
            raise TypeError("map keys must not mix signs")
        for item in value.values():
            _check(item, depth - 1)
        return
    raise TypeError(f"{type(value).__name__} has no place in a message")


def decode(data: bytes, *, limits: Limits = DEFAULT) -> Value:
    """Read exactly one deterministically encoded item. `Malformed("encoding.…")` for anything else."""
    return _Parser(data, limits, deterministic=True).whole()


def decode_foreign(data: bytes, *, limits: Limits = DEFAULT) -> Value:
    """Read one item of someone else's: indefinite-length maps and arrays and any order of keys are accepted."""
    return _Parser(data, limits, deterministic=False).whole()


class _Parser:
    """One pass over the bytes; every length is checked against what is left before anything is made."""

    __slots__ = ("data", "depth", "deterministic", "end", "items", "position")

    def __init__(self, data: bytes, limits: Limits, *, deterministic: bool) -> None:
        if len(data) > limits.size:
            raise Malformed("encoding.size", f"{len(data)} bytes, at most {limits.size}")
        self.data = data
        self.end = len(data)
        self.position = 0
        self.depth = limits.depth
        self.items = limits.items
        self.deterministic = deterministic

    def whole(self) -> Value:
        value = self.item()
        if self.position != self.end:
            raise Malformed("encoding.trailing", f"{self.end - self.position} bytes after the item")
        return value

    def head(self) -> tuple[int, int]:
        """Major type and argument of the next item; argument -1 stands for an indefinite length."""
        position = self.position
        if position >= self.end:
            raise Malformed("encoding.truncated")
        first = self.data[position]
        major, info = first >> 5, first & 31
        position += 1
        if info < 24:
            self.position = position
            return major, info
        if info < 28:
            width = 1 << (info - 24)
            stop = position + width
            if stop > self.end:
                raise Malformed("encoding.truncated")
            argument = int.from_bytes(self.data[position:stop], "big")
            if major != 7 and (argument < 24 if width == 1 else argument >> (4 * width) == 0):
                raise Malformed("encoding.not_shortest", f"at byte {self.position}")
            self.position = stop
            return major, argument
        if info == 31 and major in (4, 5) and not self.deterministic:
            self.position = position
            return major, -1
        if info == 31:
            raise Malformed("encoding.indefinite", f"at byte {self.position}")
        raise Malformed("encoding.reserved", f"at byte {self.position}")

    def item(self) -> Value:
        start = self.position
        if start < self.end and self.data[start] >> 5 == 7:
            return self.simple()
        major, argument = self.head()
        if major == 2:
            return self.take(argument)
        if major == 0:
            return argument
        if major == 3:
            try:
                return str(self.take(argument), "utf-8")
            except UnicodeDecodeError:
                raise Malformed("encoding.utf8", f"at byte {start}") from None
        if major == 1:
            if argument >= 1 << 63:
                raise Malformed("encoding.integer_range", f"at byte {start}")
            return -1 - argument
        if major == 6:
            raise Malformed("encoding.tag", f"tag {argument} at byte {start}")
        if self.depth == 0:
            raise Malformed("encoding.depth", f"at byte {start}")
        self.depth -= 1
        value = self.array(argument) if major == 4 else self.map(argument)
        self.depth += 1
        return value

    def simple(self) -> Value:
        first = self.data[self.position]
        self.position += 1
        if first == 0xF6:
            return None
        if first == 0xF5:
            return True
        if first == 0xF4:
            return False
        if first == 0xFF:
            raise Malformed("encoding.indefinite", f"a break at byte {self.position - 1}")
        raise Malformed("encoding.simple", f"byte {first:#04x} at {self.position - 1}")

    def take(self, length: int) -> bytes:
        stop = self.position + length
        if stop > self.end:
            raise Malformed("encoding.truncated")
        piece = self.data[self.position : stop]
        self.position = stop
        return piece

    def spend(self, count: int) -> None:
        """Count items against the limit, and against the bytes left: each takes at least one."""
        self.items -= count
        if self.items < 0:
            raise Malformed("encoding.items")
        if count > self.end - self.position:
            raise Malformed("encoding.truncated")

    def at_break(self) -> bool:
        if self.position >= self.end:
            raise Malformed("encoding.truncated")
        if self.data[self.position] == 0xFF:
            self.position += 1
            return True
        return False

    def array(self, count: int) -> list[Value]:
        if count >= 0:
            self.spend(count)
            return [self.item() for _ in range(count)]
        items: list[Value] = []
        while not self.at_break():
            self.spend(1)
            items.append(self.item())
        return items

    def map(self, count: int) -> dict[str | int, Value]:
        result: dict[str | int, Value] = {}
        previous = b""
        left = count
        if count >= 0:
            self.spend(2 * count)
        while left if count >= 0 else not self.at_break():
            left -= 1
            if count < 0:
                self.spend(2)
            start = self.position
            key = self.item()
            if type(key) is not str and type(key) is not int:
                raise Malformed("encoding.key", f"at byte {start}")
            if self.deterministic:
                encoded = self.data[start : self.position]
                if encoded <= previous:
                    code = "encoding.duplicate_key" if encoded == previous else "encoding.key_order"
                    raise Malformed(code, f"at byte {start}")
                # What `encode` would not write back: a reader that passes such a map on would break later.
                if previous and encoded[0] >> 5 != previous[0] >> 5:
                    raise Malformed("encoding.mixed_keys", f"at byte {start}")
                previous = encoded
            elif key in result:
                raise Malformed("encoding.duplicate_key", f"at byte {start}")
            result[key] = self.item()
        return result


# --- reading the fields of a decoded message ---


def fields(value: object, /, **schema: Reader) -> dict[str, Any]:
    """The fields of a map with exactly the keys of `schema`, each passed through its reader."""
    if type(value) is not dict or value.keys() != schema.keys():
        found = sorted(map(str, value)) if isinstance(value, dict) else type(value).__name__
        raise Malformed("encoding.schema", f"expected {sorted(schema)}, found {found}"[:300])
    result: dict[str, Any] = {}
    for name, reader in schema.items():
        try:
            result[name] = reader(value[name])
        except _WrongError as wrong:
            raise Malformed("encoding.schema", f"{name}: {wrong}") from None
    return result


class _WrongError(Exception):
    """A reader's sentence about one field; `fields` adds the field's name and the code."""


def raw(least: int, most: int | None = None) -> Reader:
    """A byte string of `least` to `most` bytes; of exactly `least` when `most` is not given."""
    top = least if most is None else most

    def read(value: Any) -> bytes:
        if type(value) is not bytes or not least <= len(value) <= top:
            raise _WrongError(f"not a byte string of {least} to {top} bytes")
        return value

    return read


def text(most: int, least: int = 1) -> Reader:
    """A text of at most `most` characters."""

    def read(value: Any) -> str:
        if type(value) is not str or not least <= len(value) <= most:
            raise _WrongError(f"not a text of {least} to {most} characters")
        return value

    return read


def exactly(expected: object) -> Reader:
    """This one value, of this one type: labels and versions."""

    def read(value: Any) -> Any:
        if type(value) is not type(expected) or value != expected:
            raise _WrongError(f"not {expected!r}")
        return value

    return read


def one_of(*allowed: str | int) -> Reader:
    """One of a few known values."""

    def read(value: Any) -> Any:
        if type(value) not in (str, int) or value not in allowed:
            raise _WrongError(f"not one of {allowed}")
        return value

    return read


def uint(most: int = (1 << 63) - 1, least: int = 0) -> Reader:
    """An integer from `least` to `most`."""

    def read(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise _WrongError(f"not an integer from {least} to {most}")
        return value

    return read


def boolean(value: Any) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise _WrongError("not a boolean")
    return value


def anything(value: Any) -> Any:
    """Whatever the decoder let through: for what another reader judges."""
    return value


def nullable(reader: Reader) -> Reader:
    """Null, or what `reader` reads."""
    return lambda value: None if value is None else reader(value)


def sequence(reader: Reader, most: int, least: int = 0) -> Reader:
    """An array of `least` to `most` items, read into a tuple."""

    def read(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or not least <= len(value) <= most:
            raise _WrongError(f"not an array of {least} to {most} items")
        return tuple(reader(item) for item in value)

    return read


def mapping(key: Reader, reader: Reader, most: int, least: int = 0) -> Reader:
    """A map of `least` to `most` entries whose keys `key` reads and whose values `reader` reads."""

    def read(value: Any) -> dict[Any, Any]:
        if type(value) is not dict or not least <= len(value) <= most:
            raise _WrongError(f"not a map of {least} to {most} entries")
        return {key(name): reader(item) for name, item in value.items()}

    return read
