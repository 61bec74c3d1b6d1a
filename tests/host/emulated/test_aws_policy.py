"""Key policies: AWS's rules for statements and conditions, and the policies that keys for enclaves get."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cipherkeep_host.emulated.aws_policy import ROOT, KeyPolicy, attested_policy, managing_policy
from cipherkeep_host.emulated.aws_sigv4 import AwsError
from hypothesis import given
from hypothesis import strategies as st

ARN = "arn:aws:kms:us-east-1:000000000000:key/1"
PCR0 = "kms:RecipientAttestation:PCR0"
AB = {PCR0.lower(): "ab" * 48}


def statement(effect: str = "Allow", **more: Any) -> dict[str, Any]:
    """A statement about everything, unless told otherwise."""
    return {"Effect": effect, "Principal": "*", "Action": "kms:*", "Resource": "*"} | more


def policy(*statements: dict[str, Any]) -> KeyPolicy:
    """A parsed policy."""
    return KeyPolicy.parse(json.dumps({"Version": "2012-10-17", "Statement": list(statements)}))


def allowed(*statements: dict[str, Any], action: str = "kms:Decrypt", **context: str) -> bool:
    """Whether the statements allow the call."""
    return policy(*statements).decide(action, ARN, context).allowed


def condition(operator: str, value: Any, key: str = PCR0) -> dict[str, Any]:
    """A condition element."""
    return {"Condition": {operator: {key: value}}}


def test_what_nobody_allows_is_denied() -> None:
    """No statement, another principal, another action, another key."""
    assert allowed(statement())
    assert not allowed(statement(Principal={"AWS": "arn:aws:iam::111111111111:root"}))
    assert not allowed(statement(Action=["kms:Encrypt", "kms:Decr"]))
    assert not allowed(statement(Resource="arn:aws:kms:us-east-1:000000000000:key/2"))


def test_an_explicit_deny_wins() -> None:
    """Wherever it stands."""
    assert not allowed(statement(), statement("Deny", Action="kms:Decrypt"))
    assert not allowed(statement("Deny", Action="kms:D*"), statement())
    assert allowed(statement(), statement("Deny", Action="kms:Encrypt"))


def test_the_root_stands_for_the_account() -> None:
    """A list of principals needs one that fits."""
    assert allowed(statement(Principal={"AWS": ["arn:aws:iam::111111111111:root", ROOT]}))


def test_an_absent_key_matches_nothing() -> None:
    """Without a document there is no PCR to compare: denied."""
    equal = condition("StringEqualsIgnoreCase", "ab" * 48)
    assert allowed(statement(**equal), **AB)
    assert not allowed(statement(**equal))
    assert not allowed(statement(**condition("StringLike", "*")))


def test_a_negated_operator_matches_what_is_absent() -> None:
    """So a Deny with StringNotEquals also stops callers without a document."""
    deny = statement("Deny", **condition("StringNotEqualsIgnoreCase", "ab" * 48))
    assert allowed(statement(), deny, **AB)
    assert not allowed(statement(), deny)


def test_case_matters_only_where_it_is_said_to() -> None:
    """Upper-case hexadecimal in a policy is the same PCR under the operator that ignores case."""
    upper = "AB" * 48
    assert allowed(statement(**condition("StringEqualsIgnoreCase", upper)), **AB)
    assert not allowed(statement(**condition("StringEquals", upper)), **AB)
    assert allowed(statement(**condition("StringEquals", upper.lower(), PCR0.upper().replace("KMS", "kms"))), **AB)


def test_values_are_alternatives_and_conditions_are_not() -> None:
    """One of several values, but all of several keys."""
    assert allowed(statement(**condition("StringEquals", ["cd" * 48, "ab" * 48])), **AB)
    both: dict[str, Any] = {
        "Condition": {"StringEquals": {PCR0: "ab" * 48, "kms:RecipientAttestation:PCR1": "ab" * 48}}
    }
    assert not allowed(statement(**both), **AB)


def test_null_tells_attested_callers_from_others() -> None:
    """Null true means absent."""
    deny = statement("Deny", **condition("Null", "true"))
    assert allowed(statement(), deny, **AB)
    assert not allowed(statement(), deny)


def test_the_encryption_context_can_be_demanded() -> None:
    """Under its own condition key."""
    demanded = statement(**condition("StringEquals", "vault-1", "kms:EncryptionContext:instance"))
    assert allowed(demanded, **{"kms:encryptioncontext:instance": "vault-1"})
    assert not allowed(demanded, **{"kms:encryptioncontext:instance": "vault-2"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        json.dumps({"Version": "2012-10-17", "Statement": []}),
        json.dumps({"Version": "2008-10-17", "Statement": [statement()]}),
        json.dumps({"Version": "2012-10-17", "Statement": [statement()], "More": 1}),
        *(
            json.dumps({"Version": "2012-10-17", "Statement": [wrong]})
            for wrong in (
                statement("Permit"),
                statement(NotPrincipal="*"),
                statement(NotAction="kms:Decrypt"),
                statement(Principal={"Service": "ec2"}),
                statement(Principal=None),
                statement(Action=[]),
                statement(Action=[1]),
                statement(Sid=1),
                statement(Condition=[]),
                statement(**condition("StringEqualsIfExists", "x")),
                statement(**condition("StringEquals", "x", "aws:SourceIp")),
                statement(**condition("StringEquals", "x", "kms:RecipientAttestation:PCR32")),
                statement(**condition("StringEquals", "x", "kms:RecipientAttestation:PCR00")),
                statement(**condition("StringEquals", {})),
            )
        ),
        '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}',
        "[" * 10_000,
    ],
)
def test_a_policy_that_is_not_understood_in_full_is_refused(text: str) -> None:
    """An ignored condition would be an open key."""
    with pytest.raises(AwsError) as refusal:
        KeyPolicy.parse(text)
    assert refusal.value.name == "MalformedPolicyDocumentException"


def test_an_oversized_policy_is_refused() -> None:
    """32 KiB is AWS's quota."""
    with pytest.raises(AwsError) as refusal:
        KeyPolicy.parse(" " * 40_000)
    assert refusal.value.name == "LimitExceededException"


