"""One scene for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.host.connector.simulated import Scene


@pytest.fixture
async def scene(folder: Path) -> AsyncIterator[Scene]:
    """Chain, store and enclave; the connector is not started yet."""
    async with Scene(folder) as made:
        yield made
