"""The only place that says which application this is: its version, interpreter and the packages that handlers touch.

Nodes that differ in any of it may compute different states, so it is written into state at genesis, and an application
that is not the same refuses to start.
"""

from __future__ import annotations

import hashlib
import re
import sys
from importlib.metadata import PackageNotFoundError, distribution

from cipherkeep_attestation import cbor

APPLICATION_VERSION = 1  # rises with every change of what handlers compute
_VERIFIER = "cipherkeep-attestation"  # its dependencies are all that handlers may use beside the standard library


def _requirements(name: str, found: dict[str, str]) -> None:
    try:
        package = distribution(name)
    except PackageNotFoundError:  # a requirement of another platform
        return
    found[name] = package.version
    for line in package.requires or ():
        required = re.match(r"[A-Za-z0-9._-]+", line)
        if required is None or "extra ==" in line:
            continue
        normal = re.sub(r"[-_.]+", "-", required.group()).lower()
        if normal not in found:
            _requirements(normal, found)


def packages() -> dict[str, str]:
    """Versions of the verifier and of everything it depends on, by name."""
    found: dict[str, str] = {}
    _requirements(_VERIFIER, found)
    return dict(sorted(found.items()))


def identity() -> bytes:
    """Deterministic CBOR of {application, packages: SHA-256, python}: equal on all nodes of a chain."""
    digest = hashlib.sha256(cbor.encode(packages())).digest()
    python = f"{sys.implementation.name}-{sys.version_info.major}.{sys.version_info.minor}"
    return cbor.encode({"application": APPLICATION_VERSION, "packages": digest, "python": python})
