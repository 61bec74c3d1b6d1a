"""The only place that finds the generated messages of CometBFT's application interface.

They are made at set-up from the pinned Go module and lie in the cache, not in this package.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from cipherkeep_host.errors import HostError


def cache_folder() -> Path:
    """Where set-up keeps finished pieces: `$XDG_CACHE_HOME/cipherkeep`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cipherkeep"


def consensus_engine() -> Path:
    """CometBFT's binary as set-up built it. `HostError("node.binary_missing")` without it."""
    binary = cache_folder() / "bin" / "cometbft"
    if not binary.exists():
        raise HostError("node.binary_missing", str(binary))
    return binary.resolve()


def messages() -> Any:
    """The module `tendermint.abci.types_pb2`. `HostError("chain.stubs_missing")` where it was not generated."""
    link = cache_folder() / "bin" / "abci"
    if not link.is_dir():
        raise HostError("chain.stubs_missing", str(link))
    folder = str(link.resolve())
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module("tendermint.abci.types_pb2")
