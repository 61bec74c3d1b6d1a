"""The only place that says yes to an attestation document: root, policy and time go in, an `Attestation` comes out.

    root = aws_root()
    policy = Policy(
        measurements=(Measurements({0: pcr0, 1: pcr1, 2: pcr2, 16: configuration_pcr(digest)}),),
        nonce=nonce, public_key=spki, max_age=timedelta(minutes=5),
    )
    attestation = verify(document, root=root, policy=policy, at=now)

There is no default root, no policy without measurements, no clock. What is unsafe has a name that says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Final

from cipherkeep_attestation import cose
from cipherkeep_attestation.errors import Refused, Stale, Untrusted
from cipherkeep_attestation.nitro.document import MOST_PCRS, PCR_BYTES, Document, Kind, decode
from cipherkeep_attestation.nitro.path import TrustRoot, judge_path

__all__ = [
    "NO_NONCE",
    "Attestation",
    "InsecureAnyMeasurement",
    "Measurements",
    "NoNonce",
    "Policy",
    "TrustRoot",
    "aws_root",
    "verify",
    "verify_host",
]

AWS_ROOT_SHA256 = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"  # published by AWS, root G1
_ZERO = bytes(PCR_BYTES)
_IMAGE = (0, 1, 2)  # only together do they mean an image: each alone joins its parts without lengths


class NoNonce(Enum):
    """The type of `NO_NONCE`, for policies that take a document whoever asked for it."""

    NO_NONCE = "no nonce demanded"


NO_NONCE: Final = NoNonce.NO_NONCE


@dataclass(frozen=True, slots=True)
class Measurements:
    """One acceptable set: every PCR named must have exactly this value (48 bytes), those not named may have any.

    For enclaves PCR0, 1 and 2 must be named; PCR16 is the configuration (`eif.configuration_pcr`), PCR8 the signer.
    For hosts the boot PCRs 4 and 7 are usual.
    """

    pcrs: Mapping[int, bytes]

    def __post_init__(self) -> None:
        """ValueError unless at least one PCR is named, with an index of 0 to 31 and 48 bytes."""
        pcrs = dict(sorted(self.pcrs.items()))
        if not pcrs:
            raise ValueError("measurements without a PCR would accept anything")
        for index, value in pcrs.items():
            if type(index) is not int or not 0 <= index < MOST_PCRS:
                raise ValueError(f"not a PCR: {index}")
            if type(value) is not bytes or len(value) != PCR_BYTES:
                raise ValueError(f"PCR{index} must have {PCR_BYTES} bytes")
        object.__setattr__(self, "pcrs", MappingProxyType(pcrs))


@dataclass(frozen=True, slots=True)
class InsecureAnyMeasurement:
    """Accept whatever runs there. For looking at archived documents, never for trusting an enclave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a document must prove. ValueError for a policy that demands nothing where it must demand something."""

    measurements: tuple[Measurements, ...] | InsecureAnyMeasurement  # alternatives: old and new release
    nonce: bytes | NoNonce
    public_key: bytes | None  # SubjectPublicKeyInfo that must be bound; None where no channel is to be bound
    max_age: timedelta
    clock_drift: timedelta = timedelta(minutes=1)  # how far the judging clock may be behind the hypervisor's
    insecure_allow_debug: bool = False

    def __post_init__(self) -> None:
        measurements = self.measurements
        if not isinstance(measurements, InsecureAnyMeasurement) and (
            type(measurements) is not tuple
            or not measurements
            or not all(isinstance(entry, Measurements) for entry in measurements)
        ):
            raise ValueError("a policy names at least one set of measurements, in a tuple")
        if self.nonce is not NO_NONCE and (type(self.nonce) is not bytes or not self.nonce):
            raise ValueError("a policy names the nonce it sent, or NO_NONCE")
        if self.public_key is not None and (type(self.public_key) is not bytes or not self.public_key):
            raise ValueError("a policy names a public key, or None")
        if self.max_age <= timedelta(0) or self.clock_drift < timedelta(0):
            raise ValueError("ages are positive")


@dataclass(frozen=True, slots=True)
class Attestation:
    """What a document proves, once root and policy have been satisfied.

    `document_digest` is the SHA-384 of the signed payload: the envelope around it can be rewritten (its tag, the other
    half of its signature), so the bytes of a document identify nothing.
    """

    kind: Kind
    module_id: str
    timestamp: datetime  # UTC, when it was made, by the hypervisor's clock
    pcrs: Mapping[int, bytes] = field(repr=False)
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None
    certificates: tuple[bytes, ...] = field(repr=False)  # DER, leaf first, root last
    not_after: datetime  # UTC, end of the leaf's validity: the attestation ends with it
    debug: bool
    document_digest: bytes


@lru_cache(maxsize=1)
def aws_root() -> TrustRoot:
    """The root of AWS's commercial partition, "aws.nitro-enclaves" G1, valid from 2019 to 2049.

    Raises `Untrusted("document.root_data")` when the packaged certificate is not the one whose digest AWS published.
    """
    der = resources.files("cipherkeep_attestation.nitro").joinpath("aws_nitro_root_g1.der").read_bytes()
    if hashlib.sha256(der).hexdigest() != AWS_ROOT_SHA256:
        raise Untrusted("document.root_data")
    return TrustRoot(der, "AWS Nitro Enclaves G1")


def verify(document: bytes, *, root: TrustRoot, policy: Policy, at: datetime) -> Attestation:
    """Judge an enclave's attestation document at the stated time (aware of its zone).

    Raises an `EvidenceError` whose `code` names the rule that failed; nothing is returned for a document that is only
    partly good. Order: size, encoding, schema, path at `at`, signature, age, debug, measurements, nonce, public key.
    ValueError for a policy that does not name PCR0, 1 and 2, and for a time without a zone.
    """
    sets = policy.measurements
    if not isinstance(sets, InsecureAnyMeasurement) and not all(
        index in entry.pcrs for entry in sets for index in _IMAGE
    ):
        raise ValueError("measurements of an enclave name PCR0, PCR1 and PCR2")
    return _judge(document, "enclave", root, policy, at)


def verify_host(document: bytes, *, root: TrustRoot, policy: Policy, at: datetime) -> Attestation:
    """Judge an instance's NitroTPM attestation document at the stated time. As `verify`; hosts have no debug mode."""
    return _judge(document, "host", root, policy, at)


