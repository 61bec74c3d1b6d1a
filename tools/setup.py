"""Sets everything up that the demo, the tests and the checks need, and does nothing twice.

    python3 tools/setup.py demo        what `make demo` needs
    python3 tools/setup.py test lint   … and the test runner, the checkers

Finished pieces live in `$XDG_CACHE_HOME/cipherkeep`, each under the digest of what it is made of: the consensus
engine's binary, the wheel of the FHE bindings, node_modules, the stubs of the consensus protocol. Downloads overlap
with builds; of the builds Go's goes first, then Rust's, never both, because each wants all of the memory and cores.
Uses the standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import preflight

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cipherkeep"
VENV = ROOT / ".venv"
DISTRIBUTIONS = ("attestation", "wire", "enclave", "host")
PROFILES = {"demo": ("runtime", "build"), "test": ("test", "fuzz"), "lint": ("lint",), "fuzz": ("fuzz",)}
THIRD_PARTY = ROOT / "tests" / "thirdparty"

# Expected seconds on two cores with nothing cached: measured, and shown beside the elapsed time.
EXPECTED = {
    "consensus engine": 60,
    "protocol stubs": 5,
    "FHE bindings": 300,
    "Python packages": 15,
    "strangers' clients": 15,
}


class SetupError(Exception):
    """A step failed; the message is for whoever set up."""


def digest_of(paths: Iterable[Path], *extra: str) -> str:
    """SHA-256 over names and contents, 16 hex digits: enough for a cache key, not for security."""
    state = hashlib.sha256()
    for path in sorted(paths):
        state.update(str(path.relative_to(ROOT)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    for text in extra:
        state.update(text.encode() + b"\0")
    return state.hexdigest()[:16]


def run(command: list[str], *, cwd: Path = ROOT, env: dict[str, str] | None = None) -> None:
    """Run a step quietly; show the end of its output only when it fails."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.decode(errors="replace").splitlines()[-25:])
        raise SetupError(f"`{' '.join(command)}` failed with exit status {done.returncode}:\n{tail}")


