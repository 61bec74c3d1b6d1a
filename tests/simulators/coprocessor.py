"""Coprocessors that bind any bytes to any handle, and users who sign any request and grant.

coprocessors = SimulatedCoprocessors()
ciphertext = coprocessors.bind(b"\\1" * 32, b"bytes", key_id=key_id, terms=terms, owner=alice.address)
coprocessors.bind(…, signers=coprocessors.keys[:1])                    # k - 1
coprocessors.bind(…, signers=[secp256k1("stranger"), …])               # foreign
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import coincurve
from cipherkeep_attestation.statements import eip712, fhevm
from cipherkeep_attestation.statements.binding import PACKED, Ciphertext, Grant, ciphertext_digest
from cipherkeep_attestation.statements.governance import GRANTED_USERS, INSECURE_ALLOW_ALL, Coprocessors, KeyTerms
from cipherkeep_attestation.statements.request import UserDecrypt

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

TERMS = KeyTerms(
    "insecure_test",
    INSECURE_ALLOW_ALL,
    GRANTED_USERS,
    31337,
    b"\xac" * 20,
    eip712.Domain("Decryption", "1", 10901, b"\xdc" * 20),
)


def secp256k1(name: str) -> coincurve.PrivateKey:
    """The key of this name."""
    return coincurve.PrivateKey(hashlib.sha256(b"secp256k1 " + name.encode()).digest())


def address(key: coincurve.PrivateKey) -> bytes:
    """Its Ethereum address."""
    return eip712.address_of(key.public_key.format(compressed=False))


def high_s(signature: bytes) -> bytes:
    """The other signature that recovers to the same address: s in the upper half, the other v."""
    s = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])


class SimulatedCoprocessors:
    """n signers of bindings, of whom k must agree."""

    def __init__(self, n: int = 3, k: int = 2, name: str = "coprocessor") -> None:
        self.keys = [secp256k1(f"{name} {i}") for i in range(n)]
        self.k = k
        self.policy = Coprocessors(tuple(map(address, self.keys)), k)

    def bind(
        self,
        handle: bytes,
        data: bytes = b"ciphertext",
        *,
        key_id: bytes,
        owner: bytes,
        terms: KeyTerms = TERMS,
        fhe_type: int = 5,
        form: int = PACKED,
        signers: Sequence[coincurve.PrivateKey] | None = None,
    ) -> Ciphertext:
        """A bound ciphertext; k sign unless `signers` says otherwise."""
        bare = Ciphertext(handle, fhe_type, form, ciphertext_digest(data), owner, ())
        return self.sign(bare, key_id=key_id, terms=terms, signers=signers)

    def sign(
        self,
        ciphertext: Ciphertext,
        *,
        key_id: bytes,
        terms: KeyTerms = TERMS,
        signers: Sequence[coincurve.PrivateKey] | None = None,
    ) -> Ciphertext:
        """The same ciphertext with new signatures."""
        digest = ciphertext.signed_digest(key_id, terms.bindings())
        keys = self.keys[: self.k] if signers is None else signers
        return replace(ciphertext, signatures=tuple(eip712.sign(digest, key) for key in keys))


class SimulatedUser:
    """Someone with an Ethereum key."""

    def __init__(self, name: str) -> None:
        self.key = secp256k1(f"user {name}")
        self.address = address(self.key)

    def grant(self, handle: bytes, user: bytes, *, valid_until: int, terms: KeyTerms = TERMS) -> Grant:
        """Leave to decrypt a handle, whoever owns it."""
        bare = Grant(handle, user, valid_until, bytes(65))
        return replace(bare, signature=eip712.sign(bare.signed_digest(terms.bindings()), self.key))

    def request(
        self, key_id: bytes, *ciphertexts: Ciphertext, start: int, terms: KeyTerms = TERMS, **other: Any
    ) -> UserDecrypt:
        """A signed request for these ciphertexts; `other` replaces fields before it is signed."""
        bare = UserDecrypt(
            key_id, ciphertexts, self.address, b"public key", (b"\xcc" * 20,), start, 7, b"\x00", bytes(65), ()
        )
        return self.sign(replace(bare, **other), terms)

    def sign(self, asked: UserDecrypt, terms: KeyTerms = TERMS) -> UserDecrypt:
        """The same request with this user's signature."""
        struct = fhevm.user_decryption_request(
            asked.public_key, asked.contracts, start=asked.start, days=asked.days, extra_data=asked.extra_data
        )
        return replace(asked, signature=eip712.sign(terms.user_requests().digest(struct), self.key))
