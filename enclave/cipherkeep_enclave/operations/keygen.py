"""The only place for key generation: what governance asked for, sealed with its terms, its public material measured.

The key's seed follows from the vault's secret and the key's id, so that a generation that was cut off gives the same
key when it is asked for again.
"""

from __future__ import annotations

import hashlib

from cipherkeep_attestation.statements.answer import Core
from cipherkeep_attestation.statements.governance import INSECURE_ALLOW_ALL, KeyTerms
from cipherkeep_attestation.statements.material import GeneratedKey
from cipherkeep_attestation.statements.request import KEYGEN, Keygen

from cipherkeep_enclave.engine import MaterialFolder
from cipherkeep_enclave.engine import keys as engine
from cipherkeep_enclave.operations.setting import RefusedRequest, Setting
from cipherkeep_enclave.vault import KeyRecord, Vault

_TEST_PARAMETERS = "insecure_test_"  # names of parameter sets that are fast and weak begin like this


def keygen_terms(request: Keygen, *, request_id: bytes, setting: Setting, most: int) -> KeyTerms:
    """The terms under which a key may be made for this request. `RefusedRequest` otherwise.

    The statement must be one of those that the control leaf stands for: its signatures were verified with them.
    """
    digest = hashlib.sha256(request.statement).digest()
    terms = setting.view.decisions.keygens.get(digest)
    if terms is None:
        raise RefusedRequest("request.statement")
    for key_id in setting.vault.keys:
        held = setting.vault.key(key_id)
        if held is not None and held.record.statement == digest and key_id != request_id:
            raise RefusedRequest("request.statement")
    insecure = setting.configuration.insecure
    if terms.public_decrypt == INSECURE_ALLOW_ALL and "insecure_allow_all" not in insecure:
        raise RefusedRequest("key.authoriser")
    weak = terms.parameters.startswith(_TEST_PARAMETERS) and "insecure_test_parameters" not in insecure
    full = len(setting.vault.keys) >= most and setting.vault.key(request_id) is None
    if weak or full or not engine.known_parameters(terms.parameters):
        raise RefusedRequest("key.parameters")
    return terms


def generate(
    request: Keygen, terms: KeyTerms, *, request_id: bytes, setting: Setting, material: MaterialFolder
) -> KeyRecord:
    """The record of the key, and its public material in the folder. Takes seconds; changes nothing else."""
    seed = setting.vault.seed(request_id)
    parts = material.write(request_id, engine.public_material(seed, terms.parameters))
    return KeyRecord(
        key_id=request_id,
        instance=setting.configuration.instance,
        genesis=setting.genesis,
        statement=hashlib.sha256(request.statement).digest(),
        terms=terms,
        material=parts,
    )


def core(record: KeyRecord, vault: Vault) -> Core:
    """The core that announces a key: parameters, fingerprints, and the signature over fhEVM's typed data.

    `prepKeygenId` is the SHA-256 of the governance statement: what prepared this key.
    """
    made = GeneratedKey(record.terms.parameters, record.material)
    struct = made.struct_hash(preparation=record.statement, key_id=record.key_id)
    return Core(
        id=record.key_id,
        operation=KEYGEN,
        key_id=record.key_id,
        digests=(),
        refusal=None,
        result=made.to_map(),
        signatures={"eip712": vault.identity.sign_typed(record.terms.decryption.digest(struct))},
    )
