"""The state machine alone: what a block does, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cipherkeep_attestation import cbor
from cipherkeep_attestation.chain.header import Timestamp
from cipherkeep_attestation.chain.state import StateProof, verify_present
from cipherkeep_attestation.statements.transaction import Message, Transaction
from cipherkeep_host.chain import application as module
from cipherkeep_host.chain import release
from cipherkeep_host.chain.application import Application
from cipherkeep_host.chain.calls import Verdict
from cipherkeep_host.chain.genesis import AppState, Instance
from cipherkeep_host.chain.state import State
from cipherkeep_host.errors import HostError
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.host.chain.conftest import APP_STATE, CHAIN_ID
from tests.host.chain.counter_application import KINDS, Counter
from tests.host.chain.support import add, call

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SENDER = KEY.public_key().public_bytes_raw()
FIRST_BLOCK = b"\x11" * 32


def tx(nonce: int, *messages: Message, chain_id: str = CHAIN_ID) -> bytes:
    return Transaction(chain_id, SENDER, nonce, messages or (add(1),)).sign(KEY)


def genesis(application: Application, app_state: AppState = APP_STATE) -> bytes:
    return application.init_chain(CHAIN_ID, Timestamp(1000), json.dumps(app_state.text()).encode(), 1)


def block(application: Application, *txs: bytes) -> list[Verdict]:
    height = application.state.height + 1
    verdicts, app_hash = application.finalize_block(height, Timestamp(1000 + height), FIRST_BLOCK, txs)
    application.commit()
    assert application.state.root() == app_hash
    return verdicts


def refusals(verdicts: Sequence[Verdict]) -> list[tuple[int, bytes]]:
    return [(verdict.code, verdict.data) for verdict in verdicts]


def total(application: Application, instance: str = "one") -> bytes | None:
    return application.state.collection(instance, "total").get(1)


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Application]:
    """After genesis, before block 1."""
    state = State(tmp_path / "state.db")
    made = Application(state, KINDS)
    genesis(made)
    yield made
    state.close()


def test_messages_take_effect_in_their_instance(application: Application) -> None:
    """Two instances of one kind have states of their own; each message has its result."""
    (verdict,) = block(application, tx(1, add(3), add(4, "two")))
    assert (verdict.code, cbor.decode(verdict.data)) == (0, [b"8", b"4"])
    assert (total(application), total(application, "two")) == (b"8", b"4")


def test_a_refused_message_takes_the_whole_transaction_back(application: Application) -> None:
    """Neither the messages before it nor its own writes remain; the nonce is used up, so that it cannot be replayed."""
    refused = tx(1, add(1), call("refuse"))
    verdicts = block(application, refused, tx(2, add(10)), refused)
    assert refusals(verdicts)[0] == (1, b"contract.value_size")
    assert verdicts[1].code == 0
    assert refusals(verdicts)[2] == (3, b"chain.nonce")
    assert total(application) == b"15"
    assert application.state.index("one", "by").get(b"taken") is None
    assert application.state.collection("one", "log").last_key() == 1


def test_evidence_that_does_not_hold_refuses_with_its_own_code(application: Application) -> None:
    """A handler that lets `EvidenceError` through refuses, and the rule's code is in the hashed result."""
    assert refusals(block(application, tx(1, call("evidence")))) == [(2, b"proof.value")]


def test_transactions_that_are_none_of_ours_change_nothing(application: Application) -> None:
    """Noise, another chain's, a gap, a repetition, and a changed byte are refused, and the app hash stays."""
    block(application, tx(1))
    before = application.state.root()
    changed = bytearray(tx(2))
    changed[-1] ^= 1
    verdicts = block(application, b"noise", tx(2, chain_id="another"), tx(3), tx(1), bytes(changed), b"", tx(1))
    assert [verdict.code for verdict in verdicts] == [2, 3, 3, 3, 2, 2, 3]
    assert {verdict.data for verdict in verdicts if verdict.code == 3} == {b"chain.other_chain", b"chain.nonce"}
    assert application.state.root() == before


def test_an_unknown_instance_is_refused(application: Application) -> None:
    """The application's own name is no instance either."""
    assert refusals(block(application, tx(1, add(1, "three")), tx(2, add(1, "chain")))) == [
        (1, b"chain.no_instance"),
        (1, b"chain.no_instance"),
    ]


def test_a_value_too_large_to_prove_is_refused(application: Application) -> None:
    """A message cannot halt the chain by its size."""
    assert refusals(block(application, tx(1, call("blob", data=bytes(200_000))))) == [(1, b"contract.value_size")]


