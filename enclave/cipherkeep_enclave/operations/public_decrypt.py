"""The only place for public decryption: plaintexts for everyone, signed as fhEVM's contracts verify it."""

from __future__ import annotations

from collections.abc import Sequence

from cipherkeep_attestation.statements import fhevm
from cipherkeep_attestation.statements.answer import Core
from cipherkeep_attestation.statements.request import PUBLIC_DECRYPT, PublicDecrypt

from cipherkeep_enclave.operations import opening
from cipherkeep_enclave.operations.setting import Setting


def public_decrypt(
    request: PublicDecrypt, ciphertexts: Sequence[bytes], *, request_id: bytes, setting: Setting
) -> Core:
    """The core of a public decryption. Deterministic: the plaintexts, and an RFC 6979 signature."""
    opening.check_bytes(request, ciphertexts)
    held = opening.permitted_key(request, setting)
    values = [value for _, value in opening.opened(held, request, ciphertexts)]
    decrypted = fhevm.decrypted_result(values)
    handles = [item.handle for item in request.ciphertexts]
    struct = fhevm.public_decryption(handles, decrypted, request.extra_data)
    signature = setting.vault.identity.sign_typed(held.record.terms.decryption.digest(struct))
    return Core(
        id=request_id,
        operation=PUBLIC_DECRYPT,
        key_id=request.key_id,
        digests=tuple(item.digest for item in request.ciphertexts),
        refusal=None,
        result={"decrypted": decrypted},
        signatures={"eip712": signature},
    )
