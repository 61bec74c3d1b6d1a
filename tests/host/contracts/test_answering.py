"""How answers become votes, and votes a final answer; with one voter, and with four of whom three must agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cipherkeep_attestation import cbor, cose
from cipherkeep_attestation.statements import layout
from cipherkeep_attestation.statements.answer import MAX_ANSWER, Core, answer_hash
from cipherkeep_attestation.statements.governance import Release
from cipherkeep_attestation.statements.layout import FINAL, PENDING, REFUSED, Equivocation
from cipherkeep_attestation.statements.request import Keygen, PublicDecrypt, Request
from cipherkeep_host.contracts.fhevm.limits import LIMITS
from cipherkeep_host.contracts.fhevm.records import KeyRow, number

from tests.simulators.attestation import PCRS
from tests.simulators.contract import RELEASE, Found, World
from tests.simulators.coprocessor import TERMS, high_s
from tests.simulators.party import SimulatedParty

VALUES = [7, 1 << 63]


def asked_of(world: World) -> tuple[PublicDecrypt, Found]:
    """A public decryption of two ciphertexts, one block old."""
    request = world.public(1, 2)
    found = world.ask(request)
    world.block()
    return request, found


def say(world: World, party: SimulatedParty, found: Found, request: PublicDecrypt, values: list[int] = VALUES) -> bytes:
    return party.answer(party.public_core(found.id, request, values), world.head)


def parts_of(world: World, digest: bytes, size: int) -> bytes:
    found = [world.index("parts", digest + i.to_bytes(2, "big")) for i in range(-(-size // LIMITS.part))]
    return b"".join(part or b"" for part in found)


def test_one_vote_is_final_where_one_is_enough(world: World) -> None:
    """The record names the agreement and the answer; the signed answer can be looked up."""
    request, found = asked_of(world)
    signed = say(world, world.parties[0], found, request)
    assert world.vote([signed]) == ["final"]
    record = world.record(found.counter)
    core = world.parties[0].public_core(found.id, request, VALUES)
    assert (record.state, record.agreement, record.answers) == (FINAL, core.agreement(), ((1, answer_hash(signed)),))
    rows = cbor.decode(world.index("answers", number(found.counter)) or b"")
    assert rows == [[1, answer_hash(signed), len(signed)]]
    assert parts_of(world, answer_hash(signed), len(signed)) == signed
    assert world.index("counts", b"pending") is None


def test_three_of_four_make_an_answer_final(four: World) -> None:
    """Two equal votes are not enough, the third is, the fourth comes too late to be needed."""
    request, found = asked_of(four)
    answers = [say(four, party, found, request) for party in four.parties]
    assert four.vote(answers[:2]) == ["counted", "counted"]
    assert four.record(found.counter).state == PENDING
    assert four.vote([answers[2]]) == ["final"]
    record = four.record(found.counter)
    assert record.answers == tuple((index, answer_hash(answers[index - 1])) for index in (1, 2, 3))
    assert four.vote([answers[3]]) == ["fhevm.answer_late"]
    assert four.record(found.counter) == record


def test_all_four_in_one_message(four: World) -> None:
    """The votes of one message are counted in their order."""
    request, found = asked_of(four)
    answers = [say(four, party, found, request) for party in four.parties]
    assert four.vote(answers) == ["counted", "counted", "final", "fhevm.answer_late"]


def test_votes_that_differ_do_not_add_up(four: World) -> None:
    """Two and two never become final; the request stays until it expires."""
    request, found = asked_of(four)
    answers = [say(four, party, found, request, [7, 8 + party.index % 2]) for party in four.parties]
    assert four.vote(answers) == ["counted"] * 4
    assert four.record(found.counter).state == PENDING


def test_one_liar_of_four_changes_nothing(four: World) -> None:
    """Three honest parties outvote one, whose answer is not kept."""
    request, found = asked_of(four)
    lie = say(four, four.parties[0], found, request, [1, 2])
    answers = [say(four, party, found, request) for party in four.parties[1:]]
    assert four.vote([lie, *answers]) == ["counted", "counted", "counted", "final"]
    record = four.record(found.counter)
    assert [index for index, _ in record.answers] == [2, 3, 4]
    assert parts_of(four, answer_hash(lie), len(lie)) == b""


def test_one_party_cannot_vote_three_times(four: World) -> None:
    """The same answer again and again counts once."""
    request, found = asked_of(four)
    signed = say(four, four.parties[0], found, request)
    again = say(four, four.parties[0], found, request)  # another context, the same core
    assert signed != again
    assert four.vote([signed, signed, again]) == ["counted"] * 3
    assert four.record(found.counter).state == PENDING


def test_the_same_core_after_the_end_is_fine(world: World) -> None:
    """A repeated answer is no offence at any time, and changes nothing."""
    request, found = asked_of(world)
    party = world.parties[0]
    world.vote([say(world, party, found, request)])
    before = world.state.root()
    assert world.vote([say(world, party, found, request)]) == ["counted"]
    assert world.state.root() == before


# --- equivocation ---


def test_two_cores_by_one_party_are_kept_as_evidence(four: World) -> None:
    """The second core voids the party's vote; both answers can be shown to anyone."""
    request, found = asked_of(four)
    liar, *honest = four.parties
    first, second = say(four, liar, found, request), say(four, liar, found, request, [1, 2])
    assert four.vote([first, second]) == ["counted", "fhevm.equivocation"]
    proof = four.value(layout.EQUIVOCATIONS, 1)
    assert proof is not None
    assert Equivocation.decode(proof) == Equivocation(
        found.counter, found.id, 1, answer_hash(first), answer_hash(second)
    )
    assert parts_of(four, answer_hash(first), len(first)) == first
    assert parts_of(four, answer_hash(second), len(second)) == second
    # Whatever the party says now, it has no vote: it takes three others.
    assert four.vote([first]) == ["fhevm.vote_void"]
    assert four.vote([say(four, party, found, request) for party in honest]) == ["counted", "counted", "final"]
    assert [index for index, _ in four.record(found.counter).answers] == [2, 3, 4]
    assert parts_of(four, answer_hash(first), len(first)) == first


