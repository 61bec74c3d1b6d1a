"""Who may have what decrypted: bindings, grants, users' requests, at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements.authorisation import authorise
from cipherkeep_attestation.statements.binding import verify_binding, verify_grant
from cipherkeep_attestation.statements.governance import Coprocessors
from cipherkeep_attestation.statements.request import PublicDecrypt, UserDecrypt

from tests.simulators.coprocessor import TERMS, SimulatedCoprocessors, SimulatedUser, high_s, secp256k1

COPROCESSORS = SimulatedCoprocessors()
ALICE, BOB = SimulatedUser("alice"), SimulatedUser("bob")
KEY_ID = b"\x4b" * 32
AT = 1_800_000_000


def bind(number: int = 1, **how: Any) -> Any:
    return COPROCESSORS.bind(number.to_bytes(32, "big"), key_id=KEY_ID, **{"owner": ALICE.address, **how})


def judge(
    asked: PublicDecrypt | UserDecrypt,
    *,
    at: int = AT,
    allow: bool = True,
    coprocessors: Coprocessors | None = COPROCESSORS.policy,
    terms: Any = TERMS,
) -> str:
    try:
        authorise(asked, terms=terms, coprocessors=coprocessors, at=at, insecure_allow_all=allow)
    except EvidenceError as refusal:
        return refusal.code
    return "ok"


def public(*items: Any) -> PublicDecrypt:
    return PublicDecrypt(KEY_ID, items)


def user(*items: Any, by: SimulatedUser = ALICE, **other: Any) -> UserDecrypt:
    return by.request(KEY_ID, *items, start=AT, **other)


# --- bindings ---


def test_k_of_n_bind() -> None:
    """Any k coprocessors suffice; more do no harm."""
    for keys in (COPROCESSORS.keys[:2], COPROCESSORS.keys[1:], COPROCESSORS.keys):
        assert judge(public(bind(signers=keys))) == "ok"


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"signers": []}, "binding.quorum"),
        ({"signers": COPROCESSORS.keys[:1]}, "binding.quorum"),
        ({"signers": [COPROCESSORS.keys[0]] * 2}, "binding.duplicate"),
        ({"signers": [*COPROCESSORS.keys[:2], secp256k1("stranger")]}, "binding.stranger"),
        ({"form": 1}, "binding.format"),
        ({"fhe_type": 1}, "binding.type"),
        ({"fhe_type": 9}, "binding.type"),
        ({"terms": replace(TERMS, acl=bytes(20))}, "binding.stranger"),
        ({"terms": replace(TERMS, host_chain_id=1)}, "binding.stranger"),
    ],
)
def test_bindings_that_do_not_bind(how: dict[str, Any], code: str) -> None:
    """Missing, doubled, foreign, of another chain or ACL, of a form or type that nobody decrypts."""
    assert judge(public(bind(**how))) == code
    assert judge(public(bind(2), bind(**how))) == code


def test_without_coprocessors_nothing_is_bound() -> None:
    """Before governance names a set, nobody's signature counts."""
    assert judge(public(bind()), coprocessors=None) == "binding.no_coprocessors"


def test_the_high_s_twin_does_not_bind() -> None:
    """Nor does it make a second signer out of one."""
    item = bind(signers=COPROCESSORS.keys[:1])
    twice = replace(item, signatures=(item.signatures[0], high_s(item.signatures[0])))
    assert judge(public(twice)) == "eip712.high_s"


@pytest.mark.parametrize("field", ["handle", "digest", "owner", "fhe_type"])
def test_every_field_is_bound(field: str) -> None:
    """A ciphertext with one field changed is bound by strangers."""
    item = bind()
    change: dict[str, Any] = {"handle": b"\x09" * 32, "digest": b"\x09" * 32, "owner": b"\x09" * 20, "fhe_type": 6}
    assert judge(public(replace(item, **{field: change[field]}))) == "binding.stranger"


def test_a_binding_serves_one_key() -> None:
    """The key's id is bound: the same handle under another key is another binding."""
    item = bind()
    with pytest.raises(EvidenceError) as refusal:
        verify_binding(item, key_id=bytes(32), domain=TERMS.bindings(), coprocessors=COPROCESSORS.policy)
    assert refusal.value.code == "binding.stranger"


# --- public decryption ---


def test_allow_all_needs_the_measured_configuration_too() -> None:
    """The key's terms alone open nothing."""
    assert judge(public(bind()), allow=False) == "authorisation.allow_all"


def test_unknown_authorisers_authorise_nothing() -> None:
    """Terms that were never read from a statement, with another name in them, refuse."""
    assert judge(public(bind()), terms=replace(TERMS, public_decrypt="acl_proof")) == "authorisation.allow_all"
    assert judge(user(bind()), terms=replace(TERMS, user_decrypt="acl_proof")) == "authorisation.authoriser"


