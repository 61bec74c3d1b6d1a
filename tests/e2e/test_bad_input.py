"""The table of bad input has a line for each kind that is asked for, and names tests that exist."""

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
# What must end in a clear error with its code and lose nothing, and the table's lines about it.
ASKED = {
    "unknown key": ["unknown key"],
    "key of another instance": ["key of another instance"],
    "wrong type": ["wrong type"],
    "ciphertext whose digest differs": ["ciphertext whose digest differs", "a ciphertext that the store lost"],
    "missing, foreign or k−1 bindings": ["missing, foreign or k−1 bindings"],
    "oversized ciphertext or batch": ["oversized ciphertext", "oversized batch"],
    "one bad request among good ones": ["one bad request among good ones"],
    "request not on the chain": ["request not on the chain"],
    "forged inbox proof": ["forged inbox proof"],
    "the forged absence of decision 3": ["forged absence"],
    "a host that skips a key's retirement": ["a host that skips a key's retirement"],
    "header of another chain": ["header of another chain", "header of a chain with the same id and another genesis"],
    "a lying validator who signs a state that no evidence backs": [
        "a lying validator who signs a state that no evidence backs"
    ],
    "replayed request and answer": ["replayed request", "replayed answer"],
    "an answer by a stranger": ["an answer by a stranger"],
    "two different cores by one party (and the same core twice, which is fine)": [
        "two different cores by one party",
        "the same core twice, which is fine",
    ],
    "expired, debug-mode or wrong-PCR16 document": [
        "expired document",
        "debug-mode document",
        "wrong-PCR16 document",
    ],
    "a responder's document replayed as an initiator's": ["a responder's document replayed as an initiator's"],
    "a client that does not attest": ["a client that does not attest"],
    "a KMS answer that carries `Plaintext`": ["a KMS answer that carries `Plaintext`"],
    "old or missing vault objects": ["old or missing vault objects"],
    "kill -9 of enclave, connector, node, application, store at every stage of a request": [
        "kill -9 of enclave, connector, node, application, store at every stage of a request"
    ],
}


@pytest.mark.parametrize("asked", ASKED)
def test_what_is_asked_for_has_its_lines(asked: str) -> None:
    """Each line about it is there, once, so that none can be dropped or renamed unnoticed."""
    lines = [line for line, _ in ROWS]
    assert [lines.count(line) for line in ASKED[asked]] == [1] * len(ASKED[asked])


@pytest.mark.parametrize(("line", "tests"), ROWS, ids=[line for line, _ in ROWS])
def test_a_line_has_its_tests(line: str, tests: list[str]) -> None:
    """Each name is that of a function in that file."""
    assert tests, line
    for name in tests:
        path, _, function = name.partition("::")
        tree = ast.parse((ROOT / path).read_text())
        named = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
        assert function in named, name
