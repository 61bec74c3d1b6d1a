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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Final, TypeAlias

from cipherkeep_attestation import cose
from cipherkeep_attestation.errors import Refused, Stale, Untrusted
from cipherkeep_attestation.nitro.document import MOST_PCRS, PCR_BYTES, Document, Kind, UnknownFields, decode
from cipherkeep_attestation.nitro.path import TrustRoot, judge_path
from cipherkeep_attestation.trace import Trace

__all__ = [
    "NO_NONCE",
    "Attestation",
    "InsecureAnyMeasurement",
    "Measurements",
    "NoNonce",
    "Policy",
    "TrustRoot",
    "UserDataRule",
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

# Judges a document's user data and returns, or raises an `EvidenceError`, `Refused("document.user_data")` as a rule.
UserDataRule: TypeAlias = Callable[[bytes | None], None]


@dataclass(frozen=True, slots=True)
class Measurements:
    """One acceptable set: every PCR named must have exactly this value (48 bytes), those not named may have any.

    For enclaves PCR0, 1 and 2 must be named; PCR16 is the configuration (`eif.configuration_pcr`), PCR8 the signer.
    For hosts the boot PCRs 4 and 7 are usual. A set with a window holds at stated times from `not_before` up to and
    without `not_after`.
    """

    pcrs: Mapping[int, bytes]
    name: str = ""  # of the release, for people
    not_before: datetime | None = None
    not_after: datetime | None = None

    def __post_init__(self) -> None:
        """ValueError unless at least one PCR is named, with an index of 0 to 31 and 48 bytes; for an empty window."""
        for bound in (self.not_before, self.not_after):
            if bound is not None and bound.utcoffset() is None:
                raise ValueError("a window's times need a zone")
        if self.not_before is not None and self.not_after is not None and self.not_before >= self.not_after:
            raise ValueError("a window ends after it begins")
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
    clock_drift: timedelta = timedelta(0)  # how far the judging clock may be behind the hypervisor's
    insecure_allow_debug: bool = False
    unknown_fields: UnknownFields = "refuse"
    user_data: UserDataRule | None = None  # None where nothing is demanded of it
    insecure_partial_image: bool = False  # sets need not name PCR1 and PCR2: PCR0 alone joins parts without lengths

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
        if self.unknown_fields not in ("refuse", "ignore"):
            raise ValueError("a policy refuses or ignores unknown fields")


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
    release: str = ""  # name of the set of measurements that matched
    unknown_fields: tuple[str, ...] = ()  # fields that the policy let pass unread


@lru_cache(maxsize=1)
def aws_root() -> TrustRoot:
    """The root of AWS's commercial partition, "aws.nitro-enclaves" G1, valid from 2019 to 2049.

    Raises `Untrusted("document.root_data")` when the packaged certificate is not the one whose digest AWS published.
    """
    der = resources.files("cipherkeep_attestation.nitro").joinpath("aws_nitro_root_g1.der").read_bytes()
    if hashlib.sha256(der).hexdigest() != AWS_ROOT_SHA256:
        raise Untrusted("document.root_data")
    return TrustRoot(der, "AWS Nitro Enclaves G1")


def verify(
    document: bytes, *, root: TrustRoot, policy: Policy, at: datetime, trace: Trace | None = None
) -> Attestation:
    """Judge an enclave's attestation document at the stated time (aware of its zone).

    Raises an `EvidenceError` whose `code` names the rule that failed; nothing is returned for a document that is only
    partly good. Order: size, encoding, schema, path at `at`, signature, age, debug, measurements, nonce, public key,
    user data. `trace` learns which rules have passed (`rules.rules` lists them).
    ValueError for a policy that does not name PCR0, 1 and 2, and for a time without a zone.
    """
    sets = policy.measurements
    demanded = _IMAGE[:1] if policy.insecure_partial_image else _IMAGE
    if not isinstance(sets, InsecureAnyMeasurement) and not all(
        index in entry.pcrs for entry in sets for index in demanded
    ):
        raise ValueError("measurements of an enclave name PCR0, PCR1 and PCR2")
    return _judge(document, "enclave", root, policy, at, trace or Trace())


def verify_host(
    document: bytes, *, root: TrustRoot, policy: Policy, at: datetime, trace: Trace | None = None
) -> Attestation:
    """Judge an instance's NitroTPM attestation document at the stated time. As `verify`; hosts have no debug mode."""
    return _judge(document, "host", root, policy, at, trace or Trace())


def _judge(data: bytes, kind: Kind, root: TrustRoot, policy: Policy, at: datetime, trace: Trace) -> Attestation:
    if at.utcoffset() is None:
        raise ValueError("a time needs a zone")
    document = decode(data, expected=kind, unknown_fields=policy.unknown_fields, trace=trace)
    path = judge_path(document.cabundle, document.certificate, root=root, at=at, drift=policy.clock_drift, trace=trace)
    leaf = path[-1]
    if not cose.verify_es384(document.signed, signature=document.signature, point=leaf.p384_point()):
        raise Untrusted("document.signature")
    trace.passes("document.signature")
    _age(document, policy, at, trace)
    # A zero in any of the three is no digest of an image, whatever mode the platform calls it.
    debug = kind == "enclave" and any(document.pcrs[index] == _ZERO for index in _IMAGE)
    if debug and not policy.insecure_allow_debug:
        raise Refused("document.debug")
    if debug:
        trace.waives("document.debug", "in debug mode, which the policy allows")
    else:
        trace.passes("document.debug")
    release = _measurements(document, policy, at, trace)
    _bindings(document, policy, trace)
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
        release=release,
        unknown_fields=document.unknown_fields,
    )


