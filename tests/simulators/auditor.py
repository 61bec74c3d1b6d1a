"""The environment of an auditor: the attestation distribution alone, as it is installed.

It holds the wheel of `cipherkeep-attestation`, built from this checkout, and the files of the packages that its
metadata names, and of those that these name: nothing else is importable there, and no index is asked.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def bare_environment(folder: Path) -> Path:
    """Make one below `folder`; the folder of its commands."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "wheel")],
        cwd=ROOT / "attestation",
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = (folder / "wheel").glob("*.whl")
    venv.create(folder / "env", with_pip=False, symlinks=True)
    binaries = folder / "env" / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(binaries / "python"), "install", "--quiet"]
    subprocess.run(
        [*pip, "--no-deps", "--no-index", "--no-compile", str(wheel)], check=True, capture_output=True, timeout=120
    )
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    found: dict[str, Distribution] = {}
    _needed("cipherkeep-attestation", found)
    del found["cipherkeep-attestation"]
    for dependency in found.values():
        for file in dependency.files or []:
            if ".." in file.parts or file.suffix == ".pyc":
                continue
            target = site / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(dependency.locate_file(file)), target)
    return binaries


def _needed(name: str, found: dict[str, Distribution]) -> None:
    """The distributions that one needs on this platform, itself included; extras and other platforms left out."""
    if name in found:
        return
    found[name] = distribution(name)
    for line in found[name].requires or []:
        requirement, _, marker = line.partition(";")
        if "extra" in marker or "python_full_version <" in marker or "sys_platform == 'win32'" in marker:
            continue
        match = _NAME.match(requirement.strip())
        assert match is not None, line
        _needed(match[0].lower(), found)
