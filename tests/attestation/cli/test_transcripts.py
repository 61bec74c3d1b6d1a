"""The command as an auditor installs it, alone: every line of the transcripts is run there, and prints what it says.

The environment holds the wheel of `cipherkeep-attestation`, built from this checkout, and the files of the packages
that its metadata names, and of those that these name: nothing else is importable there, and no index is asked.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.attestation.cli.running import VECTORS
from tests.simulators.eif import CMDLINE, KERNEL, ImageDraft, parts

ROOT = Path(__file__).resolve().parents[3]
TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
DOCUMENT = VECTORS / "20260630_tkhq_277e236b82.bin"
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def needed(name: str, found: dict[str, Distribution]) -> None:
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
        needed(match[0].lower(), found)


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment in which the attestation distribution stands alone."""
    folder = tmp_path_factory.mktemp("bare")
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
    needed("cipherkeep-attestation", found)
    del found["cipherkeep-attestation"]
    for dependency in found.values():
        for file in dependency.files or []:
            if ".." in file.parts or file.suffix == ".pyc":
                continue
            target = site / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(dependency.locate_file(file)), target)
    return binaries


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the transcripts speak of: an authentic document, an image, a copy with a boundary moved, a signer's key."""
    key = Ed25519PrivateKey.from_private_bytes(b"1" * 32)
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    shutil.copy(DOCUMENT, tmp_path / "document.bin")
    (tmp_path / "image.eif").write_bytes(ImageDraft().build())
    sections = parts()
    kernel, cmdline = sections[0][1], sections[1][1]
    sections[0], sections[1] = (KERNEL, kernel + cmdline[:18]), (CMDLINE, cmdline[18:])
    (tmp_path / "moved.eif").write_bytes(ImageDraft(sections=sections).build())
    (tmp_path / "cut.eif").write_bytes(ImageDraft().build()[:-1])
    return tmp_path


def commands(text: str) -> list[tuple[str, int, list[str]]]:
    """Command, exit code, and the lines that it prints, of each `$ ` line; `#` at a line's beginning is a remark."""
    found: list[tuple[str, int, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            command, _, code = line[2:].partition("  # exit ")
            found.append((command, int(code or 0), []))
        elif not line.startswith("#"):
            found[-1][2].append(line)
    return found


def pattern(lines: list[str]) -> re.Pattern[str]:
    """`…` stands for anything in its line, and alone in a line for any number of lines."""
    while lines and not lines[-1]:
        lines = lines[:-1]
    return re.compile(
        "".join("(?:.*\n)*" if line == "…" else re.escape(line).replace("…", ".*") + "\n" for line in lines)
    )


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_prints_what_it_says(transcript: Path, bare: Path, folder: Path) -> None:
    """In a bare environment, in order, in one folder; standard output and error together."""
    environment = {
        "PATH": f"{bare}:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    listed = commands(transcript.read_text())
    assert listed
    for command, code, expected in listed:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == code, f"$ {command}\n{done.stdout}"
        wanted = "\n".join(expected)
        assert pattern(expected).fullmatch(done.stdout), f"$ {command}\n{done.stdout}\n--- expected\n{wanted}"


def test_every_command_starts_in_the_bare_environment(bare: Path) -> None:
    """Help imports every module: nothing of them needs a server's packages, a network or Rust bindings."""
    program = (
        "import sys\n"
        "from cipherkeep_attestation.cli.main import build\n"
        "build().format_help()\n"
        "print([name for name in ('grpc', 'google', 'tfhers', 'cipherkeep_wire', 'cipherkeep_host', 'rich', 'typer',"
        " 'httpx', 'asn1crypto', 'pycose') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [str(bare / "python"), "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
    missing = subprocess.run(
        [str(bare / "python"), "-c", "import grpc"],
        capture_output=True,
        check=False,
        timeout=60,
        env={"PATH": "/usr/bin"},
    )
    assert missing.returncode == 1
