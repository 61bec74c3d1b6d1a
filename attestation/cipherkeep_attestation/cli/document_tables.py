"""The only place that lays documents and configurations open: as tables for people, and as values for `--json`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from cipherkeep_attestation.cli.output import Section, Verdict
from cipherkeep_attestation.eif import CONFIGURATION_PCR, ZERO_PCR, configuration_pcr
from cipherkeep_attestation.errors import EvidenceError, Malformed
from cipherkeep_attestation.nitro.certificate import Certificate, read_certificate
from cipherkeep_attestation.nitro.document import Document, decode
from cipherkeep_attestation.nitro.rules import rules
from cipherkeep_attestation.nitro.verify import AWS_ROOT_SHA256, Attestation
from cipherkeep_attestation.policy import PolicyFile, Release
from cipherkeep_attestation.statements.configuration import Configuration
from cipherkeep_attestation.trace import Trace

_CLAIMED = "claimed, and refused"
_PCR_NAMES = {
    0: "image",
    1: "kernel, command line, first ramdisk",
    2: "further ramdisks",
    3: "role of the instance",
    4: "id of the instance",
    8: "signer of the image",
    CONFIGURATION_PCR: "configuration",
}


def accepted(
    attestation: Attestation,
    policy: PolicyFile,
    trace: Trace,
    configuration: Configuration | None,
    *,
    at: datetime,
    root: str,
    notes: list[str],
) -> Verdict:
    """The verdict of an acceptance: what the document says, now that it is believed."""
    if attestation.unknown_fields:
        notes.append(f"fields that are not known were not judged: {', '.join(attestation.unknown_fields)}")
    path = tuple(reversed(attestation.certificates))
    compared = next(release for release in policy.releases if release.version == attestation.release).pcrs
    facts = {
        "kind": attestation.kind,
        "module": attestation.module_id,
        "made at": _time(attestation.timestamp),
        "judged at": _time(at),
        "holds until": _time(attestation.not_after),
        "root": root,
        "release": attestation.release,
        "debug mode": "yes" if attestation.debug else "no",
        "nonce": _field(attestation.nonce),
        "public key": _field(attestation.public_key),
        "user data": _field(attestation.user_data),
        "digest": attestation.document_digest.hex(),
    }
    sections = [
        Section("document", tuple(facts.items())),
        Section("certificate path", tuple(_path_rows(path))),
        Section("measurements", tuple(_pcr_rows(attestation.pcrs, compared))),
    ]
    details = _details(facts, path, attestation.pcrs, compared, standing="verified")
    _add_configuration(configuration, sections, details)
    return Verdict(
        subject="document",
        checks=trace.checks(rules(policy.kind)),
        conclusion=f"{attestation.kind} of release {attestation.release}, at {_time(at)}",
        sections=tuple(sections),
        warnings=tuple(notes),
        details=details,
    )


def refused(
    data: bytes,
    refusal: EvidenceError,
    policy: PolicyFile,
    pcrs: Mapping[int, bytes],
    trace: Trace,
    configuration: Configuration | None,
    *,
    notes: list[str],
) -> Verdict:
    """The verdict of a refusal: what the document claims, if it can be read, beside the release that comes nearest."""
    sections: list[Section] = []
    details: dict[str, Any] = {}
    try:
        document = decode(data, expected=None, unknown_fields="ignore")
    except EvidenceError:
        pass
    else:
        nearest, demanded = _nearest(policy.releases, pcrs, document.pcrs)
        path = (*document.cabundle, document.certificate)
        facts = {**_facts(document), "digest": document.payload_digest.hex()}
        measured = f"measurements ({_CLAIMED}), beside release {nearest}"
        sections = [
            Section(f"document ({_CLAIMED})", tuple(facts.items())),
            Section(f"certificate path ({_CLAIMED})", tuple(_path_rows(path))),
            Section(measured, tuple(_pcr_rows(document.pcrs, demanded))),
        ]
        details = _details(facts, path, document.pcrs, demanded, standing=_CLAIMED)
        details["expected"] = {str(index): value.hex() for index, value in demanded.items()}
        details["nearest_release"] = nearest
    _add_configuration(configuration, sections, details)
    return Verdict(
        subject="document",
        checks=trace.checks(rules(policy.kind), failed=refusal.code, detail=refusal.detail),
        refusal=refusal,
        sections=tuple(sections),
        warnings=tuple(notes),
        details=details,
    )


def _nearest(
    releases: Iterable[Release], pcrs: Mapping[int, bytes], found: Mapping[int, bytes]
) -> tuple[str, dict[int, bytes]]:
    """The release from which the fewest PCRs differ, and what it and --pcr demand."""
    demands = [(release.version, dict(sorted({**release.pcrs, **pcrs}.items()))) for release in releases]
    return min(demands, key=lambda each: sum(found.get(index) != value for index, value in each[1].items()))


def _details(
    facts: Mapping[str, str],
    path: Iterable[bytes],
    pcrs: Mapping[int, bytes],
    compared: Iterable[int],
    *,
    standing: str,
) -> dict[str, Any]:
    return {
        "standing": standing,
        "document": facts,
        "path": [_certificate_value(der) for der in path],
        "pcrs": {str(index): value.hex() for index, value in pcrs.items()},
        "compared": sorted(compared),
    }


def _add_configuration(configuration: Configuration | None, sections: list[Section], details: dict[str, Any]) -> None:
    if configuration is not None:
        rows = configuration_rows(configuration)
        sections.append(Section("configuration (that of --config, whose digest PCR16 must stand for)", rows))
        details["configuration"] = dict(rows)


def _time(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _field(value: bytes | None) -> str:
    return "none" if value is None else value.hex() or "empty"


def _path_rows(path: tuple[bytes, ...]) -> Iterable[tuple[str, str]]:
    """Root first: validity and digest of each certificate."""
    for index, der in enumerate(path):
        role = "root" if index == 0 else "leaf" if index == len(path) - 1 else f"{index} below the root"
        digest = hashlib.sha256(der).hexdigest()
        certificate = _readable(der)
        if certificate is None:
            yield role, f"unreadable  sha256 {digest}"
            continue
        valid = f"{certificate.not_before:%Y-%m-%d %H:%M:%S}Z to {certificate.not_after:%Y-%m-%d %H:%M:%S}Z"
        yield role, f"{valid}  sha256 {digest}"


def _readable(der: bytes) -> Certificate | None:
    try:
        return read_certificate(der)
    except Malformed:
        return None


def _certificate_value(der: bytes) -> dict[str, str | None]:
    certificate = _readable(der)
    return {
        "sha256": hashlib.sha256(der).hexdigest(),
        "not_before": None if certificate is None else _time(certificate.not_before),
        "not_after": None if certificate is None else _time(certificate.not_after),
    }


def _pcr_rows(pcrs: Mapping[int, bytes], demanded: Mapping[int, bytes]) -> Iterable[tuple[str, str]]:
    """What was found, and below it what was expected where that is something else."""
    for index in sorted({*pcrs, *demanded}):
        value, expected = pcrs.get(index), demanded.get(index)
        said = "not compared" if expected is None else "compared" if value == expected else "differs"
        shown = "missing" if value is None else _shown_pcr(value)
        name = _PCR_NAMES.get(index)
        yield f"PCR{index}", f"{said:<12}  {shown}" + (f"  {name}" if name else "")
        if expected is not None and value != expected:
            yield "", f"{'expected':<12}  {_shown_pcr(expected)}"


def _shown_pcr(value: bytes) -> str:
    return "zeros" if value == ZERO_PCR else value.hex()


# --- configuration ---


def configuration_rows(configuration: Configuration) -> tuple[tuple[str, str], ...]:
    """Everything that a configuration trusts, by name: what an auditor reads before accepting its digest."""
    genesis, kms = configuration.genesis, configuration.kms
    rows = [
        ("digest", configuration.digest().hex()),
        ("PCR16", configuration_pcr(configuration.digest()).hex()),
        ("party", configuration.party),
        ("instance", configuration.instance),
        ("chain", configuration.root.chain_id),
        ("chain's root of trust", f"height {configuration.root.height}, header {configuration.root.header_hash.hex()}"),
        ("genesis", genesis.digest().hex()),
        ("root of other enclaves", _root(configuration.enclave_root)),
        ("root of hosts", _root(configuration.host_root)),
        *(("root in the genesis", _root(der)) for der in genesis.enclave_roots),
        ("AWS KMS key", "none" if kms is None else kms.key_arn),
        ("AWS KMS host", "none" if kms is None else kms.host),
        ("CA of AWS KMS", "none" if kms is None else f"sha256 {hashlib.sha256(kms.ca).hexdigest()}"),
        ("hosts that may connect", ", ".join(entry.hex() for entry in configuration.host_measurements) or "any"),
        ("insecure settings", ", ".join(configuration.insecure) or "none"),
    ]
    return tuple(rows)


def _root(der: bytes) -> str:
    digest = hashlib.sha256(der).hexdigest()
    return f"sha256 {digest}" + (" (AWS Nitro Enclaves G1)" if digest == AWS_ROOT_SHA256 else " (not AWS's)")


def configuration_warnings(configuration: Configuration) -> list[str]:
    """What an auditor must hear of a configuration, whatever the verdict."""
    found = [f"the configuration says {name}" for name in configuration.insecure]
    roots = {configuration.enclave_root, configuration.host_root, *configuration.genesis.enclave_roots}
    if any(hashlib.sha256(der).hexdigest() != AWS_ROOT_SHA256 for der in roots):
        found.append("the configuration trusts a root that is not AWS's: emulated enclaves or hosts")
    return found


# --- claims of a document that nobody judges ---


def _facts(document: Document) -> dict[str, str]:
    return {
        "kind": document.kind,
        "module": document.module_id,
        "made at": _time(document.timestamp),
        "nonce": _field(document.nonce),
        "public key": _field(document.public_key),
        "user data": _field(document.user_data),
    }


def shown(document: Document) -> dict[str, Any]:
    claims: dict[str, Any] = {
        **_facts(document),
        "payload digest": document.payload_digest.hex(),
        "pcrs": {f"PCR{index}": value.hex() for index, value in document.pcrs.items()},
        "certificates": {
            **{f"bundle {index}": _described(der) for index, der in enumerate(document.cabundle)},
            "leaf": _described(document.certificate),
        },
    }
    if document.unknown_fields:
        claims["unknown fields"] = ", ".join(document.unknown_fields)
    return claims


def _described(der: bytes) -> str:
    digest = hashlib.sha256(der).hexdigest()
    try:
        certificate = read_certificate(der)
    except Malformed as malformed:
        return f"sha256 {digest} unreadable: {malformed.code}"
    return f"sha256 {digest} from {_time(certificate.not_before)} to {_time(certificate.not_after)}"


def lines_of(name: str, value: str | dict[str, str]) -> list[str]:
    if isinstance(value, str):
        return [f"{name}: {value}"]
    return [f"{entry}: {content}" for entry, content in value.items()]