def test_a_defect_is_not_swallowed(application: Application) -> None:
    """An exception that is no refusal leaves `finalize_block`, and nothing of the block can be committed elsewhere."""
    before = application.state.root()
    with pytest.raises(RuntimeError):
        application.finalize_block(1, Timestamp(1001), FIRST_BLOCK, [tx(1), tx(2, call("explode"))])
    assert application.state.root() == before


def test_a_message_cannot_be_changed_by_its_handler(application: Application) -> None:
    """The same bytes give the same result at a node that saw them before and at one that did not."""
    again = tx(1, call("mutate", list=[]))
    first, _ = application.finalize_block(1, Timestamp(1001), FIRST_BLOCK, [again])
    second, _ = application.finalize_block(1, Timestamp(1001), FIRST_BLOCK, [again])
    assert first == second


def test_the_same_blocks_give_the_same_state_everywhere(tmp_path: Path) -> None:
    """Whether transactions were checked before, or the process was started anew after each block: one app hash."""
    blocks = [
        [tx(1, add(1)), tx(2, call("refuse"))],
        [],
        [b"noise", tx(3, add(4096 - 6), add(7, "two"))],
        [tx(4, add(1, "two"))],
    ]
    roots: list[list[bytes]] = []
    for name, warm, restart in (("a", False, False), ("b", True, False), ("c", True, True)):
        state = State(tmp_path / name)
        application = Application(state, KINDS)
        genesis(application)
        found = []
        for txs in blocks:
            if warm:
                for one in txs:
                    application.check_tx(one, recheck=False)
            block(application, *txs)
            found.append(application.state.root())
            if restart:
                application.state.close()
                application = Application(State(tmp_path / name), KINDS)
        assert application.state.collection("one", "ticks").items() == [(3, b"reached")]
        application.state.close()
        roots.append(found)
    assert roots[0] == roots[1] == roots[2]
    assert roots[0][0] == roots[0][1]


def test_waiting_transactions_of_one_sender_follow_each_other(application: Application) -> None:
    """The check counts what waits, in order; after a commit it counts anew."""
    assert [application.check_tx(tx(n), recheck=False).code for n in (1, 2, 3)] == [0, 0, 0]
    assert application.check_tx(tx(3), recheck=False).data == b"chain.nonce"
    assert application.check_tx(tx(5), recheck=False).data == b"chain.nonce"
    block(application, tx(1))
    assert application.check_tx(tx(1), recheck=True).data == b"chain.nonce"
    assert [application.check_tx(tx(n), recheck=True).code for n in (2, 3)] == [0, 0]
    assert application.check_tx(tx(4), recheck=False).code == 0


