"""The only place that speaks to AWS KMS: data keys for this enclave alone.

Every call carries an attestation document over a fresh RSA key; the service answers under that key, after comparing the
document with the key's policy. TLS ends here, with the one CA and the one name that the measured configuration pins.
The credentials come from the host. An answer in clear text, or of another key, is refused.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from cipherkeep_attestation import strict_json
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements.configuration import KeyService
from cipherkeep_wire.errors import ServiceError
from cipherkeep_wire.transport import TransportError
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cipherkeep_enclave.vault import aws_recipient, aws_signature
from cipherkeep_enclave.vault.records import MAX_WRAPPED

TIMEOUT = 15.0  # seconds for one call
MAX_ANSWER = 1 << 16  # bytes
# Errors that pass by themselves, as AWS KMS names them beside those of status 500.
_TRANSIENT = ("ThrottlingException", "LimitExceededException", "KeyUnavailableException")
_RSA_BITS = 3072  # 128 bits of security, like everything beside it

Context = Mapping[str, str]
Attest = Callable[[bytes], bytes]  # SubjectPublicKeyInfo → attestation document that binds it
Egress = Callable[[], AbstractAsyncContextManager[Path]]


@dataclass(frozen=True, slots=True)
class DataKey:
    """A data key, and the form in which the service opens it again."""

    plaintext: bytes
    wrapped: bytes

    def __repr__(self) -> str:
        return "<DataKey>"


class KeyWrapper(Protocol):
    """What a vault needs of a key service."""

    async def generate(self, context: Context) -> DataKey:
        """A new data key of 32 bytes, bound to the context."""
        ...

    async def unwrap(self, wrapped: bytes, context: Context) -> bytes:
        """The data key again; only under the same context."""
        ...


class AwsKms:
    """A client of one key. `ServiceError`: `vault.kms_unreachable`, `vault.kms_denied`, `vault.kms_answer`."""

    def __init__(
        self,
        service: KeyService,
        *,
        egress: Egress,
        credentials: Callable[[], Awaitable[aws_signature.Credentials]],
        attest: Attest,
        now: Callable[[], datetime],
    ) -> None:
        self._service = service
        self._region = service.key_arn.split(":")[3] if service.key_arn.count(":") >= 5 else ""
        self._egress = egress
        self._credentials = credentials
        self._attest = attest
        self._now = now

    async def generate(self, context: Context) -> DataKey:
        """GenerateDataKey."""
        plaintext, answer = await self._attested("GenerateDataKey", {"KeySpec": "AES_256"}, context)
        return DataKey(plaintext, _bytes(answer, "CiphertextBlob", MAX_WRAPPED))

    async def unwrap(self, wrapped: bytes, context: Context) -> bytes:
        """Decrypt."""
        arguments = {"CiphertextBlob": base64.b64encode(wrapped).decode()}
        plaintext, _ = await self._attested("Decrypt", arguments, context)
        return plaintext

    async def _attested(
        self, operation: str, arguments: dict[str, Any], context: Context
    ) -> tuple[bytes, dict[str, Any]]:
        key = await asyncio.to_thread(rsa.generate_private_key, public_exponent=65537, key_size=_RSA_BITS)
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        document = await asyncio.to_thread(self._attest, spki)
        body = arguments | {
            "EncryptionContext": dict(context),
            "KeyId": self._service.key_arn,
            "Recipient": {
                "AttestationDocument": base64.b64encode(document).decode(),
                "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256",
            },
        }
        answer = await self._call(operation, json.dumps(body, separators=(",", ":")).encode())
        # A service that ignores Recipient answers in clear text: it checked no measurement, and others could read it.
        if "Plaintext" in answer:
            raise ServiceError("vault.kms_answer", "a plaintext in clear")
        if answer.get("KeyId") != self._service.key_arn:
            raise ServiceError("vault.kms_answer", "another key")
        envelope = _bytes(answer, "CiphertextForRecipient", aws_recipient.MAX_MESSAGE)
        plaintext = aws_recipient.open_envelope(envelope, key)
        if len(plaintext) != 32:
            raise ServiceError("vault.kms_answer", "not a key of 32 bytes")
        return plaintext, answer

    async def _call(self, operation: str, body: bytes) -> dict[str, Any]:
        import httpx  # 15 MB, and needed only while a vault is opened

        try:
            credentials = await self._credentials()
        except (OSError, TransportError, EvidenceError) as problem:
            raise ServiceError("vault.kms_unreachable", f"credentials: {type(problem).__name__}") from None
        headers = aws_signature.sign(
            host=self._service.host,
            region=self._region,
            target=f"TrentService.{operation}",
            body=body,
            credentials=credentials,
            at=self._now(),
        )
        try:
            async with self._egress() as path:
                way = httpx.AsyncHTTPTransport(uds=str(path), verify=_tls(self._service), retries=0)
                async with (
                    httpx.AsyncClient(transport=way, timeout=TIMEOUT, trust_env=False) as client,
                    client.stream("POST", f"https://{self._service.host}/", content=body, headers=headers) as response,
                ):
                    data = await _bounded(response.aiter_raw())
                    status = response.status_code
        except (httpx.HTTPError, OSError, TransportError) as problem:
            raise ServiceError("vault.kms_unreachable", type(problem).__name__) from None
        if status == 200:
            return _object(data)
        name = _error_name(data)
        transient = status >= 500 or name in _TRANSIENT
        raise ServiceError("vault.kms_unreachable" if transient else "vault.kms_denied", name or f"status {status}")


def _error_name(data: bytes) -> str:
    """AWS's name of an error; empty unless it is a name, since it reaches the log."""
    try:
        answer = strict_json.loads(data, floats=True)
    except ValueError:
        return ""
    name = str(answer.get("__type", "")).rpartition("#")[2] if isinstance(answer, dict) else ""
    return name if name.isascii() and name.isalnum() and len(name) < 64 else ""


def _tls(service: KeyService) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # what AWS serves at least
    try:
        context.load_verify_locations(cadata=service.ca)
    except ssl.SSLError:
        raise ServiceError("vault.kms_unreachable", "the configured CA is no certificate") from None
    return context


async def _bounded(chunks: Any) -> bytes:
    data = bytearray()
    async for chunk in chunks:
        data += chunk
        if len(data) > MAX_ANSWER:
            raise ServiceError("vault.kms_answer", "larger than any answer")
    return bytes(data)


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = strict_json.loads(data, floats=True)
    except ValueError:
        raise ServiceError("vault.kms_answer", "not JSON") from None
    if not isinstance(value, dict):
        raise ServiceError("vault.kms_answer", "not a JSON object")
    return value


def _bytes(answer: dict[str, Any], name: str, most: int) -> bytes:
    value = answer.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= most * 4 // 3 + 4:
        raise ServiceError("vault.kms_answer", f"no {name}")
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        raise ServiceError("vault.kms_answer", f"{name} is not Base64") from None
