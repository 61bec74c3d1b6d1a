"""The only place that turns a proven request into a core, and a core into a signed answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from cipherkeep_attestation.errors import EvidenceError, Malformed
from cipherkeep_attestation.statements import request as requests
from cipherkeep_attestation.statements.answer import Answer, Context, Core, answer_hash
from cipherkeep_attestation.statements.layout import InboxEntry
from cipherkeep_attestation.statements.request import Keygen, PublicDecrypt, Request, UserDecrypt

from cipherkeep_enclave.operations.public_decrypt import public_decrypt
from cipherkeep_enclave.operations.setting import RefusedRequest, Setting, refusal
from cipherkeep_enclave.operations.user_decrypt import user_decrypt

UNREADABLE = "unknown"  # the operation of a request whose bytes are none


def read(entry: InboxEntry, body: bytes) -> Request | None:
    """The request with these bytes, or None when they are no request, which is refused.

    `Malformed("ledger.body")` when they are not the bytes that the inbox names.
    """
    if hashlib.sha256(body).digest() != entry.digest:
        raise Malformed("ledger.body", f"counter {entry.counter}")
    try:
        return requests.decode(body)
    except EvidenceError:
        return None


def unreadable(entry: InboxEntry) -> Core:
    """The core for a request that is none."""
    return refusal(None, entry.id, UNREADABLE, "request.malformed")


def decrypt_core(
    request: PublicDecrypt | UserDecrypt, ciphertexts: Sequence[bytes], *, request_id: bytes, setting: Setting
) -> Core:
    """The core of a decryption, which may be a refusal. `EvidenceError` when the host's part of it is wrong."""
    operation = public_decrypt if isinstance(request, PublicDecrypt) else user_decrypt
    try:
        return operation(request, ciphertexts, request_id=request_id, setting=setting)  # type: ignore[arg-type]
    except RefusedRequest as refused:
        return refusal(request, request_id, request.operation, refused.code)


def keygen_refusal(request: Keygen, *, request_id: bytes, code: str) -> Core:
    """The core that refuses a key generation."""
    return refusal(request, request_id, request.operation, code)


class AnswerChain:
    """The answers of one boot, each naming the one before: a gap shows. Used from one thread only."""

    def __init__(self, *, configuration: bytes, boot: bytes) -> None:
        """`configuration`: its SHA-384; `boot`: 16 bytes, drawn at start."""
        self._configuration = configuration
        self._boot = boot
        self._sequence = 0
        self._previous = bytes(32)

    def sign(self, core: Core, setting: Setting, pin: tuple[int, bytes]) -> bytes:
        """The signed answer's bytes, under the view of the setting; `pin` is the manifest that the answer names."""
        context = Context(
            party=setting.party,
            head_height=setting.view.height,
            head_hash=setting.view.hash,
            configuration=self._configuration,
            boot=self._boot,
            sequence=self._sequence + 1,
            previous=self._previous,
            manifest=pin,
        )
        signed = Answer(core, context).sign(setting.vault.identity.evidence)
        self._sequence += 1
        self._previous = answer_hash(signed)
        return signed
