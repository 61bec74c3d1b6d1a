"""The only place that reads JSON of others: no name twice, every number finite, and a bound on nesting.

Nesting is bounded before the parser runs: the parser of the standard library recurses in C, and where somebody raised
the interpreter's recursion limit, a few thousand brackets overrun the stack and kill the process.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

DEPTH = 32  # nested arrays and objects; a node's deepest answer has about ten

# Brackets inside texts do not count. An unfinished text reaches to the end, so that each byte is looked at once: the
# parser refuses it. Runs of plain characters are one step each, since texts of others are long.
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_OPEN, _CLOSE = b"[{", b"]}"
_NO_BRACKETS = bytes(set(range(256)) - set(_OPEN + _CLOSE))


class NotJsonError(ValueError):
    """Bytes are not the one JSON value that was expected; the sentence says why."""


def loads(data: bytes, *, floats: bool = False, depth: int = DEPTH) -> Any:
    """One JSON value in UTF-8, without fractions and exponents unless `floats`; the size is the caller's to bound.

    `NotJsonError` with a reason otherwise.
    """
    check_depth(data, depth)
    try:
        return json.loads(
            data.decode(),
            object_pairs_hook=_object,
            parse_float=_finite if floats else _no_float,
            parse_constant=_no_float,
        )
    except NotJsonError:
        raise
    except UnicodeDecodeError:
        raise NotJsonError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise NotJsonError(f"{error.msg} at character {error.pos}") from None
    except ValueError:
        raise NotJsonError("a number with too many digits") from None


def check_depth(data: bytes, most: int = DEPTH) -> None:
    """`NotJsonError` for arrays and objects that nest deeper than `most`."""
    open_ = 0
    for bracket in _TEXT.sub(b"", data).translate(None, _NO_BRACKETS):
        if bracket in _OPEN:
            open_ += 1
            if open_ > most:
                raise NotJsonError(f"nested deeper than {most}")
        else:
            open_ -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise NotJsonError(f"the name {name[:40]!r} twice")
            seen.add(name)
    return found


def _finite(text: str) -> float:
    """JSON writes numbers that no float holds; whoever read them as infinity could not write them again."""
    value = float(text)
    if not math.isfinite(value):
        raise NotJsonError("a number too large")
    return value


def _no_float(text: str) -> NoReturn:
    raise NotJsonError(f"a number that is not an integer: {text[:40]}")
