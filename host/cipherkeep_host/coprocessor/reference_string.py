"""The only place that makes the common reference string under which clients prove their inputs.

It comes from a fixed public seed, so that everyone can make the same one: `SHA-256("cipherkeep/crs/v1" ‖ bits)`. Who
knows the seed can prove false statements about *well-formedness* of a list; the worker that reads lists survives
those, and what they decrypt to is whatever their sender put in. A ceremony replaces it in a later release.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import tfhers
from cipherkeep_host import durable

DEFAULT_BITS = 2048  # what today's clients ask for; 512 bits load and prove faster and hold fewer values


def seed_of(bits: int) -> bytes:
    """The public seed (32 bytes)."""
    return hashlib.sha256(b"cipherkeep/crs/v1" + bits.to_bytes(4, "big")).digest()


def cache_folder() -> Path:
    """Where the string is kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "cipherkeep" / "crs"


def make(bits: int, *, cache: Path) -> Path:
    """A file with the string for lists of up to `bits` bits; made when missing, which takes 10 seconds or more."""
    path = durable.make_folder(cache) / f"crs-{tfhers.__version__}-{bits}.bin"
    if not path.exists():
        durable.write(path, tfhers.Crs.generate(bits, seed_of(bits)).to_bytes(), mode=0o644)
    return path