def test_a_third_core_adds_nothing(four: World) -> None:
    """Evidence is kept once for each party and request: it cannot be used to fill the state."""
    request, found = asked_of(four)
    answers = [say(four, four.parties[0], found, request, [n, n]) for n in range(4)]
    assert four.vote(answers) == ["counted", "fhevm.equivocation", "fhevm.vote_void", "fhevm.vote_void"]
    assert four.state.collection("one", layout.EQUIVOCATIONS).last_key() == 1


def test_equivocation_after_the_end_is_evidence_too(world: World) -> None:
    """The final answer stands, and the contradiction is on record."""
    request, found = asked_of(world)
    party = world.parties[0]
    assert world.vote([say(world, party, found, request)]) == ["final"]
    record = world.record(found.counter)
    assert world.vote([say(world, party, found, request, [1, 2])]) == ["fhevm.equivocation"]
    assert world.record(found.counter) == record
    assert world.state.collection("one", layout.EQUIVOCATIONS).last_key() == 1


def test_nobody_can_frame_a_party(four: World) -> None:
    """A second core that the party did not sign is no evidence against it."""
    request, found = asked_of(four)
    victim, attacker = four.parties[0], four.parties[1]
    four.vote([say(four, victim, found, request)])
    core = victim.public_core(found.id, request, [1, 2])
    forged = attacker.answer(core, four.head, party=victim.index)
    assert four.vote([forged]) == ["cose.signature"]
    assert four.state.collection("one", layout.EQUIVOCATIONS).last_key() == 0


# --- refusals ---


def test_refusals_vote_by_code(four: World) -> None:
    """Three equal refusals end the request as refused; another code or a result is another vote."""
    request, found = asked_of(four)

    def refuse(party: SimulatedParty, code: str) -> bytes:
        return party.answer(party.refusal_core(found.id, request, code), four.head)

    a, b, c, d = four.parties
    assert four.vote([refuse(a, "binding"), refuse(b, "ciphertext.type"), refuse(c, "binding")]) == ["counted"] * 3
    assert four.record(found.counter).state == PENDING
    assert four.vote([refuse(d, "binding")]) == ["final"]
    record = four.record(found.counter)
    assert (record.state, [index for index, _ in record.answers]) == (REFUSED, [1, 3, 4])
    assert record.agreement == a.refusal_core(found.id, request, "binding").agreement()


