"""The only place that reads and applies key policies: the part of AWS's policy language that keys for enclaves need.

An element, operator or condition key that is not known here is refused when the policy is put, never ignored. As in
AWS: denied unless a statement allows, an explicit Deny wins, a condition key that the request does not have matches
nothing, and negated operators match what is absent.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cipherkeep_host.emulated.aws_sigv4 import AwsError

ACCOUNT = "000000000000"
PRINCIPAL = f"arn:aws:iam::{ACCOUNT}:role/cipherkeep"
ROOT = f"arn:aws:iam::{ACCOUNT}:root"  # in AWS it delegates to IAM; here IAM allows the one principal everything
POLICY_LIMIT = 32 * 1024  # bytes, AWS KMS quota
_PRINCIPALS = frozenset({"*", ROOT, PRINCIPAL, ACCOUNT})
_CONDITION_KEY = re.compile(
    r"kms:RecipientAttestation:(?:ImageSha384|PCR(?:[0-9]|[12][0-9]|3[01]))|kms:EncryptionContext:[^:]{1,128}", re.I
)
_STATEMENT = frozenset({"Sid", "Effect", "Principal", "Action", "Resource", "Condition"})


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition key under one operator, with the values of which one must match."""

    operator: str
    key: str
    values: tuple[str, ...]

    def holds(self, context: Mapping[str, str]) -> bool:
        """Whether the request's value satisfies it; `context` has lower-case keys."""
        have = context.get(self.key.lower())
        match self.operator:
            case "Null":
                return any((value == "true") == (have is None) for value in self.values)
            case "StringEquals":
                return have is not None and have in self.values
            case "StringNotEquals":
                return have is None or have not in self.values
            case "StringEqualsIgnoreCase":
                return have is not None and have.lower() in {value.lower() for value in self.values}
            case "StringNotEqualsIgnoreCase":
                return have is None or have.lower() not in {value.lower() for value in self.values}
            case "StringLike":
                return have is not None and any(fnmatch.fnmatchcase(have, value) for value in self.values)
        raise AssertionError(self.operator)


