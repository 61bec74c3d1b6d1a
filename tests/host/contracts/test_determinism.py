"""The same blocks give the same state everywhere, and no message ends in anything but a verdict or a code."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from cipherkeep_attestation import cbor
from cipherkeep_attestation.chain.header import Timestamp
from cipherkeep_attestation.errors import RULES
from cipherkeep_attestation.statements import layout
from cipherkeep_attestation.statements.request import Keygen, Origin, PublicDecrypt, decode
from cipherkeep_host.chain.state import State
from cipherkeep_host.contracts.fhevm.contract import MESSAGES
from cipherkeep_host.errors import HOST_RULES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.simulators.contract import CHAIN_ID, Outcome, World
from tests.simulators.coprocessor import TERMS

Message = tuple[str, dict[str, Any], bytes]

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.binary(max_size=80) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(["statement", "party", "registration", "nonce", "request", "answers", "x"])
bodies = st.dictionaries(fields, values, max_size=3)
anything = st.tuples(st.sampled_from([*MESSAGES, "other"]), bodies)


def shaped(name: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """The fields of the message, with bytes that get past the first reader more often."""
    encoded = st.builds(cbor.encode, values) | st.binary(max_size=200)
    shapes: dict[str, dict[str, st.SearchStrategy[Any]]] = {
        "govern": {"statement": encoded},
        "register": {"party": st.sampled_from(["alpha", "omega"]), "registration": encoded},
        "freshness": {"party": st.sampled_from(["alpha", "omega"]), "nonce": st.binary(min_size=32, max_size=32)},
        "answer": {"answers": st.lists(encoded, max_size=4)},
    }
    shape = shapes.get(name, {"request": encoded})
    return st.tuples(st.just(name), st.fixed_dictionaries(shape))


hostile = anything | st.sampled_from(MESSAGES).flatmap(shaped)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=st.lists(hostile, max_size=6))
def test_no_message_is_a_defect(world: World, messages: list[Any]) -> None:
    """Whatever a message holds, it is executed or refused by a known code; nothing else may stop a node."""
    for outcome in world.block(*messages):
        assert outcome.code == "ok" or outcome.code in RULES or outcome.code in HOST_RULES


def mutated(data: bytes, place: int, how: str, by: bytes) -> bytes:
    place %= len(data)
    if how == "flip":
        return data[:place] + bytes([data[place] ^ (by[0] or 1)]) + data[place + 1 :]
    if how == "cut":
        return data[:place]
    if how == "insert":
        return data[:place] + by + data[place:]
    return data + data[place:]


@pytest.mark.parametrize("name", ["govern", "register", "public_decrypt", "user_decrypt", "answer"])
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.integers(0, 1 << 16),
    how=st.sampled_from(["flip", "cut", "insert", "double"]),
    by=st.binary(min_size=1, max_size=3),
)
def test_a_damaged_message_is_refused(world: World, name: str, place: int, how: str, by: bytes) -> None:
    """One changed place of a good statement, registration, request or answer is never taken for another's word."""
    party = world.parties[0]
    public = world.public(1, 2, source=Origin(1, bytes(20), 1))
    if name == "govern":
        good = world.governance.admit("new", serial=world.control().serial + 1)
        body: dict[str, Any] = {"statement": mutated(good, place, how, by)}
    elif name == "register":
        good = world.honest_registration(party)
        body = {"party": "alpha", "registration": mutated(good, place, how, by)}
    elif name == "answer":
        good = party.answer(party.keygen_core(world.key_id, world.keygen), world.head)
        body = {"answers": [mutated(good, place, how, by)]}
    else:
        good = public.encode() if name == "public_decrypt" else world.user(1, 2).encode()
        body = {"request": mutated(good, place, how, by)}
    before, last = world.state.root(), world.state.collection("one", layout.REQUESTS).last_key()
    outcome = world.block((name, body))[0]
    if name == "public_decrypt" and outcome.code == "ok":
        # Nobody signs where the request is said to come from; everything else stands as it was bound.
        accepted = decode(body["request"])
        assert isinstance(accepted, PublicDecrypt)
        assert (accepted.key_id, accepted.ciphertexts) == (public.key_id, public.ciphertexts)
        return
    code = outcome.value[0][1] if name == "answer" and outcome.code == "ok" else outcome.code
    assert code in RULES or code in HOST_RULES
    # Requests of earlier examples expire on the way, which is a change of its own.
    assert world.state.root() == before or name == "public_decrypt"
    assert world.state.collection("one", layout.REQUESTS).last_key() == last


# --- replicas ---

