"""The only place for what governance decides: serial-numbered statements signed by k of the instance's n keys.

An enclave trusts no chain for these: it verifies the signatures itself, against the keys in its measured configuration,
and learns from the control leaf that none was left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cipherkeep_attestation import cbor, cose
from cipherkeep_attestation.errors import Malformed, Untrusted
from cipherkeep_attestation.statements.eip712 import Domain

LABEL = "cipherkeep/governance/v1"
MAX_STATEMENT = 1 << 16  # bytes
MAX_KEYS = 64
FHE_KEYS = 64  # keys that an instance may decide on over its whole life: as many as one vault holds
_PROTECTED = cbor.encode({1: cose.EDDSA})

SET_COPROCESSORS, SET_RELEASES, ADMIT_PARTY = "set_coprocessors", "set_releases", "admit_party"
KEYGEN, RETIRE_KEY, LIFT_FREEZE = "keygen", "retire_key", "lift_freeze"
KINDS = (SET_COPROCESSORS, SET_RELEASES, ADMIT_PARTY, KEYGEN, RETIRE_KEY, LIFT_FREEZE)


@dataclass(frozen=True, slots=True)
class Governors:
    """n Ed25519 keys, of which k must sign."""

    keys: tuple[bytes, ...]
    threshold: int

    def __post_init__(self) -> None:
        distinct = len(set(self.keys)) == len(self.keys)
        if not distinct or not 1 <= self.threshold <= len(self.keys) <= MAX_KEYS:
            raise Malformed("governance.keys", f"{self.threshold} of {len(self.keys)}")

    def to_map(self) -> dict[str, object]:
        """For our own messages."""
        return {"keys": list(self.keys), "threshold": self.threshold}

    @classmethod
    def of_map(cls, value: object) -> Governors:
        """Read what `to_map` makes."""
        found = cbor.fields(
            value, keys=cbor.sequence(cbor.raw(32), MAX_KEYS, least=1), threshold=cbor.uint(MAX_KEYS, least=1)
        )
        return cls(found["keys"], found["threshold"])


# --- the bodies ---


@dataclass(frozen=True, slots=True)
class Coprocessors:
    """The signers of ciphertext bindings (addresses) and how many must agree."""

    signers: tuple[bytes, ...]
    threshold: int

    def __post_init__(self) -> None:
        distinct = len(set(self.signers)) == len(self.signers)
        if not distinct or not 1 <= self.threshold <= len(self.signers) <= MAX_KEYS:
            raise Malformed("governance.coprocessors", f"{self.threshold} of {len(self.signers)}")

    def to_map(self) -> dict[str, object]:
        """The statement's body."""
        return {"signers": list(self.signers), "threshold": self.threshold}

    @classmethod
    def of_map(cls, value: object) -> Coprocessors:
        """Read what `to_map` makes."""
        found = cbor.fields(
            value,
            signers=cbor.sequence(cbor.raw(20), MAX_KEYS, least=1),
            threshold=cbor.uint(MAX_KEYS, least=1),
        )
        return cls(found["signers"], found["threshold"])


@dataclass(frozen=True, slots=True)
class Release:
    """An image that may hold keys: its name for people, and PCR0, 1 and 2."""

    name: str
    pcr0: bytes
    pcr1: bytes
    pcr2: bytes


@dataclass(frozen=True, slots=True)
class Releases:
    """All images that may register from now on; a registration of any other lapses."""

    releases: tuple[Release, ...]

    def to_map(self) -> dict[str, object]:
        """The statement's body."""
        rows = [{"name": item.name, "pcr0": item.pcr0, "pcr1": item.pcr1, "pcr2": item.pcr2} for item in self.releases]
        return {"releases": rows}

    @classmethod
    def of_map(cls, value: object) -> Releases:
        """Read what `to_map` makes."""
        rows = cbor.fields(value, releases=cbor.sequence(cbor.anything, 64, least=1))["releases"]
        pcr = cbor.raw(48)
        return cls(tuple(Release(**cbor.fields(row, name=cbor.text(64), pcr0=pcr, pcr1=pcr, pcr2=pcr)) for row in rows))


INSECURE_ALLOW_ALL, GRANTED_USERS = "insecure_allow_all", "granted_users"


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """What a key is for, fixed for ever in its sealed record.

    `public_decrypt` and `user_decrypt` name the authoriser of each operation. `host_chain_id` and `acl` stand in the
    domain of bindings and grants; `decryption` is the domain of answers (the gateway chain); users sign under the same
    name, version and contract with the host chain's id.
    """

    parameters: str
    public_decrypt: str
    user_decrypt: str
    host_chain_id: int
    acl: bytes
    decryption: Domain

    def bindings(self) -> Domain:
        """The domain of ciphertext bindings and grants."""
        return Domain("Cipherkeep", "1", self.host_chain_id, self.acl)

    def user_requests(self) -> Domain:
        """The domain under which users sign."""
        return Domain(
            self.decryption.name,
            self.decryption.version,
            self.host_chain_id,
            self.decryption.verifying_contract,
        )

    def to_map(self) -> dict[str, object]:
        """The statement's body."""
        return {
            "acl": self.acl,
            "decryption": self.decryption.to_map(),
            "host_chain_id": self.host_chain_id,
            "parameters": self.parameters,
            "public_decrypt": self.public_decrypt,
            "user_decrypt": self.user_decrypt,
        }

    @classmethod
    def of_map(cls, value: object) -> KeyTerms:
        """Read what `to_map` makes."""
        found = cbor.fields(
            value,
            acl=cbor.raw(20),
            decryption=cbor.anything,
            host_chain_id=cbor.uint(),
            parameters=cbor.text(96),
            public_decrypt=cbor.one_of(INSECURE_ALLOW_ALL),
            user_decrypt=cbor.one_of(GRANTED_USERS),
        )
        found["decryption"] = Domain.of_map(found["decryption"])
        return cls(**found)


