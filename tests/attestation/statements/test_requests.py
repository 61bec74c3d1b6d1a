"""Requests: their ids, their origins, their bounds; and the transactions that carry them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from cipherkeep_attestation import cbor, cose
from cipherkeep_attestation.errors import EvidenceError, Malformed, Untrusted
from cipherkeep_attestation.statements import request
from cipherkeep_attestation.statements.request import Keygen, Origin, PublicDecrypt, decode, request_id
from cipherkeep_attestation.statements.transaction import Message, Transaction, transaction_hash
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulators.coprocessor import SimulatedCoprocessors, SimulatedUser
from tests.simulators.governance import ed25519, public

COPROCESSORS = SimulatedCoprocessors()
ALICE = SimulatedUser("alice")
KEY_ID = b"\x4b" * 32


def bind(number: int) -> Any:
    return COPROCESSORS.bind(number.to_bytes(32, "big"), key_id=KEY_ID, owner=ALICE.address)


PUBLIC = PublicDecrypt(KEY_ID, (bind(1), bind(2)), b"", Origin(1, b"\xdd" * 20, 7))
USER = ALICE.request(KEY_ID, bind(1), bind(2), start=1000)


# --- ids ---


def test_an_id_is_what_the_design_says() -> None:
    """SHA-256 over the label and the deterministic array of header, instance, counter and digest."""
    digest = hashlib.sha256(PUBLIC.encode()).digest()
    content = b"\x84" + b"\x58\x20" + b"\x01" * 32 + b"\x63one" + b"\x18\x2a" + b"\x58\x20" + digest
    expected = hashlib.sha256(b"cipherkeep/request/v1" + content).digest()
    assert request_id(first_header=b"\x01" * 32, instance="one", counter=42, digest=digest) == expected


@pytest.mark.parametrize(
    "change", [{"first_header": b"\x02" * 32}, {"instance": "two"}, {"counter": 2}, {"digest": b"\x02" * 32}]
)
def test_an_id_binds_all_of_it(change: dict[str, Any]) -> None:
    """Another chain, instance, place or content is another id."""
    base: dict[str, Any] = {"first_header": b"\x01" * 32, "instance": "one", "counter": 1, "digest": b"\x01" * 32}
    assert request_id(**base) != request_id(**{**base, **change})


# --- origins ---


def test_what_gateways_add_is_no_part_of_a_users_origin() -> None:
    """Signatures of coprocessors, grants, and the form of the user's signature do not multiply a request."""
    grant = ALICE.grant(b"\x01" * 32, b"\x02" * 20, valid_until=1)
    rebound = tuple(COPROCESSORS.sign(item, key_id=KEY_ID, signers=COPROCESSORS.keys) for item in USER.ciphertexts)
    for same in (
        replace(USER, grants=(grant,)),
        replace(USER, ciphertexts=rebound),
        replace(USER, signature=bytes(65)),
    ):
        assert same.origin() == USER.origin()


@pytest.mark.parametrize(
    "change",
    [
        {"start": 1001},
        {"days": 8},
        {"public_key": b"other"},
        {"contracts": (b"\x01" * 20,)},
        {"extra_data": b""},
        {"user": b"\x01" * 20},
        {"ciphertexts": (bind(1),)},
        {"ciphertexts": (bind(2), bind(1))},
        {"key_id": bytes(32)},
    ],
)
def test_what_the_user_signed_and_the_handles_are(change: dict[str, Any]) -> None:
    """Another signed request or other handles are another origin."""
    assert replace(USER, **change).origin() != USER.origin()


def test_a_public_origin_is_the_foreign_request_and_what_it_asks_for() -> None:
    """A name alone could be taken by whoever comes first; without a name there is no origin."""
    assert replace(PUBLIC, source=None).origin() is None
    for other in (
        replace(PUBLIC, source=Origin(2, b"\xdd" * 20, 7)),
        replace(PUBLIC, source=Origin(1, b"\xde" * 20, 7)),
        replace(PUBLIC, source=Origin(1, b"\xdd" * 20, 8)),
        replace(PUBLIC, ciphertexts=(bind(1),)),
        replace(PUBLIC, key_id=bytes(32)),
        replace(PUBLIC, extra_data=b"1"),
    ):
        assert other.origin() != PUBLIC.origin()


def test_origins_of_different_operations_differ() -> None:
    """One statement's origin is never that of a decryption."""
    assert len({PUBLIC.origin(), USER.origin(), Keygen(b"1").origin(), Keygen(b"2").origin()}) == 4


