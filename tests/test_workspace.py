"""The workspace keeps its promises: trust domains, locks, paths, generated pages."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cipherkeep_attestation.errors import RULES
from cipherkeep_host.errors import HOST_RULES
from cipherkeep_wire.errors import SERVICE_RULES

ROOT = Path(__file__).resolve().parent.parent
LOCKS = [*sorted((ROOT / "locks").glob("*.txt")), ROOT / "tests/thirdparty/package-lock.json", ROOT / "tools/go.sum"]
DISTRIBUTIONS = ("attestation", "wire", "enclave", "host")
RAISES = {"EvidenceError", "Malformed", "Untrusted", "Stale", "Refused", "HostError", "ContractRefusal"}
RAISES |= {"ServiceError", "TransportError"}


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


def sources(*names: str) -> list[tuple[Path, ast.Module]]:
    """The modules of these distributions, but for the tables of rules."""
    paths = (path for name in names for path in sorted((ROOT / name / f"cipherkeep_{name}").rglob("*.py")))
    return [(path, ast.parse(path.read_text())) for path in paths if path.name != "errors.py"]


def _texts(node: ast.AST) -> set[str]:
    return {one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)}


def used_texts(module: ast.Module) -> set[str]:
    """Texts in a module that may be raised: not names in a table of codes, nor what a code is compared with."""
    found = _texts(module)
    for node in ast.walk(module):
        if isinstance(node, ast.Dict):
            node.keys.clear()
        elif isinstance(node, ast.Compare):
            node.left, node.comparators = ast.Constant(None), []
    for statement in list(module.body):
        if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Tuple | ast.List):
            target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
            if isinstance(target, ast.Name):  # a list of codes; several names at once are constants
                module.body.remove(statement)
    return found & _texts(module)


@pytest.mark.parametrize(
    ("rules", "names"),
    [(RULES, ("attestation", "enclave", "host")), (SERVICE_RULES, ("wire", "enclave")), (HOST_RULES, ("host",))],
    ids=("evidence", "service", "host"),
)
def test_every_rule_is_raised_somewhere(rules: dict[str, object], names: tuple[str, ...]) -> None:
    """A code that nothing raises any more leaves its table: readers of `docs/errors.md` may meet every row."""
    raised = {text for _, module in sources(*names) for text in used_texts(module)}
    assert sorted(rules.keys() - raised) == []


def test_every_code_that_is_raised_has_a_rule() -> None:
    """A refusal without a sentence and a hint would be a KeyError at the worst moment."""
    known = RULES.keys() | SERVICE_RULES.keys() | HOST_RULES.keys()
    unknown = []
    for path, module in sources(*DISTRIBUTIONS):
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RAISES and node.args:
                code = node.args[0]
                if isinstance(code, ast.Constant) and code.value not in known:
                    unknown.append(f"{path.relative_to(ROOT)}:{node.lineno}: {code.value}")
    assert unknown == []


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_every_module_says_what_it_is_the_only_place_for(name: str) -> None:
    """A module begins with a sentence; so whoever reads the tree from the top knows where things live."""
    assert [str(path) for path, module in sources(name) if module.body and not ast.get_docstring(module)] == []


def named_modules(module: ast.Module) -> tuple[set[str], tuple[str, ...]]:
    """Modules that are imported or named in a text, and the beginnings of names that are completed at run time."""
    found = _texts(module)
    beginnings = []
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.JoinedStr):
            beginnings += [text for text in _texts(node.values[0]) if text.startswith("cipherkeep_")]
    return found, tuple(beginnings)


def test_every_module_is_imported_or_run() -> None:
    """A module that nothing imports and nobody starts, by its name or as a file, is dead."""
    scripts = [ast.parse(path.read_text()) for path in (ROOT / "tools").rglob("*.py")]
    named, beginnings = set(), ("-",)
    for module in [*(module for _, module in sources(*DISTRIBUTIONS)), *scripts]:
        names, begun = named_modules(module)
        named |= names
        beginnings += begun
    for name in DISTRIBUTIONS:
        project = tomllib.loads((ROOT / name / "pyproject.toml").read_text())["project"]
        named |= {entry.partition(":")[0] for entry in project.get("scripts", {}).values()}
    dead = []
    for name in DISTRIBUTIONS:
        for path, _ in sources(name):
            dotted = ".".join(path.relative_to(ROOT / name).with_suffix("").parts)
            by_file = path.name in ("__init__.py", "__main__.py") or path.name in named
            if not by_file and dotted not in named and not dotted.startswith(beginnings):
                dead.append(dotted)
    assert dead == []
