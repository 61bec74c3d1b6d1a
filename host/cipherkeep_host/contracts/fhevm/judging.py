"""The only place that compares an answer's core with what was asked, before it may count.

The enclave's word is taken for what only the enclave can know. Everything else is checked here, so that an answer that
becomes final is one that fhEVM's contracts and the users' clients accept.
"""

from __future__ import annotations

import hashlib
from typing import Any

from cipherkeep_attestation import cbor
from cipherkeep_attestation.statements import eip712, fhevm
from cipherkeep_attestation.statements.answer import MAX_RESULT, Core
from cipherkeep_attestation.statements.governance import KeyTerms
from cipherkeep_attestation.statements.material import GeneratedKey
from cipherkeep_attestation.statements.request import Keygen, PublicDecrypt, Request, UserDecrypt

from cipherkeep_host.contracts.interface import ContractRefusal

SCHEME = "eip712"
WORD = 32  # bytes


def judge_core(core: Core, asked: Request, *, terms: KeyTerms, signer: bytes) -> None:
    """The core answers what was asked, and `signer` (an address) signed the result. `ContractRefusal` otherwise.

    A refusal is judged by its id and operation alone: why a request is refused is the parties' to agree on.
    """
    if core.operation != asked.operation:
        raise ContractRefusal("fhevm.answer_operation", core.operation)
    if core.result is None:
        if core.signatures:
            raise ContractRefusal("fhevm.answer_signature", "a refusal carries none")
        return
    signature = cbor.fields(core.signatures, eip712=cbor.raw(eip712.SIGNATURE_LENGTH))[SCHEME]
    if isinstance(asked, Keygen):
        _same(core, core.id, ())
        struct = _keygen(core.id, core.result, asked, terms)
    else:
        _same(core, asked.key_id, tuple(item.digest for item in asked.ciphertexts))
        struct = _public(core.result, asked) if isinstance(asked, PublicDecrypt) else _user(core.result, asked)
    if eip712.recover(terms.decryption.digest(struct), signature) != signer:
        raise ContractRefusal("fhevm.answer_signature", "another signer")


def _same(core: Core, key_id: bytes, digests: tuple[bytes, ...]) -> None:
    if core.key_id != key_id:
        raise ContractRefusal("fhevm.answer_key")
    if core.digests != digests:
        raise ContractRefusal("fhevm.answer_ciphertexts")


def _keygen(key_id: bytes, result: dict[str, Any], asked: Keygen, terms: KeyTerms) -> bytes:
    found = GeneratedKey.of_map(result)
    if found.parameters != terms.parameters:
        raise ContractRefusal("fhevm.answer_parameters", found.parameters)
    return found.struct_hash(preparation=hashlib.sha256(asked.statement).digest(), key_id=key_id)


def _public(result: dict[str, Any], asked: PublicDecrypt) -> bytes:
    words: bytes = cbor.fields(result, decrypted=cbor.raw(WORD * len(asked.ciphertexts)))["decrypted"]
    for place, item in enumerate(asked.ciphertexts):
        bits = fhevm.TYPES[fhevm.type_name(item.fhe_type)][1]
        if int.from_bytes(words[WORD * place : WORD * (place + 1)], "big") >> bits:
            raise ContractRefusal("fhevm.answer_value", f"value {place} has more than {bits} bits")
    return fhevm.public_decryption([item.handle for item in asked.ciphertexts], words, asked.extra_data)


def _user(result: dict[str, Any], asked: UserDecrypt) -> bytes:
    payload: bytes = cbor.fields(result, payload=cbor.raw(1, MAX_RESULT))["payload"]
    return fhevm.user_decryption_response(
        asked.public_key,
        [item.handle for item in asked.ciphertexts],
        payload,
        fhevm.answered_extra_data(asked.extra_data),
    )
