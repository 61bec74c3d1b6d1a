"""The only place for the chain's transactions: a COSE_Sign1 of the sender over deterministic CBOR."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cipherkeep_attestation import cbor, cose
from cipherkeep_attestation.errors import Malformed

LABEL = "cipherkeep/transaction/v1"
MAX_TRANSACTION = 1 << 20  # bytes: CometBFT's own limit for one transaction
MAX_MESSAGES = 256


@dataclass(frozen=True, slots=True)
class Message:
    """One call of a contract instance. `body` is a map of our CBOR values."""

    instance: str
    name: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Transaction:
    """What `sender` (an Ed25519 key) asks the chain to do; its nonces rise by one."""

    chain_id: str
    sender: bytes
    nonce: int
    messages: tuple[Message, ...]
    fee_limit: int = 0

    def payload(self) -> bytes:
        """What is signed."""
        return cbor.encode(
            {
                "chain_id": self.chain_id,
                "fee_limit": self.fee_limit,
                "label": LABEL,
                "messages": [[message.instance, message.name, message.body] for message in self.messages],
                "nonce": self.nonce,
                "sender": self.sender,
            }
        )

    def sign(self, key: Ed25519PrivateKey) -> bytes:
        """The transaction's bytes. ValueError unless `key` is the sender's."""
        if key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) != self.sender:
            raise ValueError("the key is not the sender's")
        return cose.sign1(self.payload(), key=key)

    @classmethod
    def open(cls, data: bytes) -> Transaction:
        """Read and verify a transaction. `EvidenceError` unless it is whole, well-formed and signed by its sender."""
        payload = cose.unverified_payload(data, limit=MAX_TRANSACTION)
        found = cbor.fields(
            cbor.decode(payload),
            chain_id=cbor.text(50),
            fee_limit=cbor.uint(),
            label=cbor.exactly(LABEL),
            messages=cbor.sequence(cbor.anything, MAX_MESSAGES, least=1),
            nonce=cbor.uint(least=1),
            sender=cbor.raw(32),
        )
        cose.open1(data, public_key=found["sender"], limit=MAX_TRANSACTION)
        messages = tuple(_message(item) for item in found["messages"])
        return cls(found["chain_id"], found["sender"], found["nonce"], messages, found["fee_limit"])


def _message(item: object) -> Message:
    if type(item) is not list or len(item) != 3:
        raise Malformed("encoding.schema", "a message is [instance, name, body]")
    found = cbor.fields(
        {"instance": item[0], "name": item[1], "body": item[2]},
        instance=cbor.text(64),
        name=cbor.text(64),
        body=cbor.mapping(cbor.text(64), cbor.anything, 64),
    )
    return Message(found["instance"], found["name"], found["body"])


def transaction_hash(data: bytes) -> bytes:
    """SHA-256 of the bytes: how CometBFT names a transaction."""
    return hashlib.sha256(data).digest()
