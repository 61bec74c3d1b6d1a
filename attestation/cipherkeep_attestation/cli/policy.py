"""The only place for `policy init`, `policy lint` and `policy sign`: writing, checking and signing policy files."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from cipherkeep_attestation.cli.inputs import UsageError, hex_bytes, read_file, read_head, reason, stated_time
from cipherkeep_attestation.cli.output import ACCEPTED, Printer, Section, Verdict, show, write
from cipherkeep_attestation.eif import CONFIGURATION_PCR, ZERO_PCR, configuration_pcr
from cipherkeep_attestation.errors import EvidenceError, Malformed, Untrusted
from cipherkeep_attestation.nitro.document import LIMIT as DOCUMENT_LIMIT
from cipherkeep_attestation.nitro.document import MOST_PCRS, PCR_BYTES, Kind, decode
from cipherkeep_attestation.policy import (
    LIMIT,
    SIGNATURE_LIMIT,
    PolicyFile,
    read_policy,
    sign,
    verify_signature,
    warnings,
)
from cipherkeep_attestation.statements.configuration import MAX_CONFIGURATION, Configuration

_KEY_LIMIT = 8192  # bytes of a PEM file


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `policy init`, `policy lint` and `policy sign`."""
    group = subparsers.add_parser("policy", help="write, check and sign policy files")
    commands = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    init = commands.add_parser(
        "init",
        help="write a policy with comments",
        description="Writes a policy for one release: from the measurements given, or from a document, which is not "
        "judged: compare what it claims with an image that you built.",
    )
    init.add_argument("--document", metavar="FILE", help="take PCR0, 1, 2, 8 and 16 from this document, unjudged")
    init.add_argument("--pcr", action="append", default=[], metavar="N=HEX", help="a measurement")
    init.add_argument("--config", metavar="FILE", help="take PCR16 from this configuration")
    init.add_argument("--version", dest="release", default="unnamed", metavar="NAME", help="the release's version")
    init.add_argument("--output", metavar="FILE", help="write here, where nothing may be yet; else print")
    init.set_defaults(run=_init)

    lint = commands.add_parser("lint", help="check a policy file")
    lint.add_argument("file", metavar="FILE")
    lint.add_argument("--policy-key", metavar="KEY", help="demand FILE.sig by this key: 64 hexadecimal digits or PEM")
    lint.add_argument("--at", metavar="TIME", help="say, too, whether a release is in its window then; or `now`")
    lint.add_argument("--json", action="store_true", help="print the verdict as JSON")
    lint.set_defaults(run=_lint)

    signing = commands.add_parser("sign", help="sign a policy file: writes FILE.sig")
    signing.add_argument("file", metavar="FILE")
    signing.add_argument("--key", required=True, metavar="PEM", help="Ed25519 private key, unencrypted PKCS #8")
    signing.set_defaults(run=_sign)


def load_policy(path: str, key: str | None, notes: list[str]) -> PolicyFile:
    """Read a policy file, and its signature if a key is named. Adds to `notes` what must be said about it.

    UsageError for a policy that is not well-formed: nothing can be judged by it. `Untrusted("policy.…")` when it is
    not signed by the key.
    """
    data = read_head(path, LIMIT + 1)
    if key is not None:
        _judge_signature(path, data, key)
    elif _is_there(path + ".sig"):
        notes.append(f"{path}.sig was not judged: name its key with --policy-key")
    try:
        return read_policy(data)
    except EvidenceError as error:
        raise UsageError(f"{path} is no policy: {error}. {error.hint}") from None


def load_configuration(path: str) -> Configuration:
    """Read a measured configuration. UsageError for a file that is none."""
    try:
        return Configuration.decode(read_head(path, MAX_CONFIGURATION + 1))
    except EvidenceError as error:
        raise UsageError(f"{path} is no configuration: {error}") from None


def _judge_signature(path: str, data: bytes, key: str) -> None:
    public_key = _public_key(key)
    signature = path + ".sig"
    if path == "-" or not _is_there(signature):
        raise Untrusted("policy.unsigned", path)
    verify_signature(data, read_head(signature, SIGNATURE_LIMIT + 1), public_key=public_key)


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # a name too long to be a file's
        return False


def _public_key(key: str) -> bytes:
    """The 32 raw bytes of an Ed25519 key: hexadecimal digits, or a PEM file."""
    if re.fullmatch(r"[0-9a-fA-F]{64}", key):
        return bytes.fromhex(key)
    try:
        found = load_pem_public_key(read_file(key, _KEY_LIMIT))
    except ValueError:
        raise UsageError(f"{key} is neither 64 hexadecimal digits nor a public key in PEM") from None
    if not isinstance(found, Ed25519PublicKey):
        raise UsageError(f"{key} is not an Ed25519 key")
    return found.public_bytes(Encoding.Raw, PublicFormat.Raw)


# --- lint ---


def _lint(arguments: argparse.Namespace) -> int:
    at = None if arguments.at is None else stated_time(arguments.at)
    data = read_head(arguments.file, LIMIT + 1)
    try:
        if arguments.policy_key is not None:
            _judge_signature(arguments.file, data, arguments.policy_key)
        policy = read_policy(data)
    except EvidenceError as refusal:
        return show(Verdict(subject="policy", refusal=refusal), as_json=arguments.json)
    return show(
        Verdict(
            subject="policy",
            conclusion=f"{len(policy.releases)} release{'s' * (len(policy.releases) != 1)}",
            sections=(Section("releases", tuple(_row(policy))),),
            warnings=warnings(policy, at=at),
            details={"releases": [name for name, _ in _row(policy)]},
        ),
        as_json=arguments.json,
    )