def test_a_refusal_after_a_result_changes_nothing(four: World) -> None:
    """What an enclave refuses depends on its head: an honest one refuses after a retirement. Its first vote stands."""
    request, found = asked_of(four)
    first, second, third, _ = four.parties
    refusal = first.answer(first.refusal_core(found.id, request, "key.retired"), four.head)
    assert four.vote([say(four, first, found, request), refusal, refusal]) == ["counted"] * 3
    assert four.state.collection("one", layout.EQUIVOCATIONS).last_key() == 0
    assert four.vote([say(four, party, found, request) for party in (second, third)]) == ["counted", "final"]
    record = four.record(found.counter)
    assert (record.state, [index for index, _ in record.answers]) == (FINAL, [1, 2, 3])


def test_a_result_after_a_refusal_changes_nothing(four: World) -> None:
    """The other way round, as after a grant that was not valid yet; and a second refusal with another code."""
    request, found = asked_of(four)
    party, *others = four.parties
    refusals = [
        party.answer(party.refusal_core(found.id, request, code), four.head)
        for code in ("request.freshness", "binding")
    ]
    assert four.vote([*refusals, say(four, party, found, request)]) == ["counted"] * 3
    assert four.state.collection("one", layout.EQUIVOCATIONS).last_key() == 0
    assert four.vote([say(four, other, found, request) for other in others]) == ["counted", "counted", "final"]
    assert [index for index, _ in four.record(found.counter).answers] == [2, 3, 4]


def test_a_refusal_does_not_give_a_void_vote_back(four: World) -> None:
    """Whoever gave two results has no vote, whatever it says then."""
    request, found = asked_of(four)
    liar = four.parties[0]
    refusal = liar.answer(liar.refusal_core(found.id, request, "binding"), four.head)
    answers = [say(four, liar, found, request), say(four, liar, found, request, [1, 2]), refusal]
    assert four.vote(answers) == ["counted", "fhevm.equivocation", "fhevm.vote_void"]


def test_a_refused_keygen_makes_no_key(world: World) -> None:
    """Where the parties refuse, the id stays unknown as a key."""
    statement = world.governance.keygen(TERMS)
    world.govern(statement)
    found = world.ask(Keygen(statement))
    world.block()
    core = Core(found.id, "keygen", None, (), "key.parameters", None, {})
    assert world.vote([world.parties[0].answer(core, world.head)]) == ["final"]
    assert world.record(found.counter).state == REFUSED
    assert world.index("keys", found.id) is None


# --- users: shares are counted ---


def test_a_users_shares_differ_and_count_together(four: World) -> None:
    """Each party seals its own share; three of them are enough, and all three can be looked up."""
    request = four.user(1)
    found = four.ask(request)
    four.block()
    answers = [party.answer(party.user_core(found.id, request), four.head) for party in four.parties[:3]]
    assert four.vote(answers) == ["counted", "counted", "final"]
    record = four.record(found.counter)
    assert record.answers == tuple((i + 1, answer_hash(answers[i])) for i in range(3))
    for signed in answers:
        assert parts_of(four, answer_hash(signed), len(signed)) == signed


def test_a_large_answer_is_kept_whole(world: World) -> None:
    """An answer that is larger than one value of an index comes back byte for byte."""
    request = world.user(1)
    found = world.ask(request)
    world.block()
    party = world.parties[0]
    signed = party.answer(party.user_core(found.id, request, bytes(range(256)) * 1000), world.head)
    assert LIMITS.part < len(signed) < MAX_ANSWER
    assert world.vote([signed]) == ["final"]
    assert parts_of(world, answer_hash(signed), len(signed)) == signed


@pytest.mark.parametrize("extra", [b"", b"\x00", b"\x01more"])
def test_the_extra_data_of_todays_clients_is_answered_with_none(world: World, extra: bytes) -> None:
    """What the user sent as 00 is signed as nothing, anything else is repeated."""
    request = world.alice.sign(replace(world.user(1), extra_data=extra))
    found = world.ask(request)
    world.block()
    party = world.parties[0]
    honest = party.user_core(found.id, request)
    other = party.user_core(found.id, replace(request, extra_data=b"\x02"))
    assert world.vote([party.answer(other, world.head)]) == ["fhevm.answer_signature"]
    assert world.vote([party.answer(honest, world.head)]) == ["final"]


