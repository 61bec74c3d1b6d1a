"""`cipherkeep-audit proof`: ICS-23 proofs of single keys, present or absent, under a root that is known."""

from __future__ import annotations

import argparse
import re
from typing import Any

from cipherkeep_attestation.chain import iavl, ics23, rpc_json, state
from cipherkeep_attestation.cli.inputs import UsageError, base64_bytes, hex_bytes, read_head, utf8
from cipherkeep_attestation.cli.output import Section, Verdict, run_batch, show
from cipherkeep_attestation.cli.parsers import verify_command
from cipherkeep_attestation.errors import EvidenceError, Malformed

SPECS = ("tendermint", "iavl")
_FILE_LIMIT = 4 * ics23.MAX_PROOF  # bytes; two proofs in hexadecimal
LINE_LIMIT = 4 * ics23.MAX_PROOF  # bytes; hexadecimal takes two for each

_DESCRIPTION = """\
Judge an ICS-23 CommitmentProof: that --key has --value under a root, or that it is --absent. FILE holds the proof's
bytes, or the same in hexadecimal or base64. The root is the app hash of a header that holds (`chain verify`). A value
in this chain's own state takes two proofs, of the collection and of its key: FILE holds both if --collection is given.
With --batch, each line of a file is one proof:
{"id", "spec": "tendermint" or "iavl", "root": hex, "key": hex, "value": hex or null for absence, "proof": hex}."""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `proof verify`."""
    verify = verify_command(
        subparsers,
        "proof",
        about="ICS-23 proofs of state",
        judges="judge a proof of presence or absence",
        description=_DESCRIPTION,
        example="--app-hash 9f... --key uint64:7 --value a1... FILE",
    )
    verify.add_argument("file", metavar="FILE", nargs="?", help="the proof; - for standard input")
    verify.add_argument("--app-hash", metavar="HEX", help="the root, 32 bytes")
    verify.add_argument("--key", metavar="HEX", help="the key; text:T for text, uint64:N for eight bytes, big-endian")
    claimed = verify.add_mutually_exclusive_group()
    claimed.add_argument("--value", metavar="HEX", help="the value that the key must have")
    claimed.add_argument("--absent", action="store_true", help="the key must not be there")
    verify.add_argument("--collection", metavar="INSTANCE/NAME", help="FILE is a proof of this chain's own state")
    verify.add_argument("--spec", choices=SPECS, help="the kind of tree; tendermint without it")
    verify.add_argument("--batch", metavar="FILE", help="judge one proof for each JSON line; - for standard input")
    verify.add_argument("--json", action="store_true", help="print the verdict as JSON")
    verify.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Judge a batch, or one proof."""
    given = (arguments.file, arguments.app_hash, arguments.key)
    others = (arguments.value, arguments.collection, arguments.spec)
    if arguments.batch is not None:
        if any(item is not None for item in (*given, *others)) or arguments.absent:
            raise UsageError("--batch goes with no other option: every line names its own")
        return run_batch(arguments.batch, judge_line, line_limit=LINE_LIMIT)
    if any(item is None for item in given) or (arguments.value is None and not arguments.absent):
        raise UsageError("FILE, --app-hash, --key and one of --value and --absent are needed")
    if arguments.collection is not None and arguments.spec is not None:
        raise UsageError("--collection names this chain's own trees: --spec has no place beside it")
    root = hex_bytes(arguments.app_hash, "--app-hash", length=32)
    key = _key(arguments.key)
    value = None if arguments.absent else hex_bytes(arguments.value, "--value")
    spec = arguments.spec or SPECS[0]
    data = read_head(arguments.file, _FILE_LIMIT + 1)
    refusal: EvidenceError | None = None
    try:
        if arguments.collection is None:
            judge(spec, root=root, key=key, value=value, proof=_proof(data))
        else:
            judge_state(arguments.collection, root=root, key=key, value=value, proof=_proof(data))
    except EvidenceError as error:
        refusal = error
    claim = (
        "absent" if value is None else f"{len(value)} bytes: {value[:64].hex()}" + ("..." if len(value) > 64 else "")
    )
    tree = spec if arguments.collection is None else f"collection {arguments.collection}"
    rows = (("tree", tree), ("root", root.hex()), ("key", key.hex()), ("value", claim))
    verdict = Verdict(
        subject="proof",
        refusal=refusal,
        conclusion="the key is absent" if value is None else "the key has this value",
        sections=(Section("what was to be shown", rows),),
        details=dict(rows),
    )
    return show(verdict, as_json=arguments.json)


def judge(spec: str, *, root: bytes, key: bytes, value: bytes | None, proof: bytes) -> None:
    """`key` has `value` under `root`, or is absent where `value` is None. Raises an `EvidenceError`."""
    tree = {"tendermint": ics23, "iavl": iavl}[spec]
    if value is None:
        tree.verify_absence(root, key=key, proof=proof)
    else:
        tree.verify_existence(root, key=key, value=value, proof=proof)


def judge_state(collection: str, *, root: bytes, key: bytes, value: bytes | None, proof: bytes) -> None:
    """As `judge`, for a key of eight bytes in a collection of this chain's state, and a proof of both."""
    instance, slash, name = collection.partition("/")
    if not slash or len(key) != state.KEY_LENGTH:
        raise UsageError("--collection is INSTANCE/NAME, and its keys are uint64:N")
    found, at = state.StateProof.decode(proof), int.from_bytes(key, "big")
    if value is None:
        state.verify_absent(root, instance=instance, collection=name, key=at, proof=found)
    else:
        state.verify_present(root, instance=instance, collection=name, key=at, value=value, proof=found)


def judge_line(line: dict[str, Any]) -> str:
    """Judge one line of a batch; the sentence of an acceptance. Raises an `EvidenceError`."""
    found = rpc_json.names(line, ("spec", "root", "key", "value", "proof"), what="line")
    if found["spec"] not in SPECS:
        raise UsageError(f"spec is one of {', '.join(SPECS)}")
    root, key, proof = (hex_bytes(rpc_json.text(found[name], name), name) for name in ("root", "key", "proof"))
    value = None if found["value"] is None else hex_bytes(rpc_json.text(found["value"], "value"), "value")
    judge(found["spec"], root=root, key=key, value=value, proof=proof)
    return "the key is absent" if value is None else "the key has this value"


def _key(text: str) -> bytes:
    if text.startswith("text:"):
        return utf8(text[5:], "--key")
    if text.startswith("uint64:"):
        number = text[7:]
        if not re.fullmatch(r"[0-9]{1,20}", number) or int(number) >= 1 << 64:
            raise UsageError("--key: uint64: needs a number below 2^64")
        return int(number).to_bytes(8, "big")
    return hex_bytes(text, "--key")


def _proof(data: bytes) -> bytes:
    """The proof's bytes; proofs begin with bytes that no text begins with. Raises `Malformed("proof.…")`."""
    if len(data) > _FILE_LIMIT:
        raise Malformed("proof.size", f"more than {_FILE_LIMIT} bytes")
    text = data.strip()
    if not data or data[0] < 0x20 or data[0] >= 0x80:
        return data
    try:
        if re.fullmatch(rb"(?:[0-9a-fA-F]{2})++", text):
            return bytes.fromhex(text.decode())
        return base64_bytes(text)
    except ValueError:
        raise Malformed("proof.encoding") from None