def _judge(data: bytes, kind: Kind, root: TrustRoot, policy: Policy, at: datetime) -> Attestation:
    if at.utcoffset() is None:
        raise ValueError("a time needs a zone")
    document = decode(data, expected=kind)
    path = judge_path(document.cabundle, document.certificate, root=root, at=at, drift=policy.clock_drift)
    leaf = path[-1]
    if not cose.verify_es384(document.signed, signature=document.signature, point=leaf.p384_point()):
        raise Untrusted("document.signature")
    _age(document, policy, at)
    # A zero in any of the three is no digest of an image, whatever mode the platform calls it.
    debug = kind == "enclave" and any(document.pcrs[index] == _ZERO for index in _IMAGE)
    if debug and not policy.insecure_allow_debug:
        raise Refused("document.debug")
    _measurements(document, policy)
    if policy.nonce is not NO_NONCE and document.nonce != policy.nonce:
        raise Refused("document.nonce", "none" if document.nonce is None else "another")
    if policy.public_key is not None and document.public_key != policy.public_key:
        raise Refused("document.public_key", "none" if document.public_key is None else "another")
    return Attestation(
        kind=kind,
        module_id=document.module_id,
        timestamp=document.timestamp,
        pcrs=document.pcrs,
        public_key=document.public_key,
        user_data=document.user_data,
        nonce=document.nonce,
        certificates=tuple(certificate.der for certificate in reversed(path)),
        not_after=leaf.not_after,
        debug=debug,
        document_digest=document.payload_digest,
    )


def _age(document: Document, policy: Policy, at: datetime) -> None:
    age = at - document.timestamp
    if age > policy.max_age:
        raise Stale(
            "document.too_old", f"{int(age.total_seconds())} s, at most {int(policy.max_age.total_seconds())} s"
        )
    if -age > policy.clock_drift:
        raise Stale("document.from_future", f"{int(-age.total_seconds())} s ahead")


def _measurements(document: Document, policy: Policy) -> None:
    if isinstance(policy.measurements, InsecureAnyMeasurement):
        return
    differing = []
    for entry in policy.measurements:
        wrong = [index for index, value in entry.pcrs.items() if document.pcrs.get(index) != value]
        if not wrong:
            return
        differing.append("PCR " + ", ".join(str(index) for index in wrong))
    raise Refused("document.pcr_mismatch", "; ".join(differing)[:200])