@given(st.text(max_size=200))
def test_arbitrary_text_is_refused(text: str) -> None:
    """Whatever the text, only AwsError is raised."""
    with pytest.raises(AwsError):
        KeyPolicy.parse(text)


def test_a_managing_policy_lets_nobody_use_the_key() -> None:
    """Only looking at it and replacing the policy."""
    managing = KeyPolicy.parse(managing_policy())
    for action, expected in (("kms:PutKeyPolicy", True), ("kms:Decrypt", False), ("kms:GenerateDataKey", False)):
        assert managing.decide(action, ARN, AB).allowed is expected


def test_an_attested_policy_denies_what_another_statement_would_allow() -> None:
    """Its Deny statements hold also when somebody adds an Allow for the account."""
    release = dict.fromkeys((0, 1, 2, 16), b"\xab" * 48)
    value = json.loads(attested_policy([release]))
    value["Statement"].append(statement())
    widened = KeyPolicy.parse(json.dumps(value))
    context = {f"kms:recipientattestation:pcr{index}": "ab" * 48 for index in (0, 1, 2, 16)}
    assert widened.decide("kms:Decrypt", ARN, context).allowed
    for index in (0, 1, 2, 16):
        other = {**context, f"kms:recipientattestation:pcr{index}": "cd" * 48}
        assert not widened.decide("kms:Decrypt", ARN, other).allowed
    assert not widened.decide("kms:Decrypt", ARN, {}).allowed


def test_an_attested_policy_names_an_image() -> None:
    """PCR0, 1 and 2 mean an image only together, and all releases name the same registers."""
    for wrong in ([], [{0: bytes(48)}], [{0: b"", 1: b"", 2: b""}, {0: b"", 1: b"", 2: b"", 16: b""}]):
        with pytest.raises(ValueError, match="PCRs"):
            attested_policy(wrong)
