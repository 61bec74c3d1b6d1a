"""The measured closure: what belongs to it, that edits show in PCR0, and that what is measured is what runs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cipherkeep_attestation.eif import manifest_measurements
from cipherkeep_host.emulated import image as images
from cipherkeep_host.errors import HostError


def distribution(
    site: Path, name: str, files: dict[str, str], *, requires: tuple[str, ...] = (), editable: Path | None = None
) -> None:
    """Install a small distribution below `site`; an editable one's files lie in another folder."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    (info / "METADATA").write_text(metadata + "".join(f"Requires-Dist: {line}\n" for line in requires))
    (info / "INSTALLER").write_text("somebody")
    recorded = [f"{info.name}/{file}" for file in ("METADATA", "INSTALLER", "RECORD", "direct_url.json")]
    home = editable or site
    for path, content in files.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(content)
    if editable is None:
        recorded += [*files, "../../bin/tool", "cached/__pycache__/a.pyc"]
    else:
        (info / "direct_url.json").write_text(json.dumps({"url": f"file://{home}", "dir_info": {"editable": True}}))
        (site / f"_{name}.pth").write_text(f"{home}\n")
        recorded.append(f"_{name}.pth")
    (info / "RECORD").write_text("".join(f"{line},,\n" for line in recorded))


@pytest.fixture
def site(folder: Path) -> Path:
    """A site-packages with an editable enclave, a library it needs, and one that it does not."""
    site = folder / "site"
    program = {
        "cipherkeep_enclave/__init__.py": "",
        "cipherkeep_enclave/__main__.py": "import library\nprint('here')\n",
    }
    requires = ("library>=1", 'absent; python_version < "3"', "unwanted; extra == 'all'")
    distribution(site, "cipherkeep-enclave", program, requires=requires, editable=folder / "checkout")
    distribution(site, "library", {"library/__init__.py": "VALUE = 1\n", "library/data.bin": "data"})
    distribution(site, "unwanted", {"unwanted/__init__.py": ""})
    return site


@pytest.fixture
def path(site: Path, folder: Path) -> list[str]:
    """Where distributions are looked for."""
    return [str(site), str(folder / "checkout")]


def test_the_closure_is_the_enclave_and_what_it_requires(path: list[str]) -> None:
    """Not what extras want, not what markers exclude, nothing that an installer wrote about itself, no caches."""
    assert sorted(images.closure(path)) == [
        "cipherkeep_enclave-1.0.dist-info/METADATA",
        "cipherkeep_enclave/__init__.py",
        "cipherkeep_enclave/__main__.py",
        "library-1.0.dist-info/METADATA",
        "library/__init__.py",
        "library/data.bin",
    ]


def test_two_measurements_agree(path: list[str], folder: Path) -> None:
    """The same files give the same PCRs, staged twice or in two places."""
    first, again = (images.stage(folder / "images", path=path) for _ in range(2))
    elsewhere = images.stage(folder / "other", path=path)
    assert first.pcrs == again.pcrs == elsewhere.pcrs
    assert first.files == 6


def test_measurements_do_not_depend_on_where_the_checkout_lies(path: list[str], folder: Path) -> None:
    """A copy of everything under another path has the same PCRs."""
    shutil.copytree(folder / "site", folder / "moved" / "site")
    shutil.copytree(folder / "checkout", folder / "moved" / "checkout")
    moved = [str(folder / "moved" / "site"), str(folder / "moved" / "checkout")]
    assert images.stage(folder / "i", path=moved).pcrs == images.stage(folder / "i", path=path).pcrs


def test_the_pcrs_are_those_of_the_file_manifest(path: list[str], folder: Path) -> None:
    """Anybody can recompute them from paths, digests and the interpreter's version."""
    entries = [("python-version", hashlib.sha384(images.python_version()).digest())]
    for name, source in images.closure(path).items():
        entries.append((f"site/{name}", hashlib.sha384(source.read_bytes()).digest()))
    assert images.stage(folder / "images", path=path).pcrs == manifest_measurements(entries)


@pytest.mark.parametrize(
    "edit",
    [
        ("checkout/cipherkeep_enclave/__main__.py", "print('other')\n"),
        ("checkout/cipherkeep_enclave/added.py", ""),
        ("site/library/data.bin", "date"),
        ("site/library-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: library\nVersion: 1.0\n\n"),
    ],
    ids=["an enclave file", "a new enclave file", "a dependency's data", "a dependency's metadata"],
)
def test_an_edit_changes_pcr0_and_pcr2(path: list[str], folder: Path, edit: tuple[str, str]) -> None:
    """PCR1 is the kernel's alone and stays."""
    before = images.stage(folder / "images", path=path).pcrs
    (folder / edit[0]).write_text(edit[1])
    after = images.stage(folder / "images", path=path).pcrs
    assert [before[index] != after[index] for index in range(3)] == [True, False, True]


@pytest.mark.parametrize("file", ["INSTALLER", "direct_url.json", "REQUESTED"])
def test_an_installers_notes_do_not_change_pcr0(path: list[str], folder: Path, file: str) -> None:
    """Who installed a package, from where and why is not the package."""
    before = images.stage(folder / "images", path=path).pcrs
    target = folder / "site" / "library-1.0.dist-info" / file
    target.write_text("{}")
    assert images.stage(folder / "images", path=path).pcrs == before


