"""Computing on ciphertexts, as a coprocessor does."""

from __future__ import annotations

import operator
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from insecure_keys import Keys

import tfhers

Binary = Callable[[tfhers.Ciphertext, tfhers.Ciphertext, tfhers.ServerKey], tfhers.Ciphertext]
MASK = 0xFF


def trivial(keys: Keys, name: str, value: int) -> tfhers.Ciphertext:
    return tfhers.trivial(name, value, keys.server)


def fresh(keys: Keys, *values: tuple[str, int]) -> list[tfhers.Ciphertext]:
    return tfhers.expand(keys.public.encrypt(list(values)), keys.server)


def opened(keys: Keys, one: tfhers.Ciphertext) -> int:
    """Compress, then decrypt directly: the way a result takes."""
    return keys.client.decrypt_packed(tfhers.compress([one], keys.server), expected=one.type)[1]


@pytest.fixture(scope="module")
def pair(keys: Keys) -> list[tfhers.Ciphertext]:
    return fresh(keys, ("uint8", 200), ("uint8", 100))


@pytest.mark.parametrize("name", ["add", "sub", "eq", "ne", "lt", "le", "gt", "ge"])
def test_operators_agree_with_integers(keys: Keys, pair: list[tfhers.Ciphertext], name: str) -> None:
    """Each operator, on two ciphertexts and with a public value, gives what Python's integers give."""
    a, b = pair
    plain = getattr(operator, name)
    both: Binary = getattr(tfhers, name)
    kind = "uint8" if name in ("add", "sub") else "bool"
    result = both(b, a, keys.server)
    assert result.type == kind
    assert opened(keys, result) == plain(100, 200) & MASK
    with_scalar = getattr(tfhers, f"{name}_scalar")
    assert opened(keys, with_scalar(a, 200, keys.server)) == plain(200, 200) & MASK
    with pytest.raises(ValueError, match="uint8"):
        with_scalar(a, 256, keys.server)


def test_a_sum_wraps_at_the_width_of_its_type(keys: Keys) -> None:
    """A 64-bit sum is modulo 2^64, and adding, compressing and decrypting keeps all of its bits."""
    a, b = fresh(keys, ("uint64", 2**64 - 5), ("uint64", 2**63 + 9))
    assert opened(keys, tfhers.add(a, b, keys.server)) == (2**63 + 4)


def test_selection(keys: Keys, pair: list[tfhers.Ciphertext]) -> None:
    """The encrypted condition decides, for numbers and for truth values."""
    a, b = pair
    yes, no = fresh(keys, ("bool", 1), ("bool", 0))
    assert opened(keys, tfhers.select(yes, a, b, keys.server)) == 200
    assert opened(keys, tfhers.select(no, a, b, keys.server)) == 100
    assert opened(keys, tfhers.select(no, yes, no, keys.server)) == 0
    assert opened(keys, tfhers.eq(yes, no, keys.server)) == 0
    assert opened(keys, tfhers.ne(yes, no, keys.server)) == 1


def test_constants_of_every_type(keys: Keys) -> None:
    """A trivial ciphertext of each type compresses and decrypts like any other."""
    for name, info in tfhers.TYPES.items():
        value = (1 << info.bits) - 1
        assert opened(keys, trivial(keys, name, value)) == value


def test_operands_must_fit_together(keys: Keys, pair: list[tfhers.Ciphertext]) -> None:
    """Mixed types, sums of truth values and numeric conditions are refused with a sentence."""
    a, b = pair
    flag, wide = trivial(keys, "bool", 1), trivial(keys, "uint16", 1)
    attempts: list[Callable[[], object]] = [
        lambda: tfhers.add(a, wide, keys.server),
        lambda: tfhers.eq(a, flag, keys.server),
        lambda: tfhers.add(flag, flag, keys.server),
        lambda: tfhers.add_scalar(flag, 1, keys.server),
        lambda: tfhers.select(a, a, b, keys.server),
        lambda: tfhers.select(flag, a, wide, keys.server),
    ]
    for attempt in attempts:
        with pytest.raises(tfhers.TfheError, match=r"types|defined|bool"):
            attempt()


def test_results_survive_their_own_serialisation(keys: Keys, pair: list[tfhers.Ciphertext]) -> None:
    """A computed ciphertext is conformant: it can be stored, read again and computed on."""
    data = tfhers.add(pair[0], pair[1], keys.server).to_bytes()
    again = tfhers.Ciphertext.from_bytes("uint8", data)
    assert opened(keys, tfhers.sub(again, pair[1], keys.server)) == 200


def test_two_threads_share_a_key_with_its_own_pool(keys: Keys) -> None:
    """Calls from several Python threads under one pooled key do not take the key from each other."""
    pooled = tfhers.ServerKey.load(keys.server_file.read_bytes(), threads=2)
    a, b = tfhers.trivial("uint8", 1, pooled), tfhers.trivial("uint8", 2, pooled)
    a = tfhers.add(a, fresh(keys, ("uint8", 0))[0], pooled)
    with ThreadPoolExecutor(4) as threads:
        sums = list(threads.map(lambda _: tfhers.add(a, b, pooled), range(8)))
    assert [opened(keys, one) for one in sums] == [3] * 8
