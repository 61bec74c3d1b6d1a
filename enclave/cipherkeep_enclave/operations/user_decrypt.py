"""The only place for user decryption: plaintexts for one user's own key."""

from __future__ import annotations

from collections.abc import Sequence

from cipherkeep_attestation.statements import fhevm
from cipherkeep_attestation.statements.answer import Core
from cipherkeep_attestation.statements.request import USER_DECRYPT, UserDecrypt

from cipherkeep_enclave.operations import opening
from cipherkeep_enclave.operations import signcryption as form
from cipherkeep_enclave.operations.setting import RefusedRequest, Setting

_CENTRAL_DEGREE = 0


def user_decrypt(request: UserDecrypt, ciphertexts: Sequence[bytes], *, request_id: bytes, setting: Setting) -> Core:
    """The core of a user decryption. Its randomness follows from the vault's secret, the request and the digests."""
    opening.check_bytes(request, ciphertexts)
    held = opening.permitted_key(request, setting)
    try:
        recipient = form.Recipient.of(request.user, request.public_key)
    except form.WrongPublicKeyError:
        raise RefusedRequest("user.public_key") from None
    domain = held.record.terms.decryption
    handles = [item.handle for item in request.ciphertexts]
    digests = tuple(item.digest for item in request.ciphertexts)
    link = domain.digest(fhevm.user_decryption_link(request.public_key, handles, request.user))
    identity = setting.vault.identity
    verification = form.verification_key(identity.signing_key)
    entries = []
    values = opening.opened(held, request, ciphertexts)
    for index, (named, (type_name, value)) in enumerate(zip(request.ciphertexts, values, strict=True)):
        # The link is in it: the id fixes user, key and handles already, and a nonce must never meet another message.
        randomness = identity.randomness(request_id, USER_DECRYPT, index, link, *digests, length=32 + form.NONCE_BYTES)
        try:
            sealed = form.signcrypt(
                form.plaintext_bytes(type_name, value),
                named.fhe_type,
                link=link,
                recipient=recipient,
                key=identity.signing,
                verification=verification,
                randomness=randomness,
            )
        except form.WrongPublicKeyError:
            raise RefusedRequest("user.public_key") from None
        entries.append((named.fhe_type, sealed, named.handle))
    payload = form.payload(entries, link=link, verification=verification, party=setting.party, degree=_CENTRAL_DEGREE)
    answered = fhevm.answered_extra_data(request.extra_data)
    struct = fhevm.user_decryption_response(request.public_key, handles, payload, answered)
    return Core(
        id=request_id,
        operation=USER_DECRYPT,
        key_id=request.key_id,
        digests=digests,
        refusal=None,
        result={"payload": payload},
        signatures={"eip712": identity.sign_typed(domain.digest(struct))},
    )