def test_an_image_runs_what_was_measured_and_nothing_else(path: list[str], folder: Path) -> None:
    """Its interpreter finds the closure and the standard library; an unmeasured package beside it is not there."""
    image = images.stage(folder / "images", path=path)
    (folder / "checkout" / "cipherkeep_enclave" / "__main__.py").write_text("print('edited after the measurement')\n")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(image.python), "-I", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env={}, timeout=60, check=False)

    assert run("-m", "cipherkeep_enclave").stdout == "here\n"
    for absent in ("unwanted", "cipherkeep_host", "pip"):
        assert f"No module named '{absent}'" in run("-c", f"import {absent}").stderr
    images.stage(folder / "images", path=path)


@pytest.mark.parametrize("change", ["edited", "added", "removed"])
def test_a_tampered_image_is_refused(path: list[str], folder: Path, change: str) -> None:
    """An image that is not what its name says is never started."""
    image = images.stage(folder / "images", path=path)
    file = next(image.folder.rglob("library/__init__.py"))
    file.chmod(0o600)
    match change:
        case "edited":
            file.write_text("VALUE = 2\n")
        case "added":
            (file.parent / "more.py").write_text("")
        case _:
            file.unlink()
    with pytest.raises(HostError) as refusal:
        images.stage(folder / "images", path=path)
    assert refusal.value.code == "emulator.image_changed"


def test_old_images_go_and_running_ones_stay(path: list[str], folder: Path) -> None:
    """Every edit makes an image; three are kept, and those that an enclave runs from."""
    first = images.stage(folder / "images", path=path)
    held = images.hold(first)
    for number in range(5):
        (folder / "checkout" / "cipherkeep_enclave" / "__init__.py").write_text(f"NUMBER = {number}\n")
        images.stage(folder / "images", path=path)
    assert first.folder.exists()
    os.close(held)
    (folder / "checkout" / "cipherkeep_enclave" / "__init__.py").write_text("NUMBER = 9\n")
    last = images.stage(folder / "images", path=path)
    assert not first.folder.exists()
    assert last.folder.exists()
    assert len(list((folder / "images").iterdir())) == images.KEPT_IMAGES


def test_an_interpreter_that_moved_is_found_again(path: list[str], folder: Path) -> None:
    """A staged image whose interpreter is gone is pointed at the running one; its measurement is the same."""
    image = images.stage(folder / "images", path=path)
    image.python.unlink()
    image.python.symlink_to("/nonexistent/python3")
    again = images.stage(folder / "images", path=path)
    assert again.pcrs == image.pcrs
    done = subprocess.run(
        [str(again.python), "-I", "-m", "cipherkeep_enclave"], capture_output=True, timeout=60, check=True
    )
    assert done.stdout == b"here\n"


def test_what_a_killed_launcher_left_is_cleared(path: list[str], folder: Path) -> None:
    """Half-made images go after an hour; one that is being made is left alone."""
    old, new = folder / "images" / ".old", folder / "images" / ".new"
    for half in (old, new):
        half.mkdir(parents=True)
    os.utime(old, (1, 1))
    images.stage(folder / "images", path=path)
    assert [old.exists(), new.exists()] == [False, True]


def test_a_folder_that_cannot_be_written_is_named(path: list[str], folder: Path) -> None:
    """A full or foreign disk is an error of the launcher, with its code."""
    (folder / "images").write_text("a file")
    with pytest.raises(HostError) as refusal:
        images.stage(folder / "images" / "below", path=path)
    assert refusal.value.code == "emulator.image_write"


def test_a_missing_dependency_is_named(path: list[str], folder: Path) -> None:
    """Half a closure is not measured."""
    shutil.rmtree(folder / "site" / "library-1.0.dist-info")
    with pytest.raises(HostError, match="library is not installed") as refusal:
        images.closure(path)
    assert refusal.value.code == "emulator.closure"


def test_a_file_that_is_recorded_and_missing_is_named(path: list[str], folder: Path) -> None:
    """A damaged installation is not measured as something else."""
    (folder / "site" / "library" / "data.bin").unlink()
    with pytest.raises(HostError, match=r"data\.bin"):
        images.stage(folder / "images", path=path)


@pytest.mark.parametrize(
    ("marker", "holds"),
    [
        ("", True),
        ('python_version >= "3.11"', True),
        ('python_version < "3.11"', False),
        ('(platform_python_implementation != "PyPy") and sys_platform != "win32"', True),
        ("implementation_name == 'pypy'", False),
        ('python_version >= "3" and extra == "http2"', False),
    ],
)
def test_markers_decide_what_is_required(marker: str, holds: bool) -> None:
    """Versions compare as numbers, everything else as text; extras are never wanted."""
    assert images._holds(marker) is holds


@pytest.mark.parametrize("marker", ['os_name == "a" or os_name == "posix"', "nonsense", 'unknown == "1"'])
def test_a_marker_that_is_not_understood_is_named(marker: str) -> None:
    """A dependency is never left out by mistake."""
    with pytest.raises(HostError) as refusal:
        images._holds(marker)
    assert refusal.value.code == "emulator.closure"


def test_the_real_closure_holds_the_trust_domains_it_must() -> None:
    """Attestation, wire, enclave and the engine are measured; the host is not, nor is this test's runner."""
    files = images.closure()
    packages = {name.partition("/")[0] for name in files}
    assert {"cipherkeep_attestation", "cipherkeep_wire", "cipherkeep_enclave", "tfhers", "cryptography"} <= packages
    assert packages.isdisjoint({"cipherkeep_host", "pytest", "pip", "starlette", "uvicorn"})
    assert not [name for name in files if name.endswith((".pyc", ".pth"))]
