"""Names every missing or too old tool at once, before anything long starts. Standard library only, any Python 3."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

TOOLS = {
    # tool: command that prints its version, least version, how to get it
    "rustc": (["rustc", "--version"], (1, 91, 1), "install Rust with rustup, or `rustup update stable`"),
    "cargo": (["cargo", "--version"], (1, 91, 0), "comes with Rust"),
    "go": (["go", "version"], (1, 24, 0), "install Go from your distribution or from the Go project"),
    "node": (["node", "--version"], (20, 0, 0), "install Node.js 20 or newer"),
    "npm": (["npm", "--version"], (9, 0, 0), "comes with Node.js"),
    "cc": (["cc", "--version"], (0, 0, 0), "install a C compiler (package gcc or build-essential): Rust links with it"),
}
ALWAYS = ("node",)  # runs the strangers' clients
NEEDS = {
    # step that is not done yet: tools, GB of free memory, GB of free disk (with module caches), each rounded up.
    # The compiler's peak on the FHE library is measured; where there is 0, less is enough than the demo itself takes.
    "consensus engine": (("go",), 0, 1.5),
    "protocol stubs": (("go",), 0, 0.1),
    "FHE bindings": (("rustc", "cargo", "cc"), 5.0, 2.0),
    "Python packages": ((), 0, 0.6),
    "strangers' clients": (("npm",), 0, 0.3),
}
LEAST_PYTHON, LAST_PYTHON = (3, 11), (3, 13)  # coincurve, which signs and recovers, has no wheel for 3.14 yet


def _version(command):
    """The first dotted number that the command prints, or None when it cannot be run."""
    if shutil.which(command[0]) is None:
        return None
    try:
        out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(rb"(\d+)\.(\d+)(?:\.(\d+))?", out)
    return tuple(int(part or 0) for part in found.groups()) if found else None


def _memory_gb():
    try:
        with Path("/proc/meminfo").open() as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) / 1e6
    except OSError:
        pass
    return None


def problems(cache, steps):
    """Sentences, one for each thing that is missing for these steps; empty when all is well.

    `cache` is the folder builds go to.
    """
    found = []
    if not sys.platform.startswith("linux"):
        found.append(f"this is {sys.platform}: Cipherkeep runs on Linux (on macOS use a Linux VM)")
    if sys.version_info < LEAST_PYTHON:
        found.append("Python {}.{} is too old: 3.11 to 3.13 are supported".format(*sys.version_info[:2]))
    if sys.version_info[:2] > LAST_PYTHON:
        text = "Python {}.{} is too new: 3.11 to 3.13 are supported (`make PYTHON=python3.13 …` takes another)"
        found.append(text.format(*sys.version_info[:2]))
    try:
        import ensurepip  # noqa: F401  (a Debian Python without python3-venv lacks it)
        import venv  # noqa: F401
    except ImportError:
        found.append("Python has no venv module: install the package python3-venv")
    needed = {*ALWAYS, *(tool for step in steps for tool in NEEDS[step][0])}
    for tool, (command, least, hint) in TOOLS.items():
        if tool not in needed:
            continue
        version = _version(command)
        shown = ".".join(map(str, least))
        if version is None and least == (0, 0, 0) and shutil.which(tool):
            continue
        if version is None:
            found.append(f"{tool} is missing (needs {shown} or newer): {hint}")
        elif version < least:
            found.append("{} {} is too old (needs {}): {}".format(tool, ".".join(map(str, version)), shown, hint))
    memory, memory_needed = _memory_gb(), max((NEEDS[step][1] for step in steps), default=0)
    if memory is not None and memory < memory_needed:
        found.append(f"{memory:.1f} GB of memory free, {memory_needed} GB needed: close something large")
    folder = Path(cache)
    while not folder.is_dir():
        folder = folder.parent
    free, disk_needed = shutil.disk_usage(folder).free / 1e9, sum(NEEDS[step][2] for step in steps)
    if free < disk_needed:
        found.append(f"{free:.1f} GB of disk free under {folder}, {disk_needed:.1f} GB needed")
    return found
