"""One scene for each test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.host.connector.simulated import Scene


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name."""
    path = Path(tempfile.mkdtemp(prefix="ck-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
async def scene(short_folder: Path) -> AsyncIterator[Scene]:
    """Chain, store and enclave; the connector is not started yet."""
    async with Scene(short_folder) as made:
        yield made
