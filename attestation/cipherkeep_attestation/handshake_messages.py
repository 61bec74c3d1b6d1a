"""The only place that knows the messages of the attested handshake: their fields, and what a document must say in them.

Every message is deterministic CBOR of {label, version, step, …}. The user data of a document is the same kind of map
with a role in place of the step; it fits the 512 bytes that AWS's text promises to carry. `handshake` runs them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from cipherkeep_attestation import cbor
from cipherkeep_attestation.eif import CONFIGURATION_PCR, configuration_pcr
from cipherkeep_attestation.errors import Malformed, Refused, Stale
from cipherkeep_attestation.nitro.certificate import KEY_CERT_SIGN, Certificate, read_certificate
from cipherkeep_attestation.nitro.document import LIMIT as DOCUMENT_LIMIT
from cipherkeep_attestation.nitro.verify import Attestation

LABEL = "cipherkeep handshake"
VERSION = 1
NONCE_BYTES = 32
SESSION_BYTES = 16
CERTIFICATE_LIMIT = 2048  # bytes of a channel certificate
MESSAGE_LIMIT = DOCUMENT_LIMIT + CERTIFICATE_LIMIT + 512  # bytes of a message
USER_DATA_LIMIT = 512  # bytes, what AWS's text promises to carry

DIGEST_BYTES = 48  # SHA-384

_LIMITS = cbor.Limits(size=MESSAGE_LIMIT, depth=1, items=20)


class Judge(Protocol):
    """Root, kind and policy for the peer's document; see `judge_with`."""

    def __call__(self, document: bytes, *, nonce: bytes, public_key: bytes, at: datetime) -> Attestation:
        """The attestation, or an `EvidenceError`."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the responder is and the initiator expects it to be."""

    chain_id: str  # 1 to 64 printable ASCII characters
    configuration_digest: bytes  # SHA-384 of the measured configuration
    party: str  # 1 to 64 printable ASCII characters

    def __post_init__(self) -> None:
        for name in (self.chain_id, self.party):
            if not 1 <= len(name) <= 64 or not name.isascii() or not name.isprintable():
                raise ValueError("chain id and party are 1 to 64 printable ASCII characters")
        if len(self.configuration_digest) != DIGEST_BYTES:
            raise ValueError("a configuration digest has 48 bytes")


@dataclass(frozen=True, slots=True)
class ResponderStatement:
    """What a responder's message says, its document judged: all that an auditor needs, who goes no further."""

    attestation: Attestation
    certificate: bytes = field(repr=False)  # DER; its key is the attested one
    document_digest: bytes  # SHA-384 of the document's bytes as they came
    session_id: bytes
    nonce: bytes
    terms: Terms


# --- messages ---


def hello(nonce: bytes) -> bytes:
    """Message 1: a nonce of 32 random bytes. Anyone may send it, and learns what enclave answers."""
    if len(nonce) != NONCE_BYTES:
        raise ValueError("a nonce has 32 bytes")
    return make_message(1, nonce=nonce)


def read_message(message: bytes, step: int, **schema: cbor.Reader) -> dict[str, Any]:
    """The content of a message of this step, by name."""
    if len(message) > MESSAGE_LIMIT:
        raise Malformed("handshake.size", f"{len(message)} bytes, at most {MESSAGE_LIMIT}")
    value = _decoded(message, "handshake.message")
    if value.get("label") != LABEL:
        raise Malformed("handshake.message", "another label")
    if value.get("version") != VERSION:
        raise Malformed("handshake.version", f"{value.get('version')!r}"[:40])
    if value.get("step") != step:
        raise Refused("handshake.step", f"{value.get('step')!r} where {step} is due"[:60])
    return _fields(value, "handshake.message", label=cbor.anything, version=_one, step=cbor.exactly(step), **schema)


def _decoded(data: bytes, code: str) -> dict[Any, Any]:
    try:
        value = cbor.decode(data, limits=_LIMITS)
    except Malformed as malformed:
        raise Malformed(code, malformed.code) from None
    if type(value) is not dict:
        raise Malformed(code, "not a map")
    return value


def _fields(value: dict[Any, Any], code: str, **schema: cbor.Reader) -> dict[str, Any]:
    try:
        return cbor.fields(value, **schema)
    except Malformed as malformed:
        raise Malformed(code, malformed.detail) from None


_one = cbor.exactly(VERSION)  # the type too: True equals 1
SESSION_FIELD = cbor.raw(SESSION_BYTES)
DOCUMENT_FIELD = cbor.raw(1, DOCUMENT_LIMIT)
CERTIFICATE_FIELD = cbor.raw(1, CERTIFICATE_LIMIT)


