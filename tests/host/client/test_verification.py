"""What a client believes: everything that is proven, and nothing that a lying node or chain adds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.receipts.judging import Evidence, Shown, Trust, verify_answer, verify_key, verify_request
from cipherkeep_attestation.statements import answer as answers
from cipherkeep_attestation.statements import layout
from cipherkeep_attestation.statements.layout import RequestRecord
from cipherkeep_attestation.statements.request import Keygen, PublicDecrypt

from tests.host.client.conftest import Setting
from tests.simulators.chain import SimulatedChain
from tests.simulators.governance import SimulatedGovernance
from tests.simulators.party import SimulatedParty


def refused(setting: Setting, evidence: Evidence, *, trust: Trust | None = None, now: Any = None) -> str:
    """The code that refuses this evidence."""
    with pytest.raises(EvidenceError) as refusal:
        verify_answer(evidence, trust=trust or setting.trust, terms=setting.terms, now=now or setting.now)
    assert refusal.value.sentence and refusal.value.hint
    return refusal.value.code


async def test_an_answer_is_verified_from_the_root_on(one: Setting) -> None:
    """Values, heights and who signed: all of it follows from the evidence and the root."""
    found = one.answered(one.world.public(1, 2), 42, 7)
    verified = verify_answer(await one.evidence(found.counter), trust=one.trust, terms=one.terms, now=one.now)
    assert [(name, value) for _, name, value in verified.values] == [("uint64", 42), ("uint64", 7)]
    (voucher,) = verified.vouchers
    party = one.world.parties[0]
    assert (voucher.name, voucher.signer, voucher.typed_data) == ("alpha", party.signer, "PublicDecryptVerification")
    assert verified.id == found.id and verified.height < voucher.head_height < verified.header.height
    assert verified.header_hash == one.world.chain.header_hash(verified.header.height)


async def test_a_key_is_verified_with_its_terms_and_material(one: Setting) -> None:
    """The governors' statement gives the terms, the parties' answer the material's digests."""
    key = verify_key(await one.evidence(1), trust=one.trust, now=one.now)
    assert (key.id, key.terms) == (one.world.key_id, one.terms)
    assert key.piece("server_key").size == 60_000_000
    (voucher,) = key.generation.vouchers
    assert (voucher.signer, voucher.typed_data) == (one.world.parties[0].signer, "KeygenVerification")
    with pytest.raises(EvidenceError) as refusal:
        key.piece("private_key")
    assert refusal.value.code == "receipt.material"


async def test_a_key_that_other_governors_decided_is_none(one: Setting) -> None:
    """A trust in other governors does not take this key."""
    other = replace(one.trust.genesis, governors=SimulatedGovernance(n=5, k=3).governors)
    with pytest.raises(EvidenceError) as refusal:
        verify_key(await one.evidence(1), trust=replace(one.trust, genesis=other), now=one.now)
    assert refusal.value.code == "governance.instance"


async def test_three_of_four_agree(four: Setting) -> None:
    """Each party that the record counts vouches; a missing one is noticed."""
    found = four.answered(four.world.public(1), 5)
    evidence = await four.evidence(found.counter)
    verified = verify_answer(evidence, trust=four.trust, terms=four.terms, now=four.now)
    assert len(verified.vouchers) == 3
    assert refused(four, replace(evidence, answers=evidence.answers[:2])) == "receipt.answer"
    assert refused(four, replace(evidence, parties=evidence.parties[1:])) == "receipt.party"


async def test_fewer_than_the_genesis_demands_are_not_enough(one: Setting) -> None:
    """Whoever expects three parties does not take the word of one, whatever the chain says."""
    found = one.answered(one.world.public(1), 5)
    more = replace(one.trust, genesis=replace(one.trust.genesis, answers=3))
    assert refused(one, await one.evidence(found.counter), trust=more) == "receipt.quorum"


async def test_a_pending_request_is_not_answered(one: Setting) -> None:
    """Its state is proven all the same."""
    found = one.world.ask(one.world.public(1))
    one.world.block()
    evidence = await one.evidence(found.counter)
    assert verify_request(evidence, trust=one.trust, now=one.now)[2].state == layout.PENDING
    assert refused(one, evidence) == "receipt.not_answered"


