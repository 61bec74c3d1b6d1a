"""The only place for files that hold one secret key: 64 hexadecimal digits, mode 0600, made once, never overwritten.

Keys of roles outside of the enclave only: senders, governors and users of a laptop, coprocessors. What a file holds
never shows in a refusal.
"""

from __future__ import annotations

import re
from pathlib import Path

import coincurve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cipherkeep_host import durable
from cipherkeep_host.errors import HostError

MODE = 0o600
_MAX_FILE = 128  # bytes; 64 digits and a line's end
_CODE = "process.key_file"


def make_ed25519(path: Path) -> Ed25519PrivateKey:
    """A new key in a new file. `HostError("process.key_file")` where there is a file."""
    key = Ed25519PrivateKey.generate()
    _write(path, key.private_bytes_raw())
    return key


def load_ed25519(path: Path) -> Ed25519PrivateKey:
    """The key in a file. `HostError("process.key_file")` unless it is one and nobody else may read it."""
    return Ed25519PrivateKey.from_private_bytes(_read(path))


def ensure_ed25519(path: Path) -> Ed25519PrivateKey:
    """The key in a file, which is made when it is missing."""
    return load_ed25519(path) if path.exists() else make_ed25519(path)


def make_secp256k1(path: Path) -> coincurve.PrivateKey:
    """A new key in a new file. `HostError("process.key_file")` where there is a file."""
    key = coincurve.PrivateKey()
    _write(path, key.secret)
    return key


def load_secp256k1(path: Path) -> coincurve.PrivateKey:
    """The key in a file. `HostError("process.key_file")` unless it is one and nobody else may read it."""
    secret = _read(path)
    try:
        return coincurve.PrivateKey(secret)
    except ValueError:
        raise HostError(_CODE, f"{path} is no key of this curve") from None


def ensure_secp256k1(path: Path) -> coincurve.PrivateKey:
    """The key in a file, which is made when it is missing."""
    return load_secp256k1(path) if path.exists() else make_secp256k1(path)


def _write(path: Path, secret: bytes) -> None:
    durable.make_folder(path.parent)
    if not durable.create(path, secret.hex().encode() + b"\n", mode=MODE):
        raise HostError(_CODE, f"{path} exists")


def _read(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode & 0o777
        with path.open("rb") as file:
            text = file.read(_MAX_FILE + 1)
    except OSError:
        raise HostError(_CODE, f"{path} cannot be read") from None
    if mode & ~MODE:
        raise HostError(_CODE, f"{path} has mode {mode:04o}")
    if len(text) > _MAX_FILE or not re.fullmatch(rb"[0-9a-f]{64}", text.strip()):
        raise HostError(_CODE, f"{path} is not 64 hexadecimal digits")
    return bytes.fromhex(text.strip().decode())
