"""The only place that limits how often something may be done."""

from __future__ import annotations


class TokenBucket:
    """So many per second on average, and a burst after a quiet time. The caller says what time it is, in seconds."""

    def __init__(self, *, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._left = float(burst)
        self._at = float("-inf")

    def take(self, now: float) -> bool:
        """Whether one more may be done at `now`, by a clock that never goes back (the event loop's)."""
        self._left = min(float(self._burst), self._left + max(now - self._at, 0.0) * self._per_second)
        self._at = max(now, self._at)
        if self._left < 1:
            return False
        self._left -= 1
        return True
