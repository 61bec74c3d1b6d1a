"""The only place that knows the lines of `document verify --batch`: each names its document, root, time and policy."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import partial
from typing import Any

from cipherkeep_attestation.cli.inputs import UsageError, hex_bytes, moment, read_head
from cipherkeep_attestation.cli.output import run_batch
from cipherkeep_attestation.cli.roots import trust_root
from cipherkeep_attestation.nitro.document import LIMIT, MOST_PCRS, PCR_BYTES
from cipherkeep_attestation.nitro.path import TrustRoot
from cipherkeep_attestation.nitro.verify import NO_NONCE, InsecureAnyMeasurement, Measurements, Policy, verify

FORMAT = """\
A line of a batch:
  {"id": ..., "document": path, "root": "aws" or path of a PEM or DER certificate, "at": RFC 3339, "policy": {...}}
Its policy:
  "measurements": [{"0": hex, "1": hex, "2": hex, ...}, ...]
                                        alternatives; PCR0 must be named, and each PCR that is named must be equal
  "insecure_any_measurement": true      instead of measurements
  "allow_debug": bool                   false unless given
  "nonce": hex                          not compared unless given
  "max_age_seconds": int                the leaf certificate's validity alone unless given
Its verdict, on one line:
  {"id": ..., "accepted": bool, "code": null or string, "message": ...}"""

_LEAF_LIFE = timedelta(hours=4)  # longer than any leaf certificate holds: the path's validity decides
_MOST_SECONDS = 10 * 366 * 24 * 3600  # a larger age demands no more than this one
_LEAST_AGE = timedelta(microseconds=1)  # of a policy; documents are dated to the millisecond
_MOST_SETS = 256
_INDEX = re.compile(r"0|[1-9][0-9]?")
_IMAGE = (0, 1, 2)


def judge_lines(source: str) -> int:
    """Judge every line of a file; exit code 0 when all were accepted."""
    return run_batch(source, partial(judge_line, roots={}))


def judge_line(line: dict[str, Any], *, roots: dict[str, TrustRoot]) -> str:
    """Judge one line; the sentence of an acceptance. `roots` are those read before. Raises an `EvidenceError`."""
    fields = _fields(line, "the line", required=("document", "root", "at", "policy"))
    for name in ("document", "root", "at"):
        if type(fields[name]) is not str:
            raise UsageError(f"{name} is not a text")
    if type(fields["policy"]) is not dict:
        raise UsageError("policy is not an object")
    policy, note = _policy(fields["policy"])
    at = moment(fields["at"], "at")
    name, document = fields["root"], fields["document"]
    if "-" in (name, document):
        raise UsageError("root and document are paths")
    if name not in roots:
        if len(roots) >= 64:
            roots.clear()
        roots[name] = trust_root(name)
    attestation = verify(read_head(document, LIMIT + 1), root=roots[name], policy=policy, at=at)
    mode = ", debug mode" if attestation.debug else ""
    return f"enclave {attestation.module_id}{mode}, holds until {attestation.not_after:%Y-%m-%dT%H:%M:%SZ}{note}"


def _fields(
    value: dict[str, Any], where: str, *, required: tuple[str, ...] = (), optional: tuple[str, ...] = ()
) -> dict[str, Any]:
    unknown = sorted(value.keys() - {*required, *optional})
    missing = sorted({*required} - value.keys())
    if unknown or missing:
        found = ", ".join(
            [*(f"{name!r} is missing" for name in missing), *(f"{name!r} is unknown" for name in unknown)]
        )
        raise UsageError(f"{where}: {found}")
    return value


def _policy(value: dict[str, Any]) -> tuple[Policy, str]:
    """The policy of a line, and what must be said about it beside the verdict."""
    optional = ("measurements", "insecure_any_measurement", "allow_debug", "nonce", "max_age_seconds")
    fields = {name: found for name, found in _fields(value, "policy", optional=optional).items() if found is not None}
    any_measurement = _flag(fields, "insecure_any_measurement")
    allow_debug = _flag(fields, "allow_debug")
    if any_measurement == ("measurements" in fields):
        raise UsageError("policy: exactly one of measurements and insecure_any_measurement: true")
    nonce = fields.get("nonce")
    if nonce is not None and type(nonce) is not str:
        raise UsageError("policy: nonce is not a text")
    age = fields.get("max_age_seconds")
    if age is not None and (type(age) is not int or age < 0):
        raise UsageError("policy: max_age_seconds is not an integer of 0 or more")
    sets = InsecureAnyMeasurement() if any_measurement else _measurements(fields["measurements"])
    partial = not isinstance(sets, InsecureAnyMeasurement) and not all(
        index in entry.pcrs for entry in sets for index in _IMAGE
    )
    sent = NO_NONCE if nonce is None else hex_bytes(nonce, "policy: nonce", most=1024)
    if sent == b"":
        raise UsageError("policy: nonce is empty")
    policy = Policy(
        measurements=sets,
        nonce=sent,
        public_key=None,
        max_age=_LEAF_LIFE if age is None else max(timedelta(seconds=min(age, _MOST_SECONDS)), _LEAST_AGE),
        insecure_allow_debug=allow_debug,
        insecure_partial_image=partial,
    )
    return policy, "; a set does not name all of PCR0, PCR1 and PCR2" if partial else ""


def _flag(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name, False)
    if type(value) is not bool:
        raise UsageError(f"policy: {name} is not true or false")
    return value


def _measurements(value: object) -> tuple[Measurements, ...]:
    if type(value) is not list or not 1 <= len(value) <= _MOST_SETS:
        raise UsageError(f"policy: measurements is not a list of 1 to {_MOST_SETS} sets")
    return tuple(_set(entry) for entry in value)


def _set(value: object) -> Measurements:
    if type(value) is not dict or "0" not in value:
        raise UsageError("policy: a set of measurements names PCR0 at least: no other PCR names an image")
    pcrs = {}
    for index, digest in value.items():
        if not _INDEX.fullmatch(index) or int(index) >= MOST_PCRS or type(digest) is not str:
            raise UsageError(f"policy: not a PCR: {index[:20]!r}")
        pcrs[int(index)] = hex_bytes(digest, f"policy: PCR{index}", length=PCR_BYTES)
    return Measurements(pcrs)
