"""One cached key set for all tests of the bindings."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))  # for `insecure_keys`, which is no package's
# pytest names these files after their folders, and so puts an empty `tfhers` in the way of the real one.
if not hasattr(sys.modules.get("tfhers"), "PARAMETERS"):
    sys.modules.pop("tfhers", None)

from insecure_keys import Keys, load_keys  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these tests share one loaded key set, and thus one worker."""
    for item in items:
        if FOLDER in Path(str(item.path)).parents:
            item.add_marker(pytest.mark.xdist_group("tfhers"))


@pytest.fixture(scope="session")
def keys() -> Keys:
    """The loaded key set; its files are named `insecure_test_…`."""
    return load_keys()
