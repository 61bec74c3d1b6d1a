"""How often something may be done."""

from __future__ import annotations

from cipherkeep_wire.rate import TokenBucket
from hypothesis import given
from hypothesis import strategies as st


def test_a_burst_and_then_the_rate() -> None:
    """What was saved up may go at once; after that it trickles."""
    bucket = TokenBucket(per_second=2, burst=3)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(100.0 + step / 4) for step in range(1, 9)] == [False, True] * 4


@given(st.lists(st.floats(0, 100), max_size=300), st.integers(1, 20), st.integers(1, 20))
def test_never_more_than_burst_and_rate_allow(times: list[float], rate: int, burst: int) -> None:
    """Whatever times are claimed, also backwards, no more passes than the burst and the rate over the whole time."""
    bucket = TokenBucket(per_second=rate, burst=burst)
    passed = sum(bucket.take(at) for at in times)
    span = max(times, default=0.0) - min(times, default=0.0)
    assert passed <= burst + rate * span + 1e-6
