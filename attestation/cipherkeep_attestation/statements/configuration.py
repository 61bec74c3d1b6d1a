"""The only place for the measured configuration and for the genesis parameters of a contract instance.

An enclave is handed its configuration by the host, extends PCR16 with the digest, and locks it: who demands a PCR16
demands this configuration. It pins little; what changes in operation is decided by governance.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cipherkeep_attestation import cbor
from cipherkeep_attestation.chain.light import LightRoot
from cipherkeep_attestation.errors import Malformed
from cipherkeep_attestation.statements.governance import Governors

LABEL = "cipherkeep/configuration/v1"
GENESIS_LABEL = "cipherkeep/genesis/v1"
MAX_CONFIGURATION = 1 << 16  # bytes

INSECURE_SETTINGS = (
    "insecure_allow_all",
    "insecure_any_host_measurement",
    "insecure_cleartext",
    "insecure_test_parameters",
)
_CERTIFICATE = cbor.raw(1, 2048)


@dataclass(frozen=True, slots=True)
class Genesis:
    """What a contract instance starts with and never changes. No measurements: releases are governance's."""

    governors: Governors
    enclave_roots: tuple[bytes, ...]  # DER: whose attestation documents a registration may carry
    answers: int  # votes that make an answer final
    expiry_blocks: int  # a pending request expires this many blocks after its own
    insecure_allow_all: bool  # whether keys may name that authoriser

    def encode(self) -> bytes:
        """Deterministic CBOR."""
        return cbor.encode(
            {
                "answers": self.answers,
                "enclave_roots": list(self.enclave_roots),
                "expiry_blocks": self.expiry_blocks,
                "governors": self.governors.to_map(),
                "insecure_allow_all": self.insecure_allow_all,
                "label": GENESIS_LABEL,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Genesis:
        """Read what `encode` writes."""
        found = cbor.fields(
            cbor.decode(data),
            answers=cbor.uint(1000, least=1),
            enclave_roots=cbor.sequence(_CERTIFICATE, 8, least=1),
            expiry_blocks=cbor.uint(1 << 32, least=1),
            governors=cbor.anything,
            insecure_allow_all=cbor.boolean,
            label=cbor.exactly(GENESIS_LABEL),
        )
        del found["label"]
        found["governors"] = Governors.of_map(found["governors"])
        return cls(**found)

    def digest(self) -> bytes:
        """SHA-256: how statements and configurations name the instance's parameters."""
        return hashlib.sha256(self.encode()).digest()


@dataclass(frozen=True, slots=True)
class KeyService:
    """The AWS KMS key that guards the vault, and how its service is recognised."""

    key_arn: str
    host: str  # the name in its certificate
    ca: bytes  # DER: the one CA that TLS accepts


@dataclass(frozen=True, slots=True)
class Configuration:
    """What one enclave is measured with."""

    root: LightRoot
    instance: str
    genesis: Genesis
    party: str
    kms: KeyService | None  # None only with insecure_cleartext
    enclave_root: bytes  # DER: whose documents other enclaves must present, and the AWS KMS double checks
    host_root: bytes  # DER: whose documents hosts must present
    host_measurements: tuple[bytes, ...]  # nitrotpm PCR sets that may connect: SHA-256 over dCBOR {index: value}
    insecure: tuple[str, ...]

    def __post_init__(self) -> None:
        if list(self.insecure) != sorted(set(self.insecure)) or not set(self.insecure) <= set(INSECURE_SETTINGS):
            raise Malformed("configuration.insecure", ", ".join(self.insecure)[:200])
        if (self.kms is None) != ("insecure_cleartext" in self.insecure):
            raise Malformed("configuration.kms")
        if bool(self.host_measurements) == ("insecure_any_host_measurement" in self.insecure):
            raise Malformed("configuration.host_measurements")
        if self.genesis.insecure_allow_all != ("insecure_allow_all" in self.insecure):
            raise Malformed("configuration.allow_all")

    def encode(self) -> bytes:
        """Deterministic CBOR: what is measured."""
        kms = self.kms
        return cbor.encode(
            {
                "enclave_root": self.enclave_root,
                "genesis": self.genesis.encode(),
                "host_measurements": list(self.host_measurements),
                "host_root": self.host_root,
                "insecure": list(self.insecure),
                "instance": self.instance,
                "kms": None if kms is None else {"ca": kms.ca, "host": kms.host, "key_arn": kms.key_arn},
                "label": LABEL,
                "party": self.party,
                "root": {
                    "chain_id": self.root.chain_id,
                    "hash": self.root.header_hash,
                    "height": self.root.height,
                },
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Configuration:
        """Read what `encode` writes."""
        if len(data) > MAX_CONFIGURATION:
            raise Malformed("encoding.size", f"{len(data)} bytes")
        found = cbor.fields(
            cbor.decode(data),
            enclave_root=_CERTIFICATE,
            genesis=cbor.raw(1, MAX_CONFIGURATION),
            host_measurements=cbor.sequence(cbor.raw(32), 64),
            host_root=_CERTIFICATE,
            insecure=cbor.sequence(cbor.text(64), 16),
            instance=cbor.text(64),
            kms=cbor.anything,
            label=cbor.exactly(LABEL),
            party=cbor.text(64),
            root=cbor.anything,
        )
        del found["label"]
        found["genesis"] = Genesis.decode(found["genesis"])
        root = cbor.fields(found["root"], chain_id=cbor.text(50), hash=cbor.raw(32), height=cbor.uint(least=1))
        found["root"] = LightRoot(root["chain_id"], root["height"], root["hash"])
        if found["kms"] is not None:
            found["kms"] = KeyService(
                **cbor.fields(found["kms"], ca=_CERTIFICATE, host=cbor.text(253), key_arn=cbor.text(256))
            )
        return cls(**found)

    def digest(self) -> bytes:
        """SHA-384: what PCR16 is extended with."""
        return hashlib.sha384(self.encode()).digest()