def test_one_sender_does_not_fill_the_pool(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a bound a sender waits for its own transactions, and others still get in; a block makes room again."""
    monkeypatch.setattr("cipherkeep_host.chain.application.WAITING_OF_SENDER", 3)
    key = Ed25519PrivateKey.generate()
    other = Transaction(CHAIN_ID, key.public_key().public_bytes_raw(), 1, (add(1),)).sign(key)
    assert [application.check_tx(tx(n), recheck=False).code for n in (1, 2, 3)] == [0, 0, 0]
    assert application.check_tx(tx(4), recheck=False).data == b"chain.sender_waiting"
    assert application.check_tx(other, recheck=False).code == 0
    block(application, tx(1))
    assert [application.check_tx(tx(n), recheck=True).code for n in (2, 3)] == [0, 0]
    assert application.check_tx(tx(4), recheck=False).code == 0


def test_a_check_refuses_and_never_writes(application: Application) -> None:
    """What a contract does not want does not wait for a block; a defect in a check stops nobody."""
    before = application.state.root()
    assert application.check_tx(tx(1, call("unwanted")), recheck=False).data == b"contract.value_size"
    assert application.check_tx(tx(1, call("break check")), recheck=False).data == b"chain.check_failed"
    assert application.check_tx(bytes(2 << 20), recheck=False).data == b"chain.transaction_size"
    assert application.check_tx(tx(1, add(1, "three")), recheck=False).data == b"chain.no_instance"
    assert application.check_tx(tx(1), recheck=False).code == 0
    assert application.state.root() == before


def test_a_proposal_holds_what_opens_and_fits(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise is left out, order is kept, and size and number have bounds that proposals of others must keep too."""
    txs = [tx(1), b"noise", tx(2), tx(3)]
    assert application.prepare_proposal(txs, 1 << 20) == [txs[0], txs[2], txs[3]]
    assert application.prepare_proposal(txs, len(txs[0]) + 8) == [txs[0]]
    assert application.process_proposal([txs[0], txs[2]])
    assert not application.process_proposal(txs)
    monkeypatch.setattr(module, "MAX_BLOCK_TRANSACTIONS", 2)
    assert application.prepare_proposal(txs, 1 << 20) == [txs[0], txs[2]]
    assert not application.process_proposal([txs[0], txs[2], txs[3]])
    monkeypatch.setattr(module, "MAX_BLOCK", 100)
    assert not application.process_proposal([txs[0]])


def test_a_block_that_does_not_follow_is_refused(application: Application) -> None:
    """Heights have no gaps and none comes twice, and there is no commit without a block."""
    block(application)
    for height in (1, 3):
        with pytest.raises(HostError) as refused:
            application.finalize_block(height, Timestamp(1), FIRST_BLOCK, [])
        assert refused.value.code == "chain.height_order"
    with pytest.raises(HostError) as refused:
        application.commit()
    assert refused.value.code == "chain.height_order"
    with pytest.raises(HostError) as refused:
        genesis(application)
    assert refused.value.code == "chain.genesis_again"


def test_a_block_is_finalised_again_after_a_crash(application: Application) -> None:
    """A second call for the same height starts from the committed state."""
    first = application.finalize_block(1, Timestamp(1001), FIRST_BLOCK, [tx(1)])
    second = application.finalize_block(1, Timestamp(1001), FIRST_BLOCK, [tx(1)])
    assert first == second
    application.commit()
    assert total(application) == b"6"


def test_the_first_blocks_hash_is_known_from_then_on(application: Application, tmp_path: Path) -> None:
    """Ids bind the chain by the hash of header 1, after a restart too."""
    block(application, tx(1))
    assert application.state.facts.genesis_hash == FIRST_BLOCK
    height = application.state.height + 1
    application.finalize_block(height, Timestamp(2000), b"\x22" * 32, [])
    application.commit()
    assert application.state.facts.genesis_hash == FIRST_BLOCK
    application.state.close()
    assert State(tmp_path / "state.db").facts.genesis_hash == FIRST_BLOCK


def test_another_application_does_not_run_on_the_state(
    application: Application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other packages, another interpreter, another version of a contract or none of its kind: it refuses to start."""
    block(application)
    application.state.close()
    state = State(tmp_path / "state.db")
    for kinds, code in (({}, "chain.unknown_kind"), ({"counter": Newer}, "chain.contract_version")):
        with pytest.raises(HostError) as refused:
            Application(state, kinds)
        assert refused.value.code == code
    monkeypatch.setattr(release, "packages", lambda: {"cryptography": "0"})
    with pytest.raises(HostError) as refused:
        Application(state, KINDS)
    assert refused.value.code == "chain.application_version"


class Newer(Counter):
    """The counter's next version."""

    version = 2


def test_the_release_names_what_handlers_touch() -> None:
    """The verifier and its dependencies are recorded, and nothing of the host's own."""
    found = release.packages()
    assert {"cipherkeep-attestation", "cryptography", "cbor2", "cffi", "pycparser"} <= found.keys()
    assert "uvicorn" not in found


@pytest.mark.parametrize(
    "app_state",
    [b"", b"{}", b'"zz"', b'"a0"', b"[" * 10_000, b'"' + b"00" * (1 << 20) + b'"', b'"a169696e7374616e63657381a0"'],
)
def test_a_genesis_that_was_edited_is_refused(tmp_path: Path, app_state: bytes) -> None:
    """Anything but a JSON text of hex of the right CBOR stops the start."""
    application = Application(State(tmp_path / "state.db"), KINDS)
    with pytest.raises(HostError) as refused:
        application.init_chain(CHAIN_ID, Timestamp(1), app_state, 1)
    assert refused.value.code == "chain.genesis_form"


def test_genesis_instances_have_distinct_names() -> None:
    """Neither twice the same, nor the application's own, nor one that no proof could name."""
    for names in (("a", "a"), ("chain",), ("A",), ("a/b",), ("",)):
        with pytest.raises(HostError):
            AppState(tuple(Instance(name, "counter", b"") for name in names))


def test_a_query_answers_with_a_proof_of_the_committed_state(application: Application) -> None:
    """Between executing a block and committing it, what is proven is the state before it."""
    block(application, tx(1, add(1)))
    application.finalize_block(2, Timestamp(1002), FIRST_BLOCK, [tx(2, add(1))])
    answer = application.query("/state/one/total", (1).to_bytes(8, "big"), 0)
    found = cbor.decode(answer.value)
    assert isinstance(found, dict)
    proof = found["proof"]
    assert isinstance(proof, bytes)
    assert (found["value"], found["height"], found["until"], answer.height) == (b"6", 1, 1, 1)
    verify_present(
        application.state.root(), instance="one", collection="total", key=1, value=b"6", proof=StateProof.decode(proof)
    )
