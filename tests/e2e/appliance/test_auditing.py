"""The tutorial of audits, executed: every command of docs/auditing.md, in its order, with what it says it prints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.appliance.running import Running

PAGE = Path(__file__).parents[3] / "docs" / "auditing.md"
_END = "end-of-command"
_SHIMS = {
    "cipherkeep-audit": 'exec "{python}" -m cipherkeep_attestation.cli.main "$@"\n',
    "curl": 'exec "{python}" -c "import sys, urllib.request as r; print(r.urlopen(sys.argv[2]).read().decode())" $*\n',
    "python3": 'exec "{python}" "$@"\n',
}


@dataclass
class Command:
    """A line after `$ `, the exit code that it must have, and the lines that it prints."""

    text: str
    code: int
    expected: list[str] = field(default_factory=list)


def commands(text: str) -> Iterator[Command]:
    """The commands of all console blocks."""
    current: Command | None = None
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                if current is not None:
                    yield current
                command, _, code = line[2:].partition("  # exit ")
                current = Command(command, int(code or 0))
            else:
                assert current is not None, line
                current.expected.append(line)
    assert current is not None
    yield current


def pattern(lines: list[str]) -> re.Pattern[str]:
    """What is printed: `…` stands for anything in its line, and alone for any number of lines."""
    found = ""
    for line in normal(lines):
        found += "(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".+") + "\n"
    return re.compile(found)


def normal(lines: list[str]) -> list[str]:
    """Lines without what depends on the width of a number: columns, and blank lines."""
    return [" ".join(line.split()) for line in lines if line.strip()]


@pytest.fixture
def shell(appliance: Running, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A shell in an empty folder, whose default appliance is the one that runs."""
    state = tmp_path / "state" / "cipherkeep"
    state.mkdir(parents=True)
    (state / "dev").symlink_to(appliance.state)
    work, shims = tmp_path / "audit", tmp_path / "bin"
    work.mkdir()
    shims.mkdir()
    programs = Path(sys.executable).parent
    for name, script in _SHIMS.items():
        if shutil.which(name, path=f"{programs}:{os.environ['PATH']}") is None or name == "python3":
            (shims / name).write_text("#!/bin/sh\n" + script.format(python=sys.executable))
            (shims / name).chmod(0o755)
    environment = {
        "PATH": f"{shims}:{programs}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
        "LC_ALL": "C.UTF-8",
        "COLUMNS": "200",
    }
    process = subprocess.Popen(
        ["bash", "--noprofile", "--norc"],
        cwd=work,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()


def run(shell: subprocess.Popen[str], command: str) -> tuple[int, str]:
    """Exit code and output of one command."""
    assert shell.stdin is not None and shell.stdout is not None
    shell.stdin.write(f"{command}\nprintf '%s %s\\n' {_END} $?\n")
    shell.stdin.flush()
    output = ""
    for line in shell.stdout:
        if line.startswith(_END):
            return int(line.split()[1]), output
        output += line
    raise AssertionError(f"the shell ended in {command}")


@pytest.mark.timeout(600)
def test_every_command_of_the_tutorial_does_what_it_says(shell: subprocess.Popen[str]) -> None:
    """One shell, from the first command to the last: exit codes and output are those of the page."""
    found = list(commands(PAGE.read_text()))
    assert len(found) > 20
    for command in found:
        code, output = run(shell, command.text)
        shown = "".join(f"{line}\n" for line in normal(output.splitlines()))
        assert code == command.code, f"$ {command.text}\n{output}"
        if not command.expected:
            assert output == "", f"$ {command.text}\n{output}"
        assert pattern(command.expected).fullmatch(shown), f"$ {command.text}\n{shown}"


def test_the_page_names_every_command() -> None:
    """Each command of the auditor's distribution is in the tutorial, and each limit of an audit that must be said."""
    text = PAGE.read_text()
    for name in ("document verify", "document show", "eif measure", "chain verify", "proof verify"):
        assert f"cipherkeep-audit {name}" in text
    for name in ("answer verify", "party verify", "policy init", "policy lint"):
        assert f"cipherkeep-audit {name}" in text
    for limit in ("no other was", "single validator", "rewrite a policy"):
        assert limit in text
