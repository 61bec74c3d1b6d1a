"""The only place that collects the measured closure and stages it: what is measured is what runs.

The closure is every file of `cipherkeep-enclave` and of the distributions it depends on, and the CPython version. An
image is a folder with its own small virtual environment that holds exactly these files: an enclave started from it can
import nothing else but the standard library, and an edit of an enclave file gives another image with another PCR0.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, DistributionFinder, MetadataPathFinder
from pathlib import Path

from cipherkeep_attestation.eif import manifest_measurements

from cipherkeep_host.errors import HostError

ROOT_DISTRIBUTION = "cipherkeep-enclave"
PYTHON_ENTRY = "python-version"  # the manifest's only entry that is no file
# What an installer writes about itself differs from checkout to checkout; of a distribution's metadata only what
# programs read is measured.
METADATA_FILES = frozenset({"METADATA", "entry_points.txt"})
LOCK = "lock"
KEPT_IMAGES = 3  # an image has about 80 MB
STALE = 3600.0  # seconds after which a half-made image is nobody's any more
MAX_FILES = 50_000
MAX_BYTES = 1 << 30  # bytes of all files; today about 80 MB
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")
_EXTRA = re.compile(r"\bextra\s*==")


@dataclass(frozen=True, slots=True)
class Image:
    """A staged image: its folder, its interpreter, and PCR0 to PCR2."""

    folder: Path
    python: Path
    pcrs: Mapping[int, bytes]
    files: int
    size: int  # bytes of all measured files


def python_version() -> bytes:
    """The text that stands for the interpreter in the manifest, such as `cpython 3.11.9 x86_64`."""
    return f"{sys.implementation.name} {platform.python_version()} {platform.machine()}\n".encode()


def closure(path: Sequence[str] | None = None) -> dict[str, Path]:
    """Every file of the measured closure: its place in site-packages → where it lies now.

    `path` are the folders in which distributions are looked for, `sys.path` by default.
    """
    folders = list(sys.path if path is None else path)
    files: dict[str, Path] = {}
    for distribution in _distributions(folders):
        for name, source in _files(distribution, folders):
            files[name] = source
    if len(files) > MAX_FILES:
        raise HostError("emulator.closure", f"more than {MAX_FILES} files")
    return files


def stage(images: Path, *, path: Sequence[str] | None = None) -> Image:
    """Copy the closure into a folder below `images` that is named by PCR0, and measure the copy.

    An image that is there already is measured again: `HostError("emulator.image_changed")` if it differs.
    """
    sources = closure(path)
    temporary = images / f".{secrets.token_hex(8)}"
    try:
        images.mkdir(parents=True, exist_ok=True, mode=0o700)
        digests, size = {}, 0
        for name, source in sources.items():
            content = _read(source, size)
            size += len(content)
            digests[name] = hashlib.sha384(content).digest()
        pcrs = _measure(digests)
        folder = images / pcrs[0].hex()[:32]
        if not folder.exists():
            _write(temporary, sources)
            if _measure(_digests_of(_site(temporary))) != pcrs:
                raise HostError("emulator.image_changed", "the sources were edited while they were copied")
            # Another launcher may stage the same image at the same time: the content is the same.
            with contextlib.suppress(OSError):
                temporary.rename(folder)
            _prune(images, keep=folder)
        _set_interpreter(folder)
    except OSError as error:
        raise HostError("emulator.image_write", f"{images}: {error.strerror}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    image = Image(folder, folder / "bin" / "python", pcrs, len(digests), size)
    check(image)
    return image


def check(image: Image) -> None:
    """Measure a staged image again. `HostError("emulator.image_changed")` if it is not what it was, or gone."""
    if _measure(_digests_of(_site(image.folder))) != image.pcrs:
        raise HostError("emulator.image_changed", str(image.folder))


def hold(image: Image) -> int:
    """Keep an image from being pruned; returns a descriptor to close when its enclave has ended."""
    descriptor = os.open(image.folder / LOCK, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _prune(images: Path, *, keep: Path) -> None:
    """Remove all but the newest images that no enclave runs from: every edit of an enclave file makes another."""
    entries = list(images.iterdir())
    for folder in entries:  # what a launcher left that was killed while it copied
        with contextlib.suppress(OSError):
            if folder.name.startswith(".") and time.time() - folder.stat().st_mtime > STALE:
                shutil.rmtree(folder)
    others = [folder for folder in entries if folder != keep and not folder.name.startswith(".")]
    others.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in others[KEPT_IMAGES - 1 :]:
        with contextlib.suppress(OSError):
            descriptor = os.open(folder / LOCK, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(descriptor)


def _measure(digests: Mapping[str, bytes]) -> dict[int, bytes]:
    version = hashlib.sha384(python_version()).digest()
    return manifest_measurements(
        [(PYTHON_ENTRY, version), *((f"site/{name}", value) for name, value in digests.items())]
    )


def _site(folder: Path) -> Path:
    return folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def _write(folder: Path, sources: Mapping[str, Path]) -> None:
    """The files of a virtual environment that sees only these; its interpreter comes last."""
    (folder / "bin").mkdir(parents=True, mode=0o700)
    (folder / LOCK).touch(mode=0o600)
    site = _site(folder)
    for name, source in sources.items():
        target = site / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o444)


def _set_interpreter(folder: Path) -> None:
    """Point the environment at the running interpreter, which may have moved since; mark the image as used."""
    base = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    python = folder / "bin" / "python"
    if not python.is_symlink() or python.readlink() != base:
        python.unlink(missing_ok=True)
        python.symlink_to(base)
        (folder / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    os.utime(folder)


def _digests_of(site: Path) -> dict[str, bytes]:
    digests, size = {}, 0
    for file in sorted(site.rglob("*")):
        if file.is_dir() and not file.is_symlink():
            continue
        if "__pycache__" in file.parts:
            continue  # CPython's cache of what was measured, checked against size and time of its source
        content = _read(file, size)
        size += len(content)
        digests[file.relative_to(site).as_posix()] = hashlib.sha384(content).digest()
    return digests


def _read(file: Path, so_far: int) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise HostError("emulator.closure", f"{file}: {error.strerror}") from error
    if so_far + len(content) > MAX_BYTES:
        raise HostError("emulator.closure", f"more than {MAX_BYTES} bytes")
    return content


# --- which distributions, which files ---


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _find(name: str, folders: list[str]) -> Distribution | None:
    context = DistributionFinder.Context(name=name, path=folders)
    return next(iter(MetadataPathFinder.find_distributions(context)), None)


def _distributions(folders: list[str]) -> list[Distribution]:
    """The enclave's distribution and all that it requires, in order of name."""
    found: dict[str, Distribution] = {}
    waiting = [ROOT_DISTRIBUTION]
    while waiting:
        name = _canonical(waiting.pop())
        if name in found:
            continue
        distribution = _find(name, folders)
        if distribution is None:
            raise HostError("emulator.closure", f"{name} is not installed")
        found[name] = distribution
        for requirement in distribution.requires or []:
            needed = _required(requirement)
            if needed is not None:
                waiting.append(needed)
    return [found[name] for name in sorted(found)]


