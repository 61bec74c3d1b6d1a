"""The only place that reads policy files: which releases an auditor accepts, and what else a document must prove.

A policy is TOML (docs/policy.schema.json):

    format = 1
    kind = "enclave"
    max_age_seconds = 300
    nonce = "demanded"

    [[release]]
    version = "1.4.0"
    pcr0 = "…"                             # 96 hexadecimal digits, as are the others
    pcr1 = "…"
    pcr2 = "…"
    pcr16 = "…"
    configuration = "…"                    # SHA-384 of the configuration that PCR16 stands for
    not_after = 2027-01-01T00:00:00Z

A file without a release is an error, as is every key that is not known: a misspelt demand would be no demand. Its
signature is a detached COSE_Sign1 (EdDSA) beside it, over its bytes as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cipherkeep_attestation import cbor, cose, strict_toml
from cipherkeep_attestation.eif import CONFIGURATION_PCR, ZERO_PCR, configuration_pcr
from cipherkeep_attestation.errors import Malformed, Refused, Untrusted
from cipherkeep_attestation.handshake_messages import LABEL, NONCE_BYTES, SESSION_BYTES, VERSION
from cipherkeep_attestation.nitro.document import Kind, UnknownFields
from cipherkeep_attestation.nitro.verify import NO_NONCE, Measurements, Policy, UserDataRule

LIMIT = 128 * 1024  # bytes of a policy file
MOST_RELEASES = 128
SIGNATURE_LIMIT = 256  # bytes of a detached signature; it has 71
PURPOSE = b"cipherkeep policy v1"  # signed with the file, so that no other signature of the key stands for one

_OLDEST = timedelta(days=366)
_MOST_DRIFT = timedelta(hours=1)  # beyond it a clock is wrong, not behind
_IMAGE = ("pcr0", "pcr1", "pcr2")
_PCR = re.compile(r"pcr(?:[0-9]|[12][0-9]|3[01])")
_PCR_VALUE = re.compile(r"[0-9a-fA-F]{96}")
_VERSION = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,62}[\x21-\x7e])?")

REQUIRED = frozenset(("format", "kind", "max_age_seconds", "nonce", "release"))
OPTIONAL = frozenset(("clock_drift_seconds", "unknown_fields", "user_data", "insecure_allow_debug"))
RELEASE_REQUIRED = frozenset(("version",))
RELEASE_OPTIONAL = frozenset(("configuration", "not_before", "not_after"))


@dataclass(frozen=True, slots=True)
class Release:
    """One release: its measurements (48 bytes each), the configuration that PCR16 stands for, and its window (UTC)."""

    version: str
    pcrs: Mapping[int, bytes]
    configuration: bytes | None = None  # SHA-384
    not_before: datetime | None = None
    not_after: datetime | None = None

    def measurements(self) -> Measurements:
        """As the verifier takes them."""
        return Measurements(self.pcrs, name=self.version, not_before=self.not_before, not_after=self.not_after)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFile:
    """What a policy file says."""

    kind: Kind
    releases: tuple[Release, ...]
    max_age: timedelta
    clock_drift: timedelta
    nonce_demanded: bool
    unknown_fields: UnknownFields
    user_data: str
    insecure_allow_debug: bool

    def narrowed(self, pcrs: Mapping[int, bytes]) -> PolicyFile:
        """The policy with these PCRs demanded of every release; releases that name another value are dropped.

        `Refused("policy.contradiction")` when none is left.
        """
        kept = tuple(
            replace(release, pcrs=MappingProxyType(dict(release.pcrs) | dict(pcrs)))
            for release in self.releases
            if all(release.pcrs.get(index, value) == value for index, value in pcrs.items())
        )
        if not kept:
            raise Refused("policy.contradiction", "PCR " + ", ".join(str(index) for index in sorted(pcrs)))
        return replace(self, releases=kept)

    def policy(self, *, nonce: bytes | None, public_key: bytes | None = None) -> Policy:
        """What the verifier demands. ValueError when the file demands a nonce and none is given."""
        if nonce is None and self.nonce_demanded:
            raise ValueError("the policy demands a nonce")
        return Policy(
            measurements=tuple(release.measurements() for release in self.releases),
            nonce=NO_NONCE if nonce is None else nonce,
            public_key=public_key,
            max_age=self.max_age,
            clock_drift=self.clock_drift,
            insecure_allow_debug=self.insecure_allow_debug,
            unknown_fields=self.unknown_fields,
            user_data=user_data_rule(self.user_data),
        )


# --- reading ---


def read_policy(data: bytes) -> PolicyFile:
    """Read a policy file. Raises `Malformed("policy.…")`: size, encoding, keys, values, releases one by one."""
    if len(data) > LIMIT:
        raise Malformed("policy.size", f"{len(data)} bytes, at most {LIMIT}")
    try:
        found = strict_toml.loads(data)
    except ValueError as error:  # UTF-8, TOML, and numbers that Python refuses to read
        raise Malformed("policy.encoding", str(error)[:200]) from None
    if found.get("release", []) == []:
        raise Malformed("policy.no_measurements")
    _keys(found, REQUIRED, OPTIONAL, "the policy")
    if type(found["format"]) is not int or found["format"] != 1:
        raise Malformed("policy.format", "format is 1")
    kind = cast(Kind, _choice(found, "kind", ("enclave", "host")))
    allow_debug = found.get("insecure_allow_debug", False)
    if type(allow_debug) is not bool:
        raise Malformed("policy.value", "insecure_allow_debug is true or false")
    user_data = found.get("user_data", "any")
    if type(user_data) is not str:
        raise Malformed("policy.value", "user_data is a text")
    user_data_rule(user_data)
    return PolicyFile(
        kind=kind,
        releases=_releases(found["release"], kind, allow_debug),
        max_age=_seconds(found, "max_age_seconds", 1, _OLDEST),
        clock_drift=_seconds({"clock_drift_seconds": 0} | found, "clock_drift_seconds", 0, _MOST_DRIFT),
        nonce_demanded=_choice(found, "nonce", ("demanded", "insecure_any")) == "demanded",
        unknown_fields=cast(
            UnknownFields,
            _choice({"unknown_fields": "refuse"} | found, "unknown_fields", ("refuse", "ignore")),
        ),
        user_data=user_data,
        insecure_allow_debug=allow_debug,
    )


def _keys(found: Mapping[str, Any], required: frozenset[str], optional: frozenset[str], where: str) -> None:
    unknown = sorted(found.keys() - required - optional)
    if unknown:
        raise Malformed("policy.unknown_key", f"{where}: {', '.join(unknown)}"[:200])
    missing = sorted(required - found.keys())
    if missing:
        raise Malformed("policy.missing_key", f"{where}: {', '.join(missing)}"[:200])


def _choice(found: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    value = found[name]
    if type(value) is not str or value not in allowed:
        raise Malformed("policy.value", f"{name} is one of {', '.join(allowed)}")
    return value


def _seconds(found: Mapping[str, Any], name: str, least: int, longest: timedelta) -> timedelta:
    value, most = found[name], int(longest.total_seconds())
    if type(value) is not int or not least <= value <= most:
        raise Malformed("policy.value", f"{name} is an integer from {least} to {most}")
    return timedelta(seconds=value)


def _releases(value: object, kind: Kind, allow_debug: bool) -> tuple[Release, ...]:
    if type(value) is not list or not all(type(entry) is dict for entry in value):
        raise Malformed("policy.value", "releases are tables: [[release]]")
    if len(value) > MOST_RELEASES:
        raise Malformed("policy.value", f"{len(value)} releases, at most {MOST_RELEASES}")
    releases = tuple(_release(entry, kind, allow_debug) for entry in value)
    seen: set[str] = set()
    for release in releases:
        if release.version in seen:
            raise Malformed("policy.duplicate_release", release.version)
        seen.add(release.version)
    return releases


def _release(entry: dict[str, Any], kind: Kind, allow_debug: bool) -> Release:
    version = entry.get("version", "")
    if type(version) is not str or not _VERSION.fullmatch(version):
        raise Malformed("policy.value", "version is 1 to 64 printable ASCII characters")
    named = frozenset(name for name in entry if _PCR.fullmatch(name))
    _keys(entry, RELEASE_REQUIRED, RELEASE_OPTIONAL | named, f"release {version}")
    pcrs = {int(name[3:]): _pcr(entry[name], f"release {version}: {name}") for name in named}
    if not pcrs:
        raise Malformed("policy.no_measurements", f"release {version}")
    if kind == "enclave":
        if not named.issuperset(_IMAGE):
            raise Malformed("policy.partial_image", f"release {version}")
        if not allow_debug and any(pcrs[index] == ZERO_PCR for index in (0, 1, 2)):
            raise Malformed("policy.debug_measurement", f"release {version}")
    configuration = entry.get("configuration")
    if configuration is not None:
        configuration = _pcr(configuration, f"release {version}: configuration")
        if pcrs.get(CONFIGURATION_PCR) != configuration_pcr(configuration):
            raise Malformed("policy.configuration_pcr", f"release {version}")
    not_before, not_after = _time(entry, "not_before", version), _time(entry, "not_after", version)
    if not_before is not None and not_after is not None and not_before >= not_after:
        raise Malformed("policy.window", f"release {version}: ends before it begins")
    return Release(version, MappingProxyType(dict(sorted(pcrs.items()))), configuration, not_before, not_after)


def _pcr(value: object, what: str) -> bytes:
    if type(value) is not str or not _PCR_VALUE.fullmatch(value):
        raise Malformed("policy.measurement", what)
    return bytes.fromhex(value)


def _time(entry: Mapping[str, Any], name: str, version: str) -> datetime | None:
    value = entry.get(name)
    if value is None:
        return None
    if type(value) is not datetime or value.utcoffset() is None:
        raise Malformed("policy.window", f"release {version}: {name} is a time with its zone")
    try:
        return value.astimezone(UTC)
    except OverflowError:  # the zone leads out of the years 1 to 9999
        raise Malformed("policy.window", f"release {version}: {name} is in no year from 1 to 9999") from None


# --- user data ---


def user_data_rule(name: str) -> UserDataRule | None:
    """What `user_data` of a policy file demands: "any", "absent", "responder", or "hex:" and the bytes.

    "responder" is what an enclave of this project says in the first step of a handshake, in its form.
    """
    if name == "any":
        return None
    if name == "absent":
        return _absent
    if name == "responder":
        return _responder
    if name.startswith("hex:") and re.fullmatch(r"(?:[0-9a-fA-F]{2}){1,1024}", name[4:]):
        return _exactly(bytes.fromhex(name[4:]))
    raise Malformed("policy.value", 'user_data is "any", "absent", "responder" or "hex:…"')


def _absent(value: bytes | None) -> None:
    if value is not None:
        raise Refused("document.user_data", f"{len(value)} bytes where none are allowed")


def _exactly(expected: bytes) -> UserDataRule:
    def judge(value: bytes | None) -> None:
        if value != expected:
            raise Refused("document.user_data", "none" if value is None else "another")

    return judge


def _responder(value: bytes | None) -> None:
    if value is None:
        raise Refused("document.user_data", "none")
    try:
        cbor.fields(
            cbor.decode(value, limits=cbor.Limits(size=1024, depth=1, items=20)),
            label=cbor.exactly(LABEL),
            version=cbor.exactly(VERSION),
            role=cbor.exactly("responder"),
            certificate=cbor.raw(48),
            session=cbor.raw(SESSION_BYTES),
            nonce=cbor.raw(NONCE_BYTES),
            party=cbor.text(64),
            chain=cbor.text(64),
            configuration=cbor.raw(48),
        )
    except Malformed as malformed:
        raise Refused("document.user_data", f"{malformed.code}: {malformed.detail}"[:200]) from None


# --- what a reviewer would ask about ---


def warnings(policy: PolicyFile, *, at: datetime | None = None) -> tuple[str, ...]:
    """Sentences about what the policy allows, though it is well-formed; with a time, about windows that are over."""
    found = []
    if policy.insecure_allow_debug:
        found.append("insecure_allow_debug: the host of a debug enclave reads its console")
    if not policy.nonce_demanded:
        found.append("nonce = insecure_any: an old document, or another asker's, passes")
    if policy.unknown_fields == "ignore":
        found.append("unknown_fields = ignore: what they say is not judged")
    if policy.max_age > timedelta(hours=3):
        found.append("max_age_seconds is beyond 3 hours, which no leaf certificate outlives")
    if policy.clock_drift > timedelta(minutes=10):
        found.append("clock_drift_seconds is beyond 10 minutes")
    found += _release_warnings(policy, at)
    return tuple(found)


def _release_warnings(policy: PolicyFile, at: datetime | None) -> Iterable[str]:
    releases = policy.releases
    if policy.kind == "enclave":
        for release in releases:
            if CONFIGURATION_PCR not in release.pcrs:
                yield f"release {release.version}: without pcr16 any configuration passes, insecure settings included"
            elif release.configuration is None:
                yield f"release {release.version}: nothing says which configuration its pcr16 stands for"
    if at is not None and not any(_holds(release, at) for release in releases):
        yield "no release is in its window at this time"
    for index, release in enumerate(releases):
        for other in releases[index + 1 :]:
            if _overlap(release, other):
                yield f"the windows of {release.version} and {other.version} overlap: both pass meanwhile"
            if release.pcrs == other.pcrs:
                yield f"{release.version} and {other.version} have the same measurements"


def _holds(release: Release, at: datetime) -> bool:
    return (release.not_before is None or at >= release.not_before) and (
        release.not_after is None or at < release.not_after
    )


def _overlap(one: Release, two: Release) -> bool:
    return (one.not_after is None or two.not_before is None or two.not_before < one.not_after) and (
        two.not_after is None or one.not_before is None or one.not_before < two.not_after
    )


# --- signatures ---


def sign(data: bytes, *, key: Ed25519PrivateKey) -> bytes:
    """A detached COSE_Sign1 over the bytes of a policy file."""
    signature = key.sign(cose.sig_structure(cose.PROTECTED_EDDSA, data, PURPOSE))
    return cbor.encode([cose.PROTECTED_EDDSA, {}, None, signature])


def verify_signature(data: bytes, signature: bytes, *, public_key: bytes) -> None:
    """Judge a detached signature by the key with these 32 raw bytes.

    Raises `Malformed("encoding.…" or "policy.signature_form")` and `Untrusted("policy.signature")`.
    """
    value = cbor.decode(signature, limits=cbor.Limits(size=SIGNATURE_LIMIT, depth=2, items=8))
    if (
        type(value) is not list
        or len(value) != 4
        or value[:3] != [cose.PROTECTED_EDDSA, {}, None]
        or type(value[3]) is not bytes
        or len(value[3]) != 64
    ):
        raise Malformed("policy.signature_form")
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(
            value[3], cose.sig_structure(cose.PROTECTED_EDDSA, data, PURPOSE)
        )
    except (ValueError, InvalidSignature):
        raise Untrusted("policy.signature") from None