_OPERATORS = frozenset(
    {
        "Null",
        "StringEquals",
        "StringNotEquals",
        "StringEqualsIgnoreCase",
        "StringNotEqualsIgnoreCase",
        "StringLike",
    }
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a policy."""

    sid: str
    allow: bool
    principals: tuple[str, ...]
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: tuple[Condition, ...]

    def concerns(self, action: str, resource: str) -> bool:
        """Whether it speaks of this call by the emulated principal at all, its conditions aside."""
        return (
            not _PRINCIPALS.isdisjoint(self.principals)
            and any(fnmatch.fnmatchcase(action.lower(), pattern.lower()) for pattern in self.actions)
            and any(fnmatch.fnmatchcase(resource, pattern) for pattern in self.resources)
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a call is allowed, and for the log why not: AWS tells its callers nothing, which costs them days."""

    allowed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """A key policy as it was put, and its statements."""

    text: str
    statements: tuple[Statement, ...]

    @classmethod
    def parse(cls, text: str) -> KeyPolicy:
        """Read a policy. `AwsError("MalformedPolicyDocumentException")` for what is not understood in full."""
        if len(text.encode()) > POLICY_LIMIT:
            raise AwsError("LimitExceededException", f"A key policy has at most {POLICY_LIMIT} bytes.")
        try:
            value = json.loads(text, object_pairs_hook=_unique)
        except (ValueError, RecursionError):
            raise _malformed("The policy is not JSON, or names a key twice.") from None
        _only(value, {"Version", "Id", "Statement"})
        if value.get("Version") != "2012-10-17":
            raise _malformed("Version must be 2012-10-17.")
        listed = value.get("Statement")
        if not isinstance(listed, list) or not listed:
            raise _malformed("Statement must be a list that is not empty.")
        return cls(text, tuple(_statement(item) for item in listed))

    def decide(self, action: str, resource: str, context: Mapping[str, str]) -> Decision:
        """Judge a call such as `kms:Decrypt`; `context` maps lower-case condition keys to the request's values."""
        allowed, reasons = False, []
        for number, statement in enumerate(self.statements):
            if not statement.concerns(action, resource):
                continue
            name = statement.sid or f"statement {number}"
            failing = [condition for condition in statement.conditions if not condition.holds(context)]
            if not failing and not statement.allow:
                return Decision(False, f"{name} denies it")
            if not failing:
                allowed = True
            elif statement.allow:
                reasons += [f"{name}: {condition.key} is {_seen(condition, context)}" for condition in failing]
        if allowed:
            return Decision(True, "")
        return Decision(False, "; ".join(reasons) or f"no statement allows {action}")


def managing_policy() -> str:
    """A policy under which the account may look at the key and replace the policy, and nobody may use the key."""
    return _policy_text(_MANAGING)


def attested_policy(releases: Sequence[Mapping[int, bytes]]) -> str:
    """The policy of a key for enclaves only: each release names PCRs (48 bytes each), and all of them must match.

    A release is allowed as a whole; besides, a value that no release has is denied outright, whatever else allows it.
    The account may still replace the policy: who can do that can open the key, as with AWS.
    """
    if not releases or any(
        not {0, 1, 2} <= release.keys() or release.keys() != releases[0].keys() for release in releases
    ):
        raise ValueError("every release names the same PCRs, 0 to 2 at least")
    uses = ["kms:Decrypt", "kms:GenerateDataKey"]
    base = {"Principal": {"AWS": ROOT}, "Action": uses, "Resource": "*"}
    statements: list[dict[str, Any]] = [_MANAGING]
    for number, release in enumerate(releases):
        wanted = {f"kms:RecipientAttestation:PCR{index}": value.hex() for index, value in sorted(release.items())}
        condition = {"StringEqualsIgnoreCase": wanted}
        statements.append({"Sid": f"Release{number}", "Effect": "Allow", **base, "Condition": condition})
    for index in sorted(releases[0]):
        known = sorted({release[index].hex() for release in releases})
        condition_not = {"StringNotEqualsIgnoreCase": {f"kms:RecipientAttestation:PCR{index}": known}}
        statements.append({"Sid": f"OnlyKnownPCR{index}", "Effect": "Deny", **base, "Condition": condition_not})
    return _policy_text(*statements)


_MANAGING: dict[str, Any] = {
    "Sid": "Manage",
    "Effect": "Allow",
    "Principal": {"AWS": ROOT},
    "Action": ["kms:DescribeKey", "kms:GetKeyPolicy", "kms:PutKeyPolicy"],
    "Resource": "*",
}


def _policy_text(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def _seen(condition: Condition, context: Mapping[str, str]) -> str:
    have = context.get(condition.key.lower(), "absent")
    return f"{have}, not {condition.operator} {' or '.join(condition.values)}"


def _statement(value: Any) -> Statement:
    _only(value, _STATEMENT)
    effect = value.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise _malformed("Effect must be Allow or Deny.")
    sid = value.get("Sid", "")
    if not isinstance(sid, str):
        raise _malformed("Sid must be a text.")
    principal = value.get("Principal")
    if isinstance(principal, dict):
        _only(principal, {"AWS"})
        principal = principal.get("AWS")
    return Statement(
        sid,
        effect == "Allow",
        tuple(_texts(principal, "Principal")),
        tuple(_texts(value.get("Action"), "Action")),
        tuple(_texts(value.get("Resource"), "Resource")),
        tuple(_conditions(value.get("Condition", {}))),
    )


def _conditions(value: Any) -> Iterable[Condition]:
    if not isinstance(value, dict):
        raise _malformed("Condition must be a map.")
    for operator, keys in value.items():
        if operator not in _OPERATORS or not isinstance(keys, dict):
            raise _malformed(f"The operator {operator} is not known.")
        for key, values in keys.items():
            if not _CONDITION_KEY.fullmatch(key):
                raise _malformed(f"The condition key {key} is not known.")
            yield Condition(operator, key, tuple(_texts(values, key)))


def _texts(value: Any, name: str) -> list[str]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed or not all(isinstance(item, str) for item in listed):
        raise _malformed(f"{name} must be a text or a list of texts.")
    return listed


def _only(value: Any, names: Iterable[str]) -> None:
    if not isinstance(value, dict) or not value.keys() <= set(names):
        raise _malformed(f"Only {', '.join(sorted(names))} may stand here.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key twice")
    return result


def _malformed(message: str) -> AwsError:
    return AwsError("MalformedPolicyDocumentException", message)