def _row(policy: PolicyFile) -> list[tuple[str, str]]:
    rows = []
    for release in policy.releases:
        since = "always" if release.not_before is None else f"from {release.not_before.isoformat()}"
        until = "no end" if release.not_after is None else f"until {release.not_after.isoformat()}"
        named = ", ".join(str(index) for index in release.pcrs)
        rows.append((release.version, f"PCR {named}; {since}, {until}"))
    return rows


# --- init ---


def _init(arguments: argparse.Namespace) -> int:
    kind: Kind = "enclave"
    pcrs: dict[int, bytes] = {}
    claimed = None
    if arguments.document is not None:
        document = decode(read_head(arguments.document, DOCUMENT_LIMIT + 1), expected=None)
        kind, claimed = document.kind, document.timestamp
        wanted = (0, 1, 2, 8, CONFIGURATION_PCR) if kind == "enclave" else (4, 7)
        pcrs = {index: document.pcrs[index] for index in wanted if document.pcrs.get(index, ZERO_PCR) != ZERO_PCR}
    named = named_pcrs(arguments.pcr)
    configuration = None
    if arguments.config is not None:
        configuration = load_configuration(arguments.config).digest()
        expected = configuration_pcr(configuration)
        if named.setdefault(CONFIGURATION_PCR, expected) != expected:
            raise UsageError("--pcr 16 is not the PCR16 of --config")
    pcrs |= named
    text = template(kind, arguments.release, pcrs, configuration=configuration, claimed=claimed)
    try:
        read_policy(text.encode())
    except Malformed as malformed:
        raise UsageError(f"cannot write a policy: {malformed}. {malformed.hint}") from None
    if arguments.output is None:
        write(text)
        return ACCEPTED
    try:
        with Path(arguments.output).open("x") as target:
            target.write(text)
    except OSError as error:
        raise UsageError(f"cannot write {arguments.output}: {reason(error)}") from None
    return ACCEPTED


def named_pcrs(options: list[str]) -> dict[int, bytes]:
    """What `--pcr N=HEX` says, once for each PCR. UsageError otherwise."""
    found: dict[int, bytes] = {}
    for option in options:
        index, _, value = option.partition("=")
        if not re.fullmatch(r"[0-9]{1,2}", index) or int(index) >= MOST_PCRS:
            raise UsageError(f"--pcr {option[:40]}: not N=HEX with N from 0 to 31")
        if int(index) in found:
            raise UsageError(f"--pcr {int(index)} twice")
        found[int(index)] = hex_bytes(value, f"--pcr {int(index)}", length=PCR_BYTES)
    return found


def template(
    kind: Kind,
    version: str,
    pcrs: Mapping[int, bytes],
    *,
    configuration: bytes | None = None,
    claimed: datetime | None = None,
) -> str:
    """A policy with comments, for one release."""
    lines = [
        "# Policy of cipherkeep-audit: what an attestation document must prove. Every key is checked; unknown ones are",
        "# errors. Check it with `cipherkeep-audit policy lint`, sign it with `cipherkeep-audit policy sign`.",
        "format = 1",
        f'kind = "{kind}"                 # or "{"host" if kind == "enclave" else "enclave"}"',
        "max_age_seconds = 300            # how old a document may be at the time of judging",
        "clock_drift_seconds = 0          # how far the judging clock may be behind the platform's",
        'nonce = "demanded"               # the nonce that was sent; "insecure_any" for archived documents',
        'unknown_fields = "refuse"        # or "ignore": fields that AWS may add are then named and not judged',
        'user_data = "any"                # or "absent", "responder" (of this project\'s handshake), "hex:6162"',
        "insecure_allow_debug = false     # true accepts enclaves whose host reads their console",
        "",
        "# One table for each release that may run; during an upgrade two. A document must match one of them whole.",
        "[[release]]",
        f"version = {json.dumps(version)}",
    ]
    if claimed is not None:
        lines += [
            f"# Copied from a document of {claimed:%Y-%m-%d %H:%M:%S}Z that nobody has judged: compare with the image",
            "# that you built yourself (`cipherkeep-audit eif measure`) before you rely on it.",
        ]
    lines += [f'pcr{index} = "{value.hex()}"' for index, value in sorted(pcrs.items())]
    if kind == "enclave" and CONFIGURATION_PCR not in pcrs:
        lines += ["# pcr16 = ...                    # demand one configuration; without it any passes"]
    if configuration is not None:
        lines += [f'configuration = "{configuration.hex()}"  # the SHA-384 that PCR16 stands for']
    elif kind == "enclave":
        lines += ["# configuration = ...            # SHA-384 of the configuration that pcr16 stands for"]
    lines += ["# not_before = 2026-07-01T00:00:00Z", "# not_after = 2027-01-01T00:00:00Z", ""]
    return "\n".join(lines)


# --- sign ---


def _sign(arguments: argparse.Namespace) -> int:
    data = read_head(arguments.file, LIMIT + 1)
    try:
        read_policy(data)
    except EvidenceError as error:
        raise UsageError(f"{arguments.file} is no policy: {error}. {error.hint}") from None
    try:
        key = load_pem_private_key(read_file(arguments.key, _KEY_LIMIT), password=None)
    except (ValueError, TypeError):
        raise UsageError(f"{arguments.key} is not an unencrypted private key in PEM") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{arguments.key} is not an Ed25519 key")
    target = Path(arguments.file + ".sig")
    try:
        target.write_bytes(sign(data, key=key))
    except OSError as error:
        raise UsageError(f"cannot write {target}: {reason(error)}") from None
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
    Printer().line(f"wrote {target}; judge it with --policy-key {public}")
    return ACCEPTED
