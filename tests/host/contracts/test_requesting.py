"""What is accepted as a request, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements import layout
from cipherkeep_attestation.statements.layout import EXPIRED, FINAL, PENDING
from cipherkeep_attestation.statements.request import Keygen, Origin, Request, request_digest, request_id
from cipherkeep_host.contracts.fhevm import closing, limits, requesting
from cipherkeep_host.contracts.fhevm.contract import MESSAGES
from cipherkeep_host.contracts.fhevm.records import number
from cipherkeep_host.contracts.interface import ContractRefusal, ContractState

from tests.simulators.contract import CHAIN_ID, World
from tests.simulators.coprocessor import TERMS, SimulatedCoprocessors, SimulatedUser, secp256k1

SOURCE = Origin(31337, b"\xdd" * 20, 7)


def test_a_request_gets_the_id_that_anyone_can_compute(world: World) -> None:
    """The id binds first header, instance, counter and content, and the result names it."""
    asked = world.public(1)
    found = world.ask(asked)
    digest = request_digest(asked.encode())
    expected = request_id(first_header=world.hash(1), instance="one", counter=found.counter, digest=digest)
    assert (found.id, found.state, found.duplicate) == (expected, PENDING, False)
    record = world.record(found.counter)
    assert (record.id, record.digest, record.operation, record.height) == (
        expected,
        digest,
        "public_decrypt",
        world.height,
    )
    assert world.index("bodies", number(found.counter)) == asked.encode()
    assert world.index("ids", found.id) == number(found.counter)


def test_the_inbox_of_a_block_holds_its_requests_in_order(world: World) -> None:
    """One value per block with requests, under the block's height; other blocks have none."""
    asked: list[Request] = [world.public(1), world.public(2), world.user(3)]
    outcomes = world.block(*[(item.operation, {"request": item.encode()}) for item in asked])
    found = [outcome.value for outcome in outcomes]
    inbox = world.inbox(world.height)
    assert inbox is not None
    assert [(entry.counter, entry.id) for entry in inbox.entries] == [(item["counter"], item["id"]) for item in found]
    assert [entry.digest for entry in inbox.entries] == [request_digest(item.encode()) for item in asked]
    world.block()
    assert world.inbox(world.height) is None


def test_one_bad_request_among_good_ones_is_refused_alone(world: World) -> None:
    """A request that fails leaves no trace, and its neighbours in the block are accepted."""
    bad = world.public(2, signers=[])
    good = [world.public(1), world.public(3)]
    messages = [("public_decrypt", {"request": item.encode()}) for item in (good[0], bad, good[1])]
    codes = [outcome.code for outcome in world.block(*messages)]
    assert codes == ["ok", "binding.quorum", "ok"]
    inbox = world.inbox(world.height)
    assert inbox is not None
    assert len(inbox.entries) == 2
    assert inbox.entries[1].counter == inbox.entries[0].counter + 1


def test_nothing_happens_in_a_block_that_does_nothing(world: World) -> None:
    """The app hash stands still, with requests pending too, although the block's hash is remembered."""
    world.ask(world.public(1))
    before = world.state.root()
    world.skip(3)
    assert world.state.root() == before


# --- keys ---


def test_a_key_that_nobody_generated_is_unknown(world: World) -> None:
    """A request under an id that is no key is refused."""
    strange = replace(world.public(1), key_id=b"\x77" * 32)
    assert world.refused(strange) == "fhevm.key_unknown"


def test_a_key_of_another_instance_is_unknown(world: World, tmp_path: Path) -> None:
    """Two instances with the same governors and parties have different keys, and neither serves the other's."""
    other = World(tmp_path / "other", instance="two")
    other.set_up()
    assert other.key_id != world.key_id
    assert world.refused(other.public(1)) == "fhevm.key_unknown"
    other.state.close()


def test_a_key_in_the_making_serves_nobody(world: World) -> None:
    """Until its generation is final, a key's id is unknown."""
    statement = world.governance.keygen(TERMS)
    world.govern(statement)
    found = world.ask(Keygen(statement))
    assert world.refused(replace(world.public(1), key_id=found.id)) == "fhevm.key_unknown"