def test_bindings_are_judged_before_anything_else() -> None:
    """An unbound ciphertext is refused as such, whoever asks."""
    assert judge(public(bind(signers=[])), allow=False) == "binding.quorum"
    assert judge(replace(user(bind(signers=[])), signature=bytes(65))) == "binding.quorum"


# --- users ---


def test_the_owner_is_authorised_without_insecure_settings() -> None:
    """What users ask for does not depend on allow_all."""
    assert judge(user(bind(1), bind(2)), allow=False) == "ok"


@pytest.mark.parametrize(
    ("at", "code"),
    [
        (AT - 1, "authorisation.not_yet"),
        (AT, "ok"),
        (AT + 7 * 86_400 - 1, "ok"),
        (AT + 7 * 86_400, "authorisation.expired"),
        (0, "authorisation.not_yet"),
        (1 << 62, "authorisation.expired"),
    ],
)
def test_a_request_holds_from_its_start_for_its_days(at: int, code: str) -> None:
    """The first second is in, the last one after is out."""
    assert judge(user(bind()), at=at) == code


@pytest.mark.parametrize(
    "change",
    [
        {"public_key": b"other"},
        {"contracts": ()},
        {"contracts": (b"\xcc" * 20, b"\xcd" * 20)},
        {"start": AT - 1},
        {"days": 8},
        {"extra_data": b"\x01"},
        {"user": BOB.address},
    ],
)
def test_what_was_signed_cannot_be_changed(change: dict[str, Any]) -> None:
    """Every field that the user signs is recovered into her address."""
    assert judge(replace(user(bind()), **change)) == "authorisation.user_signature"


def test_a_users_signature_is_for_the_host_chains_id() -> None:
    """A request signed under the answers' domain (the gateway chain's id) is somebody else's."""
    signed = ALICE.sign(user(bind()), replace(TERMS, host_chain_id=TERMS.decryption.chain_id))
    assert judge(signed) == "authorisation.user_signature"


def test_the_high_s_twin_of_a_users_signature_is_refused() -> None:
    """A request has one form."""
    asked = user(bind())
    assert judge(replace(asked, signature=high_s(asked.signature))) == "eip712.high_s"


def test_a_contract_is_no_user() -> None:
    """The user's address is none of the contracts'."""
    asked = ALICE.sign(replace(user(bind()), contracts=(b"\xcc" * 20, ALICE.address)))
    assert judge(asked) == "authorisation.user_is_contract"


# --- grants ---


def granted(**how: Any) -> UserDecrypt:
    values: dict[str, Any] = {"valid_until": AT, **how}
    by = values.pop("by", ALICE)
    handle = values.pop("handle", bind().handle)
    grant = by.grant(handle, values.pop("user", BOB.address), **values)
    return user(bind(), by=BOB, grants=(grant,))


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({}, "ok"),
        ({"valid_until": AT - 1}, "authorisation.grant_expired"),
        ({"by": BOB}, "authorisation.grant_stranger"),
        ({"handle": b"\x09" * 32}, "authorisation.not_granted"),
        ({"user": ALICE.address}, "authorisation.not_granted"),
        ({"terms": replace(TERMS, acl=bytes(20))}, "authorisation.grant_stranger"),
    ],
)
def test_a_grant_is_the_owners_for_this_handle_and_user(how: dict[str, Any], code: str) -> None:
    """Anything else opens nothing."""
    assert judge(granted(**how)) == code


def test_one_good_grant_is_enough_whatever_stands_beside_it() -> None:
    """A renewed grant after an expired one, and an owner's after a stranger's."""
    handle = bind().handle
    good = ALICE.grant(handle, BOB.address, valid_until=AT)
    old, forged = ALICE.grant(handle, BOB.address, valid_until=AT - 1), BOB.grant(handle, BOB.address, valid_until=AT)
    for grants in ((old, good), (forged, good), (old, forged, good)):
        assert judge(user(bind(), by=BOB, grants=grants)) == "ok"
    assert judge(user(bind(), by=BOB, grants=(old, forged))) == "authorisation.grant_stranger"


def test_one_ungranted_handle_refuses_the_batch() -> None:
    """All or nothing."""
    grant = ALICE.grant(bind(1).handle, BOB.address, valid_until=AT)
    assert judge(user(bind(1), bind(2), by=BOB, grants=(grant,))) == "authorisation.not_granted"
    both = (grant, ALICE.grant(bind(2).handle, BOB.address, valid_until=AT))
    assert judge(user(bind(1), bind(2), by=BOB, grants=both)) == "ok"


def test_a_grant_by_the_owner_of_another_handle_is_none() -> None:
    """The owner is the one that the binding names."""
    item = bind(1, owner=BOB.address)
    grant = ALICE.grant(item.handle, b"\x01" * 20, valid_until=AT)
    with pytest.raises(EvidenceError) as refusal:
        verify_grant((grant,), ciphertext=item, user=b"\x01" * 20, domain=TERMS.bindings(), at=AT)
    assert refusal.value.code == "authorisation.grant_stranger"
