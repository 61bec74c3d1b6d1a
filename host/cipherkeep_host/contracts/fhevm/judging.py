"""The only place that compares an answer's core with what was asked, before it may count.

The enclave's word is taken for what only the enclave can know. Everything else is checked here, so that an answer that
becomes final is one that fhEVM's contracts and the users' clients accept.
"""

from __future__ import annotations

from typing import Any

from cipherkeep_attestation import cbor
from cipherkeep_attestation.statements import eip712, fhevm
from cipherkeep_attestation.statements.answer import MAX_RESULT, Core
from cipherkeep_attestation.statements.governance import KeyTerms
from cipherkeep_attestation.statements.request import Keygen, PublicDecrypt, Request, UserDecrypt

from cipherkeep_host.contracts.interface import ContractRefusal

SCHEME = "eip712"
MAX_MATERIAL = 8  # objects of public material of one key
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
        _keygen(core.result, terms)
        return
    _same(core, asked.key_id, tuple(item.digest for item in asked.ciphertexts))
    struct = _public(core.result, asked) if isinstance(asked, PublicDecrypt) else _user(core.result, asked)
    if eip712.recover(terms.decryption.digest(struct), signature) != signer:
        raise ContractRefusal("fhevm.answer_signature", "another signer")


def _same(core: Core, key_id: bytes, digests: tuple[bytes, ...]) -> None:
    if core.key_id != key_id:
        raise ContractRefusal("fhevm.answer_key")
    if core.digests != digests:
        raise ContractRefusal("fhevm.answer_ciphertexts")


def _keygen(result: dict[str, Any], terms: KeyTerms) -> None:
    """The typed data is over digests of another kind than SHA-256, which only the material gives: not checked here."""
    found = cbor.fields(result, material=cbor.sequence(cbor.anything, MAX_MATERIAL, least=1), parameters=cbor.text(96))
    if found["parameters"] != terms.parameters:
        raise ContractRefusal("fhevm.answer_parameters", found["parameters"])
    kinds = []
    for row in found["material"]:
        if type(row) is not list or len(row) != 3:
            raise ContractRefusal("fhevm.answer_material", "material is [kind, digest, size]")
        named = {"kind": row[0], "digest": row[1], "size": row[2]}
        kinds.append(
            cbor.fields(named, kind=cbor.text(32), digest=cbor.raw(32), size=cbor.uint(1 << 40, least=1))["kind"]
        )
    if len(set(kinds)) != len(kinds):
        raise ContractRefusal("fhevm.answer_material", "a kind twice")


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
