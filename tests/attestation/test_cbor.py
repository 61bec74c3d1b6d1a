"""CBOR: one encoding for our messages, strict and bounded reading of others', and readers that check every field."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import RULES, Malformed
from hypothesis import given, settings
from hypothesis import strategies as st

integers = st.integers(-(1 << 63), (1 << 64) - 1)
scalars = st.none() | st.booleans() | integers | st.binary(max_size=300) | st.text(max_size=40)
keys = st.text(max_size=30), st.integers(0, (1 << 64) - 1), st.integers(-(1 << 63), -1)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(keys[0], inner, max_size=5)
        | st.dictionaries(keys[1], inner, max_size=5)
        | st.dictionaries(keys[2], inner, max_size=5)
    ),
    max_leaves=25,
)


def code_of(data: bytes, *, read: Any = cbor.decode, **limits: int) -> str:
    with pytest.raises(Malformed) as refusal:
        read(data, **({"limits": cbor.Limits(**limits)} if limits else {}))
    return refusal.value.code


def same(one: object, other: object) -> bool:
    """Equality that tells True from 1."""
    return repr(one) == repr(other)


@settings(deadline=None)
@given(values)
def test_what_is_encoded_is_decoded(value: Any) -> None:
    """A value comes back as itself, from both decoders, and has one encoding."""
    data = cbor.encode(value)
    assert cbor.decode(data) == value
    assert cbor.decode_foreign(data) == value
    assert same(cbor.decode(data), cbor2.loads(data))
    assert cbor.encode(cbor.decode(data)) == data


@settings(max_examples=500, deadline=None)
@given(values, st.data())
def test_a_mutation_is_refused_or_encodes_to_itself(value: Any, data: st.DataObject) -> None:
    """Whatever is accepted as deterministic is the encoding that we would write of it."""
    encoded = bytearray(cbor.encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = cbor.decode(bytes(encoded))
    except Malformed as malformed:
        assert malformed.code in RULES
        return
    try:
        assert cbor.encode(decoded) == bytes(encoded)
    except TypeError as error:
        assert "keys" in str(error)  # a map of mixed keys is readable and never written


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes_never_do_more_than_be_refused(data: bytes) -> None:
    """Both decoders end with a value or a code; what the strict one takes, the other reads alike."""
    for read in (cbor.decode, cbor.decode_foreign):
        try:
            value = read(data)
        except Malformed as malformed:
            assert malformed.code in RULES
        else:
            assert same(cbor2.loads(data), value)
            assert same(cbor.decode_foreign(data), value)


@pytest.mark.parametrize(
    ("code", "data"),
    [
        ("encoding.truncated", ""),
        ("encoding.truncated", "18"),
        ("encoding.truncated", "1a000000"),
        ("encoding.truncated", "42ff"),
        ("encoding.truncated", "5bffffffffffffffff"),
        ("encoding.truncated", "82"),
        ("encoding.truncated", "a1"),
        ("encoding.truncated", "a101"),
        ("encoding.trailing", "0000"),
        ("encoding.not_shortest", "1817"),
        ("encoding.not_shortest", "190018"),
        ("encoding.not_shortest", "1900ff"),
        ("encoding.not_shortest", "1a0000ffff"),
        ("encoding.not_shortest", "1b00000000ffffffff"),
        ("encoding.not_shortest", "3817"),
        ("encoding.not_shortest", "5801ff"),
        ("encoding.not_shortest", "780161"),
        ("encoding.not_shortest", "980100"),
        ("encoding.not_shortest", "b8010000"),
        ("encoding.not_shortest", "d80100"),
        ("encoding.reserved", "1c"),
        ("encoding.reserved", "5d"),
        ("encoding.reserved", "9e"),
        ("encoding.indefinite", "1f"),
        ("encoding.indefinite", "5f4100ff"),
        ("encoding.indefinite", "7f6161ff"),
        ("encoding.indefinite", "df"),
        ("encoding.indefinite", "ff"),
        ("encoding.indefinite", "81ff"),
        ("encoding.utf8", "61ff"),
        ("encoding.utf8", "62c080"),
        ("encoding.utf8", "63eda080"),
        ("encoding.integer_range", "3b8000000000000000"),
        ("encoding.tag", "c000"),
        ("encoding.tag", "c24101"),
        ("encoding.tag", "d9d9f700"),
        ("encoding.simple", "f7"),
        ("encoding.simple", "e0"),
        ("encoding.simple", "f814"),
        ("encoding.simple", "f8ff"),
        ("encoding.simple", "f93c00"),
        ("encoding.simple", "fa3f800000"),
        ("encoding.simple", "fb3ff0000000000000"),
        ("encoding.simple", "fc"),
        ("encoding.key", "a1f500"),
        ("encoding.key", "a1f600"),
        ("encoding.key", "a1410000"),
        ("encoding.key", "a18000"),
        ("encoding.duplicate_key", "a201000100"),
        ("encoding.duplicate_key", "a2616100616100"),
    ],
)
def test_a_rule_has_its_code_in_both_decoders(code: str, data: str) -> None:
    """What neither decoder takes is refused by the same rule."""
    assert code_of(bytes.fromhex(data)) == code
    assert code_of(bytes.fromhex(data), read=cbor.decode_foreign) == code


@pytest.mark.parametrize(
    ("code", "data", "value"),
    [
        ("encoding.key_order", "a202000100", {2: 0, 1: 0}),
        ("encoding.key_order", "a262616100616200", {"aa": 0, "b": 0}),
        ("encoding.key_order", "a220000000", {-1: 0, 0: 0}),
        ("encoding.mixed_keys", "a200002000", {0: 0, -1: 0}),
        ("encoding.mixed_keys", "a20100616100", {1: 0, "a": 0}),
        ("encoding.mixed_keys", "a22000616100", {-1: 0, "a": 0}),
        ("encoding.indefinite", "9fff", []),
        ("encoding.indefinite", "9f00ff", [0]),
        ("encoding.indefinite", "bfff", {}),
        ("encoding.indefinite", "bf0100ff", {1: 0}),
        ("encoding.indefinite", "bf01bfff029f00ffff", {1: {}, 2: [0]}),
    ],
)
def test_others_may_write_it_another_way(code: str, data: str, value: Any) -> None:
    """Order, kinds of keys and indefinite lengths are the only freedom that others have."""
    assert code_of(bytes.fromhex(data)) == code
    assert cbor.decode_foreign(bytes.fromhex(data)) == value


@pytest.mark.parametrize(
    ("code", "data"),
    [
        ("encoding.truncated", "9f"),
        ("encoding.truncated", "bf"),
        ("encoding.truncated", "bf01"),
        ("encoding.indefinite", "bf01ff"),
        ("encoding.duplicate_key", "bf01000100ff"),
        ("encoding.trailing", "bfff00"),
        ("encoding.trailing", "9fffff"),
    ],
)
def test_others_have_no_other_freedom(code: str, data: str) -> None:
    """A missing break, a key without value, a repeated key and bytes behind the end are refused."""
    assert code_of(bytes.fromhex(data), read=cbor.decode_foreign) == code


@pytest.mark.parametrize("read", [cbor.decode, cbor.decode_foreign])
def test_limits_hold_before_anything_is_made(read: Any) -> None:
    """Size, depth and number of items are bounded; a length that lies allocates nothing."""
    assert read(b"\x82\x00\x00", limits=cbor.Limits(size=3, depth=1, items=2)) == [0, 0]
    assert code_of(b"\x82\x00\x00", read=read, size=2) == "encoding.size"
    assert code_of(b"\x82\x00\x00", read=read, items=1) == "encoding.items"
    assert code_of(b"\xa1\x00\x00", read=read, items=1) == "encoding.items"
    assert code_of(b"\x81\x80", read=read, depth=1) == "encoding.depth"
    assert code_of(b"\x81" * 10_000, read=read) == "encoding.depth"
    assert code_of(b"\x9b" + b"\x7f" + b"\xff" * 7, read=read) == "encoding.items"
    assert code_of(b"\xbb" + b"\xff" * 8, read=read) == "encoding.items"
    assert code_of(b"\x99\xff\xff\x00", read=read) == "encoding.truncated"


def test_indefinite_items_are_counted_too() -> None:
    """Nobody gets more items by not saying how many."""
    assert code_of(b"\x9f\0\0\xff", read=cbor.decode_foreign, items=1) == "encoding.items"
    assert code_of(b"\xbf\0\0\x01\0\xff", read=cbor.decode_foreign, items=3) == "encoding.items"


@pytest.mark.parametrize(
    "value",
    [1.0, {1, 2}, object(), 1 << 64, -(1 << 63) - 1, {b"k": 1}, {None: 1}, {True: 1}, {1: 1, "1": 1}, {1: 1, -1: 1}],
    ids=lambda value: repr(value)[:20],
)
def test_what_has_no_place_in_a_message_is_not_written(value: Any) -> None:
    """Floats, sets, tags, numbers beyond 64 bits and unusual keys are errors of the caller."""
    with pytest.raises(TypeError):
        cbor.encode(value)
    with pytest.raises(TypeError):
        cbor.encode([value])


def test_nesting_is_bounded_when_writing() -> None:
    """A list that holds itself ends in an error."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(TypeError, match="deep"):
        cbor.encode(endless)


