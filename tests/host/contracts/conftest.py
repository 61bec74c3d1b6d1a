"""Worlds with one party and with four."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulators.contract import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """One party, whose answer is final, and one key."""
    made = World(tmp_path / "state")
    made.set_up()
    yield made
    made.state.close()


@pytest.fixture
def four(tmp_path: Path) -> Iterator[World]:
    """Four parties, three of which must agree, and one key."""
    made = World(tmp_path / "state", parties=4, answers=3)
    made.set_up()
    yield made
    made.state.close()


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[World]:
    """A chain after its first block: nothing was decided yet."""
    made = World(tmp_path / "state")
    yield made
    made.state.close()
