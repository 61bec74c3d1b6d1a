"""Runs every checker and reports all that fail, not only the first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import setup

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
PACKAGES = ["attestation/cipherkeep_attestation", "wire/cipherkeep_wire", "enclave/cipherkeep_enclave"]
PACKAGES += ["host/cipherkeep_host", "tfhers/python/tfhers"]
RUST = {"CARGO_TARGET_DIR": str(setup.CACHE / "cargo-target"), "CARGO_ENCODED_RUSTFLAGS": setup.rust_flags()}

CHECKS: list[tuple[str, list[str], Path]] = [
    ("ruff check", [str(BIN / "ruff"), "check", "."], ROOT),
    ("ruff format", [str(BIN / "ruff"), "format", "--check", "."], ROOT),
    ("mypy", [str(BIN / "mypy"), *PACKAGES], ROOT),
    ("import contracts", [str(BIN / "lint-imports"), "--no-cache"], ROOT),
    ("rustfmt", ["cargo", "fmt", "--check"], ROOT / "tfhers"),
    ("clippy", ["cargo", "clippy", "--release", "--locked", "--quiet", "--", "-D", "warnings"], ROOT / "tfhers"),
]


def main() -> int:
    failed = []
    for name, command, folder in CHECKS:
        print(f"== {name}", flush=True)
        if subprocess.run(command, cwd=folder, env={**os.environ, **RUST}, check=False).returncode != 0:
            failed.append(name)
    print(f"lint: {len(CHECKS) - len(failed)} passed, {len(failed)} failed" + "".join(f"; {name}" for name in failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
