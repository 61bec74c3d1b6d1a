"""Every type from the public key to a packed list and back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from insecure_keys import SEED, Keys

import tfhers

BOUNDARY = {name: (1 << info.bits) - 1 for name, info in tfhers.TYPES.items()}
PATTERN = {name: int("9c" * 32, 16) & limit for name, limit in BOUNDARY.items()}


def any_value() -> st.SearchStrategy[tuple[str, int]]:
    def value_of(name: str) -> st.SearchStrategy[tuple[str, int]]:
        return st.tuples(st.just(name), st.integers(0, BOUNDARY[name]))

    return st.sampled_from(sorted(BOUNDARY)).flatmap(value_of)


def test_every_type_goes_all_the_way(keys: Keys) -> None:
    """Encrypt with the public key, expand, compress, decrypt directly: each type, in one list of 333 blocks.

    The last element lies across two ciphertexts, since one holds 256 blocks.
    """
    values = list(PATTERN.items())
    compact = keys.public.encrypt(values)
    expanded = tfhers.expand(compact, keys.server)
    assert [one.type for one in expanded] == [name for name, _ in values]
    for one, (name, value) in zip(expanded, values, strict=True):
        assert keys.client.decrypt_expanded(one.to_bytes(), name) == value
    packed = tfhers.compress(expanded, keys.server)
    assert tfhers.packed_types(packed) == [name for name, _ in values]
    for index, expected in enumerate(values):
        assert keys.client.decrypt_packed(packed, index=index, expected=expected[0]) == expected


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(any_value(), min_size=1, max_size=6))
def test_any_list_decrypts_element_by_element(keys: Keys, values: list[tuple[str, int]]) -> None:
    """Whatever the types and values, each element of a packed list decrypts to itself."""
    packed = keys.packed(*values)
    assert [keys.client.decrypt_packed(packed, index=index) for index in range(len(values))] == values


def test_boundaries_of_each_type(keys: Keys) -> None:
    """Zero and the largest value survive; the next larger and negative ones are refused before encryption."""
    for name, largest in BOUNDARY.items():
        packed = keys.packed((name, 0), (name, largest))
        assert keys.client.decrypt_packed(packed) == (name, 0)
        assert keys.client.decrypt_packed(packed, index=1) == (name, largest)
        for unfit in (largest + 1, -1, 1 << 300):
            with pytest.raises(ValueError, match=name):
                keys.public.encrypt([(name, unfit)])


def test_what_is_no_int_is_refused(keys: Keys) -> None:
    """Floats and texts do not become plaintexts; True is 1."""
    for wrong in (1.0, "1", None, b"1"):
        with pytest.raises(TypeError):
            keys.public.encrypt([("uint8", wrong)])  # type: ignore[list-item]
    assert keys.client.decrypt_packed(keys.packed(("bool", True))) == ("bool", 1)


def test_the_largest_list_of_each_kind(keys: Keys) -> None:
    """2048 blocks and 256 values are accepted, one more is refused."""
    packed = keys.packed(*[("uint256", value) for value in range(16)])
    assert keys.client.decrypt_packed(packed, index=15) == ("uint256", 15)
    packed = keys.packed(*[("bool", index % 2) for index in range(256)])
    assert keys.client.decrypt_packed(packed, index=255) == ("bool", 1)
    for many in ([("uint256", 1)] * 17, [("bool", 1)] * 257, []):
        with pytest.raises(tfhers.TfheError):
            keys.packed(*many)
    keys.public.encrypt([("uint256", 1)] * 8)
    for many in ([("uint256", 1)] * 9, [("bool", 1)] * 257, []):
        with pytest.raises(tfhers.TfheError):
            keys.public.encrypt(many)


def test_the_wrong_type_or_index_is_refused(keys: Keys) -> None:
    """A list with an address is not taken for one with a number, nor is an element made up."""
    packed = keys.packed(("uint160", 5))
    with pytest.raises(tfhers.FormatError, match="element 0 is a uint160, not a uint64"):
        keys.client.decrypt_packed(packed, expected="uint64")
    with pytest.raises(tfhers.FormatError, match="fewer elements"):
        keys.client.decrypt_packed(packed, index=1)
    with pytest.raises(tfhers.TfheError, match="unknown name"):
        keys.client.decrypt_packed(packed, expected="uint512")
    with pytest.raises(OverflowError):
        keys.client.decrypt_packed(packed, index=-1)


def test_no_server_key_is_needed_to_decrypt(keys: Keys) -> None:
    """A client key of its own, in a process that never loaded a server key, decrypts a packed list."""
    packed = keys.packed(("uint64", 2**63 + 1))
    program = (
        "import sys, pathlib, tfhers\n"
        f"key = tfhers.ClientKey.from_seed({SEED!r})\n"
        "print(*key.decrypt_packed(sys.stdin.buffer.read()))\n"
        "print(pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], input=packed, capture_output=True, check=True, timeout=30)
    kind, value, peak = done.stdout.split()
    assert (kind, int(value)) == (b"uint64", 2**63 + 1)
    assert int(peak) < 100_000, "kB of memory at most: far less than a server key"


def test_a_frozen_list_still_decrypts(keys: Keys) -> None:
    """A list stored when this was written decrypts for ever, from its seed alone."""
    packed = (Path(__file__).parent / "vectors" / "packed_list_tfhe_1_7_0.bin").read_bytes()
    assert keys.client.decrypt_packed(packed) == ("uint64", 0x0123456789ABCDEF)
    assert keys.client.decrypt_packed(packed, index=1) == ("bool", 1)


def test_plain_lists_are_told_apart(keys: Keys) -> None:
    """A compact list is not a packed list, a ciphertext of one type is not one of another."""
    compact = keys.public.encrypt([("uint8", 7)])
    with pytest.raises(tfhers.FormatError, match="wrong type of object"):
        tfhers.packed_types(compact)
    with pytest.raises(tfhers.FormatError):
        tfhers.expand(keys.packed(("uint8", 7)), keys.server)
    expanded = tfhers.expand(compact, keys.server)[0].to_bytes()
    assert tfhers.Ciphertext.from_bytes("uint8", expanded).type == "uint8"
    for other in ("bool", "uint16", "uint256"):
        with pytest.raises(tfhers.FormatError):
            tfhers.Ciphertext.from_bytes(other, expanded)
        with pytest.raises(tfhers.FormatError):
            keys.client.decrypt_expanded(expanded, other)
    with pytest.raises(tfhers.FormatError, match="left over"):
        tfhers.Ciphertext.from_bytes("uint8", expanded + b"\0")
