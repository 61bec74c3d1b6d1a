"""The workspace keeps its promises: trust domains, locks, paths, generated pages."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCKS = [*sorted((ROOT / "locks").glob("*.txt")), ROOT / "tests/thirdparty/package-lock.json", ROOT / "tools/go.sum"]
DISTRIBUTIONS = ("attestation", "wire", "enclave", "host")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_names_no_host(lock: Path) -> None:
    """Lock files install from whatever index the reader has set up."""
    assert "://" not in lock.read_text()


@pytest.mark.parametrize("lock", sorted((ROOT / "locks").glob("*.txt")), ids=lambda path: path.name)
def test_every_locked_package_has_a_version_and_a_hash(lock: Path) -> None:
    """A package without a hash would be whatever the index serves that day."""
    entries = [entry for entry in re.split(r"\n(?=\S)", lock.read_text()) if entry.strip()]
    assert entries
    for entry in entries:
        assert "==" in entry.splitlines()[0]
        assert "--hash=sha256:" in entry


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_direct_dependencies_are_pinned_exactly(name: str) -> None:
    """A distribution names exact versions, so that an image built from it has one set of files."""
    project = tomllib.loads((ROOT / name / "pyproject.toml").read_text())["project"]
    assert [line for line in project["dependencies"] if "==" not in line] == []


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("cipherkeep_attestation", ("cipherkeep_wire", "cipherkeep_enclave", "cipherkeep_host", "tfhers", "grpc")),
        ("cipherkeep_wire", ("cipherkeep_enclave", "cipherkeep_host", "tfhers")),
        ("cipherkeep_enclave", ("cipherkeep_host",)),
        ("cipherkeep_host", ("cipherkeep_enclave",)),
    ],
)
def test_a_trust_domain_imports_only_what_it_may(package: str, forbidden: tuple[str, ...]) -> None:
    """Importing every module of a trust domain loads nothing of a domain it must not know."""
    program = (
        "import importlib, pkgutil, sys\n"
        f"package = importlib.import_module({package!r})\n"
        "for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
        f"print([name for name in {forbidden!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_page_of_errors_is_current() -> None:
    """`docs/errors.md` is what the tables of rules generate."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/errors_page.py"), "--check"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
