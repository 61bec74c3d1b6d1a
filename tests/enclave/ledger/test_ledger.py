"""What the enclave believes about the chain: every lie a host or a lone validator can tell about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cipherkeep_attestation.chain.ics23 import Existence, single
from cipherkeep_attestation.chain.state import verify_absent
from cipherkeep_attestation.errors import EvidenceError, Refused
from cipherkeep_attestation.statements.layout import Control
from cipherkeep_attestation.statements.request import Keygen
from cipherkeep_enclave.ledger import Ledger
from cipherkeep_wire.errors import ServiceError

from tests.enclave.harness import INSTANCE, TERMS, World
from tests.simulators.chain import Signer, SimulatedChain, message, number, sized, uvarint

KEY = b"\x11" * 32


def code(refusal: pytest.ExceptionInfo[EvidenceError | ServiceError]) -> str:
    return refusal.value.code


async def governed(world: World) -> None:
    """Two statements stand: coprocessors, and this party's admission."""
    world.govern(world.governance.set_coprocessors(world.coprocessors.policy), world.admission())


async def current(world: World) -> Ledger:
    """A ledger that serves."""
    await governed(world)
    await world.advance()
    await world.freshen()
    return world.keeper.ledger


# --- what honest hosts do ---


async def test_an_honest_host_gets_a_current_view(world: World) -> None:
    """Head, control leaf with its statements, this boot's nonce: then there is a view with what governance decided."""
    ledger = await current(world)
    view = ledger.current()
    assert (view.height, view.hash) == (world.chain.height, world.chain.header_hash(world.chain.height))
    assert view.decisions.coprocessors == world.coprocessors.policy
    assert (view.decisions.parties, ledger.party_index) == ({"alpha": world.configuration.digest()}, 1)


async def test_every_call_may_be_repeated(world: World) -> None:
    """Blocks, leaf, statements, nonce and inbox that are known already change nothing."""
    ledger = await current(world)
    (asked,) = world.ask(b"anything")
    await world.advance()
    await world.show(asked.height)
    before = ledger.current()
    world.sent_height = world.sent_statements = 0
    await world.advance()
    await world.show(asked.height)
    assert ledger.current() == before


async def test_many_blocks_may_be_skipped(world: World) -> None:
    """From the trust root to a much later head in two blocks."""
    await governed(world)
    for _ in range(30):
        world.chain.produce()
    await world.keeper.advance([world.chain.encoded(1)], control=b"", proof=b"", statements=())
    world.sent_height = world.chain.height - 1
    await world.advance()
    assert world.keeper.ledger.view is not None


# --- the head ---


async def test_nothing_is_served_before_the_root(world: World) -> None:
    """A boot knows nothing of the chain but a hash."""
    with pytest.raises(ServiceError) as refusal:
        world.keeper.ledger.current()
    assert code(refusal) == "service.not_anchored"


async def test_another_chain_is_refused(world: World) -> None:
    """The header of another chain is not the trust root, whoever signed it."""
    other = SimulatedChain(1, chain_id="another")
    with pytest.raises(EvidenceError) as refusal:
        world.keeper.ledger.step(other.encoded(1))
    assert code(refusal) == "lightclient.chain_id"


async def test_the_same_name_over_another_genesis_is_another_chain(world: World) -> None:
    """A chain id is only a name: a chain of that name with other validators or another start is not the trust root's,
    and once the head stands, none of its headers continues it.
    """
    name, start = world.chain.chain_id, datetime(2026, 1, 2, tzinfo=UTC)
    signer = world.chain.validators
    for other in (SimulatedChain(1, name, start=start), SimulatedChain(signer, name, start=start)):
        with pytest.raises(EvidenceError) as refusal:
            world.keeper.ledger.step(other.encoded(1))
        assert code(refusal) == "lightclient.root"
    await world.advance()
    stranger = SimulatedChain([Signer.named("another genesis")], name, start=world.chain.now)
    for _ in range(world.chain.height + 2):
        stranger.produce()
    with pytest.raises(EvidenceError) as refusal:
        world.keeper.ledger.step(stranger.encoded(stranger.height))
    assert code(refusal) == "lightclient.skip_quorum"


async def test_a_later_header_of_another_chain_is_refused(world: World) -> None:
    """So is one that is offered once the head stands."""
    await world.advance()
    other = SimulatedChain(1, chain_id="another")
    for _ in range(5):
        other.produce()
    with pytest.raises(EvidenceError) as refusal:
        world.keeper.ledger.step(other.encoded(6))
    assert code(refusal) == "lightclient.chain_id"


