"""The only place that reads TOML of others: keys of few parts, few tables, little nesting, seen before the parser runs.

The parser of the standard library remembers every beginning of a dotted key, so that a key of n parts takes n² memory;
it keeps three hundred bytes for each byte of a table's short name; and it recurses into arrays and inline tables. One
pass over the text bounds all three.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

PARTS = 4  # of a key or a table's name; ours have one, or two where tables are written as dotted keys
DEPTH = 8  # nested arrays and inline tables; a list of releases has two
BRACKETS = 1024  # that open a table or an array; the most releases that a policy may have take 256

# Texts and comments do not count. An unfinished text reaches to the end of what it may fill, where the parser refuses
# it: whatever is behind is never parsed. Each byte is looked at once.
_TEXT = re.compile(
    rb'"""(?:[^"\\]++|\\.|"(?!""))*+(?:"""(?:""?)?)?'
    rb"|'''(?:[^']++|'(?!''))*+(?:'''(?:''?)?)?"
    rb'|"(?:[^"\\\n]++|\\[^\n])*+"?'
    rb"|'[^'\n]*+'?"
    rb"|#[^\n]*+",
    re.DOTALL,
)
_OPEN, _CLOSE, _DOT = b"[{", b"]}", ord(".")
_PLAIN = bytes(set(range(256)) - set(b".=,\n" + _OPEN + _CLOSE))


def loads(data: bytes) -> dict[str, Any]:
    """The table. ValueError says what is wrong; the size is the caller's to bound."""
    _check_bounds(data)
    try:
        return tomllib.loads(data.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _check_bounds(data: bytes) -> None:
    dots = depth = opened = 0
    for mark in _TEXT.sub(b"", data).translate(None, _PLAIN):
        if mark == _DOT:
            dots += 1
            if dots == PARTS:
                raise ValueError(f"a key of more than {PARTS} parts")
            continue
        dots = 0
        if mark in _OPEN:
            depth += 1
            opened += 1
            if depth > DEPTH:
                raise ValueError(f"nested deeper than {DEPTH}")
            if opened > BRACKETS:
                raise ValueError(f"more than {BRACKETS} tables and arrays")
        elif mark in _CLOSE:
            depth -= 1