def _required(requirement: str) -> str | None:
    """The name in a requirement; None when its marker does not hold here."""
    name = _REQUIREMENT.match(requirement)
    if name is None:
        raise HostError("emulator.closure", f"not a requirement: {requirement[:80]!r}")
    _, _, marker = requirement.partition(";")
    return name[1] if _holds(marker) else None


_ENVIRONMENT = {
    "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",
    "python_full_version": platform.python_version(),
    "platform_python_implementation": platform.python_implementation(),
    "implementation_name": sys.implementation.name,
    "sys_platform": sys.platform,
    "platform_system": platform.system(),
    "platform_machine": platform.machine(),
    "os_name": os.name,
}
_CLAUSE = re.compile(r"""\(?\s*(\w+)\s*(==|!=|<=|>=|<|>)\s*["']([^"']*)["']\s*\)?""")


def _holds(marker: str) -> bool:
    """A marker (PEP 508) made of comparisons joined by `and`; extras are never wanted. HostError for other forms."""
    if not marker.strip():
        return True
    if _EXTRA.search(marker):
        return False
    for part in marker.split(" and "):
        clause = _CLAUSE.fullmatch(part.strip())
        if clause is None or clause[1] not in _ENVIRONMENT:
            raise HostError("emulator.closure", f"a marker of a form not known here: {marker.strip()[:80]}")
        if not _compare(_ENVIRONMENT[clause[1]], clause[2], clause[3], version="version" in clause[1]):
            return False
    return True


def _compare(have: str, operator: str, want: str, *, version: bool) -> bool:
    if version:
        left, right = ([int(part) for part in re.findall(r"\d+", text)] for text in (have, want))
        order = (left > right) - (left < right)
    else:
        order = (have > want) - (have < want)
    holds = {"==": order == 0, "!=": order != 0, "<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}
    return holds[operator]


def _files(distribution: Distribution, folders: list[str]) -> Iterator[tuple[str, Path]]:
    """A distribution's files by their place in site-packages; an editable one's as if it were installed."""
    recorded = distribution.files
    if recorded is None:
        raise HostError("emulator.closure", f"{distribution.metadata['Name']} has no RECORD")
    editable = '"editable"' in (distribution.read_text("direct_url.json") or "")
    for file in recorded:
        name = file.as_posix()
        if ".." in file.parts or file.is_absolute() or _unmeasured(name):
            continue  # scripts outside of site-packages name the interpreter's path and are not imported
        if editable and ".dist-info/" not in name:
            continue  # the hook that points at the checkout
        yield name, Path(str(distribution.locate_file(file)))
    if editable:
        yield from _package(distribution.metadata["Name"].replace("-", "_"), folders)


def _unmeasured(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    if folder.endswith(".dist-info") or ".dist-info/" in folder:
        return file not in METADATA_FILES or "/" in folder
    return "__pycache__" in folder.split("/") or name.endswith(".pyc")


def _package(name: str, folders: list[str]) -> Iterator[tuple[str, Path]]:
    found = PathFinder.find_spec(name, folders)
    if found is None or not found.submodule_search_locations:
        raise HostError("emulator.closure", f"the package {name} is not there")
    package = Path(next(iter(found.submodule_search_locations)))
    for file in sorted(package.rglob("*")):
        relative = file.relative_to(package.parent).as_posix()
        if file.is_file() and not _unmeasured(relative):
            yield relative, file
