"""Governors that sign anything.

governance = SimulatedGovernance(roots=(platform.root().certificate_der,))
governance.admit("alpha", configuration.digest())           # the next statement, signed by two of three
governance.retire(key_id, signers=governance.keys[:1])      # k - 1
governance.retire(key_id, serial=7, instance="two")         # any other
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from cipherkeep_attestation.statements import governance
from cipherkeep_attestation.statements.configuration import Genesis
from cipherkeep_attestation.statements.governance import Coprocessors, Governors, KeyTerms, Release, Releases, Statement
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def ed25519(name: str) -> Ed25519PrivateKey:
    """The key of this name."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"ed25519 " + name.encode()).digest())


def public(key: Ed25519PrivateKey) -> bytes:
    """32 bytes."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


class SimulatedGovernance:
    """n keys of which k sign; `serial` is that of the last statement made with the next number."""

    def __init__(
        self,
        *,
        roots: tuple[bytes, ...] = (b"root",),
        instance: str = "one",
        n: int = 3,
        k: int = 2,
        answers: int = 1,
        expiry_blocks: int = 50,
        insecure_allow_all: bool = True,
    ) -> None:
        self.instance = instance
        self.keys = sorted((ed25519(f"governor {i}") for i in range(n)), key=public)
        self.k = k
        self.governors = Governors(tuple(map(public, self.keys)), k)
        self.genesis = Genesis(self.governors, roots, answers, expiry_blocks, insecure_allow_all)
        self.serial = 0

    def statement(
        self,
        kind: str,
        body: dict[str, Any],
        *,
        serial: int | None = None,
        signers: Sequence[Ed25519PrivateKey] | None = None,
        instance: str | None = None,
        genesis: bytes | None = None,
    ) -> bytes:
        """A signed statement, the next one unless `serial` says otherwise."""
        if serial is None:
            serial = self.serial = self.serial + 1
        made = Statement(instance or self.instance, genesis or self.genesis.digest(), serial, kind, body)
        return made.sign(self.keys[: self.k] if signers is None else signers)

    def admit(self, name: str, configuration: bytes = bytes(48), **how: Any) -> bytes:
        """Unless said, with a configuration that nobody has: whoever is to register must be admitted with its own."""
        return self.statement(governance.ADMIT_PARTY, {"configuration": configuration, "name": name}, **how)

    def set_coprocessors(self, coprocessors: Coprocessors, **how: Any) -> bytes:
        return self.statement(governance.SET_COPROCESSORS, coprocessors.to_map(), **how)

    def set_releases(self, *releases: Release, **how: Any) -> bytes:
        return self.statement(governance.SET_RELEASES, Releases(releases).to_map(), **how)

    def keygen(self, terms: KeyTerms, **how: Any) -> bytes:
        return self.statement(governance.KEYGEN, terms.to_map(), **how)

    def retire(self, key_id: bytes, **how: Any) -> bytes:
        return self.statement(governance.RETIRE_KEY, {"key_id": key_id}, **how)

    def lift(self, conflict: bytes, **how: Any) -> bytes:
        return self.statement(governance.LIFT_FREEZE, {"conflict": conflict}, **how)