# --- keygen ---


def test_a_final_keygen_makes_a_key(world: World) -> None:
    """The key's row names its request, its statement and its terms."""
    row = KeyRow.decode(world.index("keys", world.key_id) or b"")
    assert row.terms == TERMS
    assert world.record(row.counter).id == world.key_id
    assert cbor.decode(world.index("keys", b"") or b"") == [world.key_id]


# --- who may vote ---


def test_an_answer_by_a_stranger_is_refused(world: World) -> None:
    """A party that governance never admitted has no vote, under any index."""
    request, found = asked_of(world)
    stranger = SimulatedParty("stranger", 2, world.platform, world.configured("stranger"))
    assert world.vote([say(world, stranger, found, request)]) == ["answer.party"]
    stranger.index = 1
    assert world.vote([say(world, stranger, found, request)]) == ["cose.signature"]
    assert world.record(found.counter).state == PENDING


def test_an_admitted_party_votes_once_it_is_registered(world: World) -> None:
    """Admission alone gives no vote."""
    omega = SimulatedParty("omega", 2, world.platform, world.configured("omega"))
    assert world.govern(world.governance.admit("omega", omega.configuration.digest())) == "ok"
    request, found = asked_of(world)
    assert world.vote([say(world, omega, found, request)]) == ["answer.party"]
    assert world.register(omega, world.honest_registration(omega)) == "ok"
    assert world.vote([say(world, omega, found, request)]) == ["final"]


def test_a_party_that_was_admitted_anew_votes_under_the_new_configuration(world: World) -> None:
    """The enclave of before has no vote from the statement on, and the new one has it with its registration."""
    request, found = asked_of(world)
    party = world.parties[0]
    old, new = party.configuration, replace(party.configuration, host_root=b"another")
    early = say(world, party, found, request)
    assert world.govern(world.governance.admit("alpha", new.digest())) == "ok"
    assert world.vote([early]) == ["fhevm.party_lapsed"]
    party.configuration = new
    assert world.vote([say(world, party, found, request)]) == ["fhevm.party_lapsed"]
    assert world.register(party, world.honest_registration(party)) == "ok"
    party.configuration = old
    assert world.vote([say(world, party, found, request)]) == ["fhevm.answer_configuration"]
    party.configuration = new
    assert world.vote([say(world, party, found, request)]) == ["final"]


def test_a_party_whose_release_was_dropped_has_no_vote(four: World) -> None:
    """Its registration lapses with the statement, and a vote given before no longer counts."""
    request, found = asked_of(four)
    signed = [say(four, party, found, request) for party in four.parties]
    assert four.vote(signed[:2]) == ["counted", "counted"]
    other = Release("v2", b"\x11" * 48, b"\x12" * 48, b"\x13" * 48)
    assert four.govern(four.governance.set_releases(other)) == "ok"
    assert four.vote([signed[2]]) == ["fhevm.party_lapsed"]
    # Back in force for two of them: the third vote is there, but not that of the lapsed first.
    assert four.govern(four.governance.set_releases(RELEASE, other)) == "ok"
    for party in four.parties[2:]:
        assert four.register(party, four.honest_registration(party)) == "ok"
    assert four.vote([say(four, party, found, request) for party in four.parties[2:]]) == ["counted", "counted"]
    assert four.record(found.counter).state == PENDING
    assert four.register(four.parties[1], four.honest_registration(four.parties[1])) == "ok"
    assert four.vote([signed[1]]) == ["final"]
    assert [index for index, _ in four.record(found.counter).answers] == [2, 3, 4]


def test_an_answer_under_another_configuration_is_refused(world: World) -> None:
    """The configuration must be the one that the party registered with."""
    request, found = asked_of(world)
    party = world.parties[0]
    core = party.public_core(found.id, request, VALUES)
    assert world.vote([party.answer(core, world.head, configuration=bytes(48))]) == ["fhevm.answer_configuration"]


# --- under which head ---


@pytest.mark.parametrize(
    ("back", "code"), [(0, "final"), (1, "fhevm.answer_head"), (5, "fhevm.answer_head"), (-1, "fhevm.answer_head")]
)
def test_the_head_lies_between_request_and_answer(world: World, back: int, code: str) -> None:
    """A request is proven under the header after its block at the earliest, and no head is from the future."""
    request, found = asked_of(world)
    party = world.parties[0]
    core = party.public_core(found.id, request, VALUES)
    height = world.height - back
    assert world.vote([party.answer(core, (height, world.hash(height)))]) == [code]


