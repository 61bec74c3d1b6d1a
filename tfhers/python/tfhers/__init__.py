"""Python bindings of TFHE-rs 1.7.0, with direct decryption of packed ciphertext lists.

Everything public is here. Secrets are opaque handles that are wiped when they go; ciphertexts and public keys are
bytes in TFHE-rs' own serialisation (`safe_serialize`), so that its other users can read and write them.
"""

from __future__ import annotations

from dataclasses import dataclass

from tfhers._tfhers import (
    PARAMETERS,
    Ciphertext,
    ClientKey,
    Crs,
    FormatError,
    KeySet,
    ProofError,
    PublicKey,
    Seed,
    ServerKey,
    TfheError,
    _types,
    add,
    add_scalar,
    compress,
    eq,
    eq_scalar,
    expand,
    ge,
    ge_scalar,
    gt,
    gt_scalar,
    le,
    le_scalar,
    lt,
    lt_scalar,
    ml_kem_512_decapsulate,
    ml_kem_512_encapsulate,
    ml_kem_512_keypair,
    ne,
    ne_scalar,
    packed_types,
    select,
    sub,
    sub_scalar,
    trivial,
    verify,
    verify_and_expand,
)

__version__ = "0.1.0"


@dataclass(frozen=True, slots=True)
class TypeInfo:
    """An encrypted type: its name here, its number in fhEVM, plaintext bits, and the 2-bit blocks it is made of."""

    name: str
    fhe_type: int
    bits: int
    blocks: int


TYPES: dict[str, TypeInfo] = {row[0]: TypeInfo(*row) for row in _types()}

__all__ = [
    "PARAMETERS",
    "TYPES",
    "Ciphertext",
    "ClientKey",
    "Crs",
    "FormatError",
    "KeySet",
    "ProofError",
    "PublicKey",
    "Seed",
    "ServerKey",
    "TfheError",
    "TypeInfo",
    "add",
    "add_scalar",
    "compress",
    "eq",
    "eq_scalar",
    "expand",
    "ge",
    "ge_scalar",
    "gt",
    "gt_scalar",
    "le",
    "le_scalar",
    "lt",
    "lt_scalar",
    "ml_kem_512_decapsulate",
    "ml_kem_512_encapsulate",
    "ml_kem_512_keypair",
    "ne",
    "ne_scalar",
    "packed_types",
    "select",
    "sub",
    "sub_scalar",
    "trivial",
    "verify",
    "verify_and_expand",
]
