"""The only place that calls the FHE library: secret keys from seeds, public material, and packed ciphertexts opened."""

from __future__ import annotations

from collections.abc import Iterator

from cipherkeep_attestation.statements.material import PUBLIC_KEY, SERVER_KEY

import tfhers


class NotPackedError(Exception):
    """A ciphertext is not a packed list with exactly one element in the expected layout."""


class WrongTypeError(Exception):
    """A ciphertext holds another type than was said."""


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
    """The public material of a seed's key: all `KINDS` in their order; the same seed gives the same bytes.

    Takes seconds and holds one part at a time (the server key: 50 MB).
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