def test_a_retired_key_takes_no_requests(world: World) -> None:
    """After governance has retired a key, requests under it are refused."""
    assert world.govern(world.governance.retire(world.key_id)) == "ok"
    assert world.refused(world.public(1)) == "fhevm.key_retired"
    assert world.refused(world.user(1)) == "fhevm.key_retired"


def test_keygen_needs_the_statement_in_state_byte_for_byte(world: World) -> None:
    """A statement signed by governors who never published it, or by others of them, generates nothing."""
    unpublished = world.governance.keygen(TERMS, serial=99)
    assert world.refused(Keygen(unpublished)) == "fhevm.statement_unknown"
    published = world.governance.keygen(TERMS)
    world.govern(published)
    resigned = world.governance.keygen(TERMS, serial=world.governance.serial, signers=world.governance.keys[1:])
    assert resigned != published
    assert world.refused(Keygen(resigned)) == "fhevm.statement_unknown"


def test_keygen_needs_a_statement_of_its_kind(world: World) -> None:
    """A statement that admits a party generates no key."""
    statement = world.governance.admit("omega")
    world.govern(statement)
    assert world.refused(Keygen(statement)) == "fhevm.statement_kind"


def test_a_statement_generates_one_key(world: World) -> None:
    """A second request with the same statement attaches to the first, also when that is final."""
    statement = world.governance.keygen(TERMS)
    world.govern(statement)
    first = world.ask(Keygen(statement))
    again = world.ask(Keygen(statement))
    assert (again.duplicate, again.id) == (True, first.id)
    party = world.parties[0]
    assert world.vote([party.answer(party.keygen_core(first.id, Keygen(statement)), world.head)]) == ["final"]
    later = world.ask(Keygen(statement))
    assert (later.duplicate, later.id, later.state) == (True, first.id, FINAL)
    ids = cbor.decode(world.index("keys", b"") or b"")
    assert ids == [world.key_id, first.id]


# --- bindings ---


@pytest.mark.parametrize(
    ("signers", "code"),
    [
        ([], "binding.quorum"),
        ([0], "binding.quorum"),
        ([0, 0], "binding.duplicate"),
        ([0, "foreign"], "binding.stranger"),
        ([0, 1, "foreign"], "binding.stranger"),
        ([1, 2], "ok"),
        ([0, 1, 2], "ok"),
    ],
)
def test_bindings_need_k_distinct_coprocessors(world: World, signers: list[int | str], code: str) -> None:
    """Missing, k-1, doubled and foreign signatures refuse; any k of the set suffice."""
    keys = [secp256k1("foreign") if who == "foreign" else world.coprocessors.keys[int(who)] for who in signers]
    assert world.refused(world.public(1, signers=keys)) == code


def test_a_binding_for_another_key_is_foreign(world: World) -> None:
    """Signatures over the same ciphertext under another key id recover to strangers."""
    item = world.ciphertext(1, key_id=b"\x01" * 32)
    assert world.refused(replace(world.public(1), ciphertexts=(item,))) == "binding.stranger"


@pytest.mark.parametrize("field", ["digest", "owner", "handle"])
def test_a_changed_binding_is_foreign(world: World, field: str) -> None:
    """Whoever swaps digest, owner or handle under the signatures is refused."""
    asked = world.public(1)
    item = asked.ciphertexts[0]
    change: dict[str, Any] = {field: bytes(len(getattr(item, field)) - 1) + b"\x09"}
    changed = replace(item, **change)
    assert world.refused(replace(asked, ciphertexts=(changed,))) == "binding.stranger"


def test_coprocessors_that_governance_replaced_bind_nothing(world: World) -> None:
    """Signatures of a former set are refused from the next block on."""
    asked = world.public(1)
    assert world.govern(world.governance.set_coprocessors(SimulatedCoprocessors(name="new").policy)) == "ok"
    assert world.refused(asked) == "binding.stranger"


