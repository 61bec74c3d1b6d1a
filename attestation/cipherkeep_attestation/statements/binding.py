"""The only place that knows which ciphertext a handle means: coprocessors' bindings, and owners' grants.

Whoever chooses what is decrypted can read the key, so k of n coprocessors sign for every handle which bytes it stands
for. A binding names the handle's owner, so that grants can start from someone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import EvidenceError, Malformed, Refused, Untrusted
from cipherkeep_attestation.statements import eip712, fhevm
from cipherkeep_attestation.statements.eip712 import Domain
from cipherkeep_attestation.statements.governance import MAX_KEYS, Coprocessors

PACKED = 0  # the one format decrypted here: a safe-serialised CompressedCiphertextList with one element
MAX_CIPHERTEXT = 1 << 16  # bytes; a packed uint256 takes under 4 KiB

_TYPE = (
    "CiphertextBinding(uint256 chainId,address acl,bytes32 handle,bytes32 keyId,uint8 fheType,uint8 format,"
    "bytes32 digest,address owner)"
)


def ciphertext_digest(data: bytes) -> bytes:
    """SHA-256: how stores and bindings name a ciphertext."""
    return hashlib.sha256(data).digest()


@dataclass(frozen=True, slots=True)
class Ciphertext:
    """A handle, what it stands for, and the coprocessors' signatures over that."""

    handle: bytes
    fhe_type: int
    format: int
    digest: bytes
    owner: bytes
    signatures: tuple[bytes, ...]

    def struct_hash(self, key_id: bytes, domain: Domain) -> bytes:
        """Struct hash of the binding under the key's domain of bindings."""
        return eip712.struct_hash(
            _TYPE,
            eip712.uint(domain.chain_id),
            eip712.address(domain.verifying_contract),
            eip712.bytes32(self.handle),
            eip712.bytes32(key_id),
            eip712.uint(self.fhe_type),
            eip712.uint(self.format),
            eip712.bytes32(self.digest),
            eip712.address(self.owner),
        )

    def signed_digest(self, key_id: bytes, domain: Domain) -> bytes:
        """What each coprocessor signs (32 bytes)."""
        return domain.digest(self.struct_hash(key_id, domain))

    def to_map(self) -> dict[str, object]:
        """For requests."""
        return {
            "digest": self.digest,
            "format": self.format,
            "handle": self.handle,
            "owner": self.owner,
            "signatures": list(self.signatures),
            "type": self.fhe_type,
        }

    @classmethod
    def of_map(cls, value: object) -> Ciphertext:
        """Read what `to_map` makes."""
        found = cbor.fields(
            value,
            digest=cbor.raw(32),
            format=cbor.uint(255),
            handle=cbor.raw(32),
            owner=cbor.raw(20),
            signatures=cbor.sequence(cbor.raw(65), MAX_KEYS),
            type=cbor.uint(255),
        )
        return cls(
            found["handle"],
            found["type"],
            found["format"],
            found["digest"],
            found["owner"],
            found["signatures"],
        )


def verify_binding(ciphertext: Ciphertext, *, key_id: bytes, domain: Domain, coprocessors: Coprocessors | None) -> None:
    """Enough distinct coprocessors of the current set signed this binding; `EvidenceError` otherwise.

    Any signature that is not one of theirs refuses the whole: an honest requester has no reason to send it.
    """
    fhevm.type_name(ciphertext.fhe_type)
    if ciphertext.format != PACKED:
        raise Refused("binding.format", f"format {ciphertext.format}")
    if coprocessors is None:
        raise Refused("binding.no_coprocessors")
    if len(ciphertext.signatures) < coprocessors.threshold:
        raise Untrusted("binding.quorum", f"{len(ciphertext.signatures)} of {coprocessors.threshold}")
    digest = ciphertext.signed_digest(key_id, domain)
    seen: set[bytes] = set()
    for signature in ciphertext.signatures:
        signer = eip712.recover(digest, signature)
        if signer not in coprocessors.signers:
            raise Untrusted("binding.stranger", eip712.checksum(signer))
        if signer in seen:
            raise Untrusted("binding.duplicate", eip712.checksum(signer))
        seen.add(signer)


@dataclass(frozen=True, slots=True)
class Grant:
    """An owner lets a user decrypt one handle until a time (seconds since 1970)."""

    handle: bytes
    user: bytes
    valid_until: int
    signature: bytes

    def signed_digest(self, domain: Domain) -> bytes:
        """What the owner signs under the key's domain of bindings."""
        return domain.digest(
            eip712.struct_hash(
                "Grant(bytes32 handle,address user,uint256 validUntil)",
                eip712.bytes32(self.handle),
                eip712.address(self.user),
                eip712.uint(self.valid_until),
            )
        )

    def to_map(self) -> dict[str, object]:
        """For requests."""
        return {
            "handle": self.handle,
            "signature": self.signature,
            "user": self.user,
            "valid_until": self.valid_until,
        }

    @classmethod
    def of_map(cls, value: object) -> Grant:
        """Read what `to_map` makes."""
        return cls(
            **cbor.fields(
                value,
                handle=cbor.raw(32),
                signature=cbor.raw(65),
                user=cbor.raw(20),
                valid_until=cbor.uint(1 << 62),
            )
        )


def verify_grant(grants: Sequence[Grant], *, ciphertext: Ciphertext, user: bytes, domain: Domain, at: int) -> None:
    """The user owns the handle, or one of the grants is the owner's, for this handle and user, and valid at `at`."""
    if user == ciphertext.owner:
        return
    reason: EvidenceError = Refused("authorisation.not_granted", f"handle {ciphertext.handle.hex()}")
    for grant in grants:
        if grant.handle != ciphertext.handle or grant.user != user:
            continue
        if grant.valid_until < at:
            reason = Refused("authorisation.grant_expired", f"valid until {grant.valid_until}")
        elif eip712.recover(grant.signed_digest(domain), grant.signature) != ciphertext.owner:
            reason = Untrusted("authorisation.grant_stranger")
        else:
            return
    raise reason


def ciphertexts_of(value: Any, most: int) -> tuple[Ciphertext, ...]:
    """Read a request's list: 1 to `most` ciphertexts with distinct handles."""
    if type(value) is not list or not 1 <= len(value) <= most:
        raise Malformed("request.batch", f"1 to {most} ciphertexts")
    found = tuple(map(Ciphertext.of_map, value))
    if len({item.handle for item in found}) != len(found):
        raise Malformed("request.duplicate_handle")
    return found