@contextlib.contextmanager
def progress(step: str) -> Iterator[None]:
    """Say that a long step runs, how long it has taken, and how long it usually takes."""
    expected = EXPECTED[step]
    begun = time.monotonic()
    stop = threading.Event()
    terminal = sys.stderr.isatty()

    def tick() -> None:
        while not stop.wait(1 if terminal else 30):
            line = f"  {step}: {time.monotonic() - begun:4.0f} s of about {expected} s"
            print(f"\r{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)

    print(f"  {step}: begun, about {expected} s", file=sys.stderr, flush=True)
    watcher = threading.Thread(target=tick, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        print(f"{chr(13) if terminal else ''}  {step}: {time.monotonic() - begun:4.0f} s", file=sys.stderr, flush=True)


def publish(made: Path, final: Path) -> None:
    """Move a finished piece to its place in one step, so that an interrupted run leaves no half piece behind."""
    final.parent.mkdir(parents=True, exist_ok=True)
    made.replace(final)


def point(name: str, target: Path) -> None:
    """Let `bin/NAME` name the newest piece, replaced atomically."""
    link = CACHE / "bin" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)


# --- the consensus engine (Go) ---


def consensus_binary() -> Path:
    sources = [ROOT / "tools" / "go.mod", ROOT / "tools" / "go.sum"]
    return CACHE / "cometbft" / digest_of(sources) / "cometbft"


def build_consensus_engine() -> None:
    binary = consensus_binary()
    if not binary.exists():
        with progress("consensus engine"):
            made = CACHE / "cometbft" / "partial"
            made.parent.mkdir(parents=True, exist_ok=True)
            flags = ["-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o", str(made)]
            package = "github.com/cometbft/cometbft/cmd/cometbft"
            run(["go", "build", *flags, package], cwd=ROOT / "tools", env={"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"})
            publish(made, binary)
    point("cometbft", binary)


def generate_protocol_stubs() -> None:
    """The stubs of the consensus protocol come from the .proto files inside the pinned Go module."""
    run([str(VENV / "bin" / "python"), str(ROOT / "tools" / "generate_abci.py")])


# --- the FHE bindings (Rust) ---


def rust_flags() -> str:
    """Paths of this machine never reach the wheel, because the wheel is measured."""
    cargo_home = os.environ.get("CARGO_HOME") or str(Path.home() / ".cargo")
    remap = {cargo_home: "/cargo", str(CACHE / "cargo-target"): "/target"}
    return "\x1f".join(f"--remap-path-prefix={source}={name}" for source, name in remap.items())


def bindings_wheel() -> Path:
    crate = ROOT / "tfhers"
    sources = [crate / name for name in ("Cargo.toml", "Cargo.lock", "pyproject.toml", "README.md")]
    sources += [path for folder in ("src", "python") for path in (crate / folder).rglob("*") if path.is_file()]
    sources = [path for path in sources if path.exists() and "__pycache__" not in path.parts]
    return CACHE / "wheels" / digest_of(sources, compiler(), (ROOT / "locks" / "build.txt").read_text())


def compiler() -> str:
    """Rust's version; on a machine that has lost its Rust, the version that made the wheels of the cache."""
    found, note = said(["rustc", "-vV"]), CACHE / "wheels" / "compiler"
    return found or (note.read_text() if note.exists() else "")


def said(command: list[str]) -> str:
    """What a program prints, nothing where it is missing or fails."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def build_bindings() -> None:
    folder = bindings_wheel()
    if not folder.exists():
        with progress("FHE bindings"):
            made = CACHE / "wheels" / "partial"
            shutil.rmtree(made, ignore_errors=True)
            maturin = str(VENV / "bin" / "maturin")
            run(
                [maturin, "build", "--release", "--locked", "--strip", "--out", str(made)],
                cwd=ROOT / "tfhers",
                env={
                    "CARGO_TARGET_DIR": str(CACHE / "cargo-target"),
                    "CARGO_ENCODED_RUSTFLAGS": rust_flags(),
                    "SOURCE_DATE_EPOCH": "315532800",  # the oldest time that a wheel's zip can hold
                },
            )
            publish(made, folder)
    (folder.parent / "compiler").write_text(compiler())
    wheel = next(folder.glob("*.whl"))
    install(["--no-deps", "--force-reinstall", str(wheel)], marker="bindings", digest=folder.name)


# --- Python ---


def uv() -> list[str]:
    return [str(VENV / "bin" / "uv")]


def install(arguments: list[str], *, marker: str, digest: str) -> None:
    """Install into the checkout's environment unless the marker says that exactly this is there."""
    if noted(marker, digest):
        return
    note = VENV / f".cipherkeep-{marker}"
    note.unlink(missing_ok=True)
    run([*uv(), "pip", "install", "--quiet", "--python", str(VENV / "bin" / "python"), *arguments])
    note.write_text(digest)


def base_identity() -> str:
    marks = [sys.version, (ROOT / "locks" / "build.txt").read_text(), str(ROOT)]
    return hashlib.sha256("\0".join(marks).encode()).hexdigest()


def noted(marker: str, digest: str) -> bool:
    """Whether the checkout's environment says that exactly this is there."""
    note = VENV / f".cipherkeep-{marker}"
    return note.exists() and note.read_text() == digest


def locks_of(profiles: list[str]) -> dict[str, str]:
    """The lock files of these profiles, each with its digest."""
    names = [lock for profile in profiles for lock in PROFILES[profile]]
    return {name: digest_of([ROOT / "locks" / f"{name}.txt"]) for name in names}


def install_python(profiles: list[str]) -> None:
    if not noted("base", base_identity()):
        shutil.rmtree(VENV, ignore_errors=True)
        with progress("Python packages"):
            run([sys.executable, "-m", "venv", str(VENV)])
            pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            run([*pip, "--require-hashes", "--no-deps", "-r", str(ROOT / "locks" / "build.txt")])
            (VENV / ".cipherkeep-base").write_text(base_identity())
    for lock, digest in locks_of(profiles).items():
        source = ROOT / "locks" / f"{lock}.txt"
        install(["--require-hashes", "--no-deps", "-r", str(source)], marker=lock, digest=digest)
    projects = [ROOT / name / "pyproject.toml" for name in DISTRIBUTIONS]
    editable = [word for name in DISTRIBUTIONS for word in ("--editable", str(ROOT / name))]
    install(
        ["--no-deps", "--no-build-isolation", *editable], marker="distributions", digest=digest_of(projects, str(ROOT))
    )


# --- Node ---


MANIFESTS = [THIRD_PARTY / name for name in ("package.json", "package-lock.json", ".npmrc")]


def strangers_folder() -> Path:
    return CACHE / "node" / digest_of(MANIFESTS, said(["node", "--version"]))


def install_strangers() -> None:
    """Zama's npm clients: they check our answers in tests and the demo, and nothing here imports them."""
    folder = strangers_folder()
    if not folder.exists():
        with progress("strangers' clients"):
            made = CACHE / "node" / "partial"
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir(parents=True)
            for path in MANIFESTS:
                shutil.copy(path, made / path.name)
            run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=made)
            publish(made, folder)
    link = THIRD_PARTY / "node_modules"
    if not link.is_symlink() or link.resolve() != (folder / "node_modules").resolve():
        if link.is_symlink() or link.is_file():
            link.unlink()
        elif link.exists():
            shutil.rmtree(link)
        link.symlink_to(folder / "node_modules")


