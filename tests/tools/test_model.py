"""What a machine without Java is told about the protocol's model, and that nothing else fails there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def program(folder: Path, name: str, text: str = "exit 0") -> None:
    """A program of this name in a folder that serves as PATH."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("programs", "missing"), [((), "java"), (("mvn",), "java"), (("java",), "mvn"), (("java", "mvn"), None)]
)
def test_a_missing_program_is_named(tmp_path: Path, programs: tuple[str, ...], missing: str | None) -> None:
    """Exit status 3 where the model cannot be checked, before anything is fetched."""
    for name in programs:
        program(tmp_path, name)
    environment = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, str(ROOT / "tools/model.py"), "--ready"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == (0 if missing is None else 3)
    assert (f"`{missing}` is not on this machine" in done.stderr) == (missing is not None)


@pytest.mark.parametrize("java", [False, True])
def test_the_check_before_a_change_skips_it_aloud(tmp_path: Path, java: bool) -> None:
    """Without Java the rest is checked and a line says what was not; with it the model is checked too."""
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin", "make", f'echo "$1" >> "{tmp_path}/made"')
    program(tmp_path / "bin", "python", f'exec "{sys.executable}" "$@"')
    for name in ("java", "mvn") if java else ():
        program(tmp_path / "bin", name)
    (tmp_path / "bin/dirname").symlink_to("/usr/bin/dirname")
    environment = {"PATH": str(tmp_path / "bin"), "XDG_CACHE_HOME": str(tmp_path), "PYTHON": "python"}
    command = ["/bin/bash", str(ROOT / ".ci/run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    made = (tmp_path / "made").read_text().split()
    assert made == ["lint", "test", *(["model"] if java else [])]
    assert ("SKIPPED" in done.stdout) != java
