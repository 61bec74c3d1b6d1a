"""Makes the Python stubs of CometBFT's application interface from the .proto files inside the pinned Go module.

    python tools/generate_abci.py

They are not committed: whoever changes `tools/go.mod` gets the messages of that version. The result lies in the cache
under the digest of what it is made of, and the link `bin/abci` names it; `cipherkeep_host.chain.stubs` finds it there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cipherkeep"
MODULE = "github.com/cometbft/cometbft"
ENTRY = "tendermint/abci/types.proto"


def source_folder() -> Path:
    """Where the pinned module's .proto files lie."""
    command = ["go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", MODULE]
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    folder = subprocess.run(
        command, cwd=ROOT / "tools", env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()
    if not folder:
        raise SystemExit(f"generate_abci: {MODULE} is not downloaded; run `go mod download` in tools/")
    return Path(folder) / "proto"


def without_gogoproto(text: str) -> str:
    """The same messages without the options that speak to Go's generator only: they do not change the wire."""
    text = re.sub(r'^import "gogoproto/gogo\.proto";\n', "", text, flags=re.MULTILINE)
    text = re.sub(r"^\s*option \(gogoproto\.[^;]*;\n", "", text, flags=re.MULTILINE)
    return re.sub(r"\s*\[[^][]*\(gogoproto\.(?:\"[^\"]*\"|[^]\"])*\]", "", text)


def closure(folder: Path) -> dict[str, str]:
    """The entry file and all that it imports of the same module, by path, stripped."""
    found: dict[str, str] = {}
    wanted = [ENTRY]
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        found[name] = without_gogoproto((folder / name).read_text())
        if "(gogoproto" in found[name]:
            raise SystemExit(f"generate_abci: {name} has an option of gogoproto that is not understood")
        imports = re.findall(r'^import "([^"]+)";', found[name], flags=re.MULTILINE)
        wanted.extend(path for path in imports if not path.startswith("google/"))
    return found


def generate(sources: dict[str, str], target: Path) -> None:
    """Run protoc in a process of its own, as it keeps global state."""
    with tempfile.TemporaryDirectory(prefix="ck-") as folder:
        for name, text in sources.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        include = str(files("grpc_tools") / "_proto")
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"-I{include}"]
        subprocess.run([*command, f"--python_out={target}", *sorted(sources)], check=True)


def main() -> int:
    """Generate unless exactly this was generated before, then let `bin/abci` name it."""
    marks = [(ROOT / "tools" / "go.sum").read_bytes(), version("protobuf").encode(), version("grpcio-tools").encode()]
    marks.append(Path(__file__).read_bytes())
    digest = hashlib.sha256(b"\0".join(hashlib.sha256(mark).digest() for mark in marks)).hexdigest()[:16]
    final = CACHE / "abci" / digest
    if not final.is_dir():
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="partial-", dir=final.parent) as folder:
            made = Path(folder) / "stubs"
            made.mkdir()
            generate(closure(source_folder()), made)
            with contextlib.suppress(OSError):  # another run was faster
                made.rename(final)
    link = CACHE / "bin" / "abci"
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f"abci.new-{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(final)
    fresh.replace(link)
    return 0


if __name__ == "__main__":
    sys.exit(main())
