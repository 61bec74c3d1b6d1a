"""The only place for `document verify` and `document show`: one document, judged under a policy or merely decoded."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cipherkeep_attestation.cli.document_batch import FORMAT, judge_lines
from cipherkeep_attestation.cli.inputs import UsageError, hex_bytes, moment, read_head
from cipherkeep_attestation.cli.output import ACCEPTED, Printer, Section, Verdict, show
from cipherkeep_attestation.cli.policy import load_configuration, load_policy
from cipherkeep_attestation.cli.roots import trust_root
from cipherkeep_attestation.eif import CONFIGURATION_PCR, ZERO_PCR, configuration_pcr
from cipherkeep_attestation.errors import EvidenceError, Malformed
from cipherkeep_attestation.nitro.certificate import Certificate, read_certificate
from cipherkeep_attestation.nitro.document import LIMIT, MOST_PCRS, PCR_BYTES, Document, decode
from cipherkeep_attestation.nitro.rules import rules
from cipherkeep_attestation.nitro.verify import AWS_ROOT_SHA256, Attestation, verify, verify_host
from cipherkeep_attestation.policy import PolicyFile, warnings
from cipherkeep_attestation.statements.configuration import Configuration
from cipherkeep_attestation.trace import Trace

_OWN_TIME = (
    "INSECURE: judged at the document's own timestamp. Whoever kept it could show it for ever; the verdict says that "
    "it held once, not that it holds."
)
_PCR_NAMES = {
    0: "image",
    1: "kernel, command line, first ramdisk",
    2: "further ramdisks",
    3: "role of the instance",
    4: "id of the instance",
    8: "signer of the image",
    CONFIGURATION_PCR: "configuration",
}


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `document verify` and `document show`."""
    group = subparsers.add_parser("document", help="judge or show attestation documents")
    commands = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    judge = commands.add_parser(
        "verify",
        help="judge a document, or a batch of them",
        description="Judges one attestation document, rule by rule; or, with --batch, one for each JSON line.",
        epilog=FORMAT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    judge.add_argument("file", nargs="?", metavar="FILE", help="the document, as it came; - for the standard input")
    judge.add_argument("--root", metavar="ROOT", help="aws, or a file with one certificate in PEM or DER")
    judge.add_argument("--policy", metavar="FILE", help="policy file")
    judge.add_argument("--policy-key", metavar="KEY", help="demand FILE.sig by this key: 64 hexadecimal digits or PEM")
    judge.add_argument(
        "--pcr", action="append", default=[], metavar="N=HEX", help="demand this PCR of every release of the policy"
    )
    judge.add_argument("--nonce", metavar="HEX", help="the nonce that was sent")
    judge.add_argument("--at", metavar="TIME", help="the time to judge at, like 2026-07-01T12:00:00Z")
    judge.add_argument(
        "--insecure-own-timestamp", action="store_true", help="judge at the document's own timestamp instead of --at"
    )
    judge.add_argument("--config", metavar="FILE", help="demand the PCR16 of this configuration, and say what is in it")
    judge.add_argument("--json", action="store_true", help="print the verdict as JSON")
    judge.add_argument("--batch", metavar="FILE", help="judge JSON lines; - for the standard input")
    judge.set_defaults(run=_verify)

    display = commands.add_parser(
        "show", help="decode a document without judging it", description="Decodes a document and judges nothing."
    )
    display.add_argument("file", metavar="FILE", help="the document; - for the standard input")
    display.add_argument("--json", action="store_true", help="print as JSON")
    display.set_defaults(run=_show)


# --- verify ---


def _verify(arguments: argparse.Namespace) -> int:
    if arguments.batch is not None:
        others = ("file", "root", "policy", "policy_key", "pcr", "nonce", "at", "insecure_own_timestamp", "config")
        if any(getattr(arguments, name) for name in others):
            raise UsageError("--batch stands alone: every line names its document, root, time and policy")
        return judge_lines(arguments.batch)
    for name in ("file", "root", "policy"):
        if getattr(arguments, name) is None:
            raise UsageError(f"missing: {'FILE' if name == 'file' else '--' + name}")
    if (arguments.at is None) == (not arguments.insecure_own_timestamp):
        raise UsageError("one of --at TIME and --insecure-own-timestamp")
    root = trust_root(arguments.root)
    stated = None if arguments.at is None else moment(arguments.at)
    nonce = None if arguments.nonce is None else hex_bytes(arguments.nonce, "--nonce", most=1024)
    if nonce == b"":
        raise UsageError("--nonce: empty")
    pcrs = _demanded(arguments.pcr)
    notes: list[str] = []
    found = load_policy(arguments.policy, arguments.policy_key, notes)
    if nonce is None and found.nonce_demanded:
        raise UsageError("the policy demands a nonce: --nonce HEX")
    data = read_head(arguments.file, LIMIT + 1)

    configuration = None if arguments.config is None else load_configuration(arguments.config)
    if configuration is not None:
        notes += _configuration_warnings(configuration)
        expected = configuration_pcr(configuration.digest())
        if pcrs.get(CONFIGURATION_PCR, expected) != expected:
            raise UsageError("--pcr 16 is not the PCR16 of --config")
        pcrs[CONFIGURATION_PCR] = expected

    trace = Trace()
    try:
        narrowed = found.narrowed(pcrs) if pcrs else found
        at = stated or decode(data, expected=found.kind, unknown_fields=found.unknown_fields, trace=trace).timestamp
        judge = verify if found.kind == "enclave" else verify_host
        attestation = judge(data, root=root, policy=narrowed.policy(nonce=nonce), at=at, trace=trace)
    except EvidenceError as refusal:
        notes += [_OWN_TIME] if stated is None else []
        checks = trace.checks(rules(found.kind), failed=refusal.code, detail=refusal.detail)
        return show(
            Verdict(subject="document", checks=checks, refusal=refusal, warnings=tuple(notes)), as_json=arguments.json
        )
    notes += warnings(found)
    notes += [_OWN_TIME] if stated is None else []
    return show(
        _accepted(attestation, narrowed, trace, configuration, at=at, root=root.name, notes=notes),
        as_json=arguments.json,
    )


def _demanded(options: list[str]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for option in options:
        index, equals, value = option.partition("=")
        if not equals or not index.isascii() or not index.isdigit() or len(index) > 2 or int(index) >= MOST_PCRS:
            raise UsageError(f"--pcr {option[:40]}: not N=HEX with N from 0 to 31")
        if int(index) in found:
            raise UsageError(f"--pcr {int(index)} twice")
        found[int(index)] = hex_bytes(value, f"--pcr {int(index)}", length=PCR_BYTES)
    return found


def _accepted(
    attestation: Attestation,
    policy: PolicyFile,
    trace: Trace,
    configuration: Configuration | None,
    *,
    at: datetime,
    root: str,
    notes: list[str],
) -> Verdict:
    if attestation.unknown_fields:
        notes.append(f"fields that are not known were not judged: {', '.join(attestation.unknown_fields)}")
    path = tuple(read_certificate(der) for der in reversed(attestation.certificates))
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
        _path_section(path),
        _pcr_section(attestation.pcrs, compared),
    ]
    details = {
        "document": facts,
        "path": [_certificate_value(certificate) for certificate in path],
        "pcrs": {str(index): value.hex() for index, value in attestation.pcrs.items()},
        "compared": sorted(compared),
    }
    if configuration is not None:
        rows = configuration_rows(configuration)
        sections.append(Section("configuration (its digest stands in PCR16)", rows))
        details["configuration"] = dict(rows)
    return Verdict(
        subject="document",
        checks=trace.checks(rules(policy.kind)),
        conclusion=f"{attestation.kind} of release {attestation.release}, at {_time(at)}",
        sections=tuple(sections),
        warnings=tuple(notes),
        details=details,
    )


def _time(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _field(value: bytes | None) -> str:
    return "none" if value is None else value.hex() or "empty"


def _path_section(path: tuple[Certificate, ...]) -> Section:
    rows = []
    for index, certificate in enumerate(path):
        role = "root" if index == 0 else "leaf" if index == len(path) - 1 else f"{index} below the root"
        valid = f"{certificate.not_before:%Y-%m-%d %H:%M:%S}Z to {certificate.not_after:%Y-%m-%d %H:%M:%S}Z"
        rows.append((role, f"{valid}  sha256 {hashlib.sha256(certificate.der).hexdigest()}"))
    return Section("certificate path", tuple(rows))


def _certificate_value(certificate: Certificate) -> dict[str, str]:
    return {
        "sha256": hashlib.sha256(certificate.der).hexdigest(),
        "not_before": _time(certificate.not_before),
        "not_after": _time(certificate.not_after),
    }


def _pcr_section(pcrs: Mapping[int, bytes], compared: Mapping[int, bytes]) -> Section:
    rows = []
    for index, value in pcrs.items():
        said = "compared" if index in compared else "not compared"
        shown = "zeros" if value == ZERO_PCR else value.hex()
        name = _PCR_NAMES.get(index)
        rows.append((f"PCR{index}", f"{said:<12}  {shown}" + (f"  {name}" if name else "")))
    return Section("measurements", tuple(rows))


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


def _configuration_warnings(configuration: Configuration) -> list[str]:
    found = [f"the configuration says {name}" for name in configuration.insecure]
    roots = {configuration.enclave_root, configuration.host_root, *configuration.genesis.enclave_roots}
    if any(hashlib.sha256(der).hexdigest() != AWS_ROOT_SHA256 for der in roots):
        found.append("the configuration trusts a root that is not AWS's: emulated enclaves or hosts")
    return found


# --- show ---


def _show(arguments: argparse.Namespace) -> int:
    data = read_head(arguments.file, LIMIT + 1)
    document = decode(data, expected=None, unknown_fields="ignore")
    if arguments.json:
        sys.stdout.write(json.dumps({"judged": False, **_shown(document)}, indent=2) + "\n")
        return ACCEPTED
    printer = Printer()
    for name, value in _shown(document).items():
        for line in _lines(name, value):
            printer.line(f"not judged | {line}")
    return ACCEPTED


def _shown(document: Document) -> dict[str, Any]:
    claims: dict[str, Any] = {
        "kind": document.kind,
        "module": document.module_id,
        "made at": _time(document.timestamp),
        "nonce": _field(document.nonce),
        "public key": _field(document.public_key),
        "user data": _field(document.user_data),
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


def _lines(name: str, value: str | dict[str, str]) -> list[str]:
    if isinstance(value, str):
        return [f"{name}: {value}"]
    return [f"{entry}: {content}" for entry, content in value.items()]
