"""The tutorial of audits, executed: every command of docs/auditing.md, in its order, with what it says it prints."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cipherkeep_attestation.cli.live import post

from tests.e2e.appliance.running import Running
from tests.simulators.auditor import bare_environment

PAGE = Path(__file__).parents[3] / "docs" / "auditing.md"
_END = "end-of-command"
_CURL = 'exec "{bare}/python" -c "import sys, urllib.request as r; print(r.urlopen(sys.argv[2]).read().decode())" $*\n'


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
    """A shell in an empty folder, whose default appliance is the one that runs.

    `cipherkeep` is the operator's; `cipherkeep-audit` and Python are those of an environment that an auditor installed.
    """
    state = tmp_path / "state" / "cipherkeep"
    state.mkdir(parents=True)
    (state / "dev").symlink_to(appliance.state)
    work, shims = tmp_path / "audit", tmp_path / "bin"
    work.mkdir()
    shims.mkdir()
    bare = bare_environment(tmp_path / "auditor")
    (shims / "cipherkeep").symlink_to(Path(sys.executable).parent / "cipherkeep")
    if shutil.which("curl") is None:
        (shims / "curl").write_text("#!/bin/sh\n" + _CURL.format(bare=bare))
        (shims / "curl").chmod(0o755)
    environment = {
        "PATH": f"{bare}:{shims}:{os.environ['PATH']}",
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


# --- live parties that are not what they say ---


def party(appliance: Running, folder: Path, *, name: str = "party-1", **other: str) -> tuple[int, dict[str, Any]]:
    """Exit code and verdict of `party verify`; `other` replaces the node's or the proxy's URL, or edits the trust."""
    program = [sys.executable, "-m", "cipherkeep_attestation.cli.main"]
    written = subprocess.run(
        [str(Path(sys.executable).parent / "cipherkeep"), "dev", "trust", "--state", str(appliance.state)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    trust = folder / "trust.toml"
    trust.write_text(written.replace(other.get("old", "\0"), other.get("new", "")))
    node = other.get("node", appliance.environment.node)
    proxy = other.get("attestation", appliance.environment.attestation)
    options = ["--node", node, "--attestation", proxy, "--trust", str(trust), "--json"]
    done = subprocess.run(
        [*program, "party", "verify", name, *options], capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else {}


class Replaying(http.server.BaseHTTPRequestHandler):
    """A proxy that answers every nonce with one message."""

    message = ""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"message": self.message}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class names it so)
        pass


@pytest.fixture
def replaying(appliance: Running) -> Iterator[str]:
    """The URL of a proxy that replays an authentic answer to another nonce."""
    answer = post(appliance.environment.attestation, "/attestation", {"nonce": "ab" * 32})
    handler = type("Handler", (Replaying,), {"message": answer["message"]})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_replayed_document_is_refused(appliance: Running, replaying: str, tmp_path: Path) -> None:
    """An authentic document of the right enclave, made for another nonce, shows nothing about now."""
    code, verdict = party(appliance, tmp_path, attestation=replaying)
    assert (code, verdict["code"]) == (1, "document.nonce")
    states = {check["code"]: check["state"] for check in verdict["checks"]}
    assert (states["party.not_registered"], states["party.registration"]) == ("passed", "not judged")


def test_a_party_is_judged_by_what_its_auditor_trusts(appliance: Running, tmp_path: Path) -> None:
    """Another first header, another root of enclaves, another policy, another name: each with its own code."""
    assert party(appliance, tmp_path)[0] == 0
    hashed = appliance.environment.genesis_hash
    (tmp_path / "policy.toml").write_text(
        'format = 1\nkind = "enclave"\nmax_age_seconds = 300\nnonce = "demanded"\n[[release]]\nversion = "1"\n'
        + "".join(f'pcr{index} = "{"11" * 48}"\n' for index in range(3))
    )
    edits = {
        "lightclient.root": {"old": hashed, "new": "00" * 32},
        "document.pcr_mismatch": {"old": "[enclave]\n", "new": '[enclave]\npolicy = "policy.toml"\n'},
        "receipt.old_header": {"old": "height = 1\n", "new": "height = 1\nmax_header_age_seconds = 1\n"},
        "party.unknown": {"name": "party-2"},
    }
    for expected, how in edits.items():
        code, verdict = party(appliance, tmp_path, **how)
        if code == 0 and expected == "receipt.old_header":
            # A block was made within the last second; the next one is half a minute away.
            time.sleep(1.1)
            code, verdict = party(appliance, tmp_path, **how)
        assert (code, verdict["code"]) == (1, expected)
    pem = re.compile(r'root = """.*?"""', re.DOTALL)
    trust = (tmp_path / "trust.toml").read_text()
    code, verdict = party(appliance, tmp_path, old=pem.findall(trust)[0], new='root = "aws"')
    assert (code, verdict["code"]) == (1, "path.root")


def test_nobody_there_is_no_verdict(appliance: Running, tmp_path: Path) -> None:
    """A URL that nobody answers at, or that is none: the caller's mistake, exit code 2."""
    for url in ("http://127.0.0.1:1", f"unix://{tmp_path}/none.sock", "ftp://x", "http://", "nonsense"):
        assert party(appliance, tmp_path, node=url)[0] == 2
        assert party(appliance, tmp_path, attestation=url)[0] == 2