def _bindings(document: Document, policy: Policy, trace: Trace) -> None:
    if policy.nonce is NO_NONCE:
        trace.waives("document.nonce", "the policy takes a document whoever asked for it")
    elif document.nonce != policy.nonce:
        raise Refused("document.nonce", "none" if document.nonce is None else "another")
    else:
        trace.passes("document.nonce")
    if policy.public_key is None:
        trace.waives("document.public_key", "no channel was named")
    elif document.public_key != policy.public_key:
        raise Refused("document.public_key", "none" if document.public_key is None else "another")
    else:
        trace.passes("document.public_key")
    if policy.user_data is None:
        trace.waives("document.user_data", "the policy takes any")
    else:
        policy.user_data(document.user_data)
        trace.passes("document.user_data")


def _age(document: Document, policy: Policy, at: datetime, trace: Trace) -> None:
    age = at - document.timestamp
    if age > policy.max_age:
        raise Stale(
            "document.too_old", f"{int(age.total_seconds())} s, at most {int(policy.max_age.total_seconds())} s"
        )
    trace.passes("document.too_old")
    # Documents tell milliseconds, certificates and most callers seconds: a stated second is the whole of it.
    if document.timestamp.replace(microsecond=0) - at > policy.clock_drift:
        raise Stale("document.from_future", f"{int(-age.total_seconds())} s ahead")
    trace.passes("document.from_future")


def _measurements(document: Document, policy: Policy, at: datetime, trace: Trace) -> str:
    """Name of the first set that matches and is in its time."""
    if isinstance(policy.measurements, InsecureAnyMeasurement):
        trace.waives("document.pcr_mismatch", "the policy takes any")
        trace.waives("document.release_window", "no release is named")
        return ""
    differing = []
    outside = []
    for entry in policy.measurements:
        wrong = [index for index, value in entry.pcrs.items() if document.pcrs.get(index) != value]
        if wrong:
            name = f"{entry.name}: " if entry.name else ""
            differing.append(f"{name}PCR " + ", ".join(str(index) for index in wrong))
        elif entry.not_before is not None and at < entry.not_before:
            outside.append(f"{entry.name}: from {entry.not_before.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z")
        elif entry.not_after is not None and at >= entry.not_after:
            outside.append(f"{entry.name}: until {entry.not_after.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z")
        else:
            trace.passes("document.pcr_mismatch", "document.release_window")
            return entry.name
    if outside:
        trace.passes("document.pcr_mismatch")
        raise Stale("document.release_window", "; ".join(outside)[:200])
    raise Refused("document.pcr_mismatch", "; ".join(differing)[:200])
