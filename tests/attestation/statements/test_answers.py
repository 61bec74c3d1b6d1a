"""Answers and registrations: what is signed, what parties agree on, what is read."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cipherkeep_attestation import cbor, cose
from cipherkeep_attestation.errors import EvidenceError, Malformed
from cipherkeep_attestation.statements import answer as answers
from cipherkeep_attestation.statements import registration
from cipherkeep_attestation.statements.answer import Answer, Context, Core
from cipherkeep_attestation.statements.governance import Release, Releases
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulators.attestation import PCRS, SimulatedPlatform
from tests.simulators.governance import SimulatedGovernance, ed25519, public
from tests.simulators.party import SimulatedParty, configuration

KEY = ed25519("evidence")
CORE = Core(
    b"\x01" * 32, "public_decrypt", b"\x02" * 32, (b"\x03" * 32,), None, {"decrypted": bytes(32)}, {"eip712": bytes(65)}
)
CONTEXT = Context(1, 10, b"\x04" * 32, b"\x05" * 48, b"\x06" * 16, 1, bytes(32), (1, b"\x07" * 32))
SIGNED = Answer(CORE, CONTEXT).sign(KEY)


def test_an_answer_is_read_back() -> None:
    """Verified or not, it is the same; its hash is that of the signed bytes."""
    assert Answer.open(SIGNED, evidence_key=public(KEY)) == Answer(CORE, CONTEXT)
    assert answers.unverified(SIGNED) == Answer(CORE, CONTEXT)


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 1 << 16), by=st.integers(1, 255))
def test_no_byte_of_an_answer_can_be_changed(place: int, by: int) -> None:
    """Core, context and envelope are signed as one."""
    data = bytearray(SIGNED)
    data[place % len(data)] ^= by
    with pytest.raises(EvidenceError):
        Answer.open(bytes(data), evidence_key=public(KEY))


def test_an_answer_of_another_key_is_refused() -> None:
    """The evidence key decides whose answer it is."""
    with pytest.raises(EvidenceError) as refusal:
        Answer.open(SIGNED, evidence_key=public(ed25519("other")))
    assert refusal.value.code == "cose.signature"


@pytest.mark.parametrize(
    "change",
    [
        {"id": b"\x09" * 32},
        {"operation": "keygen"},
        {"key_id": None},
        {"digests": ()},
        {"result": {"decrypted": b"\x01" * 32}},
        {"result": None, "refusal": "binding"},
    ],
)
def test_parties_agree_on_everything_but_their_signatures(change: dict[str, Any]) -> None:
    """Each of these is another vote, and another core."""
    other = replace(CORE, **change)
    assert other.agreement() != CORE.agreement()
    assert other.digest() != CORE.digest()


def test_signatures_make_another_core_but_the_same_agreement() -> None:
    """Parties that sign the same result agree; one party that signs it differently contradicts itself."""
    other = replace(CORE, signatures={"eip712": b"\x01" * 65})
    assert other.agreement() == CORE.agreement()
    assert other.digest() != CORE.digest()


def test_shares_for_a_user_are_counted_not_compared() -> None:
    """Sealed by each party for itself, they differ and agree; a refusal does not agree with a share."""
    share = replace(CORE, operation="user_decrypt", result={"payload": b"one"})
    other = replace(share, result={"payload": b"two"})
    assert share.agreement() == other.agreement()
    assert share.digest() != other.digest()
    assert replace(share, result=None, refusal="binding").agreement() != share.agreement()
    assert replace(share, key_id=None).agreement() != share.agreement()


def test_refusals_vote_by_code() -> None:
    """Two codes are two votes."""
    one = replace(CORE, result=None, refusal="binding", signatures={})
    assert one.agreement() != replace(one, refusal="authorisation").agreement()


@pytest.mark.parametrize("change", [{"result": None}, {"refusal": "binding"}])
def test_a_core_is_a_result_or_a_refusal(change: dict[str, Any]) -> None:
    """Neither both nor none."""
    with pytest.raises(Malformed) as refusal:
        Core.decode(replace(CORE, **change).encode())
    assert refusal.value.code == "answer.outcome"


def test_a_label_separates_answers_from_other_messages() -> None:
    """The same fields under another label are no answer."""
    payload = {"context": CONTEXT.to_map(), "core": CORE.encode(), "label": "cipherkeep/answer/v2"}
    with pytest.raises(Malformed):
        answers.unverified(cose.sign1(cbor.encode(payload), key=KEY))


def test_too_large_an_answer_is_not_read() -> None:
    """Size comes first."""
    with pytest.raises(Malformed) as refusal:
        answers.unverified(bytes(answers.MAX_ANSWER + 1))
    assert refusal.value.code == "encoding.size"


@pytest.mark.parametrize("pin", [[], [1], [0, bytes(32)], [1, bytes(31)], {"serial": 1}, [1, bytes(32), 1]])
def test_a_pin_is_a_number_and_a_digest(pin: object) -> None:
    """Of a manifest that exists: numbers begin with one."""
    with pytest.raises(Malformed):
        answers.read_manifest_pin(pin)


# --- registrations: what the contract's tests do not reach ---

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
PLATFORM = SimulatedPlatform(at=NOW)
ROOT = PLATFORM.root().certificate_der
GOVERNANCE = SimulatedGovernance(roots=(ROOT,))
RELEASES = Releases((Release("v1", PCRS[0], PCRS[1], PCRS[2]),))
CONFIGURED = configuration(
    "alpha", genesis=GOVERNANCE.genesis, platform=PLATFORM, chain_id="chain", header=b"\x01" * 32
)
PARTY = SimulatedParty("alpha", 1, PLATFORM, CONFIGURED)


def judge(data: bytes, **how: Any) -> str:
    arguments: dict[str, Any] = {
        "instance": "one",
        "genesis": GOVERNANCE.genesis.digest(),
        "releases": RELEASES,
        "roots": (ROOT,),
        "block_hash": b"\x0b" * 32,
        "block_time": NOW,
        **how,
    }
    try:
        found, attestation = registration.verify(data, **arguments)
    except EvidenceError as refusal:
        return refusal.code
    assert found.claims.signer() == PARTY.signer
    assert attestation.public_key == found.claims.evidence_key
    return "ok"


def test_any_of_several_roots_and_releases_serves() -> None:
    """During an upgrade of either, old and new are accepted side by side."""
    data = PARTY.register(5, b"\x0b" * 32)
    other = SimulatedPlatform(at=NOW, name="other").root().certificate_der
    both = Releases((Release("v2", bytes(48), bytes(48), bytes(48)), *RELEASES.releases))
    assert judge(data) == "ok"
    assert judge(data, roots=(other, ROOT), releases=both) == "ok"
    assert judge(data, roots=(other,)) == "path.root"
    assert judge(data, roots=()) == "registration.no_roots"
    assert judge(data, releases=None) == "registration.no_releases"


def test_a_measurement_is_not_put_together_from_two_releases() -> None:
    """PCR0 of one and PCR1 of another are no image."""
    first, second = b"\x21" * 48, b"\x22" * 48
    mixed = Releases((Release("a", PCRS[0], first, PCRS[2]), Release("b", second, PCRS[1], PCRS[2])))
    assert judge(PARTY.register(5, b"\x0b" * 32), releases=mixed) == "document.pcr_mismatch"


@settings(max_examples=100, deadline=None)
@given(place=st.integers(0, 1 << 16), by=st.integers(1, 255))
def test_no_byte_of_a_registration_can_be_changed(place: int, by: int) -> None:
    """The evidence key signs the whole."""
    data = bytearray(PARTY.register(5, b"\x0b" * 32))
    data[place % len(data)] ^= by
    assert judge(bytes(data)) != "ok"


def test_what_is_written_is_read() -> None:
    """Claims and document come back from `read`, which judges only the signature."""
    data = PARTY.register(5, b"\x0b" * 32)
    found = registration.read(data)
    assert found.claims == PARTY.claims(5)
    assert found.claims.user_data() == cbor.encode(
        {"claims": hashlib.sha384(PARTY.claims(5).encode()).digest(), "label": registration.LABEL}
    )


def test_measurements_are_named_by_their_digest() -> None:
    """PCR0, 1 and 2, whatever else a document holds."""
    some = {0: bytes(48), 1: bytes(48), 2: bytes(48)}
    assert registration.measurements_digest(some) == registration.measurements_digest({**some, 4: b"\x01" * 48})
    assert registration.measurements_digest(some) != registration.measurements_digest({**some, 1: b"\x01" * 48})
