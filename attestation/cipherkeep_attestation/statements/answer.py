"""The only place for answers: one signed object that is the party's vote on the chain and the auditor's receipt.

The *core* says what was decided and is the same however often it is asked; two different cores of one party for one id
are equivocation. The *context* says under which head, by which boot, in which order. Parties agree when the cores agree
in everything but their own signatures; of a user's shares, which differ, it counts that there are enough.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cipherkeep_attestation import cbor, cose
from cipherkeep_attestation.errors import Malformed
from cipherkeep_attestation.statements.request import USER_DECRYPT

LABEL = "cipherkeep/answer/v1"
MAX_ANSWER = 1 << 19  # bytes; 128 user ciphertexts take 140 KiB
MAX_RESULT = 1 << 18

# Refusals inside signed answers: the code is the vote.
REFUSALS: dict[str, str] = {
    "key.unknown": "No key of this id is held here.",
    "key.other_instance": "The key belongs to another contract instance.",
    "key.retired": "Governance has retired the key.",
    "key.parameters": "The parameters that were asked for are unknown, or too weak for this configuration.",
    "key.authoriser": "The key's terms name an insecure authoriser that the measured configuration does not name.",
    "request.malformed": "The request's bytes are not one of the operations.",
    "request.statement": "The governance statement of a key generation is not in force.",
    "request.freshness": "The validity that the user signed for has not begun or is over.",
    "authorisation": "The request is not authorised: the user did not sign, or was granted nothing.",
    "binding": "Too few coprocessors, or others, signed which ciphertext a handle stands for.",
    "ciphertext.format": "A ciphertext is not a packed list with one element in the expected layout.",
    "ciphertext.type": "A ciphertext holds another type than its binding names.",
    "user.public_key": "The user's public key is not one that today's clients make.",
    "poison": "The request killed its worker twice.",
}


@dataclass(frozen=True, slots=True)
class Core:
    """What was decided about one request. Exactly one of `refusal` and `result` is set.

    `result`: for `keygen` {"parameters": text, "material": [[kind, SHA-256, size, typed-data digest], …]} (`material`);
    for `public_decrypt` {"decrypted": ABI words}; for `user_decrypt` {"payload": bytes}. `signatures` maps a scheme to
    the party's signature over typed data ("eip712": 65 bytes); empty with a refusal.
    """

    id: bytes
    operation: str
    key_id: bytes | None
    digests: tuple[bytes, ...]
    refusal: str | None
    result: dict[str, Any] | None
    signatures: dict[str, bytes]

    def _agreed(self, result: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "digests": list(self.digests),
            "id": self.id,
            "key_id": self.key_id,
            "operation": self.operation,
            "refusal": self.refusal,
            "result": result,
        }

    def encode(self) -> bytes:
        """Deterministic CBOR."""
        return cbor.encode({**self._agreed(self.result), "signatures": self.signatures})

    def digest(self) -> bytes:
        """SHA-256 of the whole core: equivocation is two of these by one party."""
        return hashlib.sha256(self.encode()).digest()

    def agreement(self) -> bytes:
        """SHA-256 of what parties must agree on: everything but their own signatures.

        A user's shares are sealed by each party for itself: they are counted, and their bytes are no part of it.
        """
        shared = None if self.operation == USER_DECRYPT else self.result
        return hashlib.sha256(cbor.encode(self._agreed(shared))).digest()

    @classmethod
    def decode(cls, data: bytes) -> Core:
        """Read what `encode` writes."""
        found = cbor.fields(
            cbor.decode(data),
            digests=cbor.sequence(cbor.raw(32), 128),
            id=cbor.raw(32),
            key_id=cbor.nullable(cbor.raw(32)),
            operation=cbor.text(32),
            refusal=cbor.nullable(cbor.one_of(*REFUSALS)),
            result=cbor.nullable(cbor.mapping(cbor.text(32), cbor.anything, 8)),
            signatures=cbor.mapping(cbor.text(32), cbor.raw(1, 4096), 4),
        )
        if (found["refusal"] is None) == (found["result"] is None):
            raise Malformed("answer.outcome")
        return cls(**found)


@dataclass(frozen=True, slots=True)
class Context:
    """Under which circumstances a core was signed.

    `sequence` counts the answers of a boot from 1, `previous` is the SHA-256 of the one before (zeros for the first):
    a gap shows. `manifest` is the vault's manifest after this answer: (serial, digest).
    """

    party: int
    head_height: int
    head_hash: bytes
    configuration: bytes
    boot: bytes
    sequence: int
    previous: bytes
    manifest: tuple[int, bytes]

    def to_map(self) -> dict[str, object]:
        """For the answer."""
        return {
            "boot": self.boot,
            "configuration": self.configuration,
            "head_hash": self.head_hash,
            "head_height": self.head_height,
            "manifest": list(self.manifest),
            "party": self.party,
            "previous": self.previous,
            "sequence": self.sequence,
        }

    @classmethod
    def of_map(cls, value: object) -> Context:
        """Read what `to_map` makes."""
        found = cbor.fields(
            value,
            boot=cbor.raw(16),
            configuration=cbor.raw(48),
            head_hash=cbor.raw(32),
            head_height=cbor.uint(least=1),
            manifest=cbor.anything,
            party=cbor.uint(1000, least=1),
            previous=cbor.raw(32),
            sequence=cbor.uint(least=1),
        )
        found["manifest"] = read_manifest_pin(found["manifest"])
        return cls(**found)


def read_manifest_pin(value: object) -> tuple[int, bytes]:
    """(serial, digest) of a manifest from an array of two."""
    if type(value) is not list or len(value) != 2:
        raise Malformed("encoding.schema", "a manifest's pin is [serial, digest]")
    pin = cbor.fields({"serial": value[0], "digest": value[1]}, serial=cbor.uint(least=1), digest=cbor.raw(32))
    return pin["serial"], pin["digest"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A core in its context."""

    core: Core
    context: Context

    def sign(self, key: Ed25519PrivateKey) -> bytes:
        """The signed answer's bytes (COSE_Sign1 of the party's evidence key)."""
        payload = {"context": self.context.to_map(), "core": self.core.encode(), "label": LABEL}
        return cose.sign1(cbor.encode(payload), key=key)

    @classmethod
    def open(cls, data: bytes, *, evidence_key: bytes) -> Answer:
        """Read an answer and verify that this party signed it; `EvidenceError` otherwise."""
        return _read(cose.open1(data, public_key=evidence_key, limit=MAX_ANSWER))


def unverified(data: bytes) -> Answer:
    """Read an answer without judging its signature: to learn whose key to judge it by."""
    return _read(cose.unverified_payload(data, limit=MAX_ANSWER))


def _read(payload: bytes) -> Answer:
    found = cbor.fields(
        cbor.decode(payload),
        context=cbor.anything,
        core=cbor.raw(1, MAX_RESULT * 2),
        label=cbor.exactly(LABEL),
    )
    return Answer(Core.decode(found["core"]), Context.of_map(found["context"]))


def answer_hash(data: bytes) -> bytes:
    """SHA-256 of the signed bytes: what the next answer of the boot names as `previous`, and records keep."""
    return hashlib.sha256(data).digest()
