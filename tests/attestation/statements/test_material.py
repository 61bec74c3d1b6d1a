"""Public material as a key generation's answer names it, and what is signed over it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Malformed
from cipherkeep_attestation.statements import fhevm
from cipherkeep_attestation.statements.material import KINDS, GeneratedKey, Material, Measure
from Crypto.Hash import SHAKE256
from hypothesis import given
from hypothesis import strategies as st

PIECES = tuple(Material.of(kind, b"the bytes of " + kind.encode()) for kind in KINDS)
KEY = GeneratedKey("parameters", PIECES)


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_a_piece_is_measured_in_parts_as_it_is_whole(parts: list[bytes]) -> None:
    """However a stream is cut; the digests are those of another implementation."""
    measure = Measure()
    for part in parts:
        measure.add(part)
    whole = b"".join(parts)
    found = measure.material("public_key")
    assert found == Material.of("public_key", whole)
    assert (found.digest, found.size) == (hashlib.sha256(whole).digest(), len(whole))
    assert found.typed_digest == SHAKE256.new(b"PDAT_KEY" + whole).read(32)


def test_what_is_written_is_read_back() -> None:
    """Through the encoding of a core."""
    assert GeneratedKey.of_map(cbor.decode(cbor.encode(KEY.to_map()))) == KEY


ROWS = [piece.to_row() for piece in PIECES]


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (list, "encoding.schema"),
        (lambda: ROWS[:1], "encoding.schema"),
        (lambda: [*ROWS, ROWS[0]], "encoding.schema"),
        (lambda: None, "encoding.schema"),
        (lambda: ROWS[::-1], "answer.material"),
        (lambda: [ROWS[0], ROWS[0]], "answer.material"),
        (lambda: [ROWS[0], ["secret_key", *ROWS[1][1:]]], "answer.material"),
        (lambda: [ROWS[0], ROWS[1][:3]], "answer.material"),
        (lambda: [ROWS[0], [*ROWS[1], 0]], "answer.material"),
        (lambda: [ROWS[0], {"kind": "server_key"}], "answer.material"),
        (lambda: [ROWS[0], [*ROWS[1][:2], 0, bytes(32)]], "encoding.schema"),
        (lambda: [ROWS[0], [*ROWS[1][:2], (1 << 40) + 1, bytes(32)]], "encoding.schema"),
        (lambda: [ROWS[0], [*ROWS[1][:3], bytes(31)]], "encoding.schema"),
        (lambda: [ROWS[0], [ROWS[1][0], bytes(33), *ROWS[1][2:]]], "encoding.schema"),
    ],
)
def test_other_material_is_refused(edit: Callable[[], Any], code: str) -> None:
    """One piece of each kind in one order, each a row of four."""
    with pytest.raises(Malformed) as refusal:
        GeneratedKey.of_map({"material": edit(), "parameters": "parameters"})
    assert refusal.value.code == code


def test_another_field_is_refused() -> None:
    """Neither one more nor one less."""
    for wrong in (
        {"material": ROWS},
        {"material": ROWS, "parameters": "x", "more": 1},
        {"material": ROWS, "parameters": ""},
    ):
        with pytest.raises(Malformed):
            GeneratedKey.of_map(wrong)


def test_the_server_key_comes_first_in_typed_data() -> None:
    """Its type is 0 and the public key's 1; names are ordered otherwise."""
    public, server = PIECES
    expected = fhevm.key_generation(b"\1" * 32, b"\2" * 32, [(0, server.typed_digest), (1, public.typed_digest)])
    assert KEY.struct_hash(preparation=b"\1" * 32, key_id=b"\2" * 32) == expected
