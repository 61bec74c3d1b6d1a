"""Writes the hashed lock files in `locks/`: one for what runs, one for what builds, one for tests, one for lint,
one for fuzzing.

Run it after changing a dependency: `make lock`. The files hold versions and hashes and no host name, so that they
install from whatever index the reader's pip is set up for.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DISTRIBUTIONS = ("attestation", "wire", "enclave", "host")
OWN = ("cipherkeep-", "tfhers")


def requirements() -> dict[str, list[str]]:
    """Direct requirements by lock file: those of the four distributions, and the workspace's groups."""
    runtime: set[str] = set()
    for name in DISTRIBUTIONS:
        project = tomllib.loads((ROOT / name / "pyproject.toml").read_text())["project"]
        runtime |= {line for line in project["dependencies"] if not line.startswith(OWN)}
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    return {"runtime": sorted(runtime), **{name: sorted(lines) for name, lines in groups.items()}}


def main() -> None:
    """Resolve each set under the constraints of those before it, so that all install together."""
    uv = [sys.argv[1] if len(sys.argv) > 1 else "uv", "pip", "compile", "--quiet", "--universal"]
    uv += ["--generate-hashes", "--no-emit-index-url", "--no-annotate", "--no-header", "--python-version", "3.11"]
    constraints: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, lines in requirements().items():
            source = Path(scratch) / f"{name}.in"
            source.write_text("\n".join(lines) + "\n")
            target = ROOT / "locks" / f"{name}.txt"
            subprocess.run([*uv, *constraints, str(source), "-o", str(target)], check=True, cwd=ROOT)
            constraints += ["--constraints", str(target)]
            print(f"locks/{name}.txt: {sum(line[0].isalnum() for line in target.read_text().splitlines())} packages")


if __name__ == "__main__":
    main()
