"""The only place that signs calls to AWS: Signature Version 4 over `POST /`.

The credentials come from the host, which knows them: they prove to AWS whose account is asked, and nothing to us.
Source: AWS General Reference, "Signature Version 4 signing process".
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime

from cipherkeep_attestation import cbor

CREDENTIALS_LABEL = "cipherkeep/aws-credentials/v1"
MAX_CREDENTIALS = 1 << 13  # bytes; session tokens have about a thousand
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key, with a session token where the key is temporary."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)

    def encode(self) -> bytes:
        """Deterministic CBOR: how the host hands them over."""
        return cbor.encode(
            {
                "access_key_id": self.access_key_id,
                "label": CREDENTIALS_LABEL,
                "secret_access_key": self.secret_access_key,
                "session_token": self.session_token,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Credentials:
        """Read what `encode` writes."""
        found = cbor.fields(
            cbor.decode(data, limits=cbor.Limits(size=MAX_CREDENTIALS)),
            access_key_id=_plain(128),
            label=cbor.exactly(CREDENTIALS_LABEL),
            secret_access_key=_plain(256),
            session_token=cbor.nullable(_plain(4096)),
        )
        del found["label"]
        return cls(**found)


def _plain(most: int) -> cbor.Reader:
    """Printable ASCII without spaces: what may stand in a header."""
    read = cbor.text(most)

    def reader(value: object) -> str:
        found: str = read(value)
        # A line break would let the host write headers of its own.
        return found if all("!" <= letter <= "~" for letter in found) else read(None)

    return reader


def sign(*, host: str, region: str, target: str, body: bytes, credentials: Credentials, at: datetime) -> dict[str, str]:
    """The headers of a signed call of `target` ("TrentService.Decrypt") at a time in UTC."""
    date = at.strftime("%Y%m%dT%H%M%SZ")
    headers = {
        "content-type": "application/x-amz-json-1.1",
        "host": host,
        "x-amz-date": date,
        "x-amz-target": target,
    }
    if credentials.session_token is not None:
        headers["x-amz-security-token"] = credentials.session_token
    names = sorted(headers)
    signed = ";".join(names)
    lines = ["POST", "/", "", *(f"{name}:{headers[name]}" for name in names), "", signed]
    canonical = "\n".join([*lines, hashlib.sha256(body).hexdigest()])
    scope = f"{date[:8]}/{region}/kms/aws4_request"
    text = "\n".join([_ALGORITHM, date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    headers["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key_id}/{scope}, SignedHeaders={signed}, Signature={signature}"
    )
    return headers
