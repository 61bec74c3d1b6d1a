"""What a machine is told before anything long starts: all that is missing at once, and only what is needed."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
OLD = {
    "rustc": "1.80.0",
    "cargo": "1.80.0",
    "go": "go1.21.5 linux/amd64",
    "node": "v18.19.0",
    "npm": "8.1.0",
    "cc": "x",
}
GOOD = {
    "rustc": "1.99.0",
    "cargo": "1.99.0",
    "go": "go1.30.1 linux/amd64",
    "node": "v24.1.0",
    "npm": "11.0.0",
    "cc": "x",
}


def machine(folder: Path, tools: dict[str, str]) -> Path:
    """A folder for PATH with programs that print these versions."""
    folder.mkdir()
    for name, version in tools.items():
        (folder / name).write_text(f"#!/bin/sh\necho {name} {version}\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The set-up, with an empty cache and a checkout in which nothing is installed."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    module = importlib.import_module("setup")
    monkeypatch.setattr(module, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(module, "VENV", tmp_path / "venv")
    return module


def fill(setup: ModuleType) -> None:
    """As after a set-up that went through."""
    setup.consensus_binary().parent.mkdir(parents=True)
    setup.consensus_binary().touch()
    for folder in (setup.CACHE / "bin" / "abci", setup.strangers_folder(), setup.VENV):
        folder.mkdir(parents=True)
    (setup.CACHE / "wheels").mkdir()
    (setup.CACHE / "wheels" / "compiler").write_text(setup.compiler())
    setup.bindings_wheel().mkdir()
    for marker, digest in {"base": setup.base_identity(), **setup.locks_of(["demo"])}.items():
        (setup.VENV / f".cipherkeep-{marker}").write_text(digest)


@pytest.mark.parametrize(("tools", "word"), [({}, "missing"), (OLD, "too old")], ids=("nothing", "old"))
def test_everything_is_named_at_once(tmp_path: Path, tools: dict[str, str], word: str) -> None:
    """Each tool with the version that is needed, and how many minutes to expect; nothing is begun."""
    path = machine(tmp_path / "bin", tools)
    command = [sys.executable, str(ROOT / "tools/setup.py"), "demo"]
    environment = {"PATH": str(path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0] == "setup: This machine is not ready:"
    for tool, least in {"rustc": "1.91.1", "go": "1.24.0", "node": "20.0.0", "npm": "9.0.0"}.items():
        (line,) = [line for line in lines if line.startswith(f"  - {tool} ")]
        assert word in line and least in line
    assert lines[-1] == "Once it is, setting up takes about 7 minutes."
    assert not (tmp_path / "cache").exists()


def test_what_is_cached_is_not_asked_for(setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all pieces there Node is enough, and whatever memory is free: nothing is compiled."""
    monkeypatch.setenv("PATH", str(machine(tmp_path / "all", GOOD)))
    monkeypatch.setattr(setup.preflight, "_memory_gb", lambda: 0.5)
    every = setup.missing_steps(["demo"])
    assert every == list(setup.EXPECTED)
    (memory,) = setup.preflight.problems(str(tmp_path), every)
    assert memory.startswith("0.5 GB of memory free, 5.0 GB needed")
    fill(setup)
    assert setup.missing_steps(["demo"]) == []
    monkeypatch.setenv("PATH", str(machine(tmp_path / "node", {"node": GOOD["node"]})))
    assert setup.missing_steps(["demo"]) == []
    assert setup.preflight.problems(str(tmp_path), []) == []
    assert setup.minutes_expected([]) == 1


def test_each_step_asks_for_its_own(setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another Rust makes another wheel; what tests need besides is a step too."""
    monkeypatch.setenv("PATH", str(machine(tmp_path / "all", GOOD)))
    fill(setup)
    assert setup.missing_steps(["demo", "test"]) == ["Python packages"]
    monkeypatch.setenv("PATH", str(machine(tmp_path / "old", {**GOOD, "rustc": OLD["rustc"], "go": OLD["go"]})))
    assert setup.missing_steps(["demo"]) == ["FHE bindings"]
    (rust,) = setup.preflight.problems(str(tmp_path), ["FHE bindings"])
    assert rust.startswith("rustc 1.80.0 is too old (needs 1.91.1)")
    assert setup.minutes_expected(["FHE bindings"]) == 6


@pytest.mark.parametrize(("version", "word"), [((3, 10, 4), "too old"), ((3, 14, 0), "too new")])
def test_another_python_is_refused(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], word: str
) -> None:
    """By name, before a package turns out to have no wheel for it."""
    monkeypatch.setenv("PATH", str(machine(tmp_path / "all", GOOD)))
    monkeypatch.setattr(setup.preflight.sys, "version_info", version)
    (python,) = setup.preflight.problems(str(tmp_path), [])
    assert word in python and "3.11 to 3.13" in python
