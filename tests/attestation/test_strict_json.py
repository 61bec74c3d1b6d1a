"""JSON of others is read strictly."""

from __future__ import annotations

import json
import sys

import pytest
from cipherkeep_attestation import strict_json
from hypothesis import given
from hypothesis import strategies as st

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(VALUES)
def test_ordinary_json_is_read_as_by_everyone(value: object) -> None:
    """Brackets and quotes inside texts change nothing."""
    data = json.dumps(value).encode()
    assert strict_json.loads(data, depth=64) == value


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a": 1, "a": 2}', "the name 'a' twice"),
        (b'{"x": {"a": 1, "a": 1}}', "the name 'a' twice"),
        (b"NaN", "not an integer"),
        (b"[-Infinity]", "not an integer"),
        (b"1.5", "not an integer"),
        (b"1e3", "not an integer"),
        (b"9" * 5000, "too many digits"),
        (b"", "at character 0"),
        (b"{", "at character 1"),
        (b'"open', "Unterminated"),
        (b"\xff", "not UTF-8"),
        (b"1 2", "Extra data at character 2"),
    ],
)
def test_loose_json_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    """Neither repeated names, nor constants that JSON lacks, nor fractions, nor halves."""
    with pytest.raises(strict_json.NotJsonError, match=reason):
        strict_json.loads(data)


def test_fractions_are_read_where_they_are_asked_for() -> None:
    """And nothing else that is loose, nor numbers beyond every float."""
    assert strict_json.loads(b"[1.5, 1e3]", floats=True) == [1.5, 1000.0]
    for wrong in (b"NaN", b"Infinity", b"1e999", b"[-1.5E+400]", b'{"a": 1, "a": 1}'):
        with pytest.raises(strict_json.NotJsonError):
            strict_json.loads(wrong, floats=True)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"\\"]":'])
def test_deep_nesting_is_refused_before_the_parser_recurses(opening: bytes) -> None:
    """Even where somebody raised the recursion limit, a million brackets end in a refusal and not in a crash."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000_000)
    try:
        with pytest.raises(ValueError, match="nested"):
            strict_json.loads(opening * 1_000_000)
    finally:
        sys.setrecursionlimit(before)


def test_the_bound_is_exact() -> None:
    """32 levels are read, 33 are not; what is closed again does not count."""
    assert strict_json.loads(b"[" * 32 + b"]" * 32) is not None
    assert strict_json.loads(b"[" + b"[]," * 100 + b"[]]") is not None
    with pytest.raises(ValueError, match="nested"):
        strict_json.loads(b"[" * 33 + b"]" * 33)


def test_an_unfinished_text_is_looked_at_once() -> None:
    """A million escaped quotes behind one that nothing closes take no longer than a million other characters."""
    with pytest.raises(ValueError, match="Unterminated"):
        strict_json.loads(b'["' + b'\\"' * 1_000_000)
