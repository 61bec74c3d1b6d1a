"""The only place that keeps the emulated AWS KMS's keys: one file each (0600), and the ciphertexts made under them.

A CiphertextBlob is a version byte, the key's id, a nonce and AES-256-GCM over the plaintext, whose associated data is
the key's ARN and the encryption context. A key that CreateKey answered for has reached the disk.
"""

from __future__ import annotations

import base64
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from cipherkeep_attestation import cbor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cipherkeep_host import durable
from cipherkeep_host.emulated import state as files
from cipherkeep_host.emulated.aws_policy import ACCOUNT, KeyPolicy
from cipherkeep_host.emulated.aws_sigv4 import REGION, AwsError
from cipherkeep_host.errors import HostError

BLOB_VERSION = b"\x01"
NONCE = 12  # bytes
BLOB_LIMIT = 6144  # bytes, AWS KMS API reference
_BLOB_HEAD = len(BLOB_VERSION) + 16 + NONCE
_ARN = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/"


@dataclass(frozen=True, slots=True)
class Key:
    """A symmetric key of the emulated KMS."""

    id: uuid.UUID
    secret: bytes = field(repr=False)
    policy: KeyPolicy
    description: str
    created: datetime

    @property
    def arn(self) -> str:
        """The name under which answers speak of it."""
        return f"{_ARN}{self.id}"

    def seal(self, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """A CiphertextBlob that opens only under this encryption context."""
        nonce = os.urandom(NONCE)
        sealed = AESGCM(self.secret).encrypt(nonce, plaintext, self._associated(context))
        return BLOB_VERSION + self.id.bytes + nonce + sealed

    def open(self, blob: bytes, context: Mapping[str, str]) -> bytes:
        """The plaintext. `AwsError("InvalidCiphertextException")` for other bytes or another context."""
        try:
            return AESGCM(self.secret).decrypt(blob[17:_BLOB_HEAD], blob[_BLOB_HEAD:], self._associated(context))
        except InvalidTag:
            raise AwsError("InvalidCiphertextException", "") from None

    def _associated(self, context: Mapping[str, str]) -> bytes:
        return cbor.encode({"key": self.arn, "context": dict(context)})


class KeyStore:
    """All keys below one folder; written through before anybody hears of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys: dict[uuid.UUID, Key] = {}
        for path in sorted(folder.glob("*.json")):
            key = _read(path)
            self._keys[key.id] = key

    def __len__(self) -> int:
        return len(self._keys)

    def create(self, policy: KeyPolicy, description: str) -> Key:
        """A new key."""
        key = Key(uuid.uuid4(), os.urandom(32), policy, description, datetime.now(UTC).replace(microsecond=0))
        self._keep(key)
        return key

    def get(self, name: str) -> Key:
        """The key with this id or ARN. `AwsError("NotFoundException")` for others; aliases do not exist here."""
        try:
            key = self._keys.get(uuid.UUID(name.removeprefix(_ARN)))
        except ValueError:
            key = None
        if key is None or name not in (key.arn, str(key.id)):
            raise AwsError("NotFoundException", f"Key '{name[:200]}' does not exist")
        return key

    def of_blob(self, blob: bytes) -> Key:
        """The key that a CiphertextBlob names. `AwsError` if it names none of ours."""
        if not _BLOB_HEAD + 16 < len(blob) <= BLOB_LIMIT or not blob.startswith(BLOB_VERSION):
            raise AwsError("InvalidCiphertextException", "")
        key = self._keys.get(uuid.UUID(bytes=blob[1:17]))
        if key is None:
            raise AwsError(
                "AccessDeniedException",
                "The ciphertext refers to a customer master key that does not exist, does not exist in this region,"
                " or you are not allowed to access.",
            )
        return key

    def put_policy(self, key: Key, policy: KeyPolicy) -> None:
        """Replace the key's policy."""
        self._keep(replace(key, policy=policy))

    def _keep(self, key: Key) -> None:
        content = {
            "id": str(key.id),
            "secret": base64.b64encode(key.secret).decode(),
            "policy": key.policy.text,
            "description": key.description,
            "created": int(key.created.timestamp()),
        }
        durable.write(self._folder / f"{key.id}.json", json.dumps(content).encode())
        self._keys[key.id] = key


def _read(path: Path) -> Key:
    try:
        value = json.loads(files.read_secret(path))
        key = Key(
            uuid.UUID(value["id"]),
            base64.b64decode(value["secret"], validate=True),
            KeyPolicy.parse(value["policy"]),
            value["description"],
            datetime.fromtimestamp(value["created"], UTC),
        )
    except (ValueError, TypeError, KeyError, AwsError) as error:
        raise HostError("emulator.state_damaged", str(path)) from error
    if len(key.secret) != 32 or path.stem != str(key.id):
        raise HostError("emulator.state_damaged", str(path))
    return key
