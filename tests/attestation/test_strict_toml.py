"""TOML of others is read in little memory and time."""

from __future__ import annotations

import sys
import time
import tomllib
import tracemalloc

import pytest
from cipherkeep_attestation import strict_toml
from cipherkeep_attestation.errors import Malformed
from cipherkeep_attestation.policy import LIMIT as POLICY_LIMIT
from cipherkeep_attestation.policy import read_policy
from cipherkeep_attestation.receipts.trust import LIMIT as TRUST_LIMIT
from cipherkeep_attestation.receipts.trust import read_toml
from hypothesis import given
from hypothesis import strategies as st

PIECES = [
    *"a1.=,[]{}# \n\t\\\"'",
    "\r\n",
    "''",
    '""',
    '"""',
    "'''",
    "[[a]]",
    "a = ",
    "1.5",
    "2026-07-01T12:00:00.5Z",
    "\\u0041",
]
HOSTILE = {
    "dotted": ".".join("a" * 60_000) + "=1",
    "spaced": " . ".join("a" * 30_000) + "=1",
    "quoted": ".".join(['"."', "''"] * 15_000) + "=1",
    "header": "[" + ".".join("a" * 60_000) + "]",
    "inline": "x={" + ".".join("a" * 60_000) + "=1}",
    "after a text": 'x = """\n"\\"""" #\n' + ".".join("a" * 60_000) + "=1",
    "tables": "".join(f"[{number:x}.a]\n" for number in range(14_000)),
    "arrays": "x = " + "[" * 120_000,
    "inline tables": "x = " + "{a=" * 40_000,
    "long number": "format = 0x" + "1" * 120_000,
    "open text": "x = '''" + "''a" * 40_000,
    "open escapes": 'x = """' + '\\"' * 60_000,
}


@pytest.mark.parametrize(("read", "limit"), [(read_policy, POLICY_LIMIT), (read_toml, TRUST_LIMIT)])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_cost_little(read: object, limit: int, name: str) -> None:
    """Whatever fills a policy or a trust file is refused within a second and 32 MiB."""
    text = HOSTILE[name]
    assert len(text) <= limit
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(Malformed):
        read(text.encode())  # type: ignore[operator]  (one of two readers)
    took, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 1
    assert peak < 32 << 20


@pytest.mark.parametrize(
    ("fine", "beyond"),
    [
        ("a.b.c.d = 1", "a.b.c.d.e = 1"),
        ('[a.\'b.b\'.c."d\\"."]', '[a.\'b.b\'.c."d\\".".e]'),
        ("x = [[[[[[[[1.5, 2.5]]]]]]]]", "x = [[[[[[[[[]]]]]]]]]"),
        ("[[a]]\n" * 512, "[[a]]\n" * 512 + "x = []"),
        ("x = '[[[[[[[[[.....' # [[[[[[[[[......", "x = '' # [\ny = [[[[[[[[[]]]]]]]]]"),
        ('x = """\n[[[[[[[[[" [[[ ""..... \\""""""', 'x = """"a"""""\ny = [[[[[[[[[]]]]]]]]]'),
        ("x = '''\n[[[[[[[[[' [[[ ''..... \\'''''", "x = ''''a'''''\ny = [[[[[[[[[]]]]]]]]]"),
    ],
)
def test_the_bounds_are_exact(fine: str, beyond: str) -> None:
    """What texts and comments hold does not count, and what stands behind them does."""
    assert strict_toml.loads(fine.encode()) == tomllib.loads(fine)
    assert tomllib.loads(beyond)
    with pytest.raises(ValueError, match=r"more than|deeper"):
        strict_toml.loads(beyond.encode())


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_ordinary_toml_is_read_as_by_everyone(text: str) -> None:
    """Within the bounds the same value or the same refusal comes out, wherever quotes stand."""
    try:
        expected = tomllib.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            strict_toml.loads(text.encode())
        return
    try:
        found = strict_toml.loads(text.encode())
    except ValueError as refusal:
        assert "more than" in str(refusal) or "deeper" in str(refusal)
        assert any(text.count(mark) >= 4 for mark in ".[{")
    else:
        assert found == expected


def test_nesting_is_bounded_before_the_parser_recurses() -> None:
    """Even where somebody raised the recursion limit, brackets end in a refusal and not in a crash."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000_000)
    try:
        with pytest.raises(ValueError, match="nested"):
            strict_toml.loads(b"x = " + b"[" * 1_000_000)
    finally:
        sys.setrecursionlimit(before)
