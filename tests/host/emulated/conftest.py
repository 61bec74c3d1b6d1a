"""Fixtures of the emulators' tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.emulated.processes import new_state, nsm_process


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """A state folder with an emulated root."""
    with new_state() as folder:
        yield folder


@pytest.fixture
def nsm(state: Path, folder: Path) -> Iterator[str]:
    """The address of a freshly booted NSM."""
    with nsm_process(state, folder) as address:
        yield address