async def test_an_old_head_serves_nothing(world: World) -> None:
    """Ten minutes after its head an enclave uses no secret, until it is shown a newer one."""
    ledger = await current(world)
    world.chain.now += timedelta(minutes=10, seconds=1)
    with pytest.raises(ServiceError) as refusal:
        ledger.current()
    assert code(refusal) == "service.stale_head"
    world.chain.produce()
    await world.advance()
    assert ledger.current()


async def test_blocks_without_the_leaf_do_not_make_a_head(world: World) -> None:
    """Steps alone do not keep a view alive: each head used had its control leaf shown."""
    ledger = await current(world)
    for _ in range(3):
        world.chain.produce(300)
        await world.advance(control=False)
    with pytest.raises(ServiceError) as refusal:
        ledger.current()
    assert code(refusal) == "service.stale_head"


async def test_no_leaf_no_service(world: World) -> None:
    """A head without any control leaf shown is refused by name."""
    await world.advance(control=False)
    with pytest.raises(ServiceError) as refusal:
        world.keeper.ledger.current()
    assert code(refusal) == "service.no_control"


async def test_a_fork_freezes_and_governance_thaws(world: World) -> None:
    """Two signed blocks of one height freeze the enclave; a statement that names them goes on with the first."""
    ledger = await current(world)
    fork = world.chain.fork_at(world.chain.height - 1)
    fork.produce(2)
    with pytest.raises(EvidenceError) as refusal:
        ledger.step(fork.encoded(fork.height))
    assert code(refusal) == "lightclient.conflict"
    conflict = ledger.frozen
    assert conflict is not None
    with pytest.raises(EvidenceError) as refusal:
        ledger.current()
    assert code(refusal) == "lightclient.frozen"
    stranger = world.governance.lift(bytes(32))
    world.govern(stranger)
    with pytest.raises(EvidenceError) as refusal:
        await world.advance()
    assert code(refusal) == "lightclient.frozen"
    world.govern(world.governance.lift(conflict.digest))
    await world.advance()
    assert ledger.frozen is None and ledger.current()


async def test_a_lift_by_too_few_governors_thaws_nothing(world: World) -> None:
    """One governor alone cannot say which branch holds."""
    ledger = await current(world)
    fork = world.chain.fork_at(world.chain.height - 1)
    fork.produce(2)
    with pytest.raises(EvidenceError):
        ledger.step(fork.encoded(fork.height))
    assert ledger.frozen is not None
    lone = world.governance.lift(ledger.frozen.digest, signers=world.governance.keys[:1])
    with pytest.raises(EvidenceError) as refusal:
        await world.keeper.advance([], control=b"", proof=b"", statements=[lone])
    assert code(refusal) == "governance.quorum"
    assert ledger.frozen is not None


async def test_a_fork_that_the_chain_has_noted_binds(world: World) -> None:
    """An enclave that saw one branch alone, or was started since, uses no secret while the leaf says so."""
    ledger = await current(world)
    leaf = Control.decode(world.chain.value(INSTANCE, "control", 1))
    world.chain.produce(world.interval, {f"{INSTANCE}/control": {1: replace(leaf, fork=b"f" * 32).encode()}})
    world.chain.produce(world.interval)
    await world.advance()
    with pytest.raises(EvidenceError) as refusal:
        ledger.current()
    assert (code(refusal), refusal.value.detail) == ("ledger.forked", (b"f" * 32).hex())
    world.chain.produce(world.interval, {f"{INSTANCE}/control": {1: leaf.encode()}})
    world.chain.produce(world.interval)
    await world.advance()
    assert ledger.current().fork is None


# --- the control leaf ---


async def test_a_skipped_retirement_is_noticed(world: World) -> None:
    """A host that leaves out the statement which retires a key cannot show the leaf, and so gets no newer view."""
    ledger = await current(world)
    world.govern(world.governance.retire(KEY))
    with pytest.raises(EvidenceError) as refusal:
        await world.advance(statements=[])
    assert code(refusal) == "governance.log"
    await world.advance()
    assert KEY in ledger.current().decisions.retired