def test_a_head_of_a_fork_is_refused(world: World) -> None:
    """An enclave that was shown another block of this height has no vote with it."""
    request, found = asked_of(world)
    party = world.parties[0]
    core = party.public_core(found.id, request, VALUES)
    assert world.vote([party.answer(core, (world.height, b"\xf0" * 32))]) == ["fhevm.answer_fork"]


# --- what the core may say ---


def public_core(edit: Callable[[SimulatedParty, Core], Core]) -> Callable[[World], tuple[str, Found]]:
    def attempt(world: World) -> tuple[str, Found]:
        request, found = asked_of(world)
        party = world.parties[0]
        core = edit(party, party.public_core(found.id, request, VALUES))
        return world.vote([party.answer(core, world.head)])[0], found

    return attempt


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda p, c: replace(c, operation="user_decrypt"), "fhevm.answer_operation"),
        (lambda p, c: replace(c, key_id=bytes(32)), "fhevm.answer_key"),
        (lambda p, c: replace(c, key_id=None), "fhevm.answer_key"),
        (lambda p, c: replace(c, digests=c.digests[::-1]), "fhevm.answer_ciphertexts"),
        (lambda p, c: replace(c, digests=c.digests[:1]), "fhevm.answer_ciphertexts"),
        (lambda p, c: replace(c, result={"decrypted": bytes(64)}), "fhevm.answer_signature"),
        (lambda p, c: replace(c, result={"decrypted": bytes(32)}), "encoding.schema"),
        (lambda p, c: replace(c, result={"decrypted": b"\xff" * 64}), "fhevm.answer_value"),
        (lambda p, c: replace(c, result={"payload": bytes(64)}), "encoding.schema"),
        (lambda p, c: replace(c, result={**(c.result or {}), "more": 1}), "encoding.schema"),
        (lambda p, c: replace(c, signatures={}), "encoding.schema"),
        (lambda p, c: replace(c, signatures={**c.signatures, "bls": b"1"}), "encoding.schema"),
        (lambda p, c: replace(c, signatures={"eip712": bytes(65)}), "eip712.signature"),
        (lambda p, c: replace(c, signatures={"eip712": high_s(c.signatures["eip712"])}), "eip712.high_s"),
        (lambda p, c: replace(c, refusal="binding", result=None), "fhevm.answer_signature"),
        (lambda p, c: replace(c, refusal="binding"), "answer.outcome"),
        (lambda p, c: replace(c, result=None), "answer.outcome"),
        (lambda p, c: replace(c, refusal="no.such_code", result=None, signatures={}), "encoding.schema"),
    ],
)
def test_a_core_that_does_not_answer_what_was_asked_is_refused(
    world: World, edit: Callable[[SimulatedParty, Core], Core], code: str
) -> None:
    """Garbage does not become final, even where one vote is enough; an honest answer still does."""
    verdict, found = public_core(edit)(world)
    assert verdict == code
    assert world.record(found.counter).state == PENDING
    party, request = world.parties[0], world.public(1, 2)
    assert world.vote([say(world, party, found, request)]) == ["final"]


