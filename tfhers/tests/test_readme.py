"""The README's example runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path


def test_the_example_runs() -> None:
    """What a newcomer copies works, and ends with the sum he expects."""
    text = (Path(__file__).parents[1] / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), scope)
    assert "packed" in scope