async def test_an_old_leaf_is_not_under_the_new_head(world: World) -> None:
    """The leaf from before the retirement has no proof under a header after it."""
    await current(world)
    old, proof = world.control.encode(), world.chain.prove(INSTANCE, "control", 1).encode()
    world.govern(world.governance.retire(KEY))
    with pytest.raises(EvidenceError) as refusal:
        await world.keeper.advance(
            [world.chain.encoded(h) for h in range(world.sent_height + 1, world.chain.height + 1)],
            control=old,
            proof=proof,
            statements=[],
        )
    assert code(refusal).startswith("proof.")


async def test_a_statement_left_out_of_the_middle_is_noticed(world: World) -> None:
    """Statements come in their order, none missing."""
    await current(world)
    world.govern(world.governance.retire(KEY), world.governance.admit("beta"))
    with pytest.raises(EvidenceError) as refusal:
        await world.advance(statements=world.statements[-1:])
    assert code(refusal) == "governance.log"


async def test_a_validator_cannot_decide(world: World) -> None:
    """A state that counts a statement which governors did not sign is refused: a validator can stop, not decide."""
    await current(world)
    evil = world.governance.statement(
        "set_coprocessors",
        {"signers": [world.bob.address], "threshold": 1},
        signers=world.governance.keys[:1],
    )
    world.govern(evil)
    with pytest.raises(EvidenceError) as refusal:
        await world.advance()
    assert code(refusal) == "governance.quorum"


async def test_a_validator_cannot_rewrite_history(world: World) -> None:
    """A leaf whose hash is not that of the statements known is refused, whoever signed the header over it."""
    await current(world)
    world.chain.produce(1, {f"{INSTANCE}/control": {1: Control(2, bytes(32)).encode()}})
    world.chain.produce()
    with pytest.raises(EvidenceError) as refusal:
        await world.advance()
    assert code(refusal) == "governance.log"


async def test_a_second_statement_of_a_number_is_a_fork(world: World) -> None:
    """Governors who sign two statements with one number do not get the second past an enclave that saw the first."""
    await current(world)
    other = world.governance.statement("retire_key", {"key_id": KEY}, serial=2)
    with pytest.raises(EvidenceError) as refusal:
        await world.advance(statements=[other])
    assert code(refusal) == "ledger.statement_fork"


async def test_statements_of_another_instance_do_not_count(world: World) -> None:
    """The same governors' decisions about another instance are refused."""
    foreign = world.governance.admit("alpha", world.configuration.digest(), instance="two")
    world.govern(foreign)
    with pytest.raises(EvidenceError) as refusal:
        await world.advance()
    assert code(refusal) == "governance.instance"


# --- many statements ---


async def test_more_statements_than_one_call_takes_come_in_several(world: World) -> None:
    """A boot that must learn a long log gets it in parts; nothing of it is in force before the leaf is shown."""
    await governed(world)
    world.govern(*(world.governance.admit(f"party {number}") for number in range(250)))
    first, last = world.statements[:200], world.statements[200:]
    await world.keeper.advance([], control=b"", proof=b"", statements=first)
    assert world.keeper.ledger.view is None and world.keeper.ledger.party_index == 0
    await world.keeper.advance([], control=b"", proof=b"", statements=first)  # its answer may have been lost
    await world.advance(statements=last)
    assert world.keeper.ledger.decisions.control == world.control
    assert world.keeper.ledger.party_index == 1


async def test_statements_that_no_leaf_stands_for_are_forgotten(world: World) -> None:
    """A host that hands over a signed statement which never landed gains nothing, and spoils nothing for the next."""
    ledger = await current(world)
    stray = world.governance.statement("retire_key", {"key_id": KEY}, serial=3)
    world.govern(world.governance.admit("beta", serial=3))
    await world.keeper.advance([], control=b"", proof=b"", statements=[stray])
    assert KEY not in ledger.current().decisions.retired
    with pytest.raises(EvidenceError) as refusal:
        await world.advance()
    assert code(refusal) == "ledger.statement_fork"
    await world.advance()
    assert ledger.decisions.control == world.control and KEY not in ledger.decisions.retired


async def test_statements_of_a_part_follow_one_another(world: World) -> None:
    """Signatures, order and completeness are judged in every part as they are under a leaf."""
    await governed(world)
    lone = world.governance.admit("beta", serial=3, signers=world.governance.keys[:1])
    for statements, expected in (
        (world.statements[1:], "governance.log"),
        ([*world.statements, lone], "governance.quorum"),
    ):
        with pytest.raises(EvidenceError) as refusal:
            await world.keeper.advance([], control=b"", proof=b"", statements=statements)
        assert code(refusal) == expected
    await world.advance()
    assert world.keeper.ledger.decisions.control == world.control


