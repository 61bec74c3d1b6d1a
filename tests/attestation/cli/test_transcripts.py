"""The command as an auditor installs it, alone: every line of the transcripts is run there, and prints what it says."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.attestation.cli.running import VECTORS
from tests.simulators.auditor import bare_environment
from tests.simulators.eif import CMDLINE, KERNEL, ImageDraft, parts

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
DOCUMENT = VECTORS / "20260630_tkhq_277e236b82.bin"


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment in which the attestation distribution stands alone."""
    return bare_environment(tmp_path_factory.mktemp("bare"))


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
