"""Tests of one module run in one worker, and all tests that share the appliance run in one worker, in order."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)  # before xdist looks for the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group by module; what lies in `e2e/appliance/` shares one running appliance and thus one group."""
    for item in items:
        path = Path(str(item.path))
        group = "appliance" if path.parent.parts[-2:] == ("e2e", "appliance") else str(path)
        item.add_marker(pytest.mark.xdist_group(group))