# --- admission ---


def other_admission(world: World) -> bytes:
    return world.governance.admit(world.party, replace(world.configuration, host_root=b"another").digest())


async def test_an_admission_with_another_configuration_is_none(world: World) -> None:
    """The name is not enough: an enclave that governance did not mean gets no nonce, no vault and no key."""
    world.govern(other_admission(world))
    with pytest.raises(ServiceError) as refusal:
        await world.freshen()
    assert code(refusal) == "service.not_admitted"
    assert world.keeper.ledger.party_index == 0


async def test_the_newest_admission_counts(world: World) -> None:
    """Admitted with another configuration, an enclave that served stops; admitted with its own again, it goes on."""
    await world.bring_up()
    (asked,) = world.ask(b"anything")
    outcome = await world.process(asked)
    assert world.open_answer(outcome).core.refusal == "request.malformed"
    world.govern(other_admission(world))
    (again,) = world.ask(b"something else")
    with pytest.raises(ServiceError) as refusal:
        await world.process(again)
    assert code(refusal) == "service.not_admitted"
    with pytest.raises(ServiceError) as refusal:
        await world.keeper.register(world.chain.height)
    assert code(refusal) == "service.not_admitted"
    world.govern(world.admission())
    assert world.open_answer(await world.process(again)).core.refusal == "request.malformed"


async def test_an_index_is_that_of_the_first_admission(world: World) -> None:
    """Admitted anew after another party, a party keeps its place, and so does the other."""
    alpha, beta = world.configuration, replace(world.configuration, party="beta")
    world.govern(other_admission(world), world.governance.admit("beta", beta.digest()), world.admission())
    await world.advance()
    decisions = world.keeper.ledger.decisions
    assert decisions.index_of("alpha", alpha.digest()) == world.keeper.ledger.party_index == 1
    assert decisions.index_of("beta", beta.digest()) == 2
    assert decisions.index_of("beta", alpha.digest()) == decisions.index_of("gamma", bytes(48)) == 0


# --- freshness and the record ---


async def test_freshness_is_missing(world: World) -> None:
    """Head and leaf are not enough: they may be a copy from before this boot."""
    await governed(world)
    await world.advance()
    with pytest.raises(ServiceError) as refusal:
        world.keeper.ledger.current()
    assert code(refusal) == "service.not_fresh"


async def test_the_nonce_of_an_earlier_boot_shows_nothing(world: World) -> None:
    """The proof that served the last boot does not serve this one."""
    ledger = await current(world)
    proof = world.chain.prove(INSTANCE, "freshness", 1).encode()
    height = world.chain.height
    world.boot()
    assert world.keeper.ledger is not ledger
    await world.advance()
    with pytest.raises(EvidenceError) as refusal:
        world.keeper.ledger.freshen(height, 1, proof)
    assert code(refusal).startswith("proof.")


async def test_the_nonce_may_stand_in_anybodys_place(world: World) -> None:
    """What counts is that it stands in state; at another key than the one that is named it is not proven."""
    await governed(world)
    ledger = world.keeper.ledger
    world.chain.produce(1, {f"{INSTANCE}/freshness": {1: bytes(32), 77: ledger.nonce}})
    world.chain.produce()
    await world.advance()
    proofs = {key: world.chain.prove(INSTANCE, "freshness", key).encode() for key in (1, 77)}
    for key, proof in ((1, proofs[1]), (1, proofs[77]), (77, proofs[1])):
        with pytest.raises(EvidenceError) as refusal:
            ledger.freshen(world.chain.height, key, proof)
        assert code(refusal).startswith("proof.")
    ledger.freshen(world.chain.height, 77, proofs[77])
    assert ledger.current()


async def test_who_is_not_admitted_has_no_place_for_a_nonce(world: World) -> None:
    """Without an index there is nothing to prove."""
    await world.advance()
    with pytest.raises(ServiceError) as refusal:
        world.keeper.ledger.freshen(1, 1, b"")
    assert code(refusal) == "service.not_admitted"


async def test_a_record_older_than_the_nonce_is_refused(world: World) -> None:
    """A record from before this boot might not pin the newest vault."""
    await governed(world)
    world.write_record()
    await world.advance()
    old, proof = world.chain.height, world.chain.prove(INSTANCE, "parties", 1).encode()
    await world.freshen()
    with pytest.raises(EvidenceError) as refusal:
        world.keeper.ledger.record(old, world.record.encode(), proof)
    assert code(refusal) == "ledger.record_old"


