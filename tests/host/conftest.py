"""What all of the host's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.emulated.processes import short_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path leaves room for the names of unix sockets."""
    with short_folder() as made:
        yield made
