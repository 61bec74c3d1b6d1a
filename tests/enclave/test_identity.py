"""The party's keys follow from the vault's secret, and randomness from everything that identifies its use."""

from __future__ import annotations

from cipherkeep_enclave.identity import Identity, derive
from hypothesis import given
from hypothesis import strategies as st

SECRET = bytes(range(32))


def test_the_same_secret_is_the_same_party() -> None:
    """A restart changes neither key; another secret changes both."""
    first, again, other = Identity.derive(SECRET), Identity.derive(SECRET), Identity.derive(bytes(32))
    assert (first.evidence_key, first.signing_key) == (again.evidence_key, again.signing_key)
    assert first.evidence_key != other.evidence_key and first.signing_key != other.signing_key
    assert len(first.evidence_key) == 32 and len(first.signing_key) == 33 and len(first.address) == 20


def test_nothing_secret_shows() -> None:
    """The repr is the public address."""
    shown = repr(Identity.derive(SECRET))
    assert shown.startswith("<Identity 0x") and len(shown) < 60


@given(st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.integers(0, 9), st.binary(max_size=40)), max_size=8))
def test_no_two_uses_share_randomness(uses: list[tuple[bytes, int, bytes]]) -> None:
    """Request, index and digests are told apart, however they are cut."""
    identity = Identity.derive(SECRET)
    made = {use: identity.randomness(use[0], "user_decrypt", use[1], use[2]) for use in uses}
    assert len(set(made.values())) == len(made)
    assert identity.randomness(bytes(32), "a", 0, b"xy") != identity.randomness(bytes(32), "a", 0, b"x", b"y")
    assert identity.randomness(bytes(32), "a", 0) != identity.randomness(bytes(32), "b", 0)


def test_randomness_is_not_the_keys() -> None:
    """What is derived for one use is never what another holds."""
    uses = {derive(SECRET, "evidence"), derive(SECRET, "signing", 0), derive(SECRET, "randomness")}
    assert len(uses) == 3 and SECRET not in uses