async def test_another_partys_record_is_refused(world: World) -> None:
    """A state that puts another name at this party's index is not believed."""
    await current(world)
    world.record = replace(world.record, name="beta")
    world.write_record()
    await world.advance()
    proof = world.chain.prove(INSTANCE, "parties", 1).encode()
    with pytest.raises(EvidenceError) as refusal:
        world.keeper.ledger.record(world.chain.height, world.record.encode(), proof)
    assert code(refusal) == "ledger.record_party"


async def test_a_forged_record_has_no_proof(world: World) -> None:
    """The host cannot say that nothing was ever sealed when the chain says otherwise."""
    await current(world)
    world.record = replace(world.record, manifest_serial=3, manifest=KEY)
    world.write_record()
    await world.advance()
    forged = replace(world.record, manifest_serial=0, manifest=None)
    with pytest.raises(EvidenceError) as refusal:
        world.keeper.ledger.record(
            world.chain.height, forged.encode(), world.chain.prove(INSTANCE, "parties", 1).encode()
        )
    assert code(refusal).startswith("proof.")


@pytest.mark.parametrize(("serial", "manifest"), [(5, None), (0, KEY)])
async def test_half_a_pin_is_no_first_boot(serial: int, manifest: bytes | None, world: World) -> None:
    """A record with a number and no digest does not pass for one that never had a vault."""
    await current(world)
    world.record = replace(world.record, manifest_serial=serial, manifest=manifest)
    world.write_record()
    await world.advance()
    proof = world.chain.prove(INSTANCE, "parties", 1).encode()
    with pytest.raises(EvidenceError) as refusal:
        world.keeper.ledger.record(world.chain.height, world.record.encode(), proof)
    assert code(refusal) == "ledger.record_manifest"


# --- inboxes ---


async def test_a_forged_inbox_has_no_proof(world: World) -> None:
    """A request that is not on the chain cannot be shown with the proof of one that is."""
    ledger = await current(world)
    (asked,) = world.ask(b"anything")
    await world.advance()
    genuine = world.chain.value(INSTANCE, "inbox", asked.height)
    forged = genuine.replace(asked.id, bytes(32))
    with pytest.raises(EvidenceError) as refusal:
        ledger.show_inbox(
            asked.height, world.chain.height, forged, world.chain.prove(INSTANCE, "inbox", asked.height).encode()
        )
    assert code(refusal).startswith("proof.")


async def test_a_proof_of_another_height_does_not_serve(world: World) -> None:
    """The inbox of one block is not that of another."""
    ledger = await current(world)
    (asked,) = world.ask(b"anything")
    await world.advance()
    with pytest.raises(EvidenceError) as refusal:
        ledger.show_inbox(
            asked.height + 1,
            asked.height + 2 if world.chain.height >= asked.height + 2 else world.chain.height + 1,
            world.chain.value(INSTANCE, "inbox", asked.height),
            world.chain.prove(INSTANCE, "inbox", asked.height).encode(),
        )
    assert code(refusal).startswith(("proof.", "lightclient."))


async def test_an_absence_made_of_neighbours_shows_no_inbox(world: World) -> None:
    """The proof of absence of a block that has an inbox, made of its neighbours, is no proof of presence."""
    ledger = await current(world)
    (asked,) = world.ask(b"anything")
    await world.advance()
    lie = world.chain.prove_absent(INSTANCE, "inbox", asked.height).encode()
    with pytest.raises(EvidenceError) as refusal:
        ledger.show_inbox(asked.height, world.chain.height, world.chain.value(INSTANCE, "inbox", asked.height), lie)
    assert code(refusal) == "proof.shape"


