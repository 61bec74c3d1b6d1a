"""The only place for the coprocessor's signing key: a file, and signatures over bindings."""

from __future__ import annotations

import re
from pathlib import Path

import coincurve
from cipherkeep_attestation.statements import eip712
from cipherkeep_attestation.statements.binding import Ciphertext
from cipherkeep_attestation.statements.eip712 import Domain

from cipherkeep_host import durable
from cipherkeep_host.errors import HostError


class Signer:
    """A secp256k1 key that vouches for handles. Its `repr` shows its address only."""

    def __init__(self, key: coincurve.PrivateKey) -> None:
        self._key = key
        self.address = eip712.address_of(key.public_key.format(compressed=False))

    def __repr__(self) -> str:
        return f"<Signer {eip712.checksum(self.address)}>"

    def sign(self, ciphertext: Ciphertext, *, key_id: bytes, domain: Domain) -> bytes:
        """The signature (65 bytes) over the binding of a handle."""
        return eip712.sign(ciphertext.signed_digest(key_id, domain), self._key)


def make_key_file(path: Path) -> Signer:
    """A new key in a new file (hex, mode 0600). `HostError("coprocessor.key_file")` where there is a file."""
    key = coincurve.PrivateKey()
    durable.make_folder(path.parent)
    if not durable.create(path, key.secret.hex().encode() + b"\n"):
        raise HostError("coprocessor.key_file", f"{path} exists")
    return Signer(key)


def load_key_file(path: Path) -> Signer:
    """The key in a file. `HostError("coprocessor.key_file")` unless it is one and nobody else may read it."""
    try:
        mode = path.stat().st_mode
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise HostError("coprocessor.key_file", f"{path} cannot be read") from None
    if mode & 0o077:
        raise HostError("coprocessor.key_file", f"{path} has mode {mode & 0o777:04o}")
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise HostError("coprocessor.key_file", f"{path} is not 64 hexadecimal digits")
    try:
        return Signer(coincurve.PrivateKey(bytes.fromhex(text)))
    except ValueError:
        raise HostError("coprocessor.key_file", f"{path} is no key of this curve") from None
