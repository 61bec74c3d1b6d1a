"""The only place for what the emulated AWS KMS does in each call: parameters, attestation, policy, answer.

With `Recipient` the caller's attestation document is verified under the emulated root, at most five minutes old; its
PCRs are what the key policy's `kms:RecipientAttestation` conditions see, and the answer is sealed to its public key and
holds no `Plaintext`. Parameters that are not known here are refused: AWS ignores them, and so answers a misspelt
`Recipient` with the plaintext. Source: AWS KMS API reference.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.nitro.verify import (
    NO_NONCE,
    Attestation,
    InsecureAnyMeasurement,
    Policy,
    TrustRoot,
    verify,
)

from cipherkeep_host.emulated.aws_cms import envelop, recipient_key
from cipherkeep_host.emulated.aws_keys import BLOB_LIMIT, Key, KeyStore
from cipherkeep_host.emulated.aws_policy import ACCOUNT, ROOT, Decision, KeyPolicy
from cipherkeep_host.emulated.aws_sigv4 import AwsError

FRESHNESS = timedelta(minutes=5)
ALGORITHM = "RSAES_OAEP_SHA_256"
RANDOM_LIMIT = 1024  # bytes
CONTEXT_LIMIT = 8192  # characters of an encryption context
DOCUMENT_LIMIT = 16 * 1024  # bytes; the largest authentic document has 7.5 KiB
# As AWS's default: the account may do everything, also without attestation. `dev` puts a stricter one at once.
DEFAULT_POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Sid": "Account", "Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "kms:*", "Resource": "*"}
        ],
    }
)

_PARAMETERS: dict[str, frozenset[str]] = {
    "CreateKey": frozenset(
        {"Policy", "Description", "KeyUsage", "KeySpec", "Origin", "MultiRegion", "BypassPolicyLockoutSafetyCheck"}
    ),
    "DescribeKey": frozenset({"KeyId"}),
    "GetKeyPolicy": frozenset({"KeyId", "PolicyName"}),
    "PutKeyPolicy": frozenset({"KeyId", "PolicyName", "Policy", "BypassPolicyLockoutSafetyCheck"}),
    "GenerateDataKey": frozenset({"KeyId", "KeySpec", "NumberOfBytes", "EncryptionContext", "Recipient"}),
    "Decrypt": frozenset({"CiphertextBlob", "KeyId", "EncryptionContext", "EncryptionAlgorithm", "Recipient"}),
    "GenerateRandom": frozenset({"NumberOfBytes", "Recipient"}),
}
OPERATIONS = frozenset(_PARAMETERS)
_FIXED = {"KeyUsage": "ENCRYPT_DECRYPT", "Origin": "AWS_KMS", "MultiRegion": False, "PolicyName": "default"}
_FIXED |= {"EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}


@dataclass(frozen=True, slots=True)
class Recipient:
    """An attested caller: what its document proves, and the key to seal the answer to."""

    attestation: Attestation
    seal: Callable[[bytes], bytes]


class Calls:
    """The calls of one emulated AWS KMS."""

    def __init__(self, store: KeyStore, *, root: TrustRoot, clock: Callable[[], datetime] = lambda: datetime.now(UTC)):
        self._store = store
        self._root = root
        self._clock = clock

    def run(self, operation: str, body: bytes) -> dict[str, Any]:
        """The answer to one of `OPERATIONS`. `AwsError` by the name that AWS gives it."""
        parameters = _parameters(operation, body)
        call: Callable[[dict[str, Any]], dict[str, Any]] = getattr(self, f"_{operation}")
        return call(parameters)

    def _CreateKey(self, given: dict[str, Any]) -> dict[str, Any]:
        if given.get("KeySpec", "SYMMETRIC_DEFAULT") != "SYMMETRIC_DEFAULT":
            raise _invalid("KeySpec")
        policy = KeyPolicy.parse(_text(given, "Policy", DEFAULT_POLICY))
        _lockout_check(policy, given)
        return {"KeyMetadata": _metadata(self._store.create(policy, _text(given, "Description", "")))}

    def _DescribeKey(self, given: dict[str, Any]) -> dict[str, Any]:
        key = self._key(given)
        self._authorise("kms:DescribeKey", key, {})
        return {"KeyMetadata": _metadata(key)}

    def _GetKeyPolicy(self, given: dict[str, Any]) -> dict[str, Any]:
        key = self._key(given)
        self._authorise("kms:GetKeyPolicy", key, {})
        return {"Policy": key.policy.text, "PolicyName": "default"}

    def _PutKeyPolicy(self, given: dict[str, Any]) -> dict[str, Any]:
        key = self._key(given)
        self._authorise("kms:PutKeyPolicy", key, {})
        policy = KeyPolicy.parse(_text(given, "Policy"))
        _lockout_check(policy, given)
        self._store.put_policy(key, policy)
        return {}

    def _GenerateDataKey(self, given: dict[str, Any]) -> dict[str, Any]:
        key, context, recipient = self._key(given), _context(given), self._recipient(given)
        length = _data_key_length(given)
        self._authorise("kms:GenerateDataKey", key, context, recipient)
        plaintext = os.urandom(length)
        answer = {"CiphertextBlob": _b64(key.seal(plaintext, context)), "KeyId": key.arn}
        return answer | _reveal(plaintext, recipient)

    def _Decrypt(self, given: dict[str, Any]) -> dict[str, Any]:
        blob, context, recipient = _blob(given, "CiphertextBlob", BLOB_LIMIT), _context(given), self._recipient(given)
        key = self._store.of_blob(blob)
        if "KeyId" in given and self._key(given) is not key:
            raise AwsError(
                "IncorrectKeyException", "The key ID in the request does not identify a CMK that can decrypt."
            )
        self._authorise("kms:Decrypt", key, context, recipient)
        plaintext = key.open(blob, context)
        return {"KeyId": key.arn, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"} | _reveal(plaintext, recipient)

    def _GenerateRandom(self, given: dict[str, Any]) -> dict[str, Any]:
        recipient = self._recipient(given)
        return _reveal(os.urandom(_integer(given, "NumberOfBytes", RANDOM_LIMIT)), recipient)

    def _key(self, given: dict[str, Any]) -> Key:
        return self._store.get(_text(given, "KeyId"))

    def _authorise(self, action: str, key: Key, context: Mapping[str, str], recipient: Recipient | None = None) -> None:
        values = {f"kms:encryptioncontext:{name.lower()}": value for name, value in context.items()}
        if recipient is not None:
            for index, pcr in recipient.attestation.pcrs.items():
                values[f"kms:recipientattestation:pcr{index}"] = pcr.hex()
            values["kms:recipientattestation:imagesha384"] = recipient.attestation.pcrs[0].hex()
        decision: Decision = key.policy.decide(action, key.arn, values)
        if not decision.allowed:
            message = f"User is not authorized to perform: {action} on this resource"
            raise AwsError("AccessDeniedException", message, reason=decision.reason)

    def _recipient(self, given: dict[str, Any]) -> Recipient | None:
        value = given.get("Recipient")
        if value is None:
            return None
        if not isinstance(value, dict) or value.keys() != {"KeyEncryptionAlgorithm", "AttestationDocument"}:
            raise _invalid("Recipient")
        if value["KeyEncryptionAlgorithm"] != ALGORITHM:
            raise _invalid("Recipient.KeyEncryptionAlgorithm")
        document = _blob(value, "AttestationDocument", DOCUMENT_LIMIT)
        # KMS knows no nonce and no measurements: freshness is all it asks, the key policy judges the rest. It takes
        # debug enclaves, whose PCRs are zero and match no sane policy.
        policy = Policy(
            measurements=InsecureAnyMeasurement(),
            nonce=NO_NONCE,
            public_key=None,
            max_age=FRESHNESS,
            insecure_allow_debug=True,
        )
        try:
            attestation = verify(document, root=self._root, policy=policy, at=self._clock())
            key = recipient_key(attestation.public_key or b"")
        except EvidenceError as error:
            message = f"The attestation document is not valid: {error.code}"
            raise AwsError("ValidationException", message, reason=str(error)) from None
        except ValueError as error:
            raise AwsError("ValidationException", str(error)) from None
        return Recipient(attestation, lambda plaintext: envelop(plaintext, key))


def _reveal(plaintext: bytes, recipient: Recipient | None) -> dict[str, Any]:
    if recipient is None:
        return {"Plaintext": _b64(plaintext)}
    return {"CiphertextForRecipient": _b64(recipient.seal(plaintext))}


def _metadata(key: Key) -> dict[str, Any]:
    return {
        "AWSAccountId": ACCOUNT,
        "KeyId": str(key.id),
        "Arn": key.arn,
        "CreationDate": int(key.created.timestamp()),
        "Enabled": True,
        "Description": key.description,
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": "Enabled",
        "Origin": "AWS_KMS",
        "KeyManager": "CUSTOMER",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
        "MultiRegion": False,
    }


def _lockout_check(policy: KeyPolicy, given: dict[str, Any]) -> None:
    """AWS's safety check: unless it is bypassed, whoever puts a policy must be able to put the next one."""
    bypass = given.get("BypassPolicyLockoutSafetyCheck", False)
    if type(bypass) is not bool:
        raise _invalid("BypassPolicyLockoutSafetyCheck")
    if not bypass and not policy.decide("kms:PutKeyPolicy", "*", {}).allowed:
        raise AwsError(
            "MalformedPolicyDocumentException",
            "The new key policy will not allow you to update the key policy in the future.",
        )


