"""The key set of these tests, made once for each build of the bindings. Its seed is public."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tfhers._tfhers

import tfhers

SEED = b"insecure test seed of the tfhers"
TAG = b"insecure test key"
OTHER_SEED = b"insecure test seed of a stranger"


@dataclass(frozen=True, slots=True)
class Keys:
    """A key set, loaded, and the files its public parts lie in."""

    client: tfhers.ClientKey
    public: tfhers.PublicKey
    server: tfhers.ServerKey
    crs: tfhers.Crs
    public_file: Path
    server_file: Path
    crs_file: Path

    def packed(self, *values: tuple[str, int]) -> bytes:
        """A packed list made quickly, without the detour through a compact list."""
        return self.client.insecure_symmetric_packed(list(values), self.server)


def cache_folder() -> Path:
    """The folder of this build of the bindings; those of older builds are removed."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(Path(str(tfhers._tfhers.__file__)).read_bytes()).hexdigest()[:16]
    parent = home / "cipherkeep" / "testkeys"
    parent.mkdir(parents=True, exist_ok=True)
    for stale in parent.glob("tfhers-*"):
        if stale.is_dir() and stale.name != f"tfhers-{digest}":
            shutil.rmtree(stale, ignore_errors=True)
    folder = parent / f"tfhers-{digest}"
    folder.mkdir(exist_ok=True)
    return folder


def cached(path: Path, make: Callable[[], bytes]) -> bytes:
    if not path.exists():
        fresh = path.with_suffix(".new")
        fresh.write_bytes(make())
        fresh.replace(path)
    return path.read_bytes()


def load_keys() -> Keys:
    """Load the cached key set, or make and cache it: about 20 seconds. Safe to call from several processes."""
    client = tfhers.ClientKey.from_seed(SEED, tag=TAG)
    with (cache_folder().parent / "tfhers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = cache_folder()
        files = [folder / f"insecure_test_{part}.bin" for part in ("public_key", "server_key", "crs")]
        public = cached(files[0], client.compact_public_key)
        server = cached(files[1], client.compressed_server_key)
        crs = cached(files[2], lambda: tfhers.Crs.generate(2048, SEED).to_bytes())
    return Keys(
        client,
        tfhers.PublicKey.from_bytes(public),
        tfhers.ServerKey.load(server),
        tfhers.Crs.from_bytes(crs, sha256=hashlib.sha256(crs).digest()),
        *files,
    )