@pytest.mark.parametrize(("how", "code"), [({"fhe_type": 1}, "binding.type"), ({"form": 1}, "binding.format")])
def test_types_and_formats_that_are_not_decrypted_are_refused(world: World, how: dict[str, Any], code: str) -> None:
    """A bound ciphertext of a type or format that no enclave opens does not get in."""
    assert world.refused(world.public(1, **how)) == code


# --- sizes and forms ---


def test_an_oversized_batch_is_refused(world: World) -> None:
    """129 ciphertexts are one too many; 128 are accepted."""
    items = tuple(world.ciphertext(n) for n in range(1, 130))
    asked = world.public(1)
    assert world.refused(replace(asked, ciphertexts=items)) == "request.batch"
    assert world.refused(replace(asked, ciphertexts=items[:128])) == "ok"
    assert world.refused(replace(asked, ciphertexts=())) == "request.batch"


def test_a_handle_twice_is_refused(world: World) -> None:
    """One request names each handle once."""
    item = world.ciphertext(1)
    assert world.refused(replace(world.public(1), ciphertexts=(item, item))) == "request.duplicate_handle"


def test_a_request_larger_than_is_read_is_refused(world: World) -> None:
    """Size is judged before anything is decoded."""
    data = cbor.encode({"operation": "public_decrypt", "padding": bytes(1 << 17)})
    assert world.block(("public_decrypt", {"request": data}))[0].code == "encoding.schema"


def test_a_request_in_another_operations_message_is_refused(world: World) -> None:
    """The message's name and the request's operation must agree."""
    outcomes = world.block(
        ("user_decrypt", {"request": world.public(1).encode()}),
        ("keygen", {"request": world.user(1).encode()}),
    )
    assert [outcome.code for outcome in outcomes] == ["request.operation", "request.operation"]


@pytest.mark.parametrize("name", ["", "transfer", "Govern", "public_decrypt "])
def test_unknown_messages_are_refused(world: World, name: str) -> None:
    """The contract has eight messages and no other."""
    assert world.block((name, {}))[0].code == "fhevm.message"


@pytest.mark.parametrize("name", MESSAGES)
def test_bodies_with_missing_or_unknown_fields_are_refused(world: World, name: str) -> None:
    """Every message has exactly its fields."""
    outcomes = world.block((name, {}), (name, {"unknown": 1}), (name, {"request": 1}), (name, {"answers": [1]}))
    assert {outcome.code for outcome in outcomes} == {"encoding.schema"}


def test_requests_wait_for_the_hash_of_block_one(world: World) -> None:
    """Where the first header's hash is unknown there are no ids, hence no requests."""
    asked = world.public(1)
    view = ContractState(world.state, "one")
    context = replace(world.context(2), genesis_hash=b"")
    with pytest.raises(ContractRefusal) as refusal:
        requesting.accept(view, context, "public_decrypt", {"request": asked.encode()})
    assert refusal.value.code == "fhevm.first_block"


# --- users ---


def test_the_owner_may_have_her_ciphertexts(world: World) -> None:
    """The user whom the binding names as owner needs no grant."""
    assert world.refused(world.user(1, 2)) == "ok"


def test_a_stranger_may_not(world: World) -> None:
    """Someone else's valid signature opens nothing of hers."""
    assert world.refused(world.user(1, by=world.bob)) == "authorisation.not_granted"


def test_a_granted_user_may_have_what_was_granted_and_nothing_else(world: World) -> None:
    """A grant serves its handle, its user, until its time."""
    until = world.seconds + 1000
    grant = world.alice.grant(world.ciphertext(1).handle, world.bob.address, valid_until=until)
    assert world.refused(world.user(1, by=world.bob, grants=(grant,))) == "ok"
    assert world.refused(world.user(2, by=world.bob, grants=(grant,))) == "authorisation.not_granted"
    assert world.refused(world.user(1, 2, by=world.bob, grants=(grant,))) == "authorisation.not_granted"
    carol = SimulatedUser("carol")
    assert world.refused(world.user(1, by=carol, grants=(grant,))) == "authorisation.not_granted"
    assert world.refused(world.user(1, by=carol, grants=(replace(grant, user=carol.address),))) == (
        "authorisation.grant_stranger"
    )
    forged = world.bob.grant(world.ciphertext(1).handle, world.bob.address, valid_until=until)
    assert world.refused(world.user(1, by=world.bob, grants=(forged,))) == "authorisation.grant_stranger"
    old = world.alice.grant(world.ciphertext(1).handle, world.bob.address, valid_until=world.seconds)
    assert world.refused(world.user(1, by=world.bob, grants=(old,))) == "authorisation.grant_expired"


