"""The only place that writes attestation documents: the shape of today's hardware, signed by the emulated PKI.

A document is an untagged COSE_Sign1 (ES384) over an indefinite-length map whose absent optional fields are null and
whose inner map and array are definite, as in authentic documents since August 2025.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from cipherkeep_attestation.cbor import encode
from cipherkeep_attestation.cose import sign1_es384

from cipherkeep_host.emulated.pki import Credentials

FIELD_LIMIT = 1024  # bytes of user_data, nonce or public_key each; authentic documents carry that many
_INDEFINITE_MAP, _BREAK = b"\xbf", b"\xff"


def sign_document(
    credentials: Credentials,
    *,
    module_id: str,
    kind: Literal["pcrs", "nitrotpm_pcrs"],
    pcrs: Mapping[int, bytes],
    at: datetime,
    public_key: bytes | None,
    user_data: bytes | None,
    nonce: bytes | None,
) -> bytes:
    """A document of an enclave (`kind` pcrs) or of a host (`kind` nitrotpm_pcrs). ValueError for oversized fields."""
    for field in (public_key, user_data, nonce):
        if field is not None and len(field) > FIELD_LIMIT:
            raise ValueError(f"a field of a document has at most {FIELD_LIMIT} bytes")
    entries: tuple[tuple[str, object], ...] = (
        ("module_id", module_id),
        ("digest", "SHA384"),
        ("timestamp", int(at.timestamp() * 1000)),
        (kind, dict(pcrs)),
        ("certificate", credentials.certificate),
        ("cabundle", list(credentials.cabundle)),
        ("public_key", public_key),
        ("user_data", user_data),
        ("nonce", nonce),
    )
    body = b"".join(encode(name) + encode(value) for name, value in entries)
    return sign1_es384(_INDEFINITE_MAP + body + _BREAK, key=credentials.key)