def test_a_result_signed_by_another_party_is_refused(four: World) -> None:
    """A party cannot pass off another's signature over the result as its own."""
    request, found = asked_of(four)
    alpha, beta = four.parties[:2]
    borrowed = alpha.public_core(found.id, request, VALUES)
    assert four.vote([beta.answer(borrowed, four.head)]) == ["fhevm.answer_signature"]


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda c: replace(c, key_id=None), "fhevm.answer_key"),
        (lambda c: replace(c, digests=(bytes(32),)), "fhevm.answer_ciphertexts"),
        (lambda c: replace(c, result={**c.result, "parameters": "weak"}), "fhevm.answer_parameters"),
        (lambda c: replace(c, result={**c.result, "material": []}), "encoding.schema"),
        (lambda c: replace(c, result={**c.result, "material": c.result["material"] * 2}), "encoding.schema"),
        (lambda c: replace(c, result={**c.result, "material": c.result["material"][:1] * 2}), "answer.material"),
        (lambda c: replace(c, result={**c.result, "material": c.result["material"][::-1]}), "answer.material"),
        (lambda c: replace(c, result={**c.result, "material": [["public_key", bytes(32)]] * 2}), "answer.material"),
        (lambda c: replace(c, signatures={}), "encoding.schema"),
        (lambda c: replace(c, signatures={"eip712": bytes(64) + b"\x1b"}), "eip712.unrecoverable"),
    ],
)
def test_a_generated_key_must_be_the_one_that_was_decided(world: World, edit: Callable[[Any], Core], code: str) -> None:
    """Id, parameters and the form of the material are checked before a key is announced."""
    statement = world.governance.keygen(TERMS)
    world.govern(statement)
    found = world.ask(Keygen(statement))
    world.block()
    party = world.parties[0]
    core = party.keygen_core(found.id, Keygen(statement))
    assert world.vote([party.answer(edit(core), world.head)]) == [code]
    assert world.index("keys", found.id) is None


def swapped(core: Core, place: int, column: int, value: object) -> Core:
    """The core with another value in a row of the material, under the signature as it was."""
    rows = [list(row) for row in (core.result or {})["material"]]
    rows[place][column] = value
    return replace(core, result={**(core.result or {}), "material": rows})


def test_a_generated_key_is_signed_as_typed_data(world: World) -> None:
    """By the party's key, over the statement, the key's id and both typed-data digests; then the key is announced."""
    statement, other = world.governance.keygen(TERMS), world.governance.keygen(TERMS)
    world.govern(statement)
    world.govern(other)
    found = world.ask(Keygen(statement))
    world.block()
    party, asked = world.parties[0], Keygen(statement)
    stranger = SimulatedParty("stranger", 1, world.platform, party.configuration)
    honest = party.keygen_core(found.id, asked)
    elsewhere = replace(TERMS, decryption=replace(TERMS.decryption, chain_id=1))
    forged = [
        stranger.keygen_core(found.id, asked),
        party.keygen_core(found.id, Keygen(other)),
        party.keygen_core(found.id, asked, terms=elsewhere),
        replace(honest, signatures=party.keygen_core(bytes(32), asked).signatures),
        swapped(honest, 0, 3, bytes(32)),
        swapped(honest, 1, 3, bytes(32)),
    ]
    for core in forged:
        assert world.vote([party.answer(core, world.head)]) == ["fhevm.answer_signature"]
    assert world.index("keys", found.id) is None
    assert world.vote([party.answer(honest, world.head)]) == ["final"]
    assert world.index("keys", found.id) is not None


def test_an_answer_for_no_request_is_refused(world: World) -> None:
    """An id that was never given, or another instance's, has no counter here."""
    request, found = asked_of(world)
    party = world.parties[0]
    core = replace(party.public_core(found.id, request, VALUES), id=b"\x09" * 32)
    assert world.vote([party.answer(core, world.head)]) == ["answer.request"]


def test_an_answer_for_another_request_cannot_be_replayed(world: World) -> None:
    """The signed id keeps an answer with its request, although another asks the same."""
    request, first = asked_of(world)
    second = world.ask(request)
    world.block()
    party = world.parties[0]
    signed = say(world, party, first, request)
    assert world.vote([signed]) == ["final"]
    assert world.vote([signed]) == ["counted"]
    assert world.record(second.counter).state == PENDING
    moved = replace(party.public_core(first.id, request, VALUES), id=second.id)
    assert world.vote([party.answer(moved, world.head)]) == ["final"]  # the party itself may say the same of both


def test_each_answer_of_a_message_is_judged_alone(world: World) -> None:
    """Garbage, strangers and good answers in one message: the good ones count, the verdicts name their ids."""
    request, found = asked_of(world)
    party = world.parties[0]
    good = say(world, party, found, request)
    stranger = party.answer(party.public_core(found.id, request, VALUES), world.head, party=9)
    outcome = world.block(("answer", {"answers": [b"\x00", stranger, good[:-1], good]}))[0]
    assert outcome.value == [
        [None, "cose.shape"],
        [found.id, "answer.party"],
        [None, "encoding.truncated"],
        [found.id, "final"],
    ]