# --- all of it ---


def fetch(command: list[str], cwd: Path) -> None:
    """Download ahead of a build. A failure here is the build's to report."""
    with contextlib.suppress(SetupError):
        run(command, cwd=cwd, env={"GOTOOLCHAIN": "local"})


def missing_steps(profiles: list[str]) -> list[str]:
    """Steps whose outcome is neither in the cache nor in the checkout's environment."""
    python = noted("base", base_identity()) and all(noted(*item) for item in locks_of(profiles).items())
    done = {
        "consensus engine": consensus_binary().exists(),
        "protocol stubs": (CACHE / "bin" / "abci").exists(),
        "FHE bindings": bindings_wheel().exists(),
        "Python packages": python,
        "strangers' clients": strangers_folder().exists(),
    }
    return [step for step, there in done.items() if not there]


def minutes_expected(steps: list[str]) -> int:
    """Whole minutes that these steps take."""
    return -(-(10 + sum(EXPECTED[step] for step in steps)) // 60)


def about(steps: list[str]) -> str:
    minutes = minutes_expected(steps)
    return f"about {minutes} minute{'' if minutes == 1 else 's'}"


def set_up(profiles: list[str]) -> None:
    steps = missing_steps(profiles)
    missing = preflight.problems(str(CACHE), steps)
    if missing:
        lines = "\n".join(f"  - {sentence}" for sentence in missing)
        raise SetupError(f"This machine is not ready:\n{lines}\nOnce it is, setting up takes {about(steps)}.")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another set-up is running: waiting for it.", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        steps = missing_steps(profiles)  # another set-up may have done some
        if minutes_expected(steps) > 1:
            print(f"Setting up, once: {about(steps)} for {', '.join(steps)}.", file=sys.stderr, flush=True)
        with ThreadPoolExecutor(max_workers=3) as pool:
            downloads: list[Future[None]] = []
            if not bindings_wheel().exists():
                downloads.append(pool.submit(fetch, ["cargo", "fetch", "--locked"], ROOT / "tfhers"))
            if not consensus_binary().exists():
                fetch(["go", "mod", "download"], ROOT / "tools")
            parallel: list[Callable[[], None]] = [install_strangers]
            downloads += [pool.submit(step) for step in parallel]
            install_python(profiles)
            build_consensus_engine()
            for download in downloads:
                download.result()
            build_bindings()
        generate_protocol_stubs()
    (VENV / ".cipherkeep-ready").write_text(json.dumps(sorted(profiles)))


def main() -> int:
    profiles = sys.argv[1:] or ["demo"]
    unknown = [name for name in profiles if name not in PROFILES]
    if unknown:
        print(f"setup: unknown profile {unknown[0]}; known: {', '.join(PROFILES)}", file=sys.stderr)
        return 2
    if "demo" not in profiles:
        profiles = ["demo", *profiles]
    try:
        set_up(profiles)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetup: stopped; finished pieces are kept, the next run goes on from there", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
