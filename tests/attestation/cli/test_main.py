"""How the command ends: 1 is a refusal and nothing else; whatever went wrong elsewhere is 2 and one line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from cipherkeep_attestation.cli import chain, main
from cipherkeep_attestation.cli.main import COMMANDS

from tests.attestation.cli.running import AT, NONCE, Files, audit

PROGRAM = [sys.executable, "-m", "cipherkeep_attestation.cli.main"]
PROOF = ["--app-hash", "00" * 32, "--absent"]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def honest(files: Files) -> list[str]:
    """The arguments of an acceptance."""
    named = ["--root", str(files.root), "--policy", str(files.policy)]
    return ["document", "verify", str(files.document), *named, "--at", AT, "--nonce", NONCE.hex()]


def batch(files: Files) -> list[str]:
    lines = '{"id": 1}\n' * 3
    return ["document", "verify", "--batch", str(files.write("batch.jsonl", lines))]


def shell(script: str, arguments: Sequence[str | bytes], folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run the command as `"$@"` of a script of bash, its output buffered as usual."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = ["bash", "-c", script, "bash", *PROGRAM, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False, timeout=60)


def one_line(stderr: bytes) -> str:
    text = stderr.decode()
    assert text.startswith("cipherkeep-audit: ") and text.count("\n") == 1, text
    return text


# --- output that cannot be written ---


@pytest.mark.parametrize("how", ["people", "json", "batch", "show", "init", "help", "version"])
@pytest.mark.parametrize("target", ["> /dev/full", ">&-"])
def test_a_verdict_that_cannot_be_written_is_none(files: Files, how: str, target: str) -> None:
    """A full disk and a closed output: exit code 2 and cli.output, also where the evidence was accepted."""
    arguments = {
        "people": honest(files),
        "json": [*honest(files), "--json"],
        "batch": batch(files),
        "show": ["document", "show", str(files.document), "--json"],
        "init": ["policy", "init", "--document", str(files.document)],
        "help": ["--help"],
        "version": ["--version"],
    }[how]
    done = shell(f'"$@" {target}', arguments, files.folder)
    if how in ("help", "version") and target == ">&-":
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
        return
    assert (done.returncode, done.stdout) == (2, b"")
    assert "cli.output" in one_line(done.stderr)


def test_a_closed_input_is_the_callers_mistake(files: Files) -> None:
    """What was to be read from the standard input is not there."""
    for arguments in (["document", "show", "-"], ["document", "verify", "--batch", "-"]):
        done = shell('"$@" <&-', arguments, files.folder)
        assert (done.returncode, done.stdout) == (2, b"")
        assert "standard input" in one_line(done.stderr)


def test_nothing_can_be_said_and_the_exit_code_says_it(files: Files) -> None:
    """With all streams closed or full the exit code is the only answer, and is right."""
    for streams in ("<&- >&- 2>&-", "> /dev/full 2> /dev/full", "2> /dev/full > /dev/full"):
        assert shell(f'"$@" {streams}', honest(files), files.folder).returncode == 2
    for streams in ("2>&-", "2> /dev/full"):
        assert shell(f'"$@" {streams}', honest(files), files.folder).returncode == 0
        assert shell(f'"$@" {streams}', ["document", "verify"], files.folder).returncode == 2
        assert shell(f'"$@" {streams}', ["documents"], files.folder).returncode == 2


def test_a_reader_that_has_seen_enough_hears_nothing(files: Files) -> None:
    """`| head -1` gets its line, and no complaint follows it."""
    for arguments in (honest(files), [*honest(files), "--json"], ["document", "show", str(files.document)]):
        done = shell('"$@" | head -1', arguments, files.folder)
        assert (done.returncode, done.stderr, done.stdout.count(b"\n")) == (0, b"", 1)
    done = shell('"$@" | true; exit ${PIPESTATUS[0]}', honest(files), files.folder)
    assert (done.returncode in (0, 2), done.stderr) == (True, b"")


# --- arguments that nothing can be done with ---


def test_arguments_are_text_where_text_is_meant(files: Files) -> None:
    """Bytes that are not UTF-8 are a mistake of the caller in a key and in a name, and fine in the name of a file."""
    done = shell('"$@"', ["proof", "verify", "x", "--key", b"text:\xff", *PROOF], files.folder)
    assert (done.returncode, "--key: not UTF-8" in one_line(done.stderr)) == (2, True)
    files.write("trust.toml", TRUST)
    done = shell('"$@"', ["party", "verify", b"\xff", "--node", "http://127.0.0.1:1", *TRUSTED], files.folder)
    assert (done.returncode, "NAME: not UTF-8" in one_line(done.stderr)) == (2, True)
    odd = os.fsencode(files.folder) + b"/\xff.bin"
    Path(os.fsdecode(odd)).write_bytes(files.document.read_bytes())
    assert shell('"$@"', ["document", "show", odd], files.folder).returncode == 0


TRUST = f"""\
chain_id = "chain"
height = 1
header_hash = "{"00" * 32}"
[instance]
name = "one"
genesis_digest = "{"00" * 32}"
[enclave]
root = "aws"
"""
TRUSTED = ["--trust", "trust.toml"]


@pytest.mark.parametrize(
    "url",
    [
        "http://a..b:1",
        "http://a b:1",
        "http://127.0.0.1:1/é",
        "http://127.0.0.1:1/a b",
        "http://127.0.0.1:1/\n",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:x",
        "http://[::1",
        "http://user@127.0.0.1:1",
        "http://127.0.0.1:1/#a",
        "http://" + "a" * 300,
        "unix:///" + "a" * 300,
        "ftp://127.0.0.1",
        "",
    ],
)
def test_a_url_that_is_none_is_the_callers_mistake(files: Files, url: str) -> None:
    """For the node and for the proxy alike, whatever is wrong with it."""
    trust = files.write("trust.toml", TRUST)
    done = audit("party", "verify", "party-1", "--node", url, "--trust", trust)
    assert (done.code, done.out) == (2, "")
    assert "cli.usage" in one_line(done.err.encode())


def test_names_that_no_file_can_have_are_the_callers_mistake(files: Files) -> None:
    """A policy's name may be as long as a name can be, though its signature's could not."""
    longest = files.write("p" * 255, files.policy.read_text())
    assert files.honest(policy=longest).code == 0
    assert "policy.unsigned" in files.honest("--policy-key", "00" * 32, policy=longest).out
    for name in ("p" * 256, "d/" * 5000):
        assert files.honest(policy=files.folder / name).code == 2
        assert files.honest(document=files.folder / name).code == 2
        assert audit("policy", "init", "--document", files.document, "--output", name).code == 2


def test_what_is_repeated_of_the_arguments_cannot_write_on_the_terminal(files: Files) -> None:
    """The escape sequence of a stray argument is printed escaped, in the lines of every parser."""
    for stray in (("document", "show", files.document), ("party",), ()):
        done = audit(*stray, "\x1b[31mX")
        assert (done.code, "\x1b" in done.err, "\\x1b[31mX" in done.err) == (2, False, True)
        assert "error: cli.usage: " in done.err
    assert "\x1b" not in audit("document", "show", "\x1b[31mX").err


# --- defects ---


def test_a_defect_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that nobody foresaw: exit code 2, its kind and place on one line, nothing of its text."""

    def failing(_: object) -> int:
        raise RuntimeError("\x1b secret")

    monkeypatch.setattr(chain, "run", failing)
    done = audit("chain", "verify")
    assert (done.code, done.out) == (2, "")
    assert "cli.defect" in one_line(done.err.encode())
    assert "RuntimeError at test_main.py:" in done.err and "secret" not in done.err


def test_an_interrupt_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell counts it."""

    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(chain, "run", interrupted)
    assert audit("chain", "verify").code == 130


def test_help_is_ascii() -> None:
    """A pipe in any locale takes it."""
    for parser in (
        (),
        *((name,) for name in COMMANDS),
        ("document", "verify"),
        ("proof", "verify"),
        ("party", "verify"),
    ):
        text = audit(*parser, "--help").out
        assert text.isascii(), [char for char in text if not char.isascii()]
    assert main.build().prog == "cipherkeep-audit"
