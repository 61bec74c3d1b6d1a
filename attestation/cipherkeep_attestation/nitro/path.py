"""The only place that judges certificate paths: from the pinned root down to the leaf that signs a document.

The rules are those of RFC 5280 §6.1 that AWS's procedure names, without revocation lists: validity at the stated time,
names that chain, authorities above and none below, path lengths, key usage, P-384 and SHA-384 throughout.
Instance and leaf certificates of real hardware carry no authority key identifier, and the leaf's key usage is not
critical: neither is demanded (docs/decisions/0010).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache

from cipherkeep_attestation import cose
from cipherkeep_attestation.errors import Stale, Untrusted
from cipherkeep_attestation.nitro.certificate import (
    DIGITAL_SIGNATURE,
    KEY_CERT_SIGN,
    Certificate,
    ecdsa_signature,
    read_certificate,
)
from cipherkeep_attestation.trace import Trace

# Codes that have passed once every certificate is read, and once the whole path is judged.
READING_RULES = (
    "certificate.size",
    "certificate.encoding",
    "certificate.structure",
    "certificate.version",
    "certificate.serial",
    "certificate.time",
    "certificate.duplicate_extension",
    "certificate.critical_extension",
    "certificate.extension",
)
PATH_RULES = (
    "path.not_yet_valid",
    "path.expired",
    "path.issuer",
    "path.key_identifier",
    "certificate.algorithm",
    "certificate.signature",
    "path.signature",
    "path.authority",
    "path.length",
    "path.key_usage",
    "path.leaf_authority",
    "certificate.key",
)

ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """A root certificate, known by every byte of it, and a name for it in messages."""

    certificate_der: bytes = field(repr=False)
    name: str


def judge_path(
    bundle: Sequence[bytes],
    leaf: bytes,
    *,
    root: TrustRoot,
    at: datetime,
    drift: timedelta,
    trace: Trace | None = None,
) -> tuple[Certificate, ...]:
    """Judge the certificates of a document, root first; return them read, leaf last.

    `drift` is by how much the clock of whoever judges may be behind: certificates may begin that much later.

    Raises `Untrusted("path.…")`, `Stale("path.expired" or "path.not_yet_valid")`, `Malformed("certificate.…")`.
    Order: root, then every certificate from the top down: form, validity, link to the one above, its own role.
    """
    if bundle[0] != root.certificate_der:
        raise Untrusted("path.root", f"trusted is {root.name}")
    trace = trace or Trace()
    trace.passes("path.root")
    path = tuple(read_certificate(der) for der in (*bundle, leaf))
    trace.passes(*READING_RULES)
    last = len(path) - 1
    for index, certificate in enumerate(path):
        place = "leaf" if index == last else "root" if index == 0 else f"certificate {index} below the root"
        _within_validity(certificate, at, drift, place)
        if index:
            _issued(certificate, path[index - 1], place)
        if index == last:
            _is_leaf(certificate)
        else:
            _is_authority(certificate, last - index - 1, place)
    trace.passes(*PATH_RULES)
    return path


def _within_validity(certificate: Certificate, at: datetime, drift: timedelta, place: str) -> None:
    if certificate.not_before - at > drift:  # a difference fits at every year, a sum does not
        raise Stale("path.not_yet_valid", f"{place}, from {certificate.not_before:%Y-%m-%d %H:%M:%S}Z")
    if certificate.not_after < at:
        raise Stale("path.expired", f"{place}, until {certificate.not_after:%Y-%m-%d %H:%M:%S}Z")


def _issued(certificate: Certificate, issuer: Certificate, place: str) -> None:
    if certificate.issuer != issuer.subject:
        raise Untrusted("path.issuer", place)
    named = certificate.authority_key_id
    if named is not None and issuer.subject_key_id is not None and named != issuer.subject_key_id:
        raise Untrusted("path.key_identifier", place)
    if certificate.algorithm != ECDSA_SHA384:
        raise Untrusted("certificate.algorithm", place)
    signature = ecdsa_signature(certificate.signature)
    if not _link_holds(certificate.tbs, signature, issuer.p384_point()):
        raise Untrusted("path.signature", place)


@lru_cache(maxsize=256)
def _link_holds(tbs: bytes, signature: bytes, point: bytes) -> bool:
    """Arithmetic on these bytes alone, remembered because an instance's path is the same for days.

    Validity, names and roles are judged every time.
    """
    return cose.verify_es384(tbs, signature=signature, point=point)


def _is_authority(certificate: Certificate, authorities_below: int, place: str) -> None:
    if certificate.authority is not True:
        raise Untrusted("path.authority", place)
    if certificate.path_length is not None and authorities_below > certificate.path_length:
        raise Untrusted("path.length", f"{place}: {authorities_below} below, {certificate.path_length} allowed")
    if certificate.key_usage is None or KEY_CERT_SIGN not in certificate.key_usage:
        raise Untrusted("path.key_usage", place)


def _is_leaf(certificate: Certificate) -> None:
    if certificate.authority:
        raise Untrusted("path.leaf_authority")
    usage = certificate.key_usage
    if usage is None or DIGITAL_SIGNATURE not in usage or KEY_CERT_SIGN in usage:
        raise Untrusted("path.key_usage", "leaf")
    certificate.p384_point()
