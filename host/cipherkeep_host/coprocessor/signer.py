"""The only place that signs bindings: the coprocessor's key behind one verb."""

from __future__ import annotations

from pathlib import Path

import coincurve
from cipherkeep_attestation.statements import eip712
from cipherkeep_attestation.statements.binding import Ciphertext
from cipherkeep_attestation.statements.eip712 import Domain

from cipherkeep_host import key_files


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


def load_key_file(path: Path) -> Signer:
    """The signer whose key is in a file; see `key_files` for what is refused."""
    return Signer(key_files.load_secp256k1(path))