def test_an_answer_in_another_envelope_is_refused(world: World) -> None:
    """The payload of an answer, signed by the party for another purpose, is no answer."""
    request, found = asked_of(world)
    party = world.parties[0]
    payload = cose.unverified_payload(say(world, party, found, request))
    envelope = cose.sign1(payload, key=party.evidence, external_aad=b"handshake")
    assert world.vote([envelope]) == ["cose.signature"]


@pytest.mark.parametrize("count", [0, 257])
def test_a_message_holds_1_to_256_answers(world: World, count: int) -> None:
    """Neither none nor more than are judged in one go."""
    assert world.block(("answer", {"answers": [b"\x00"] * count}))[0].code == "encoding.schema"


# --- the vault's manifest ---


def test_a_newer_manifest_is_pinned_with_the_answer(world: World) -> None:
    """The party's record follows the number in its answers, and never falls."""
    request, found = asked_of(world)
    party = world.parties[0]
    core = party.public_core(found.id, request, VALUES)
    assert world.vote([party.answer(core, world.head, manifest=(5, b"\x05" * 32))]) == ["final"]
    record = world.party_record(1)
    assert (record.manifest_serial, record.manifest) == (5, b"\x05" * 32)
    request, found = asked_of(world)
    core = party.public_core(found.id, request, VALUES)
    assert world.vote([party.answer(core, world.head, manifest=(3, b"\x03" * 32))]) == ["final"]
    assert world.party_record(1).manifest_serial == 5


def test_two_manifests_with_one_number_are_refused(world: World) -> None:
    """A second copy of a vault shows, and its answer does not count."""
    request, found = asked_of(world)
    party = world.parties[0]
    core = party.public_core(found.id, request, VALUES)
    serial = world.party_record(1).manifest_serial
    assert world.vote([party.answer(core, world.head, manifest=(serial, bytes(32)))]) == ["fhevm.manifest"]
    assert world.record(found.counter).state == PENDING


def test_a_late_answer_still_pins_its_manifest(four: World) -> None:
    """The vault has changed with the answer, whether the request still needed it or not."""
    request, found = asked_of(four)
    late = four.parties[3]
    assert four.vote([say(four, party, found, request) for party in four.parties[:3]])[-1] == "final"
    core = late.public_core(found.id, request, VALUES)
    assert four.vote([late.answer(core, four.head, manifest=(2, b"\x02" * 32))]) == ["fhevm.answer_late"]
    assert four.party_record(4).manifest_serial == 2
    assert four.vote([late.answer(core, four.head, manifest=(2, b"\x03" * 32))]) == ["fhevm.manifest"]
    again = four.parties[0].answer(
        four.parties[0].public_core(found.id, request, VALUES), four.head, manifest=(3, b"\x03" * 32)
    )
    assert four.vote([again]) == ["counted"]
    assert four.party_record(1).manifest_serial == 3


def test_a_refused_answer_pins_nothing(world: World) -> None:
    """Only an answer that counts moves the pin."""
    request, found = asked_of(world)
    party = world.parties[0]
    core = replace(party.public_core(found.id, request, VALUES), key_id=None)
    assert world.vote([party.answer(core, world.head, manifest=(9, bytes(32)))]) == ["fhevm.answer_key"]
    assert world.party_record(1).manifest_serial == party.manifest[0]


# --- replicas ---


def test_answers_on_a_retired_key_still_count(world: World) -> None:
    """Whether a retired key serves is the enclaves' decision; the contract takes their word, refusal or result."""
    request, found = asked_of(world)
    assert world.govern(world.governance.retire(world.key_id)) == "ok"
    party = world.parties[0]
    core = party.refusal_core(found.id, request, "key.retired")
    assert world.vote([party.answer(core, world.head)]) == ["final"]
    assert world.record(found.counter).state == REFUSED


def test_operations_do_not_share_origins(world: World) -> None:
    """A public decryption and a user's decryption of one handle are two requests."""
    requests: list[Request] = [world.public(1), world.user(1)]
    assert len({world.ask(request).id for request in requests}) == 2


def test_pcrs_of_the_simulated_image_are_the_release(tmp_path: Path) -> None:
    """The world's release is the image that its platform attests to."""
    assert (RELEASE.pcr0, RELEASE.pcr1, RELEASE.pcr2) == (PCRS[0], PCRS[1], PCRS[2])
