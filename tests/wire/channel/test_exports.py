"""What others may import from the channel."""

from __future__ import annotations

import cipherkeep_wire.channel as channel


def test_the_channel_exports_what_it_says() -> None:
    """The names of `__all__` are there, in order, and the package's docstring says what each is for."""
    assert channel.__all__ == sorted(channel.__all__)
    for name in channel.__all__:
        assert getattr(channel, name).__name__ == name
        assert name in str(channel.__doc__)
