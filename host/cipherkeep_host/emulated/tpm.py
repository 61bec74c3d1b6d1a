"""The only place for the host's own attestation: a NitroTPM document signer, which on EC2 is the instance's TPM.

It belongs to the host and lives in the host's process. What it says is worth what the enclave's policy makes of it, and
a NitroTPM document is taken only where a host's document is asked for.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from cipherkeep_attestation.eif import extend

from cipherkeep_host.emulated.documents import sign_document
from cipherkeep_host.emulated.pki import Pki

PCRS = 24  # a TPM 2.0 has PCRs 0-23
ZERO = bytes(48)
# PCR4 measures the boot manager and PCR7 the Secure Boot policy; an emulated host has neither, and says which it is.
BOOT = {4: extend(ZERO, b"cipherkeep emulated host v1"), 7: extend(ZERO, b"cipherkeep emulated secure boot v1")}


class HostAttestor:
    """Signs NitroTPM documents of one emulated host."""

    def __init__(
        self,
        state: Path,
        *,
        module_id: str | None = None,
        pcrs: Mapping[int, bytes] = BOOT,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.module_id = module_id or f"i-0{secrets.token_hex(8)}-tpm{secrets.token_hex(8)}"
        self.pcrs = {index: pcrs.get(index, ZERO) for index in range(PCRS)}
        self._clock = clock
        self._pki = Pki(state, module_id=self.module_id, clock=clock)

    def attest(
        self, *, nonce: bytes | None = None, public_key: bytes | None = None, user_data: bytes | None = None
    ) -> bytes:
        """A document over these fields, each of at most 1024 bytes (ValueError beyond)."""
        return sign_document(
            self._pki.credentials(),
            module_id=self.module_id,
            kind="nitrotpm_pcrs",
            pcrs=self.pcrs,
            at=self._clock(),
            public_key=public_key,
            user_data=user_data,
            nonce=nonce,
        )