def _other_record(evidence: Evidence, **changes: Any) -> Evidence:
    record = replace(RequestRecord.decode(evidence.record.value), **changes)
    return replace(evidence, record=replace(evidence.record, value=record.encode()))


LIES: dict[str, Callable[[Evidence], Evidence]] = {
    "record": lambda shown: _other_record(shown, agreement=bytes(32)),
    "counter": lambda shown: replace(shown, record=replace(shown.record, key=1)),
    "body": lambda shown: replace(shown, body=shown.body + b"\0"),
    "answer": lambda shown: replace(shown, answers=((1, shown.answers[0][1] + b"\0"),)),
    "no answer": lambda shown: replace(shown, answers=()),
    "no header": lambda shown: replace(shown, blocks=()),
    "old header": lambda shown: replace(shown, blocks=shown.blocks[:1]),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lying_node_is_refused(one: Setting, lie: str) -> None:
    """Whatever a node exchanges, something else does not fit any more."""
    found = one.answered(one.world.public(1), 5)
    evidence = await one.evidence(found.counter)
    code = refused(one, LIES[lie](evidence))
    assert code.startswith(("receipt.", "proof.")), code


async def test_a_party_record_with_another_key_is_refused(one: Setting) -> None:
    """A record that names the liar's own key is not in the state."""
    found = one.answered(one.world.public(1), 5)
    evidence = await one.evidence(found.counter)
    party = evidence.parties[0]
    record = replace(layout.PartyRecord.decode(party.value), evidence_key=bytes(32))
    forged = replace(evidence, parties=(Shown(party.key, record.encode(), party.proof),))
    assert refused(one, forged).startswith("proof.")


async def test_another_chain_is_refused(one: Setting) -> None:
    """Evidence under headers that do not come from the root counts for nothing."""
    found = one.answered(one.world.public(1), 5)
    evidence = await one.evidence(found.counter)
    other = SimulatedChain(1, "another-chain")
    assert refused(one, evidence, trust=replace(one.trust, root=other.root())) == "lightclient.chain_id"
    stranger = SimulatedChain(1, one.trust.root.chain_id)
    assert refused(one, replace(evidence, blocks=(stranger.light_block(1),))) == "lightclient.root"


async def test_a_header_that_too_few_signed_is_refused(one: Setting) -> None:
    """A forged last header does not follow from the root."""
    found = one.answered(one.world.public(1), 5)
    evidence = await one.evidence(found.counter)
    chain = one.world.chain
    forged = type(evidence.blocks[1]).decode(chain.forge(height=chain.height, votes=[1]))
    assert refused(one, replace(evidence, blocks=(evidence.blocks[0], forged))).startswith("lightclient.")


async def test_an_old_state_is_refused(one: Setting) -> None:
    """A node that shows yesterday's chain cannot hide what happened since."""
    found = one.answered(one.world.public(1), 5)
    evidence = await one.evidence(found.counter)
    late = one.now + timedelta(minutes=11)
    assert refused(one, evidence, now=late) == "receipt.old_header"


async def test_validators_who_write_an_answer_that_nobody_gave_are_caught(one: Setting) -> None:
    """A chain whose validators all lie can write any state; the party's signature is missing all the same."""
    asked = one.world.public(1)
    found = one.world.ask(asked)
    one.world.block()
    party = one.world.parties[0]
    honest = party.public_core(found.id, asked, [5])
    lies = {
        "receipt.typed_data": party.answer(replace(honest, signatures={"eip712": bytes(64) + b"\x1b"}), one.world.head),
        "receipt.agreement": party.answer(replace(honest, result={"decrypted": bytes(32)}), one.world.head),
    }
    stranger = SimulatedParty("mallory", 1, one.world.platform, party.configuration)
    lies["cose.signature"] = stranger.answer(honest, one.world.head)
    for expected, signed in lies.items():
        agreement = honest.agreement()
        code = await _written(one, found.counter, agreement, signed)
        assert code == expected or (expected == "receipt.typed_data" and code.startswith("eip712.")), code


async def test_a_key_whose_typed_data_is_another_is_refused(one: Setting) -> None:
    """Also where validators let it pass: the signature covers statement, key id and typed-data digests."""
    party, statement = one.world.parties[0], one.world.governance.keygen(one.terms)
    one.world.govern(statement)
    found = one.world.ask(Keygen(statement))
    one.world.block()
    honest = party.keygen_core(found.id, Keygen(statement))
    assert honest.result is not None
    first, second = honest.result["material"]
    stranger = SimulatedParty("mallory", 1, one.world.platform, party.configuration)
    lies = [
        replace(honest, result={**honest.result, "material": [[*first[:3], bytes(32)], second]}),
        replace(honest, signatures=stranger.keygen_core(found.id, Keygen(statement)).signatures),
        party.keygen_core(found.id, one.world.keygen),
    ]
    for core in lies:
        signed = party.answer(core, one.world.head)
        assert await _written(one, found.counter, core.agreement(), signed) == "receipt.typed_data"
    named = {"answer.material": [second, first], "encoding.schema": [first]}
    for code, rows in named.items():
        core = replace(honest, result={**honest.result, "material": rows})
        signed = party.answer(core, one.world.head)
        assert await _written(one, found.counter, core.agreement(), signed) == code
    core = replace(honest, key_id=bytes(32))
    signed = party.answer(core, one.world.head)
    assert await _written(one, found.counter, core.agreement(), signed) == "receipt.answer"


async def _written(one: Setting, counter: int, agreement: bytes, signed: bytes) -> str:
    """What refuses a state into which validators wrote this answer as final."""
    chain = one.world.chain
    record = replace(
        one.world.record(counter),
        state=layout.FINAL,
        agreement=agreement,
        answers=((1, answers.answer_hash(signed)),),
    )
    chain.set_state({f"one/{layout.REQUESTS}": {counter: record.encode()}})
    chain.produce(1)
    chain.produce(1)
    body = one.world.index("bodies", counter.to_bytes(8, "big"))
    assert body is not None
    party = one.world.value(layout.PARTIES, 1)
    assert party is not None
    evidence = Evidence(
        blocks=(chain.light_block(1), chain.light_block(chain.height)),
        record=Shown(counter, record.encode(), chain.prove("one", layout.REQUESTS, counter)),
        body=body,
        answers=((1, signed),),
        parties=(Shown(1, party, chain.prove("one", layout.PARTIES, 1)),),
    )
    return refused(one, evidence, now=chain.now)


async def test_terms_of_another_key_do_not_verify(one: Setting) -> None:
    """The typed data is judged under the domain of the request's own key."""
    asked = one.world.public(1)
    assert isinstance(asked, PublicDecrypt)
    found = one.answered(asked, 5)
    evidence = await one.evidence(found.counter)
    other = replace(one.terms, decryption=replace(one.terms.decryption, chain_id=1))
    with pytest.raises(EvidenceError) as refusal:
        verify_answer(evidence, trust=one.trust, terms=other, now=one.now)
    assert refusal.value.code == "receipt.typed_data"


async def test_one_party_does_not_count_twice(four: Setting) -> None:
    """Validators who list one party's answer three times do not make three parties of it."""
    found = four.answered(four.world.public(1), 5)
    evidence = await four.evidence(found.counter)
    chain = four.world.chain
    record = four.world.record(found.counter)
    forged = replace(record, answers=(record.answers[0],) * 3)
    chain.set_state({f"one/{layout.REQUESTS}": {found.counter: forged.encode()}})
    chain.produce(1)
    chain.produce(1)
    party = four.world.value(layout.PARTIES, 1)
    assert party is not None
    twisted = replace(
        evidence,
        blocks=(chain.light_block(1), chain.light_block(chain.height)),
        record=Shown(found.counter, forged.encode(), chain.prove("one", layout.REQUESTS, found.counter)),
        parties=(Shown(1, party, chain.prove("one", layout.PARTIES, 1)),),
    )
    assert refused(four, twisted, now=chain.now) == "receipt.quorum"


async def test_a_decryption_is_no_key(one: Setting) -> None:
    """A node that hands out another request in place of a key's generation is refused like any other lie."""
    found = one.answered(one.world.public(1), 5)
    with pytest.raises(EvidenceError) as refusal:
        verify_key(await one.evidence(found.counter), trust=one.trust, now=one.now)
    assert refusal.value.code == "receipt.not_a_key"