def test_a_users_request_is_judged_at_the_blocks_time(world: World) -> None:
    """Neither before the signed start nor after the signed days."""
    assert world.refused(replace_signed(world, start=world.seconds + 100)) == "authorisation.not_yet"
    over = world.seconds + 1 - 86_400  # the next block is at the last second, and that is out
    assert world.refused(replace_signed(world, start=over, days=1)) == "authorisation.expired"
    assert world.refused(replace_signed(world, start=world.seconds + 2 - 86_400, days=1)) == "ok"


def replace_signed(world: World, **fields: Any) -> Request:
    asked = world.user(1)
    return world.alice.sign(replace(asked, **fields))


@pytest.mark.parametrize(
    "change",
    [
        {"public_key": b"another key"},
        {"contracts": (b"\x01" * 20,)},
        {"days": 8},
        {"extra_data": b""},
        {"user": b"\x01" * 20},
    ],
)
def test_what_the_user_signed_cannot_be_changed(world: World, change: dict[str, Any]) -> None:
    """Whoever edits a user's request behind her signature is refused."""
    assert world.refused(replace(world.user(1), **change)) == "authorisation.user_signature"


def test_a_user_who_is_one_of_the_contracts_is_refused(world: World) -> None:
    """A contract's address in the user's place is refused, as fhEVM does."""
    asked = replace(world.user(1), contracts=(world.alice.address,))
    assert world.refused(world.alice.sign(asked)) == "authorisation.user_is_contract"


# --- duplicates ---


def test_a_repeated_request_attaches_to_the_first(world: World) -> None:
    """The same origin twice is one request: one counter, one id, one inbox entry."""
    asked = world.public(1, source=SOURCE)
    first = world.ask(asked)
    again = world.ask(asked, sender=b"\x01" * 32)
    assert (again.duplicate, again.counter, again.id) == (True, first.counter, first.id)
    assert world.inbox(world.height) is None


def test_a_repeated_user_request_attaches_even_with_other_grants(world: World) -> None:
    """What the user signed and the handles make the origin; what gateways add does not."""
    first = world.ask(world.user(1))
    grant = world.alice.grant(b"\x01" * 32, world.bob.address, valid_until=1)
    again = world.ask(replace(world.user(1), grants=(grant,), start=world.user(1).start), sender=b"\x01" * 32)
    assert again.duplicate is False  # another start: another signed request
    same = world.user(2)
    assert world.ask(same).duplicate is False
    assert world.ask(replace(same, grants=(grant,))).duplicate is True
    assert first.duplicate is False


def test_an_origin_cannot_be_taken_without_authorisation(world: World) -> None:
    """A refused request leaves the origin free."""
    assert world.refused(world.public(1, source=SOURCE, signers=[])) == "binding.quorum"
    assert world.ask(world.public(1, source=SOURCE)).duplicate is False


def test_an_origin_cannot_be_taken_for_other_handles(world: World) -> None:
    """Whoever names somebody's request with other ciphertexts does not get in its way."""
    squatter = world.ask(world.public(9, source=SOURCE))
    honest = world.ask(world.public(1, source=SOURCE))
    assert (squatter.duplicate, honest.duplicate) == (False, False)


def test_requests_without_an_origin_are_never_duplicates(world: World) -> None:
    """Who names no origin asks anew each time."""
    asked = world.public(1)
    assert world.ask(asked).id != world.ask(asked).id


