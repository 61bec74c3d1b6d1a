"""What a verifier reports about its rules is what it did; and what a policy may say beyond measurements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cipherkeep_attestation.errors import RULES, EvidenceError, Refused
from cipherkeep_attestation.nitro.rules import rules
from cipherkeep_attestation.nitro.verify import NO_NONCE, InsecureAnyMeasurement, Measurements, verify, verify_host
from cipherkeep_attestation.trace import State, Trace

from tests.attestation.test_document_rules import ATTACKS, KEY, NONCE, NOW, PLATFORM, POLICY, draft
from tests.simulators.attestation import IMAGE, PCRS, Draft

USUAL_FAILURES = (
    "document.pcr_mismatch",
    "document.debug",
    "document.nonce",
    "document.public_key",
    "document.too_old",
    "document.from_future",
    "document.is_host_document",
    "document.is_enclave_document",
    "document.fields",
    "document.user_data",
    "document.release_window",
    "document.signature",
    "path.root",
    "path.expired",
    "path.not_yet_valid",
    "certificate.critical_extension",
)


def code_of(document: bytes, *, trace: Trace | None = None, **changes: Any) -> str:
    with pytest.raises(EvidenceError) as refusal:
        verify(document, root=PLATFORM.root(), policy=replace(POLICY, **changes), at=NOW, trace=trace)
    return refusal.value.code


@pytest.mark.parametrize(("code", "edit"), ATTACKS, ids=[f"{n}-{code}" for n, (code, _) in enumerate(ATTACKS)])
def test_a_refused_rule_is_listed_and_nothing_after_it_passed(code: str, edit: Callable[[Draft], None]) -> None:
    """Every rule that can refuse a document is in the list, in the order in which it is judged."""
    made = draft()
    edit(made)
    trace = Trace()
    assert code_of(made.sign(), trace=trace) == code
    order = list(rules("enclave"))
    assert code in order
    after = set(order[order.index(code) + 1 :])
    if not code.startswith("encoding."):  # an envelope's encoding is read before the rules about its parts
        assert not after & (trace.passed.keys() | trace.waived.keys())
    checks = trace.checks(rules("enclave"), failed=code, detail="why")
    assert [check.detail for check in checks if check.state is State.FAILED] == ["why"]


def test_an_accepted_document_passed_every_rule_that_was_demanded() -> None:
    """With a policy that demands all, all; what a policy leaves out is waived by name and never called passed."""
    trace = Trace()
    strict = replace(POLICY, user_data=lambda value: None)
    verify(draft().sign(), root=PLATFORM.root(), policy=strict, at=NOW, trace=trace)
    assert trace.passed.keys() == rules("enclave").keys()
    assert not trace.waived
    trace = Trace()
    lax = replace(POLICY, nonce=NO_NONCE, public_key=None, measurements=InsecureAnyMeasurement())
    verify(draft().sign(), root=PLATFORM.root(), policy=lax, at=NOW, trace=trace)
    waived = {"document.nonce", "document.public_key", "document.user_data"}
    waived |= {"document.pcr_mismatch", "document.release_window"}
    assert trace.waived.keys() == waived
    assert trace.passed.keys() == rules("enclave").keys() - waived
    trace = Trace()
    hosts = replace(strict, measurements=(Measurements({4: PCRS[4]}),))
    host = draft(kind="host").sign()
    verify_host(host, root=PLATFORM.root(), policy=hosts, at=NOW, trace=trace)
    assert trace.passed.keys() - {"document.debug"} == rules("host").keys()


def test_a_trace_changes_no_verdict() -> None:
    """With or without one, the same attestation."""
    made = draft().sign()
    common: dict[str, Any] = {"root": PLATFORM.root(), "policy": POLICY, "at": NOW}
    assert verify(made, **common, trace=Trace()) == verify(made, **common)


def test_a_failed_rule_is_failed_whatever_was_recorded() -> None:
    """A rule can hold for one part and fail for the next; a code outside the list is shown at its end."""
    trace = Trace()
    trace.passes("a", "b")
    trace.waives("c", "reason")
    plan = {"a": "A", "b": "B", "c": "C", "d": "D"}
    states = {check.code: check.state for check in trace.checks(plan, failed="b")}
    assert states == {
        "a": State.PASSED,
        "b": State.FAILED,
        "c": State.NOT_DEMANDED,
        "d": State.NOT_JUDGED,
    }
    assert [check.code for check in trace.checks(plan, failed="x")][-1] == "x"


@pytest.mark.parametrize("kind", ["enclave", "host"])
def test_every_listed_rule_is_in_the_table(kind: Any) -> None:
    """A code that is printed has a sentence, a hint and a source."""
    assert rules(kind).keys() <= RULES.keys()


@pytest.mark.parametrize("code", USUAL_FAILURES)
def test_a_usual_failure_has_a_hint_of_its_own(code: str) -> None:
    """What an operator meets in a week says what to look at, not that somebody must be suspected."""
    others = [rule.hint for name, rule in RULES.items() if name != code]
    assert RULES[code].hint not in others
    assert len(RULES[code].hint) > 30


def test_unknown_fields_are_a_switch_of_the_policy() -> None:
    """Refused unless the policy ignores them by name; then the attestation lists them, and nothing else gets laxer."""
    made = draft()
    made.fields["future"] = [1, b"x"]
    made.fields[7] = None
    document = made.sign()
    assert code_of(document) == "document.fields"
    lax = replace(POLICY, unknown_fields="ignore")
    trace = Trace()
    attestation = verify(document, root=PLATFORM.root(), policy=lax, at=NOW, trace=trace)
    assert attestation.unknown_fields == ("7", "future")
    (check,) = (check for check in trace.checks(rules("enclave")) if check.code == "document.fields")
    assert (check.state, "2 unknown" in check.detail) == (State.NOT_DEMANDED, True)
    trace = Trace()
    assert verify(draft().sign(), root=PLATFORM.root(), policy=lax, at=NOW, trace=trace).unknown_fields == ()
    assert "document.fields" in trace.passed
    made.fields["nitrotpm_pcrs"] = dict(PCRS)
    assert code_of(made.sign(), unknown_fields="ignore") == "document.fields"
    del made.fields["nitrotpm_pcrs"], made.fields["user_data"]
    assert code_of(made.sign(), unknown_fields="ignore") == "document.fields"
    with pytest.raises(ValueError, match="refuses or ignores"):
        replace(POLICY, unknown_fields="skip")  # type: ignore[arg-type]


def test_user_data_is_judged_by_the_hook_after_everything_else() -> None:
    """The hook sees only user data of a document that holds; what it raises is the verdict."""
    seen: list[bytes | None] = []

    def judge(value: bytes | None) -> None:
        seen.append(value)
        if value != b"right":
            raise Refused("document.user_data")

    assert verify(
        draft(user_data=b"right").sign(), root=PLATFORM.root(), policy=replace(POLICY, user_data=judge), at=NOW
    )
    assert code_of(draft(user_data=b"wrong").sign(), user_data=judge) == "document.user_data"
    assert code_of(draft().sign(), user_data=judge) == "document.user_data"
    assert seen == [b"right", b"wrong", None]
    assert code_of(draft(nonce=b"m" * 32, user_data=b"right").sign(), user_data=judge) == "document.nonce"
    assert len(seen) == 3


def test_a_set_of_measurements_holds_in_its_window() -> None:
    """From its beginning, up to and without its end; another set that matches and is in its time wins."""
    hour = timedelta(hours=1)
    common = {"name": "1.0.0"}
    for window, code in (
        ({"not_before": NOW}, None),
        ({"not_before": NOW + hour}, "document.release_window"),
        ({"not_after": NOW}, "document.release_window"),
        ({"not_after": NOW + hour}, None),
    ):
        entry = Measurements(IMAGE.pcrs, **common, **window)  # type: ignore[arg-type]
        if code is None:
            policy = replace(POLICY, measurements=(entry,))
            found = verify(draft().sign(), root=PLATFORM.root(), policy=policy, at=NOW)
            assert found.release == "1.0.0"
        else:
            assert code_of(draft().sign(), measurements=(entry,)) == code
            both = replace(POLICY, measurements=(entry, Measurements(IMAGE.pcrs, name="again")))
            assert verify(draft().sign(), root=PLATFORM.root(), policy=both, at=NOW).release == "again"
    other = Measurements({**IMAGE.pcrs, 0: b"\x63" * 48}, not_after=NOW)
    assert code_of(draft().sign(), measurements=(other,)) == "document.pcr_mismatch"
    for wrong in ({"not_before": NOW, "not_after": NOW}, {"not_after": datetime(2026, 7, 1)}):  # noqa: DTZ001
        with pytest.raises(ValueError, match="window"):
            Measurements(IMAGE.pcrs, **wrong)  # type: ignore[arg-type]


def test_a_partial_image_needs_its_long_name() -> None:
    """PCR0 alone is compared where the policy says so, and never less than PCR0."""
    alone = (Measurements({0: PCRS[0]}),)
    lax = replace(POLICY, measurements=alone, insecure_partial_image=True)
    assert verify(draft().sign(), root=PLATFORM.root(), policy=lax, at=NOW).nonce == NONCE
    for sets in (alone, (Measurements({8: PCRS[8]}),)):
        partial = replace(POLICY, measurements=sets, insecure_partial_image=sets is not alone)
        with pytest.raises(ValueError, match="PCR0"):
            verify(draft().sign(), root=PLATFORM.root(), policy=partial, at=NOW)


def test_the_signer_is_compared_where_the_policy_names_pcr8() -> None:
    """An unsigned image, whose PCR8 is zeros, does not pass for a signed one."""
    signer = Measurements({**IMAGE.pcrs, 8: b"\x08" * 48})
    assert code_of(draft().sign(), measurements=(signer,)) == "document.pcr_mismatch"
    made = draft(pcrs={**PCRS, 8: b"\x08" * 48}).sign()
    policy = replace(POLICY, measurements=(signer,))
    assert verify(made, root=PLATFORM.root(), policy=policy, at=NOW.astimezone(UTC)).public_key == KEY
