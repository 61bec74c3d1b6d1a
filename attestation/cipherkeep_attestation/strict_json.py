"""The only place that reads JSON of others: no name twice, every number finite, and a bound on nesting.

Nesting is bounded before the parser runs: the parser of the standard library recurses in C, and where somebody raised
the interpreter's recursion limit, a few thousand brackets overrun the stack and kill the process.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

DEPTH = 32  # nested arrays and objects; a node's deepest answer has about ten

# Brackets inside texts do not count. An unfinished text reaches to the end, so that each byte is looked at once: the
# parser refuses it. Runs of plain characters are one step each, since texts of others are long.
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_OPEN, _CLOSE = b"[{", b"]}"
_NO_BRACKETS = bytes(set(range(256)) - set(_OPEN + _CLOSE))


def loads(data: bytes, *, depth: int = DEPTH) -> Any:
    """The value. ValueError says what is wrong; the size is the caller's to bound."""
    check_depth(data, depth)
    return json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)


def check_depth(data: bytes, most: int = DEPTH) -> None:
    """ValueError for arrays and objects that nest deeper than `most`."""
    open_ = 0
    for bracket in _TEXT.sub(b"", data).translate(None, _NO_BRACKETS):
        if bracket in _OPEN:
            open_ += 1
            if open_ > most:
                raise ValueError(f"nested deeper than {most}")
        else:
            open_ -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    """JSON writes numbers that no float holds; whoever read them as infinity could not write them again."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number too large")
    return value
