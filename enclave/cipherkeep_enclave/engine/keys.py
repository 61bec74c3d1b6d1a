"""The only place that calls the FHE library: secret keys from seeds, public material, and packed ciphertexts opened."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import tfhers

PUBLIC_KEY, SERVER_KEY = "public_key", "server_key"
MATERIAL = (PUBLIC_KEY, SERVER_KEY)
TYPED_DATA_KINDS = {SERVER_KEY: 0, PUBLIC_KEY: 1}  # KeyDigest.keyType of fhEVM's typed data
_SEPARATOR = b"PDAT_KEY"  # of fhEVM's digests over public keys (SHAKE-256, 32 bytes)


class NotPackedError(Exception):
    """A ciphertext is not a packed list with exactly one element in the expected layout."""


class WrongTypeError(Exception):
    """A ciphertext holds another type than was said."""


@dataclass(frozen=True, slots=True)
class Material:
    """One part of a key's public material: its fingerprints and its size in bytes."""

    kind: str
    sha256: bytes
    size: int
    shake256: bytes  # as fhEVM's typed data names it

    @classmethod
    def of(cls, kind: str, data: bytes) -> Material:
        """Measure public material."""
        return cls(kind, hashlib.sha256(data).digest(), len(data), hashlib.shake_256(_SEPARATOR + data).digest(32))


def known_parameters(name: str) -> bool:
    """Whether keys of these parameters can be made."""
    return name in tfhers.PARAMETERS


def seed(secret: bytes, *, salt: bytes, info: bytes) -> tfhers.Seed:
    """A seed by HKDF-SHA256, which never becomes a Python object that can be read."""
    return tfhers.Seed.hkdf(secret, salt, info)


def secret_key(seed: tfhers.Seed, parameters: str) -> tfhers.ClientKey:
    """The secret key that a seed stands for. The same seed gives the same key."""
    return tfhers.ClientKey.from_seed(seed, parameters=parameters)


def public_material(seed: tfhers.Seed, parameters: str) -> Iterator[tuple[str, bytes]]:
    """The public material of a seed's key, by kind; takes seconds and holds one part at a time (the server key: 50 MB).

    The same seed gives the same bytes.
    """
    key_set = tfhers.KeySet.from_seed(seed, parameters=parameters)
    yield PUBLIC_KEY, key_set.compact_public_key()
    yield SERVER_KEY, key_set.compressed_server_key()


def open_packed(key: tfhers.ClientKey, data: bytes, expected: str) -> int:
    """The plaintext of a packed list with one element of type `expected`.

    `NotPackedError`, `WrongTypeError`: what the bytes are, decided without the secret key.
    """
    try:
        types = tfhers.packed_types(data)
    except tfhers.TfheError:
        raise NotPackedError from None
    if len(types) != 1:
        raise NotPackedError
    if types[0] != expected:
        raise WrongTypeError
    try:
        return key.decrypt_packed(data, expected=expected)[1]
    except tfhers.TfheError:
        raise NotPackedError from None
