"""Statements of governance: k of n, in order, for one instance."""

from __future__ import annotations

import pytest
from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import EvidenceError, Malformed
from cipherkeep_attestation.statements import governance
from cipherkeep_attestation.statements.governance import Coprocessors, Governors, Releases, Statement, verify
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulators.coprocessor import TERMS, SimulatedCoprocessors
from tests.simulators.governance import SimulatedGovernance, ed25519, public

GOVERNANCE = SimulatedGovernance()
GENESIS = GOVERNANCE.genesis.digest()


def judge(data: bytes, serial: int | None = 1, governors: Governors = GOVERNANCE.governors) -> Statement:
    return verify(data, governors=governors, instance="one", genesis=GENESIS, serial=serial)


def refused(data: bytes, serial: int | None = 1) -> str:
    with pytest.raises(EvidenceError) as refusal:
        judge(data, serial)
    return refusal.value.code


def test_enough_signatures_hold() -> None:
    """k suffice, and so do all n."""
    made = GOVERNANCE.admit("alpha", b"\xc0" * 48, serial=1)
    body = {"configuration": b"\xc0" * 48, "name": "alpha"}
    assert judge(made) == Statement("one", GENESIS, 1, governance.ADMIT_PARTY, body)
    assert judge(GOVERNANCE.admit("alpha", serial=1, signers=GOVERNANCE.keys)).serial == 1
    assert judge(made, serial=None).serial == 1


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_k_do_not(count: int) -> None:
    """k - 1 signatures decide nothing."""
    made = GOVERNANCE.admit("alpha", serial=1, signers=GOVERNANCE.keys[:count])
    assert refused(made) == ("governance.quorum" if count else "encoding.schema")


def test_a_stranger_among_k_refuses_the_whole() -> None:
    """Neither instead of a governor nor in addition."""
    stranger = ed25519("stranger")
    for keys in ([GOVERNANCE.keys[0], stranger], [*GOVERNANCE.keys, stranger]):
        assert refused(GOVERNANCE.admit("alpha", serial=1, signers=keys)) == "governance.stranger"


def test_another_number_is_refused() -> None:
    """Neither an old one nor one to come."""
    assert refused(GOVERNANCE.admit("alpha", serial=2)) == "governance.serial"
    assert refused(GOVERNANCE.admit("alpha", serial=1), serial=2) == "governance.serial"


def test_another_instance_is_refused() -> None:
    """By name and by genesis parameters."""
    assert refused(GOVERNANCE.admit("alpha", serial=1, instance="two")) == "governance.instance"
    assert refused(GOVERNANCE.admit("alpha", serial=1, genesis=bytes(32))) == "governance.instance"


def edited(data: bytes, **change: object) -> bytes:
    found = cbor.decode(data)
    assert isinstance(found, dict)
    return cbor.encode({**found, **change})


def test_signatures_are_sorted_and_distinct() -> None:
    """A statement signed by the same keys has one form."""
    found = cbor.decode(GOVERNANCE.admit("alpha", serial=1))
    assert isinstance(found, dict)
    assert isinstance(found["signatures"], list)
    first, second = found["signatures"]
    for wrong in ([second, first], [first, first], [first, first, second]):
        made = edited(GOVERNANCE.admit("alpha", serial=1), signatures=wrong)
        assert refused(made) == "governance.signature_order"


def test_a_signature_is_a_key_and_its_signature() -> None:
    """Nothing is left out, and nothing rides along unsigned."""
    made = GOVERNANCE.admit("alpha", serial=1)
    found = cbor.decode(made)
    assert isinstance(found, dict)
    first, second = found["signatures"]  # type: ignore[misc]
    assert isinstance(second, list)
    for wrong in ([*second, b"more"], second[:1], [], None, {"key": second[0], "signature": second[1]}):
        assert refused(edited(made, signatures=[first, wrong])) == "encoding.schema"


def test_a_signature_belongs_to_its_key_and_statement() -> None:
    """Swapped signatures and those over another statement do not hold."""
    made, other = GOVERNANCE.admit("alpha", serial=1), GOVERNANCE.admit("beta", serial=1)
    found, wrong = cbor.decode(made), cbor.decode(other)
    assert isinstance(found, dict)
    assert isinstance(wrong, dict)
    assert refused(edited(made, signatures=wrong["signatures"])) == "governance.signature"
    rows = found["signatures"]
    assert isinstance(rows, list)
    swapped = [[rows[0][0], rows[1][1]], [rows[1][0], rows[0][1]]]  # type: ignore[index]
    assert refused(edited(made, signatures=swapped)) == "governance.signature"


def test_an_envelope_of_the_same_keys_is_no_statement() -> None:
    """What governors signed for another purpose decides nothing here."""
    payload = cbor.encode({"label": "cipherkeep/transaction/v1"})
    rows = sorted([public(key), key.sign(payload)] for key in GOVERNANCE.keys[:2])
    assert refused(cbor.encode({"signatures": rows, "statement": payload})) == "encoding.schema"


def test_too_large_a_statement_is_not_read() -> None:
    """Size comes first."""
    assert refused(bytes(governance.MAX_STATEMENT + 1)) == "encoding.size"


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 1 << 16), by=st.integers(1, 255))
def test_no_byte_can_be_changed(place: int, by: int) -> None:
    """Every byte of a signed statement is signed, or decides whether it is one."""
    data = bytearray(GOVERNANCE.keygen(TERMS, serial=1))
    data[place % len(data)] ^= by
    with pytest.raises(EvidenceError):
        judge(bytes(data))


@pytest.mark.parametrize(
    ("kind", "body", "content"),
    [
        ("set_coprocessors", SimulatedCoprocessors().policy.to_map(), SimulatedCoprocessors().policy),
        ("keygen", TERMS.to_map(), TERMS),
        ("retire_key", {"key_id": bytes(32)}, {"key_id": bytes(32)}),
        ("lift_freeze", {"conflict": bytes(32)}, {"conflict": bytes(32)}),
    ],
)
def test_a_body_is_read_as_its_kind(kind: str, body: dict[str, object], content: object) -> None:
    """Each kind has its own type, and no kind takes another's body."""
    assert judge(GOVERNANCE.statement(kind, body, serial=1)).content() == content
    for other in governance.KINDS:
        if other != kind:
            assert refused(GOVERNANCE.statement(other, body, serial=1)) == "encoding.schema"


@pytest.mark.parametrize("threshold", [0, 2, 65])
def test_a_threshold_is_from_one_to_all(threshold: int) -> None:
    """For governors and coprocessors alike."""
    with pytest.raises(Malformed):
        Governors((bytes(32),), threshold)
    with pytest.raises(Malformed):
        Coprocessors((bytes(20),), threshold)


def test_members_are_distinct() -> None:
    """One key listed twice would vote twice."""
    with pytest.raises(Malformed):
        Governors((bytes(32), bytes(32)), 1)
    with pytest.raises(Malformed):
        Coprocessors((bytes(20), bytes(20)), 1)


def test_releases_are_at_least_one() -> None:
    """An empty list would lapse everybody by accident."""
    with pytest.raises(Malformed):
        Releases.of_map({"releases": []})