STEPS = ("ask", "ask_user", "repeat", "vote", "lie", "again", "refuse", "idle", "govern", "keygen", "lapse", "nonce")


def script(world: World, steps: list[str]) -> list[list[Message]]:
    """Blocks of messages as a lively, partly hostile network makes them; `world` is used up on the way."""
    blocks: list[list[Message]] = []
    open_requests: list[tuple[Any, bytes]] = []
    for number, step in enumerate(steps, 1):
        sender = bytes([number % 5 + 1]) * 32
        messages: list[Message] = []
        request: Any = None
        if step == "ask":
            request = world.public(number, source=Origin(1, bytes(20), number % 3))
        elif step == "ask_user":
            request = world.user(number)
        elif step == "repeat" and open_requests:
            request = open_requests[-1][0]
        elif step == "keygen":
            statement = world.governance.keygen(TERMS, serial=world.control().serial + 1)
            messages = [("govern", {"statement": statement}, sender)]
            request = Keygen(statement)
        elif step == "govern":
            statement = world.governance.admit(f"party {number}", serial=world.control().serial + 1)
            messages = [("govern", {"statement": statement}, sender)]
        elif step == "nonce":
            messages = [("freshness", {"party": "beta", "nonce": bytes([number % 256]) * 32}, sender)]
        elif step == "lapse":
            registration = world.honest_registration(world.parties[0])
            messages = [("register", {"party": "alpha", "registration": registration}, sender)]
        elif step != "idle" and open_requests:
            asked, identity = open_requests[number % len(open_requests)]
            answers = []
            for party in world.parties[: 1 + number % 4]:
                value = number if step == "lie" else 7
                if isinstance(asked, Keygen):
                    core = party.keygen_core(identity, asked)
                elif step == "refuse":
                    core = party.refusal_core(identity, asked, "binding")
                elif asked.operation == "user_decrypt":
                    core = party.user_core(identity, asked)
                else:
                    core = party.public_core(identity, asked, [value])
                answers.append(party.answer(core, world.head))
            messages = [("answer", {"answers": answers}, sender)]
        if request is not None:
            messages.append((request.operation, {"request": request.encode()}, sender))
        outcomes = world.block(*messages)
        if request is not None and outcomes[-1].code == "ok":
            open_requests.append((request, outcomes[-1].value["id"]))
        blocks.append(messages)
    return blocks


@settings(max_examples=12, deadline=None)
@given(steps=st.lists(st.sampled_from(STEPS), min_size=5, max_size=25))
def test_two_replicas_have_the_same_app_hash(steps: list[str]) -> None:
    """A second node that executes the same blocks, restarted in between, computes the same results and state."""
    with TemporaryDirectory(prefix="ck-") as folder:
        how: dict[str, Any] = {"parties": 4, "answers": 3, "expiry_blocks": 6}
        first = World(Path(folder) / "first", **how)
        blocks = []
        original = first.block

        def recorded(*messages: Any) -> list[Outcome]:
            outcomes = original(*messages)
            blocks.append((messages, outcomes, first.state.root()))
            return outcomes

        first.block = recorded  # type: ignore[method-assign]
        first.set_up()
        script(first, steps)
        second = World(Path(folder) / "second", **how)
        for place, (messages, outcomes, root) in enumerate(blocks):
            assert second.block(*messages) == outcomes
            assert second.state.root() == root
            if place % 7 == 3:
                second.state.close()
                second.state = State(Path(folder) / "second")
        first.state.close()
        second.state.close()


def test_a_block_that_is_executed_again_gives_the_same(world: World) -> None:
    """A block whose execution was lost before its commit is computed anew with the same result."""
    request = world.public(1)
    height = world.height + 1

    def execute() -> tuple[bytes, bytes]:
        block = world.state.begin(height)
        view = world_view(world, block)
        world.contract.begin_block(view, world.context(height))
        data = world.contract.execute(
            view, world.context(height, bytes(32)), "public_decrypt", {"request": request.encode()}
        )
        world.contract.end_block(view, world.context(height))
        return data, block.root()

    assert execute() == execute()
    assert world.state.height == height - 1
    assert (CHAIN_ID, Timestamp.of(world.now).seconds) == ("simulated-1", world.seconds)


def world_view(world: World, block: Any) -> Any:
    from cipherkeep_host.contracts.interface import ContractState

    return ContractState(block, world.instance)


@pytest.mark.parametrize("code", [code for code in HOST_RULES if code.startswith("fhevm.")])
def test_every_code_has_sentence_and_hint(code: str) -> None:
    """People learn from a code what went wrong and what to do."""
    rule = HOST_RULES[code]
    assert rule.sentence.endswith(".")
    assert rule.hint.endswith(".")
