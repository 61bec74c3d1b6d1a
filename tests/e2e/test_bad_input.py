"""The table of bad input names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    (found[1].strip(), re.findall(r"`(tests/[^`]+)`", found[2]))
    for found in re.finditer(r"^\| ([^|]+) \| (.*`tests/.*) \|$", (ROOT / "tests/e2e/README.md").read_text(), re.M)
]


def test_the_table_is_read() -> None:
    """A table that nobody finds would prove nothing."""
    assert len(ROWS) >= 25


@pytest.mark.parametrize(("line", "tests"), ROWS, ids=[line for line, _ in ROWS])
def test_a_line_has_its_tests(line: str, tests: list[str]) -> None:
    """Each name is that of a function in that file."""
    assert tests, line
    for name in tests:
        path, _, function = name.partition("::")
        tree = ast.parse((ROOT / path).read_text())
        named = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
        assert function in named, name