async def test_an_inbox_cannot_be_moved_or_made_absent_by_splitting_its_leaf(world: World) -> None:
    """The forgery that the ICS-23 specification lets pass: the head of a leaf's key is moved into its prefix, so that
    the same leaf shows another key. It proves neither the inbox under that key nor that nothing stands at its own.
    """
    while world.chain.height < 256:  # the byte before the last, 1, then reads as the length of a key
        world.chain.produce()
    ledger = await current(world)
    (asked,) = world.ask(b"anything")
    await world.advance()
    inbox = world.chain.value(INSTANCE, "inbox", asked.height)
    honest = world.chain.prove(INSTANCE, "inbox", asked.height)
    key = asked.height.to_bytes(8, "big")
    prefix, forged_key = b"\x00\x08" + key[:6], key[7:]
    assert prefix + uvarint(1) + forged_key == b"\x00" + uvarint(8) + key, "the same bytes, split elsewhere"
    steps = Existence.decode(single(honest.collection)[0] or b"").path
    leaf_op = number(1, 1) + number(3, 1) + number(4, 1) + sized(5, prefix)
    forged = sized(1, forged_key) + sized(2, inbox) + message(3, leaf_op)
    forged += b"".join(message(4, step.encode()) for step in steps)
    for proof in (message(1, forged), message(2, sized(1, key) + message(2, forged))):
        lie = replace(honest, collection=proof)
        with pytest.raises(EvidenceError) as refusal:
            ledger.show_inbox(asked.height, world.chain.height, inbox, lie.encode())
        assert code(refusal) == "proof.leaf_op"
        with pytest.raises(EvidenceError) as refusal:
            verify_absent(world.chain.app_hash(), instance=INSTANCE, collection="inbox", key=asked.height, proof=lie)
        assert code(refusal) == "proof.leaf_op"
    assert ledger.show_inbox(asked.height, world.chain.height, inbox, honest.encode()) == 1


async def test_a_header_that_is_not_later_is_refused(world: World) -> None:
    """The state after a block stands under the next header at the earliest."""
    ledger = await current(world)
    (asked,) = world.ask(b"anything")
    await world.advance()
    with pytest.raises(EvidenceError) as refusal:
        ledger.show_inbox(asked.height, asked.height, b"", b"")
    assert code(refusal) == "ledger.inbox_header"


async def test_an_id_that_does_not_follow_is_refused(world: World) -> None:
    """A lying validator cannot give one request another's id: ids are recomputed."""
    await current(world)
    (asked,) = world.ask(Keygen(world.governance.keygen(TERMS, serial=9)), lie=lambda e: replace(e, id=KEY))
    await world.advance()
    with pytest.raises(EvidenceError) as refusal:
        await world.show(asked.height)
    assert code(refusal) == "ledger.request_id"


async def test_an_inbox_later_than_the_view_waits(world: World) -> None:
    """A request is not judged by decisions older than its own block."""
    ledger = await current(world)
    old = ledger.current()
    (asked,) = world.ask(b"anything")
    await world.advance(control=False)
    await world.show(asked.height)
    with pytest.raises(ServiceError) as refusal:
        ledger.inbox(asked.height, old)
    assert code(refusal) == "service.no_control"


async def test_expired_requests_are_not_answered(world: World) -> None:
    """Expiry is judged on the head: an answer lands in a block after it, and the contract takes none by then."""
    ledger = await current(world)
    (asked,) = world.ask(b"anything")
    last = asked.height + world.configuration.genesis.expiry_blocks - 1
    while world.chain.height < last:
        world.chain.produce(world.interval)
    await world.advance()
    await world.show(asked.height)
    assert ledger.inbox(asked.height, ledger.current()).entry(asked.counter)
    world.chain.produce(world.interval)
    await world.advance()
    with pytest.raises(Refused) as refusal:
        ledger.inbox(asked.height, ledger.current())
    assert refusal.value.code == "ledger.expired"


async def test_an_inbox_that_was_never_shown(world: World) -> None:
    """The host may have lost track: it is told to show the inbox, and that it may try again."""
    ledger = await current(world)
    with pytest.raises(ServiceError) as refusal:
        ledger.inbox(1, ledger.current())
    assert (refusal.value.code, refusal.value.retryable) == ("service.unknown_inbox", True)


async def test_old_inboxes_are_forgotten(world: World) -> None:
    """What is held of inboxes is bounded by their entries."""
    world.keeper.ledger._inboxes._most = 4
    await current(world)
    shown = [world.ask(b"a", b"b", b"c")[0].height for _ in range(3)]
    await world.advance()
    for height in shown:
        await world.show(height)
    held = [height for height in shown if world.keeper.ledger._inboxes.get(height)]
    assert held == shown[-1:]


def test_a_root_that_is_not_the_first_header_is_refused(world: World) -> None:
    """Ids depend on the hash of header 1, which no later root tells."""
    world.chain.produce()
    configuration = replace(world.configuration, root=world.chain.root(2))
    with pytest.raises(EvidenceError) as refusal:
        Ledger(configuration, nonce=bytes(32), now=lambda: world.now)
    assert code(refusal) == "ledger.root_height"
