"""Runs the command inside the test's process, and keeps documents and policies of a simulated platform as files."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cipherkeep_attestation.cli.main import main

from tests.simulators.attestation import PCRS, SimulatedPlatform

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
AT = "2026-07-01T12:00:00Z"
NONCE = b"n" * 32
VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "nitro"
INDEX: list[dict[str, Any]] = json.loads((VECTORS / "index.json").read_text())


@dataclass(frozen=True)
class Outcome:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def lines(self) -> list[str]:
        return self.out.splitlines()


def audit(*arguments: str | Path) -> Outcome:
    """Run `cipherkeep-audit` with these arguments."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit_:  # argparse
            code = int(exit_.code or 0)
    out.flush()
    buffer = out.buffer
    assert isinstance(buffer, io.BytesIO)
    return Outcome(code, buffer.getvalue().decode(), err.getvalue())


def release(version: str = "1.0.0", pcrs: Mapping[int, bytes] | None = None, **extra: str) -> str:
    """A [[release]] of a policy; by default the image of the simulated platform."""
    found = {index: PCRS[index] for index in (0, 1, 2)} if pcrs is None else pcrs
    lines = [
        "[[release]]",
        f'version = "{version}"',
        *(f'pcr{index} = "{value.hex()}"' for index, value in found.items()),
    ]
    return "\n".join([*lines, *(f"{name} = {value}" for name, value in extra.items())]) + "\n"


def policy(*releases: str, **changes: str) -> str:
    """A policy that demands a nonce, unless something else is said; values are TOML, None leaves a key out."""
    keys = {"format": "1", "kind": '"enclave"', "max_age_seconds": "300", "nonce": '"demanded"', **changes}
    head = "".join(f"{name} = {value}\n" for name, value in keys.items() if value is not None)
    return head + "".join(releases or (release(),))


class Files:
    """A folder with a platform's root, a policy, and documents."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.platform = SimulatedPlatform(at=NOW)
        self.root = self.write("root.der", self.platform.root().certificate_der)
        self.policy = self.write("policy.toml", policy())
        self.document = self.write("document.bin", self.platform.document(nonce=NONCE))

    def write(self, name: str, content: bytes | str) -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def verify(self, *arguments: str | Path, document: Path | None = None, policy: Path | None = None) -> Outcome:
        """`document verify` with this folder's root, policy and document, and whatever follows."""
        common = ("--root", self.root, "--policy", policy or self.policy)
        return audit("document", "verify", document or self.document, *common, *arguments)

    def honest(self, *arguments: str | Path, **files: Path) -> Outcome:
        """The same, at the right time and with the right nonce."""
        return self.verify("--at", AT, "--nonce", NONCE.hex(), *arguments, **files)