# --- bounds ---


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"operation": "destroy_key"}, "request.operation"),
        ({"operation": 7}, "request.operation"),
        ({"operation": "user_decrypt"}, "encoding.schema"),
        ({"ciphertexts": []}, "request.batch"),
        ({"ciphertexts": None}, "request.batch"),
        ({"ciphertexts": [bind(n).to_map() for n in range(129)]}, "request.batch"),
        ({"ciphertexts": [bind(1).to_map(), bind(1).to_map()]}, "request.duplicate_handle"),
        ({"key_id": bytes(31)}, "encoding.schema"),
        ({"extra_data": bytes(1025)}, "encoding.schema"),
        ({"source": {"chain_id": 1, "contract": bytes(20)}}, "encoding.schema"),
        ({"source": {"chain_id": 1, "contract": bytes(19), "request": 1}}, "encoding.schema"),
        ({"source": 1}, "encoding.schema"),
    ],
)
def test_requests_have_bounds(change: dict[str, Any], code: str) -> None:
    """What is outside of them is refused when it is read."""
    value = cbor.decode(PUBLIC.encode())
    assert isinstance(value, dict)
    with pytest.raises(Malformed) as refusal:
        decode(cbor.encode({**value, **change}))
    assert refusal.value.code == code


def test_size_comes_first() -> None:
    """A body above 128 KiB is not decoded."""
    with pytest.raises(Malformed) as refusal:
        decode(bytes(request.MAX_REQUEST + 1))
    assert refusal.value.code == "request.size"


def test_the_largest_honest_request_fits() -> None:
    """128 ciphertexts with three signatures each, and 128 grants, are within the size."""
    items = tuple(
        COPROCESSORS.bind(n.to_bytes(32, "big"), key_id=KEY_ID, owner=ALICE.address, signers=COPROCESSORS.keys)
        for n in range(128)
    )
    grants = tuple(ALICE.grant(item.handle, b"\x02" * 20, valid_until=1 << 40) for item in items)
    asked = replace(USER, ciphertexts=items, grants=grants, public_key=bytes(869))
    assert decode(asked.encode()) == asked


# --- transactions ---

SENDER = ed25519("sender")
GOOD = Transaction("chain", public(SENDER), 1, (Message("one", "freshness", {"nonce": bytes(32), "party": "alpha"}),))


def refused(data: bytes) -> str:
    with pytest.raises(EvidenceError) as refusal:
        Transaction.open(data)
    return refusal.value.code


def test_a_transaction_is_read_back() -> None:
    """With all its messages, in order."""
    more = replace(GOOD, messages=(*GOOD.messages, Message("two", "x", {"list": [1, {"a": None}]})), fee_limit=5)
    for made in (GOOD, more):
        assert Transaction.open(made.sign(SENDER)) == made


def test_only_the_sender_signs() -> None:
    """A transaction in another's name is refused, on both sides."""
    with pytest.raises(ValueError, match="sender"):
        GOOD.sign(ed25519("thief"))
    assert refused(cose.sign1(GOOD.payload(), key=ed25519("thief"))) == "cose.signature"


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": 0},
        {"nonce": -1},
        {"sender": bytes(31)},
        {"label": "cipherkeep/transaction/v2"},
        {"messages": []},
        {"messages": [["one", "x", {}]] * 257},
        {"messages": [["one", "x"]]},
        {"messages": [["one", "x", []]]},
        {"messages": [["", "x", {}]]},
        {"messages": [["one", "x", {1: 2}]]},
        {"messages": [{"instance": "one"}]},
        {"chain_id": ""},
        {"fee_limit": -1},
        {"more": 1},
    ],
)
def test_malformed_transactions_are_refused(change: dict[str, Any]) -> None:
    """Also when their sender signed them."""
    value = cbor.decode(GOOD.payload())
    assert isinstance(value, dict)
    assert refused(cose.sign1(cbor.encode({**value, **change}), key=SENDER)) == "encoding.schema"


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 1 << 16), by=st.integers(1, 255))
def test_no_byte_of_a_transaction_can_be_changed(place: int, by: int) -> None:
    """Hence nobody can make another hash of a transaction that would run twice."""
    data = bytearray(GOOD.sign(SENDER))
    data[place % len(data)] ^= by
    with pytest.raises((Malformed, Untrusted)):
        Transaction.open(bytes(data))


def test_a_transaction_is_named_by_its_sha256() -> None:
    """As CometBFT does."""
    data = GOOD.sign(SENDER)
    assert transaction_hash(data) == hashlib.sha256(data).digest()