# --- readers ---


def read(value: Any, reader: cbor.Reader) -> Any:
    return cbor.fields({"field": value}, field=reader)["field"]


@pytest.mark.parametrize(
    ("reader", "good", "bad"),
    [
        (cbor.raw(2), [b"ab"], [b"a", b"abc", "ab", None, [1, 2]]),
        (cbor.raw(0, 2), [b"", b"ab"], [b"abc", ""]),
        (cbor.text(2), ["a", "ab", "éé"], ["", "abc", b"a", 1]),
        (cbor.text(2, least=0), [""], ["abc"]),
        (cbor.exactly(1), [1], [True, 2, "1", None]),
        (cbor.exactly("a"), ["a"], ["b", b"a"]),
        (cbor.one_of("a", 1), ["a", 1], ["b", 2, True, None, []]),
        (cbor.uint(3), [0, 3], [-1, 4, True, "1", None]),
        (cbor.uint(3, least=2), [2], [1]),
        (cbor.boolean, [True, False], [0, 1, None, ""]),
        (cbor.anything, [None, 1, [2]], []),
        (cbor.nullable(cbor.uint(1)), [None, 1], [2, False]),
        (cbor.sequence(cbor.uint(1), 2), [[], [0, 1]], [[0, 0, 0], [2], {}, (0,), None]),
        (cbor.sequence(cbor.uint(1), 2, least=1), [[1]], [[]]),
        (
            cbor.mapping(cbor.text(1), cbor.uint(1), 1),
            [{}, {"a": 1}],
            [{"a": 2}, {"ab": 1}, {1: 1}, {"a": 1, "b": 1}],
        ),
    ],
    ids=range(15),
)
def test_a_reader_takes_its_own_and_nothing_else(reader: cbor.Reader, good: list[Any], bad: list[Any]) -> None:
    """Type and length are checked together; True is no integer."""
    for value in good:
        expected = tuple(value) if isinstance(value, list) and reader is not cbor.anything else value
        assert same(read(value, reader), expected)
    for value in bad:
        with pytest.raises(Malformed) as refusal:
            read(value, reader)
        assert refusal.value.code == "encoding.schema"
        assert "field" in refusal.value.detail


@pytest.mark.parametrize("value", [{}, {"a": 1}, {"a": 1, "b": 2, "c": 3}, {"a": 1, 2: 2}, [], None, "ab"], ids=repr)
def test_a_map_has_exactly_its_fields(value: Any) -> None:
    """Neither missing nor unknown fields pass, and nothing that is no map."""
    with pytest.raises(Malformed) as refusal:
        cbor.fields(value, a=cbor.anything, b=cbor.anything)
    assert refusal.value.code == "encoding.schema"


def test_a_refusal_stays_short() -> None:
    """What a stranger sends does not fill a log."""
    with pytest.raises(Malformed) as refusal:
        cbor.fields({f"key{n}": n for n in range(10_000)}, a=cbor.anything)
    assert len(refusal.value.detail) <= 300
