"""Fixtures of the channel's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.world import World, make_world


@pytest.fixture
def world() -> Iterator[World]:
    """A simulated enclave and host in a folder of their own."""
    with make_world() as made:
        yield made