def test_an_expired_request_may_be_asked_again(tmp_path: Path) -> None:
    """An origin whose request expired is free for a new one."""
    world = World(tmp_path / "state", expiry_blocks=3)
    world.set_up()
    asked = world.public(1, source=SOURCE)
    first = world.ask(asked)
    world.skip(3)
    assert world.record(first.counter).state == EXPIRED
    again = world.ask(asked)
    assert (again.duplicate, again.counter) == (False, first.counter + 1)
    world.state.close()


# --- limits ---


def limited(monkeypatch: pytest.MonkeyPatch, **values: int) -> None:
    monkeypatch.setattr(requesting, "LIMITS", replace(limits.LIMITS, **values))


def test_a_block_takes_as_many_requests_as_an_inbox(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is refused, and is accepted in the next block."""
    limited(monkeypatch, block_requests=2)
    body = {"request": world.public(1).encode()}
    codes = [outcome.code for outcome in world.block(*[("public_decrypt", body)] * 3)]
    assert codes == ["ok", "ok", "fhevm.block_full"]
    assert world.block(("public_decrypt", body))[0].code == "ok"


def test_the_queue_has_an_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit new requests are refused and none is dropped; an answer makes room."""
    limited(monkeypatch, pending=2)
    asked = world.public(1)
    first = world.ask(asked)
    world.ask(asked)
    assert world.refused(asked) == "fhevm.queue_full"
    party = world.parties[0]
    assert world.vote([party.answer(party.public_core(first.id, asked, [7]), world.head)]) == ["final"]
    assert world.refused(asked) == "ok"


def test_one_sender_cannot_fill_the_queue(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender at its own limit is refused while others are not."""
    limited(monkeypatch, pending_of_sender=1)
    asked = world.public(1)
    world.ask(asked)
    assert world.refused(asked) == "fhevm.sender_full"
    assert world.ask(asked, sender=b"\x02" * 32).state == PENDING


def test_a_repeated_request_is_told_its_counter_when_the_queue_is_full(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Duplicates need no room."""
    limited(monkeypatch, pending=1)
    asked = world.public(1, source=SOURCE)
    world.ask(asked)
    assert world.ask(asked).duplicate is True


def checked(world: World, name: str, body: dict[str, Any]) -> str:
    view = ContractState(world.state, "one")
    try:
        world.contract.check(view, world.context(world.height, b"\x5e" * 32), name, body)
    except (ContractRefusal, EvidenceError) as refusal:
        return refusal.code
    return "ok"


def test_requests_are_checked_before_they_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Form, key and room are judged before a transaction enters the pool; the committed state cannot be written."""
    asked = world.public(1)
    assert checked(world, "public_decrypt", {"request": asked.encode()}) == "ok"
    assert checked(world, "public_decrypt", {"request": b"\xff"}).startswith("encoding.")
    strange = replace(asked, key_id=bytes(32))
    assert checked(world, "public_decrypt", {"request": strange.encode()}) == "fhevm.key_unknown"
    limited(monkeypatch, pending=0)
    assert checked(world, "public_decrypt", {"request": asked.encode()}) == "fhevm.queue_full"


def test_other_messages_need_a_signature_that_counts(world: World) -> None:
    """Strangers do not fill the pool with statements, registrations and answers."""
    governance, party = world.governance, world.parties[0]
    assert checked(world, "nothing", {}) == "fhevm.message"
    assert checked(world, "freshness", {}) == "ok"  # the block says what is wrong with it: it costs nothing
    assert checked(world, "govern", {"statement": governance.admit("beta")}) == "ok"
    later = governance.admit("gamma", serial=world.control().serial + 2)
    assert checked(world, "govern", {"statement": later}) == "ok"  # the one before it may be waiting too
    assert checked(world, "govern", {"statement": governance.admit("x", serial=1)}) == "governance.serial"
    last = governance.admit("x", serial=world.control().serial)
    assert checked(world, "govern", {"statement": last}) == "governance.serial"
    weak = governance.admit("beta", signers=governance.keys[:1])
    assert checked(world, "govern", {"statement": weak}) == "governance.quorum"
    signed = world.honest_registration(party)
    assert checked(world, "register", {"party": "alpha", "registration": signed}) == "ok"
    assert checked(world, "register", {"party": "omega", "registration": signed}) == "fhevm.party_unknown"
    flipped = signed[:-1] + bytes((signed[-1] ^ 1,))
    assert checked(world, "register", {"party": "alpha", "registration": flipped}) == "cose.signature"
    core = party.keygen_core(world.key_id, world.keygen)
    good, stranger = party.answer(core, world.head), party.answer(core, world.head, party=2)
    assert checked(world, "answer", {"answers": [stranger, b"\x00", good]}) == "ok"
    assert checked(world, "answer", {"answers": [stranger, b"\x00"]}) == "answer.party"
    assert checked(world, "answer", {"answers": []}) == "encoding.schema"


# --- expiry ---


def test_a_request_that_nobody_answers_expires(tmp_path: Path) -> None:
    """It expires with the block that its genesis says, and makes room."""
    world = World(tmp_path / "state", expiry_blocks=5)
    world.set_up()
    found = world.ask(world.public(1))
    assert world.index("counts", b"pending") == number(1)
    world.skip(4)
    assert world.record(found.counter).state == PENDING
    world.skip(1)
    assert world.record(found.counter).state == EXPIRED
    assert world.index("counts", b"pending") is None
    assert world.index("pending", number(found.counter)) is None
    party = world.parties[0]
    late = party.answer(party.public_core(found.id, world.public(1), [7]), world.head)
    assert world.vote([late]) == ["fhevm.answer_late"]
    assert world.record(found.counter).state == EXPIRED
    world.state.close()


def test_expiry_is_spread_over_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block ends at most so many requests; the rest end with the next ones."""
    world = World(tmp_path / "state", expiry_blocks=2)
    world.set_up()
    monkeypatch.setattr(closing, "LIMITS", replace(limits.LIMITS, closings=2))
    world.skip(3)
    body = {"request": world.public(1).encode()}
    first = world.block(*[("public_decrypt", body)] * 5)[0].value["counter"]
    counts = []
    for _ in range(4):
        world.block()
        counts.append(sum(world.record(first + i).state == EXPIRED for i in range(5)))
    assert counts == [0, 2, 4, 5]
    world.state.close()


def test_bodies_are_dropped_some_time_after_the_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished request's body can be looked up for a while; its record and digest stay."""
    monkeypatch.setattr(closing, "LIMITS", replace(limits.LIMITS, body_blocks=3))
    asked = world.public(1)
    found = world.ask(asked)
    world.block()
    party = world.parties[0]
    assert world.vote([party.answer(party.public_core(found.id, asked, [7]), world.head)]) == ["final"]
    world.skip(2)
    assert world.index("bodies", number(found.counter)) is not None
    before = world.state.root()
    world.skip(1)
    assert world.index("bodies", number(found.counter)) is None
    assert world.state.root() == before
    assert world.state.index("one", "queue").items() == []
    assert world.record(found.counter).digest == request_digest(asked.encode())


def test_the_body_that_made_a_key_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever uses a key can verify at any time which statement generated it."""
    monkeypatch.setattr(closing, "LIMITS", replace(limits.LIMITS, body_blocks=1))
    world = World(tmp_path / "state")
    world.set_up()
    world.skip(3)
    assert world.index("bodies", number(1)) is not None
    assert world.record(1).id == world.key_id
    world.state.close()


def test_records_are_proven_under_the_app_hash(world: World) -> None:
    """What the contract writes is provable with the verifier's own functions, and so is the absence of an inbox."""
    from cipherkeep_attestation.chain.state import verify_absent, verify_present

    found = world.ask(world.public(1))
    root = world.state.root()
    proven = world.state.prove("one", layout.INBOX, world.height)
    assert proven.value is not None
    verify_present(
        root, instance="one", collection=layout.INBOX, key=world.height, value=proven.value, proof=proven.proof
    )
    absent = world.state.prove("one", layout.INBOX, world.height + 1)
    verify_absent(root, instance="one", collection=layout.INBOX, key=world.height + 1, proof=absent.proof)
    assert world.record(found.counter).id == found.id
    assert CHAIN_ID
