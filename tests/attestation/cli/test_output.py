"""Output: words beside every mark, colours on terminals only, nothing from evidence that a terminal would obey."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cipherkeep_attestation.cli import main as command
from cipherkeep_attestation.cli.inputs import UsageError, hex_bytes, moment
from cipherkeep_attestation.cli.output import Section, Verdict, lines, plain, show
from cipherkeep_attestation.errors import Refused
from cipherkeep_attestation.trace import Check, State

from tests.attestation.cli.running import audit

REFUSAL = Refused("document.nonce", "esc \x1b[2J and\nline")
VERDICT = Verdict(
    subject="thing",
    checks=tuple(Check(f"rule.{state.name.lower()}", "holds", state, "why") for state in State),
    refusal=REFUSAL,
    sections=(Section("table", (("name", "value \x07"), ("longer name", "x"))),),
    warnings=("be\rware",),
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def shown(verdict: Verdict, stream: io.StringIO) -> str:
    assert show(verdict, as_json=False, stream=stream) == (1 if verdict.refusal else 0)
    return stream.getvalue()


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_every_state_has_a_word_beside_its_mark(stream: type[io.StringIO]) -> None:
    """Nothing is said by symbol or colour alone."""
    text = shown(VERDICT, stream())
    for state in State:
        assert any(state.value in line and f"rule.{state.name.lower()}" in line for line in text.splitlines())
    assert "refused" in text


def test_colour_needs_a_terminal_that_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in a pipe, not with NO_COLOR, not on a dumb terminal."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in shown(VERDICT, Terminal())
    assert "\x1b" not in shown(VERDICT, io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in shown(VERDICT, Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in shown(VERDICT, Terminal())


def test_control_characters_are_escaped_everywhere() -> None:
    """In details, tables and warnings alike; one line stays one line."""
    text = shown(VERDICT, io.StringIO())
    assert not set(text) & set("\x1b\x07\r")
    assert len(text.splitlines()) == len(shown(VERDICT, Terminal()).splitlines())
    assert plain("a\u202eb\x00é") == "a\\u202eb\\x00é"


def test_symbols_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pipe there are words alone, and so there are on a terminal that does not know the symbols."""
    monkeypatch.setenv("NO_COLOR", "1")
    verdict = Verdict(
        subject="thing", checks=VERDICT.checks, sections=(Section("rows", (("1", "holds"),), State.PASSED),)
    )
    text = shown(verdict, Terminal())
    assert "  ✓ passed " in text and "  ✗ failed " in text and "  ✓ 1  holds" in text and "✓ accepted: thing" in text
    piped = shown(verdict, io.StringIO())
    assert piped.isascii() and "  passed " in piped and "  1  holds" in piped
    assert piped.splitlines()[-1] == "accepted: thing"

    class Old(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    raw = io.BytesIO()
    stream = Old(raw, "ascii")
    show(replace(verdict, subject="é"), as_json=False, stream=stream)
    stream.flush()
    assert raw.getvalue().decode() == piped.replace("thing", "\\xe9")


def test_json_is_one_object_and_ascii() -> None:
    """With code, sentence, hint, source, and each check."""
    stream = io.StringIO()
    assert show(VERDICT, as_json=True, stream=stream) == 1
    said = json.loads(stream.getvalue())
    assert (said["accepted"], said["code"], len(said["checks"])) == (False, "document.nonce", len(State))
    assert stream.getvalue().isascii()


def test_lines_are_bounded() -> None:
    """At the limit a line is read, beyond it skipped; the last one needs no end."""
    text = b"a" * 10 + b"\n" + b"b" * 11 + b"\n\r\nc\r\n" + b"d" * 200_000 + b"\ne"
    assert list(lines(io.BytesIO(text), 10)) == [b"a" * 10, None, b"", b"c", None, b"e"]
    assert list(lines(io.BytesIO(b""), 10)) == []


@pytest.mark.parametrize(
    "text", ["2026-07-01T12:00:00Z", "2026-07-01t14:00:00.000000001+02:00", "2026-07-01 12:00:00z"]
)
def test_times_are_those_of_rfc_3339(text: str) -> None:
    """Any zone, fractions cut to microseconds."""
    assert moment(text).isoformat() == "2026-07-01T12:00:00+00:00"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-07-01",
        "2026-W27-3T12:00:00Z",
        "2026-07-01T12:00Z",
        "2026-07-01T24:00:00Z",
        "2026-07-01T12:00:00",
        "2026-07-01T12:00:60Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "２026-07-01T12:00:00Z",
        "2026-07-01T12:00:00Z\n",
        "2026-07-01T12:00:00+99:00",
        "2026-07-01T12:00:00+24:00",
        "2026-07-01T12:00:00+01:99",
        "2026-07-01T12:00:00+00:60",
        "2026-07-01T12:00:00-00:60",
        "9999-12-31T23:59:59-00:01",
    ],
)
def test_other_times_are_not_understood(text: str) -> None:
    """No week dates, no leap seconds, no other digits, no year beyond what can be computed with."""
    with pytest.raises(UsageError):
        moment(text)


def test_hexadecimal_is_digits_alone() -> None:
    """No spaces, no prefix, whole bytes, the length that was asked for."""
    assert hex_bytes("00fF", "x") == b"\x00\xff"
    for wrong in ("0", "0x00", "00 00", " 00", "00\n", "zz", "０0"):
        with pytest.raises(UsageError):
            hex_bytes(wrong, "x")
    with pytest.raises(UsageError):
        hex_bytes("0000", "x", length=1)


def test_help_lists_every_command_and_how_it_ends() -> None:
    """Help needs no argument and imports every module once."""
    done = audit("--help")
    assert done.code == 0
    for name in command.COMMANDS:
        assert any(line.split()[:1] == [name] for line in done.lines()), name
    assert "0 accepted, 1 refused, 2" in " ".join(done.out.split())
    for wrong in ((), ("documents",), ("document",), ("document", "judge"), ("document", "verify", "--help-me")):
        assert audit(*wrong).code == 2
    assert "measurements" in audit("document", "verify", "--help").out


def test_a_reader_that_stops_reading_is_no_crash(tmp_path: Path) -> None:
    """`| head` closes the pipe: no traceback."""
    program = [sys.executable, "-m", "cipherkeep_attestation.cli.main"]
    path = tmp_path / "lines"
    path.write_bytes(b"{}\n" * 5000)
    with subprocess.Popen(
        [*program, "document", "verify", "--batch", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 2


def test_a_real_terminal_gets_colours(tmp_path: Path) -> None:
    """On a pseudo-terminal the verdict is coloured, and still says the word."""
    path = tmp_path / "no.toml"
    path.write_text("x = 1\n")
    master, slave = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    done = subprocess.run(
        [sys.executable, "-m", "cipherkeep_attestation.cli.main", "policy", "lint", str(path)],
        stdout=slave,
        stdin=subprocess.DEVNULL,
        env=environment,
        check=False,
        timeout=60,
    )
    os.close(slave)
    text = os.read(master, 1 << 16).decode()
    os.close(master)
    assert done.returncode == 1
    assert "\x1b[1;31m✗ refused: policy: policy.no_measurements\x1b[0m" in text
