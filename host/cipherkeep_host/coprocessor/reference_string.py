"""The only place that makes the common reference string under which clients prove their inputs.

It comes from a seed that is drawn for it and dropped: who knew the seed could prove false statements about a list. So
nobody knows a trapdoor unless whoever made the string kept it, and the coprocessor, which makes it, is trusted for more
than that. A ceremony replaces it in a later release. Made once on a machine and kept, because it takes ten seconds.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import tfhers
from cipherkeep_host import durable


def cache_folder() -> Path:
    """Where the string is kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "cipherkeep" / "crs"


def make(bits: int, *, cache: Path) -> Path:
    """A file with the string for lists of up to `bits` bits; made when missing, which takes 10 seconds or more."""
    path = durable.make_folder(cache) / f"own-{tfhers.__version__}-{bits}.bin"
    if not path.exists():
        # Whoever else made one in the meantime has made the one that stays.
        durable.create(path, tfhers.Crs.generate(bits, secrets.token_bytes(32)).to_bytes(), mode=0o644)
    return path
