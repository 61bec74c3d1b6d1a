"""The only place that decides whether ciphertexts are opened, and opens them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from cipherkeep_attestation.errors import EvidenceError, Malformed
from cipherkeep_attestation.statements import fhevm
from cipherkeep_attestation.statements.authorisation import authorise
from cipherkeep_attestation.statements.binding import MAX_CIPHERTEXT
from cipherkeep_attestation.statements.request import PublicDecrypt, UserDecrypt

from cipherkeep_enclave.engine import NotPackedError, WrongTypeError, open_packed
from cipherkeep_enclave.operations.setting import RefusedRequest, Setting
from cipherkeep_enclave.vault.vault import HeldKey


def check_bytes(request: PublicDecrypt | UserDecrypt, ciphertexts: Sequence[bytes]) -> None:
    """The host handed over exactly the ciphertexts that the request names; `Malformed` otherwise, which is no vote."""
    if len(ciphertexts) != len(request.ciphertexts):
        raise Malformed("ledger.ciphertexts", f"{len(ciphertexts)} of {len(request.ciphertexts)}")
    for named, data in zip(request.ciphertexts, ciphertexts, strict=True):
        if hashlib.sha256(data).digest() != named.digest:
            raise Malformed("binding.digest", f"handle {named.handle.hex()}")


def permitted_key(request: PublicDecrypt | UserDecrypt, setting: Setting) -> HeldKey:
    """The key, when this request may have it used now. `RefusedRequest` otherwise."""
    held = setting.vault.key(request.key_id)
    if held is None:
        raise RefusedRequest("key.unknown")
    configuration = setting.configuration
    if held.record.instance != configuration.instance or held.record.genesis != setting.genesis:
        raise RefusedRequest("key.other_instance")
    if request.key_id in setting.view.decisions.retired:
        raise RefusedRequest("key.retired")
    try:
        authorise(
            request,
            terms=held.record.terms,
            coprocessors=setting.view.decisions.coprocessors,
            at=setting.view.time,
            insecure_allow_all="insecure_allow_all" in configuration.insecure,
        )
    except EvidenceError as error:
        raise RefusedRequest(_code(error.code)) from None
    return held


def _code(code: str) -> str:
    """Which vote a rule of authorisation stands for."""
    if code in ("authorisation.not_yet", "authorisation.expired"):
        return "request.freshness"
    return "binding" if code.startswith("binding.") else "authorisation"


def opened(held: HeldKey, request: PublicDecrypt | UserDecrypt, ciphertexts: Sequence[bytes]) -> list[tuple[str, int]]:
    """(type, plaintext) of every ciphertext. `RefusedRequest` when one of them cannot be opened: all or nothing."""
    values = []
    for named, data in zip(request.ciphertexts, ciphertexts, strict=True):
        if len(data) > MAX_CIPHERTEXT:
            raise RefusedRequest("ciphertext.format")
        expected = fhevm.type_name(named.fhe_type)
        try:
            values.append((expected, open_packed(held.secret, data, expected)))
        except NotPackedError:
            raise RefusedRequest("ciphertext.format") from None
        except WrongTypeError:
            raise RefusedRequest("ciphertext.type") from None
    return values
