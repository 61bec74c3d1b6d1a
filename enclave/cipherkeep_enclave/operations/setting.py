"""The only place for what an operation is given, and for how it refuses.

A refusal is a vote: it depends on nothing but the proven request and the view. So one party may refuse under a newer
view what it answered under an older one (the chain lets its first vote stand). What the host hands over wrongly is an
`EvidenceError` instead, and nothing is signed.
"""

from __future__ import annotations

from dataclasses import dataclass

from cipherkeep_attestation.statements.answer import REFUSALS, Core
from cipherkeep_attestation.statements.configuration import Configuration
from cipherkeep_attestation.statements.request import Request

from cipherkeep_enclave.ledger import View
from cipherkeep_enclave.vault import Vault


class RefusedRequest(Exception):
    """The request is refused under a code of `answer.REFUSALS`."""

    def __init__(self, code: str) -> None:
        if code not in REFUSALS:
            raise ValueError(code)
        self.code = code
        super().__init__(code)


@dataclass(frozen=True, slots=True)
class Setting:
    """Under what a request is processed. `genesis` is the digest of the instance's parameters, `party` the index."""

    configuration: Configuration
    genesis: bytes
    view: View
    vault: Vault
    party: int


def refusal(request: Request | None, request_id: bytes, operation: str, code: str) -> Core:
    """The core that refuses. Key and digests are those that the request names, as far as it could be read."""
    ciphertexts = getattr(request, "ciphertexts", ())
    return Core(
        id=request_id,
        operation=operation,
        key_id=getattr(request, "key_id", None),
        digests=tuple(item.digest for item in ciphertexts),
        refusal=code,
        result=None,
        signatures={},
    )