def make_message(step: int, **content: object) -> bytes:
    """A message of this step."""
    return cbor.encode({"label": LABEL, "version": VERSION, "step": step, **content})


def make_user_data(role: str, certificate: Certificate, **content: object) -> bytes:
    """What a document is made for: this role, the channel certificate beside it by its digest, and what follows."""
    content |= {"label": LABEL, "version": VERSION, "role": role, "certificate": _digest(certificate.der)}
    data = cbor.encode(content)
    if len(data) > USER_DATA_LIMIT:  # Terms are bounded, so only a change of this module gets here
        raise ValueError("user data is too long")
    return data


def read_user_data(
    attestation: Attestation, role: str, certificate: Certificate, **schema: cbor.Reader
) -> dict[str, Any]:
    """What the document was made for, by name; its role and the certificate beside it must be these."""
    data = attestation.user_data
    if data is None or len(data) > USER_DATA_LIMIT:
        raise Malformed("handshake.user_data", "none" if data is None else f"{len(data)} bytes")
    value = _decoded(data, "handshake.user_data")
    if value.get("label") != LABEL:
        raise Malformed("handshake.user_data", "another label")
    if value.get("role") in ("initiator", "responder") and value["role"] != role:
        raise Refused("handshake.role", f"{value['role']} where {role} is due")
    schema |= {
        "label": cbor.anything,
        "version": _one,
        "role": cbor.exactly(role),
        "certificate": cbor.raw(DIGEST_BYTES),
    }
    said = _fields(value, "handshake.user_data", **schema)
    # The key alone would let whoever is in between choose the names and the validity that get pinned.
    if said["certificate"] != _digest(certificate.der):
        raise Refused("handshake.certificate")
    return said


def _digest(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()


# --- certificates and documents ---


def channel_certificate(der: bytes, *, at: datetime) -> Certificate:
    """Read a channel certificate and judge its form and validity; whose it is, the document beside it says."""
    certificate = read_certificate(der, CERTIFICATE_LIMIT)
    if certificate.authority is not False or KEY_CERT_SIGN in (certificate.key_usage or ()):
        raise Refused("handshake.certificate_authority")
    if not certificate.not_before <= at <= certificate.not_after:
        raise Stale("handshake.certificate_validity")
    return certificate


def judge_peer(
    document: bytes, certificate: Certificate, own: bytes, nonce: bytes, judge: Judge, at: datetime
) -> Attestation:
    """The peer's attestation: for this nonce, for the key of the certificate beside it, and not our own."""
    if certificate.spki == own:
        raise Refused("handshake.reflected")
    attestation = judge(document, nonce=nonce, public_key=certificate.spki, at=at)
    # The handshake does not lean on the judge for what makes it a handshake.
    if attestation.nonce != nonce:
        raise Refused("handshake.nonce")
    if attestation.public_key != certificate.spki:
        raise Refused("handshake.key_binding")
    return attestation


def judge_responder(
    message: bytes, *, nonce: bytes, judge: Judge, at: datetime, own_spki: bytes = b""
) -> ResponderStatement:
    """Judge message 2, the answer to `hello(nonce)`. Compare its `terms` with those you expect.

    Beyond what `judge` demands, PCR16 must be that of the configuration which the responder claims.
    """
    content = read_message(message, 2, document=DOCUMENT_FIELD, certificate=CERTIFICATE_FIELD)
    certificate = channel_certificate(content["certificate"], at=at)
    attestation = judge_peer(content["document"], certificate, own_spki, nonce, judge, at)
    said = read_user_data(
        attestation,
        "responder",
        certificate,
        session=SESSION_FIELD,
        nonce=cbor.raw(NONCE_BYTES),
        party=_name,
        chain=_name,
        configuration=cbor.raw(DIGEST_BYTES),
    )
    if attestation.pcrs.get(CONFIGURATION_PCR) != configuration_pcr(said["configuration"]):
        raise Refused("handshake.configuration_pcr")
    return ResponderStatement(
        attestation=attestation,
        certificate=certificate.der,
        document_digest=_digest(content["document"]),
        session_id=said["session"],
        nonce=said["nonce"],
        terms=Terms(said["chain"], said["configuration"], said["party"]),
    )


def _name(value: Any) -> str:
    text: str = cbor.text(64)(value)
    if not text.isascii() or not text.isprintable():
        raise Malformed("handshake.user_data", "a name that is not printable ASCII")
    return text
