"""The only place for the typed data that today's fhEVM contracts and clients read and write.

Sources: the structs of Zama's Decryption and KMSVerifier contracts (2025-2026); EIP-712.
"""

from __future__ import annotations

from collections.abc import Sequence

from cipherkeep_attestation.errors import Malformed
from cipherkeep_attestation.statements import eip712

# Numbers of fhEVM's types, in handles and answers; bits of the plaintext.
TYPES: dict[str, tuple[int, int]] = {
    "bool": (0, 1),
    "uint8": (2, 8),
    "uint16": (3, 16),
    "uint32": (4, 32),
    "uint64": (5, 64),
    "uint128": (6, 128),
    "uint160": (7, 160),
    "uint256": (8, 256),
}
TYPE_NAMES = {number: name for name, (number, _) in TYPES.items()}


def type_name(number: int) -> str:
    """The name of a type's number. `Malformed("binding.type")` for one that is not decrypted here."""
    try:
        return TYPE_NAMES[number]
    except KeyError:
        raise Malformed("binding.type", f"type {number}"[:40]) from None


def decrypted_result(values: Sequence[int]) -> bytes:
    """abi.encode of the values: every type here is one 32-byte word."""
    return b"".join(eip712.uint(value) for value in values)


def public_decryption(handles: Sequence[bytes], result: bytes, extra_data: bytes) -> bytes:
    """Struct hash of what a party signs for a public decryption. `extra_data` is empty for today's clients."""
    return eip712.struct_hash(
        "PublicDecryptVerification(bytes32[] ctHandles,bytes decryptedResult,bytes extraData)",
        eip712.array(map(eip712.bytes32, handles)),
        eip712.dynamic(result),
        eip712.dynamic(extra_data),
    )


def user_decryption_request(
    public_key: bytes, contracts: Sequence[bytes], *, start: int, days: int, extra_data: bytes
) -> bytes:
    """Struct hash of what a user signs: her key, the contracts, validity from `start` (seconds) for `days` days."""
    return eip712.struct_hash(
        "UserDecryptRequestVerification(bytes publicKey,address[] contractAddresses,uint256 startTimestamp,"
        "uint256 durationDays,bytes extraData)",
        eip712.dynamic(public_key),
        eip712.array(map(eip712.address, contracts)),
        eip712.uint(start),
        eip712.uint(days),
        eip712.dynamic(extra_data),
    )


def user_decryption_link(public_key: bytes, handles: Sequence[bytes], user: bytes) -> bytes:
    """Struct hash that ties an answer's ciphertexts to the user and her key."""
    return eip712.struct_hash(
        "UserDecryptionLinker(bytes publicKey,bytes32[] handles,address userAddress)",
        eip712.dynamic(public_key),
        eip712.array(map(eip712.bytes32, handles)),
        eip712.address(user),
    )


def answered_extra_data(asked: bytes) -> bytes:
    """The extra data that an answer to a user's request is signed over: today's clients ask with 00 and verify with
    nothing; anything else is repeated."""
    return b"" if asked == b"\x00" else asked


def user_decryption_response(public_key: bytes, handles: Sequence[bytes], payload: bytes, extra_data: bytes) -> bytes:
    """Struct hash of what a party signs for a user decryption."""
    return eip712.struct_hash(
        "UserDecryptResponseVerification(bytes publicKey,bytes32[] ctHandles,bytes userDecryptedShare,bytes extraData)",
        eip712.dynamic(public_key),
        eip712.array(map(eip712.bytes32, handles)),
        eip712.dynamic(payload),
        eip712.dynamic(extra_data),
    )


def key_generation(preparation: bytes, key_id: bytes, digests: Sequence[tuple[int, bytes]]) -> bytes:
    """Struct hash over a new key's public material: (kind, digest) pairs, kind 0 server key, 1 public key."""
    element = "KeyDigest(uint8 keyType,bytes digest)"
    return eip712.struct_hash(
        f"KeygenVerification(uint256 prepKeygenId,uint256 keyId,KeyDigest[] keyDigests){element}",
        eip712.bytes32(preparation),
        eip712.bytes32(key_id),
        eip712.array(
            eip712.struct_hash(element, eip712.uint(kind), eip712.dynamic(digest)) for kind, digest in digests
        ),
    )
