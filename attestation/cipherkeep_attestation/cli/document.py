"""The only place for `document verify` and `document show`: one document, judged under a policy or merely decoded."""

from __future__ import annotations

import argparse
import json
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key

from cipherkeep_attestation.cli.document_batch import FORMAT, judge_lines
from cipherkeep_attestation.cli.document_tables import accepted, configuration_warnings, lines_of, refused, shown
from cipherkeep_attestation.cli.inputs import UsageError, hex_bytes, pem, read_file, read_head, stated_time
from cipherkeep_attestation.cli.output import ACCEPTED, REFUSED, Printer, message, show, write
from cipherkeep_attestation.cli.policy import load_configuration, load_policy, named_pcrs
from cipherkeep_attestation.cli.roots import trust_root
from cipherkeep_attestation.eif import CONFIGURATION_PCR, configuration_pcr
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.nitro.document import LIMIT, decode
from cipherkeep_attestation.nitro.verify import verify, verify_host
from cipherkeep_attestation.policy import warnings
from cipherkeep_attestation.trace import Trace

_OWN_TIME = (
    "INSECURE: judged at the document's own timestamp. Whoever kept it could show it for ever; the verdict says that "
    "it held once, not that it holds."
)
_KEY_LIMIT = 8192  # bytes of a public key's file
_UNJUDGED = "not judged: every entry is a claim of whoever made the document"


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
    judge.add_argument(
        "--public-key", metavar="FILE", help="demand that this public key is bound: SubjectPublicKeyInfo, DER or PEM"
    )
    judge.add_argument("--at", metavar="TIME", help="the time to judge at, like 2026-07-01T12:00:00Z, or `now`")
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
        others = ("file", "root", "policy", "policy_key", "pcr", "nonce", "public_key", "at", "insecure_own_timestamp")
        if any(getattr(arguments, name) not in (None, False, []) for name in (*others, "config")):
            raise UsageError("--batch stands alone: every line names its document, root, time and policy")
        return judge_lines(arguments.batch)
    for name in ("file", "root", "policy"):
        if getattr(arguments, name) is None:
            raise UsageError(f"missing: {'FILE' if name == 'file' else '--' + name}")
    if (arguments.at is None) == (not arguments.insecure_own_timestamp):
        raise UsageError("one of --at TIME, --at now and --insecure-own-timestamp")
    root = trust_root(arguments.root)
    stated = None if arguments.at is None else stated_time(arguments.at)
    nonce = None if arguments.nonce is None else hex_bytes(arguments.nonce, "--nonce", most=1024)
    if nonce == b"":
        raise UsageError("--nonce: empty")
    public_key = None if arguments.public_key is None else _public_key(arguments.public_key)
    pcrs = named_pcrs(arguments.pcr)
    notes: list[str] = []
    found = load_policy(arguments.policy, arguments.policy_key, notes)
    if nonce is None and found.nonce_demanded:
        raise UsageError("the policy demands a nonce: --nonce HEX")
    data = read_head(arguments.file, LIMIT + 1)

    configuration = None if arguments.config is None else load_configuration(arguments.config)
    if configuration is not None:
        notes += configuration_warnings(configuration)
        expected = configuration_pcr(configuration.digest())
        if pcrs.get(CONFIGURATION_PCR, expected) != expected:
            raise UsageError("--pcr 16 is not the PCR16 of --config")
        pcrs[CONFIGURATION_PCR] = expected

    trace = Trace()
    try:
        narrowed = found.narrowed(pcrs) if pcrs else found
        at = stated or decode(data, expected=found.kind, unknown_fields=found.unknown_fields, trace=trace).timestamp
        judge = verify if found.kind == "enclave" else verify_host
        demanded = narrowed.policy(nonce=nonce, public_key=public_key)
        attestation = judge(data, root=root, policy=demanded, at=at, trace=trace)
    except EvidenceError as refusal:
        notes += [_OWN_TIME] if stated is None else []
        return show(
            refused(data, refusal, found, pcrs, trace, configuration, notes=notes),
            as_json=arguments.json,
        )
    notes += warnings(found)
    notes += [_OWN_TIME] if stated is None else []
    return show(
        accepted(attestation, narrowed, trace, configuration, at=at, root=root.name, notes=notes),
        as_json=arguments.json,
    )


def _public_key(path: str) -> bytes:
    """The SubjectPublicKeyInfo in a file. UsageError when it holds anything else."""
    data = read_file(path, _KEY_LIMIT)
    try:
        found = data if data[:1] == b"\x30" else pem(data, "PUBLIC KEY")
        load_der_public_key(found)
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(f"{path} is not exactly one public key, in PEM or DER") from None
    return found


# --- show ---


def _show(arguments: argparse.Namespace) -> int:
    data = read_head(arguments.file, LIMIT + 1)
    claims: dict[str, Any]
    try:
        claims, code = shown(decode(data, expected=None, unknown_fields="ignore")), ACCEPTED
    except EvidenceError as error:
        claims = {"cannot be decoded": f"{error.code}: {message(error)}", "what to look at": error.hint}
        code = REFUSED
    if arguments.json:
        write(json.dumps({"judged": False, "standing": _UNJUDGED, **claims}, indent=2) + "\n")
        return code
    printer = Printer()
    for name, value in claims.items():
        for line in lines_of(name, value):
            printer.line(f"not judged | {line}")
    return code
