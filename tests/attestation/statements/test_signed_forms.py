"""Signed statements have one form too: envelope, payload and what lies inside are read back as they were written.

`test_codecs` is about what is inside. Here whoever signs is the attacker: a party, a sender or enough governors may
sign whatever bytes they like, and readers still take one encoding of a well-formed value and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from cipherkeep_attestation import cbor, cose
from cipherkeep_attestation.errors import EvidenceError, Malformed
from cipherkeep_attestation.statements import governance, registration
from cipherkeep_attestation.statements.answer import Answer, Context, Core
from cipherkeep_attestation.statements.governance import Statement
from cipherkeep_attestation.statements.registration import Claims, Registration
from cipherkeep_attestation.statements.transaction import Message, Transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulators.governance import SimulatedGovernance, ed25519, public

GOVERNANCE = SimulatedGovernance()
GENESIS = GOVERNANCE.genesis.digest()
SIGNER = ed25519("signer")

raw32 = st.binary(min_size=32, max_size=32)
words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
positive = st.integers(1, (1 << 63) - 1)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.binary(max_size=20) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
bodies = st.dictionaries(words, anything, max_size=4)


def write_statement(payload: bytes) -> bytes:
    """What enough governors sign, whatever it is."""
    signed = cose.sig_structure(cose.PROTECTED_EDDSA, payload)
    rows = sorted([public(key), key.sign(signed)] for key in GOVERNANCE.keys[:2])
    return cbor.encode({"signatures": rows, "statement": payload})


def read_statement(data: bytes) -> Statement:
    return governance.verify(data, governors=GOVERNANCE.governors, instance="one", genesis=GENESIS)


def sign(payload: bytes) -> bytes:
    return cose.sign1(payload, key=SIGNER)


@dataclass(frozen=True)
class Form:
    """A kind of signed statement: its values, how an attacker signs a payload, and how it is read and written."""

    values: st.SearchStrategy[Any]
    payload: Callable[[Any], bytes]
    sign: Callable[[bytes], bytes]
    read: Callable[[bytes], Any]


statements = st.one_of(
    st.builds(
        Statement,
        st.just("one"),
        st.just(GENESIS),
        positive,
        st.just(governance.ADMIT_PARTY),
        st.fixed_dictionaries({"configuration": st.binary(min_size=48, max_size=48), "name": words}),
    ),
    st.builds(
        Statement,
        st.just("one"),
        st.just(GENESIS),
        positive,
        st.just(governance.RETIRE_KEY),
        st.fixed_dictionaries({"key_id": raw32}),
    ),
)
transactions = st.builds(
    Transaction,
    words,
    st.just(public(SIGNER)),
    positive,
    st.lists(st.builds(Message, words, words, bodies), min_size=1, max_size=3).map(tuple),
    st.integers(0, (1 << 63) - 1),
)
cores = st.builds(
    Core, raw32, words, st.none() | raw32, st.lists(raw32, max_size=2).map(tuple), st.none(), bodies, st.just({})
)
contexts = st.builds(
    Context,
    st.integers(1, 1000),
    positive,
    raw32,
    st.binary(min_size=48, max_size=48),
    st.binary(min_size=16, max_size=16),
    positive,
    raw32,
    st.tuples(positive, raw32),
)
registrations = st.builds(
    Registration,
    st.builds(
        Claims,
        words,
        words,
        st.just(public(SIGNER)),
        st.binary(min_size=33, max_size=33),
        st.binary(min_size=1, max_size=40),
        positive,
        st.tuples(positive, raw32),
    ),
    st.binary(min_size=1, max_size=60),
)


def inside(envelope: bytes) -> bytes:
    return cose.unverified_payload(envelope)


FORMS: dict[str, Form] = {
    "statement": Form(statements, lambda value: value.payload(), write_statement, read_statement),
    "transaction": Form(transactions, lambda value: value.payload(), sign, Transaction.open),
    "answer": Form(
        st.builds(Answer, cores, contexts),
        lambda value: inside(value.sign(SIGNER)),
        sign,
        lambda data: Answer.open(data, evidence_key=public(SIGNER)),
    ),
    "registration": Form(registrations, lambda value: inside(value.sign(SIGNER)), sign, registration.read),
}
every = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())


@every
@settings(max_examples=40, deadline=None)
@given(draw=st.data())
def test_what_is_signed_is_read_back(form: Form, draw: st.DataObject) -> None:
    """Reading is the inverse of signing."""
    value = draw.draw(form.values)
    assert form.read(form.sign(form.payload(value))) == value


@every
@settings(max_examples=120, deadline=None)
@given(draw=st.data(), place=st.integers(0, 1 << 16), change=st.binary(max_size=3), gap=st.integers(0, 3))
def test_signed_damage_is_refused_or_another_value(
    form: Form, draw: st.DataObject, place: int, change: bytes, gap: int
) -> None:
    """Whoever signs damaged bytes has signed nothing, or a value whose only encoding they are."""
    payload = form.payload(draw.draw(form.values))
    place %= len(payload)
    damaged = payload[:place] + change + payload[place + gap :]
    try:
        value = form.read(form.sign(damaged))
    except EvidenceError:
        return
    assert form.payload(value) == damaged


@every
@settings(max_examples=60, deadline=None)
@given(draw=st.data(), place=st.integers(0, 1 << 16), by=st.integers(1, 255))
def test_no_byte_of_a_signed_form_can_be_changed(form: Form, draw: st.DataObject, place: int, by: int) -> None:
    """Without the key, no other form of the same signature is accepted."""
    data = bytearray(form.sign(form.payload(draw.draw(form.values))))
    data[place % len(data)] ^= by
    with pytest.raises(EvidenceError):
        form.read(bytes(data))


MIXED = bytes.fromhex("a200002000")  # {0: 0, -1: 0}: in order, and nothing that our encoder writes


def spliced(payload: bytes, marker: bytes) -> bytes:
    assert payload.count(marker) == 1
    return payload.replace(marker, MIXED)


MARKER = bytes.fromhex("456d61726b21")  # the byte string "mark!" and, with it, its own head


@pytest.mark.parametrize("depth", [0, 3])
def test_a_party_cannot_sign_what_the_contract_cannot_hash(depth: int) -> None:
    """A result with a map that has no encoding is refused on reading, not later when its digest is taken."""
    result: Any = b"mark!"
    for _ in range(depth):
        result = [result]
    core = spliced(Core(bytes(32), "keygen", None, (), None, {"x": result}, {}).encode(), MARKER)
    with pytest.raises(Malformed) as refusal:
        Core.decode(core)
    assert refusal.value.code == "encoding.mixed_keys"


def test_a_sender_cannot_sign_what_the_chain_cannot_write() -> None:
    """The same in the body of a message."""
    made = Transaction("chain", public(SIGNER), 1, (Message("one", "ask", {"x": b"mark!"}),))
    with pytest.raises(Malformed) as refusal:
        Transaction.open(sign(spliced(made.payload(), MARKER)))
    assert refusal.value.code == "encoding.mixed_keys"
