"""The only place that decides whether a request may be answered: called by the contract and again by the enclave.

The contract's check protects queues and fees; the enclave's protects secrets. Both are this function.
"""

from __future__ import annotations

from cipherkeep_attestation.errors import Refused, Stale, Untrusted
from cipherkeep_attestation.statements import eip712, fhevm
from cipherkeep_attestation.statements.binding import verify_binding, verify_grant
from cipherkeep_attestation.statements.governance import (
    GRANTED_USERS,
    INSECURE_ALLOW_ALL,
    Coprocessors,
    KeyTerms,
)
from cipherkeep_attestation.statements.request import PublicDecrypt, UserDecrypt

DAY = 86_400  # seconds


def authorise(
    request: PublicDecrypt | UserDecrypt,
    *,
    terms: KeyTerms,
    coprocessors: Coprocessors | None,
    at: int,
    insecure_allow_all: bool,
) -> None:
    """The request may be answered at `at` (seconds since 1970, the head's or block's time); `EvidenceError` otherwise.

    Bindings are judged first: nothing is authorised for a ciphertext that coprocessors do not vouch for.
    """
    for ciphertext in request.ciphertexts:
        verify_binding(ciphertext, key_id=request.key_id, domain=terms.bindings(), coprocessors=coprocessors)
    if isinstance(request, PublicDecrypt):
        if terms.public_decrypt != INSECURE_ALLOW_ALL or not insecure_allow_all:
            raise Refused("authorisation.allow_all")
        return
    if terms.user_decrypt != GRANTED_USERS:
        raise Refused("authorisation.authoriser")
    _check_user(request, terms, at)
    for ciphertext in request.ciphertexts:
        verify_grant(request.grants, ciphertext=ciphertext, user=request.user, domain=terms.bindings(), at=at)


def _check_user(request: UserDecrypt, terms: KeyTerms, at: int) -> None:
    if at < request.start:
        raise Stale("authorisation.not_yet", f"starts at {request.start}")
    if at >= request.start + request.days * DAY:
        raise Stale("authorisation.expired", f"{request.days} days from {request.start}")
    struct = fhevm.user_decryption_request(
        request.public_key,
        request.contracts,
        start=request.start,
        days=request.days,
        extra_data=request.extra_data,
    )
    if eip712.recover(terms.user_requests().digest(struct), request.signature) != request.user:
        raise Untrusted("authorisation.user_signature")
    if request.user in request.contracts:
        raise Refused("authorisation.user_is_contract")