def _party(body: object) -> dict[str, Any]:
    """A name alone would let whoever registers first fix the party's keys; so the configuration is named with it."""
    return cbor.fields(body, configuration=cbor.raw(48), name=cbor.text(64))


def _key(body: object) -> dict[str, Any]:
    return cbor.fields(body, key_id=cbor.raw(32))


def _conflict(body: object) -> dict[str, Any]:
    return cbor.fields(body, conflict=cbor.raw(32))


_BODIES: dict[str, Any] = {
    SET_COPROCESSORS: Coprocessors.of_map,
    SET_RELEASES: Releases.of_map,
    ADMIT_PARTY: _party,
    KEYGEN: KeyTerms.of_map,
    RETIRE_KEY: _key,
    LIFT_FREEZE: _conflict,
}


# --- the statement ---


@dataclass(frozen=True, slots=True)
class Statement:
    """One decision. `serial` counts the decisions of an instance from 1; `genesis` is the SHA-256 of the instance's
    genesis parameters, so that no statement serves two instances."""

    instance: str
    genesis: bytes
    serial: int
    kind: str
    body: dict[str, Any]

    def payload(self) -> bytes:
        """What the keys sign."""
        return cbor.encode(
            {
                "body": self.body,
                "genesis": self.genesis,
                "instance": self.instance,
                "kind": self.kind,
                "label": LABEL,
                "serial": self.serial,
            }
        )

    def content(self) -> Any:
        """The body as its type: Coprocessors, Releases, KeyTerms, or a map: `admit_party` {"name", "configuration"
        (SHA-384 of the measured configuration)}, `retire_key` {"key_id"}, `lift_freeze` {"conflict"}."""
        return _BODIES[self.kind](self.body)

    def sign(self, keys: Sequence[Ed25519PrivateKey]) -> bytes:
        """The signed statement's bytes."""
        payload = self.payload()
        signed = cose.sig_structure(_PROTECTED, payload)
        signatures = sorted(
            [key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw), key.sign(signed)] for key in keys
        )
        return cbor.encode({"signatures": signatures, "statement": payload})


def verify(data: bytes, *, governors: Governors, instance: str, genesis: bytes, serial: int | None = None) -> Statement:
    """A statement of this instance signed by enough of its governors. `EvidenceError` otherwise.

    `serial` is the number it must have, or None where any number will do.
    """
    if len(data) > MAX_STATEMENT:
        raise Malformed("encoding.size", f"{len(data)} bytes")
    outer = cbor.fields(
        cbor.decode(data),
        signatures=cbor.sequence(cbor.anything, MAX_KEYS, least=1),
        statement=cbor.raw(1, MAX_STATEMENT),
    )
    found = cbor.fields(
        cbor.decode(outer["statement"]),
        body=cbor.mapping(cbor.text(64), cbor.anything, 64),
        genesis=cbor.raw(32),
        instance=cbor.text(64),
        kind=cbor.one_of(*KINDS),
        label=cbor.exactly(LABEL),
        serial=cbor.uint(least=1),
    )
    statement = Statement(found["instance"], found["genesis"], found["serial"], found["kind"], found["body"])
    statement.content()
    if statement.instance != instance or statement.genesis != genesis:
        raise Untrusted("governance.instance", statement.instance)
    if serial is not None and statement.serial != serial:
        raise Untrusted("governance.serial", f"{statement.serial}, expected {serial}")
    _check_signatures(outer["signatures"], cose.sig_structure(_PROTECTED, outer["statement"]), governors)
    return statement


def _check_signatures(signatures: Sequence[object], signed: bytes, governors: Governors) -> None:
    previous = b""
    for item in signatures:
        if type(item) is not list or len(item) != 2:
            raise Malformed("encoding.schema", "a signature is [key, signature]")
        pair = cbor.fields({"key": item[0], "signature": item[1]}, key=cbor.raw(32), signature=cbor.raw(64))
        if pair["key"] <= previous:
            raise Malformed("governance.signature_order")
        previous = pair["key"]
        if pair["key"] not in governors.keys:
            raise Untrusted("governance.stranger", pair["key"].hex())
        try:
            Ed25519PublicKey.from_public_bytes(pair["key"]).verify(pair["signature"], signed)
        except (InvalidSignature, ValueError):
            raise Untrusted("governance.signature", pair["key"].hex()) from None
    if len(signatures) < governors.threshold:
        raise Untrusted("governance.quorum", f"{len(signatures)} of {governors.threshold}")