# --- parameters ---


def _parameters(operation: str, body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise AwsError("SerializationException", "The request is not JSON.") from None
    if not isinstance(value, dict):
        raise AwsError("SerializationException", "The request is not a JSON object.")
    unknown = value.keys() - _PARAMETERS[operation]
    if unknown:
        raise AwsError("SerializationException", f"Unknown parameters: {', '.join(sorted(unknown))[:200]}")
    for name, only in _FIXED.items():
        if name in value and value[name] != only:
            raise _invalid(name)
    return value


def _invalid(name: str) -> AwsError:
    return AwsError("ValidationException", f"1 validation error detected: value at '{name}' is not valid")


def _text(given: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = given.get(name, default)
    if not isinstance(value, str) or (default is None and not value):
        raise _invalid(name)
    return value


def _integer(given: Mapping[str, Any], name: str, most: int) -> int:
    value = given.get(name)
    if type(value) is not int or not 1 <= value <= most:
        raise _invalid(name)
    return value


def _data_key_length(given: Mapping[str, Any]) -> int:
    if ("KeySpec" in given) == ("NumberOfBytes" in given):
        raise AwsError("ValidationException", "Please specify either number of bytes or key spec.")
    if "NumberOfBytes" in given:
        return _integer(given, "NumberOfBytes", RANDOM_LIMIT)
    length = {"AES_256": 32, "AES_128": 16}.get(_text(given, "KeySpec"))
    if length is None:
        raise _invalid("KeySpec")
    return length


def _blob(given: Mapping[str, Any], name: str, most: int) -> bytes:
    value = _text(given, name)
    try:
        data = base64.b64decode(value, validate=True) if len(value) <= 2 * most else b""
    except (binascii.Error, ValueError):
        raise AwsError("SerializationException", f"{name} is not base64.") from None
    if not 0 < len(data) <= most:
        raise _invalid(name)
    return data


def _context(given: Mapping[str, Any]) -> dict[str, str]:
    value = given.get("EncryptionContext", {})
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise _invalid("EncryptionContext")
    if sum(len(name) + len(text) for name, text in value.items()) > CONTEXT_LIMIT:
        raise _invalid("EncryptionContext")
    return value


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
