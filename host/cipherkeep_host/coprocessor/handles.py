"""The only place that computes handles: 32 bytes that name a ciphertext by where it comes from.

    input     keccak("ZK-w_hdl" ‖ keccak("ZK-w_rct" ‖ list) ‖ index ‖ acl ‖ chain id)[:21] ‖ index
    computed  keccak(operation ‖ operands ‖ 00 ‖ acl ‖ chain id)[:21] ‖ ff
    both then ‖ chain id (8 bytes) ‖ type ‖ version 0

Source: how today's client library and host contracts form handles.
"""

from __future__ import annotations

from collections.abc import Sequence

from cipherkeep_attestation.statements.eip712 import keccak256

COMPUTED = 0xFF
# Numbers of operations in the host contracts' executor.
OPERATIONS = {"add": 0, "sub": 1, "eq": 12, "ne": 13, "ge": 14, "gt": 15, "le": 16, "lt": 17, "select": 25}


def _tail(index: int, chain_id: int, fhe_type: int) -> bytes:
    return bytes((index,)) + chain_id.to_bytes(8, "big") + bytes((fhe_type, 0))


def list_hash(data: bytes) -> bytes:
    """What the handles of a proven list's values have in common (32 bytes)."""
    return keccak256(b"ZK-w_rct" + data)


def input_handle(hashed: bytes, index: int, fhe_type: int, *, acl: bytes, chain_id: int) -> bytes:
    """The handle of a value: its list's hash, its place (at most 254) and its type's number."""
    own = keccak256(b"ZK-w_hdl" + hashed + bytes((index,)) + acl + chain_id.to_bytes(32, "big"))
    return own[:21] + _tail(index, chain_id, fhe_type)


def computed_handle(operation: str, operands: Sequence[bytes], fhe_type: int, *, acl: bytes, chain_id: int) -> bytes:
    """The handle of a result: the same operation on the same operands is the same ciphertext."""
    packed = bytes((OPERATIONS[operation],)) + b"".join(operands) + b"\x00" + acl + chain_id.to_bytes(32, "big")
    return keccak256(packed)[:21] + _tail(COMPUTED, chain_id, fhe_type)


def metadata(*, contract: bytes, user: bytes, acl: bytes, chain_id: int) -> bytes:
    """What the proof of a list is made over (92 bytes): for whom, and where."""
    return contract + user + acl + chain_id.to_bytes(32, "big")
