"""The only place that checks who calls the emulated AWS KMS: Signature Version 4 under the one emulated access key.

Source: AWS General Reference, "Signature Version 4 signing process"; the error names are AWS's.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cipherkeep_host.errors import HostError

REGION = "us-east-1"
SERVICE = "kms"
WINDOW = timedelta(minutes=5)  # how far the caller's clock may be off
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[A-Z0-9]{16,128})/(?P<scope>[0-9]{8}/[a-z0-9-]+/[a-z0-9-]+/aws4_request),\s*"
    r"SignedHeaders=(?P<headers>[a-z0-9;-]{1,1000}),\s*Signature=(?P<signature>[0-9a-f]{64})"
)


class AwsError(Exception):
    """A refusal by its AWS name, answered with HTTP 400. `reason` is for the log: AWS tells its callers less."""

    def __init__(self, name: str, message: str, *, reason: str = "") -> None:
        self.name = name
        self.message = message
        self.reason = reason
        super().__init__(f"{name}: {message}")


@dataclass(frozen=True, slots=True)
class AccessKey:
    """The access key of the one emulated principal. The host knows it: it proves nothing about an enclave."""

    key_id: str
    secret: str

    def __repr__(self) -> str:
        return f"AccessKey({self.key_id!r})"

    @classmethod
    def generate(cls) -> AccessKey:
        """A new key in AWS's form."""
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
        return cls("AKIA" + "".join(secrets.choice(alphabet) for _ in range(16)), secrets.token_urlsafe(30))

    def to_json(self) -> bytes:
        """The content of credentials.json."""
        return json.dumps({"AccessKeyId": self.key_id, "SecretAccessKey": self.secret, "Region": REGION}).encode()

    @classmethod
    def from_json(cls, data: bytes) -> AccessKey:
        """Read what `to_json` wrote; HostError for anything else."""
        try:
            value = json.loads(data)
            key_id, secret = value["AccessKeyId"], value["SecretAccessKey"]
        except (ValueError, TypeError, KeyError) as error:
            raise HostError("emulator.state_damaged", "credentials.json") from error
        if not isinstance(key_id, str) or not isinstance(secret, str):
            raise HostError("emulator.state_damaged", "credentials.json")
        return cls(key_id, secret)


def authenticate(headers: Mapping[str, str], body: bytes, *, key: AccessKey, at: datetime) -> None:
    """Check the signature of `POST /` with these headers (lower-case names). `AwsError` if it does not hold."""
    authorization = headers.get("authorization")
    if authorization is None:
        raise AwsError("MissingAuthenticationTokenException", "Request is missing Authentication Token")
    found = _AUTHORIZATION.fullmatch(authorization)
    if found is None:
        raise AwsError("IncompleteSignatureException", "Authorization header is not of the form AWS4-HMAC-SHA256")
    if not hmac.compare_digest(found["key"], key.key_id):
        raise AwsError("UnrecognizedClientException", "The security token included in the request is invalid.")
    signed = found["headers"].split(";")
    if signed != sorted(set(signed)) or not {"host", "x-amz-date", "x-amz-target"} <= set(signed):
        raise AwsError("IncompleteSignatureException", "Host, X-Amz-Date and X-Amz-Target must be signed, in order")
    date = headers.get("x-amz-date", "")
    _check_time(date, found["scope"], at)
    canonical = _canonical_request(headers, signed, body)
    expected = _signature(key, date, found["scope"], canonical)
    if not hmac.compare_digest(expected, found["signature"]):
        raise AwsError("InvalidSignatureException", "The request signature we calculated does not match.")


def _check_time(date: str, scope: str, at: datetime) -> None:
    try:
        made = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise AwsError("IncompleteSignatureException", "X-Amz-Date is not of the form YYYYMMDDTHHMMSSZ") from None
    if scope != f"{date[:8]}/{REGION}/{SERVICE}/aws4_request":
        raise AwsError("InvalidSignatureException", f"Credential should be scoped to {REGION}/{SERVICE}.")
    if abs(made - at) > WINDOW:
        raise AwsError("InvalidSignatureException", "Signature expired or not yet current.")


def _canonical_request(headers: Mapping[str, str], signed: list[str], body: bytes) -> bytes:
    lines = ["POST", "/", ""]
    for name in signed:
        if name not in headers:
            raise AwsError("InvalidSignatureException", f"The signed header {name} is missing.")
        lines.append(f"{name}:{' '.join(headers[name].split())}")
    lines += ["", ";".join(signed), hashlib.sha256(body).hexdigest()]
    return "\n".join(lines).encode()


def _signature(key: AccessKey, date: str, scope: str, canonical: bytes) -> str:
    secret = f"AWS4{key.secret}".encode()
    for part in scope.split("/"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    digest = hashlib.sha256(canonical).hexdigest()
    return hmac.new(secret, f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}".encode(), "sha256").hexdigest()
