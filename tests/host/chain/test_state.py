"""The proven state: what is written, taken back, kept on disk, and shown to a verifier."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from cipherkeep_attestation.chain import ics23
from cipherkeep_attestation.chain.header import Timestamp
from cipherkeep_attestation.chain.state import SENTINEL_VALUE, verify_absent, verify_present
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_host.chain.block import Block
from cipherkeep_host.chain.state import HISTORY, Proven, State
from cipherkeep_host.chain.view import MAX_KEY, MAX_VALUE
from cipherkeep_host.contracts.refusal import ContractRefusal
from cipherkeep_host.errors import HostError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulators.chain import SimulatedChain


@pytest.fixture
def state(tmp_path: Path) -> State:
    """A state with two collections after height 0."""
    made = State(tmp_path / "state.db")
    block = made.reset()
    block.create_collection("one", "log")
    block.create_collection("one", "inbox")
    commit(made, block)
    return made


def commit(state: State, block: Block) -> None:
    state.commit(block, time=Timestamp(block.height), chain_id="test", genesis_hash=bytes(32))


def write(state: State, change: Callable[[Block], object]) -> int:
    """One block with this change; its height."""
    block = state.begin(state.height + 1)
    change(block)
    commit(state, block)
    return state.height


def check(app_hash: bytes, found: Proven, name: str, key: int) -> bytes | None:
    """The value that a verifier takes from the proof."""
    if found.value is None:
        verify_absent(app_hash, instance="one", collection=name, key=key, proof=found.proof)
    else:
        verify_present(app_hash, instance="one", collection=name, key=key, value=found.value, proof=found.proof)
    return found.value


def test_the_app_hash_is_the_one_that_others_compute(state: State) -> None:
    """Roots and proofs agree, byte for byte, with a simulator that hashes everything anew by its own code."""
    chain = SimulatedChain()
    content = {"one/log": {1: b"a", 2: b"b", 3: b"c"}, "one/inbox": {7: b"x", 1000: b"y"}}
    chain.produce(changes=content)
    chain.produce()
    block = state.begin(1)
    for name, values in content.items():
        for key, value in values.items():
            block.collection("one", name.split("/")[1]).put(key, value)
    assert block.root() == chain.app_hash()
    commit(state, block)
    assert state.root() == chain.app_hash()
    for name, values in content.items():
        collection = name.split("/")[1]
        for key in values:
            assert state.prove("one", collection, key).proof == chain.prove("one", collection, key)
    for key in (4, 1 << 40):
        assert state.prove("one", "log", key).proof == chain.prove_absent("one", "log", key)
    assert state.prove("one", "inbox", 8).proof == chain.prove_absent("one", "inbox", 8)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(1, 12), st.binary(min_size=1, max_size=9)), max_size=5), max_size=6))
def test_every_key_is_provable_in_every_kept_state(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[list[tuple[int, bytes]]]
) -> None:
    """Present and absent, now and in the last few states, before and after the file is opened again."""
    path = tmp_path_factory.mktemp("state") / "state.db"
    state = State(path)
    block = state.reset()
    block.create_collection("one", "log")
    commit(state, block)
    versions: list[tuple[bytes, dict[int, bytes]]] = [(state.root(), {})]
    content: dict[int, bytes] = {}
    for changes in blocks:
        block = state.begin(state.height + 1)
        for key, value in changes:
            log = block.collection("one", "log")
            if key in content or key > log.last_key():
                log.put(key, value)
                content[key] = value
        commit(state, block)
        versions.append((state.root(), dict(content)))
    roots = [root for root, _ in versions]
    for height, (root, expected) in enumerate(versions):
        kept = sum(a != b for a, b in pairwise(roots[height:])) <= HISTORY
        for key in range(1, 14):
            try:
                found = state.prove("one", "log", key, height=height)
            except HostError as error:
                assert error.code == "chain.height_not_kept"
                assert not kept
                continue
            assert kept
            assert found.height <= height <= found.until
            assert check(root, found, "log", key) == expected.get(key)
    state.close()
    again = State(path)
    assert again.root() == versions[-1][0]
    for key in range(1, 14):
        assert check(again.root(), again.prove("one", "log", key), "log", key) == content.get(key)
    again.close()


def test_a_proof_names_the_heights_at_which_it_holds(state: State) -> None:
    """While nothing changes a proof stays good for every header, and says so."""
    first = write(state, lambda block: block.collection("one", "log").append(b"a"))
    for _ in range(3):
        write(state, lambda block: None)
    found = state.prove("one", "log", 1)
    assert (found.height, found.until) == (first, first + 3)
    write(state, lambda block: block.collection("one", "log").put(1, b"b"))
    old = state.prove("one", "log", 1, height=first + 2)
    assert (old.value, old.height, old.until) == (b"a", first, first + 3)
    with pytest.raises(HostError) as refused:
        state.prove("one", "log", 1, height=state.height + 1)
    assert refused.value.code == "chain.height_not_kept"


def test_a_block_that_writes_what_is_there_changes_nothing(state: State) -> None:
    """The same value again, or one that is taken back within the block, leaves the app hash alone."""
    write(state, lambda block: block.collection("one", "log").append(b"a"))
    before = state.root()

    def change(block: Block) -> None:
        log = block.collection("one", "log")
        log.put(1, b"a")
        log.put(1, b"b")
        log.put(1, b"a")

    write(state, change)
    assert state.root() == before
    assert state.facts.since == 1


def test_what_is_rolled_back_was_never_there(state: State) -> None:
    """Values, new keys, new collections and index pairs written since a savepoint are gone, earlier ones stay."""
    block = state.begin(1)
    log, index = block.collection("one", "log"), block.index("one", "by")
    log.append(b"kept")
    index.put(b"kept", b"1")
    root, point = block.root(), block.savepoint()
    log.put(1, b"changed")
    log.append(b"new")
    block.collection("one", "inbox").put(77, b"new")
    block.create_collection("two", "log").append(b"new")
    index.put(b"kept", b"2")
    index.put(b"new", b"2")
    index.delete(b"kept")
    assert block.root() != root
    block.rollback(point)
    assert block.root() == root
    assert (log.get(1), log.last_key(), index.get(b"kept"), index.get(b"new")) == (b"kept", 1, b"1", None)
    assert not block.has_collection("two/log")
    assert block.collection("one", "inbox").put(5, b"below 77") is None
    commit(state, block)
    assert state.collection("one", "log").items() == [(1, b"kept")]
    assert state.index("one", "by").items() == [(b"kept", b"1")]


def test_a_block_that_is_not_committed_leaves_no_trace(state: State, tmp_path: Path) -> None:
    """Dropped, as by kill -9, and executed again on the file, a block gives the same app hash."""
    block = state.begin(1)
    block.collection("one", "log").append(b"a")
    block.index("one", "by").put(b"k", b"v")
    root = block.root()
    assert state.collection("one", "log").get(1) is None
    state.close()
    again = State(tmp_path / "state.db")
    assert again.height == 0
    block = again.begin(1)
    assert block.index("one", "by").get(b"k") is None
    block.collection("one", "log").append(b"a")
    assert block.root() == root


def test_keys_only_rise_and_values_have_bounds(state: State) -> None:
    """A key below the highest that was left out, the sentinel, an empty and an oversized value are not written."""
    block = state.begin(1)
    inbox = block.collection("one", "inbox")
    inbox.put(10, b"x")
    inbox.put(10, b"y")
    for key in (9, 0, -1, MAX_KEY + 1):
        with pytest.raises(ValueError):
            inbox.put(key, b"z")
    for value in (b"", bytes(MAX_VALUE + 1)):
        with pytest.raises(ContractRefusal) as refused:
            inbox.put(11, value)
        assert refused.value.code == "contract.value_size"
    assert inbox.get(0) is None
    assert inbox.items() == [(10, b"y")]
    with pytest.raises(TypeError):
        state.collection("one", "inbox").put(10, b"z")
    with pytest.raises(KeyError):
        block.collection("one", "unknown")
    with pytest.raises(EvidenceError):
        block.create_collection("one", "a/b")


def test_an_absence_next_to_the_largest_values_can_be_proven(state: State) -> None:
    """Two neighbours of the largest size fit into a proof that the verifier reads."""

    def change(block: Block) -> None:
        block.collection("one", "inbox").put(1, bytes(MAX_VALUE))
        block.collection("one", "inbox").put(3, bytes(MAX_VALUE))

    write(state, change)
    found = state.prove("one", "inbox", 2)
    assert len(found.proof.collection) < ics23.MAX_PROOF
    assert check(state.root(), found, "inbox", 2) is None


def test_an_empty_collection_proves_absence_by_its_sentinel(state: State) -> None:
    """Where nothing was ever written, any key is provably absent."""
    found = state.prove("one", "log", 1)
    assert check(state.root(), found, "log", 1) is None
    assert state.prove("one", "log", 0).value == SENTINEL_VALUE


def test_indexes_are_read_in_order_with_a_blocks_writes_on_top(state: State) -> None:
    """Committed pairs, overwritten ones, deleted ones and new ones, bytewise and bounded."""
    write(state, lambda block: [block.index("one", "by").put(bytes([n]), b"old") for n in range(0, 20, 2)])
    block = state.begin(2)
    index = block.index("one", "by")
    index.put(b"\x03", b"new")
    index.put(b"\x04", b"changed")
    index.delete(b"\x02")
    index.delete(b"\x63")
    assert index.items(b"\x01", 3) == [(b"\x03", b"new"), (b"\x04", b"changed"), (b"\x06", b"old")]
    assert len(index.items()) == 10
    assert index.items(b"\x11") == [(b"\x12", b"old")]
    commit(state, block)
    assert state.index("one", "by").items(b"\x01", 2) == [(b"\x03", b"new"), (b"\x04", b"changed")]
    assert state.index("one", "never").items() == []


def test_collections_are_read_in_order_with_a_blocks_writes_on_top(state: State) -> None:
    """Committed keys come first, then new ones, within the limit and from the start that is asked for."""
    write(state, lambda block: [block.collection("one", "inbox").put(n, b"%d" % n) for n in (2, 4, 6)])
    block = state.begin(2)
    inbox = block.collection("one", "inbox")
    inbox.put(4, b"changed")
    inbox.put(9, b"9")
    assert inbox.items(3, 3) == [(4, b"changed"), (6, b"6"), (9, b"9")]
    assert inbox.items(1, 2) == [(2, b"2"), (4, b"changed")]
    assert (inbox.last_key(), state.collection("one", "inbox").last_key()) == (9, 6)


def test_a_changed_file_is_refused(state: State, tmp_path: Path) -> None:
    """One value changed behind our back, and the state does not open."""
    write(state, lambda block: block.collection("one", "log").append(b"honest"))
    state.close()
    connection = sqlite3.connect(tmp_path / "state.db")
    connection.execute("UPDATE entries SET value = ? WHERE value = ?", (b"forged", b"honest"))
    connection.commit()
    connection.close()
    with pytest.raises(HostError) as refused:
        State(tmp_path / "state.db")
    assert refused.value.code == "chain.state_corrupt"


def test_no_two_processes_share_a_state(state: State, tmp_path: Path) -> None:
    """The file is held by who opened it first."""
    with pytest.raises(HostError) as refused:
        State(tmp_path / "state.db")
    assert refused.value.code == "chain.state_locked"


def test_a_file_that_is_no_state_is_refused(tmp_path: Path) -> None:
    """Neither bytes at random nor a later format is read."""
    (tmp_path / "noise").write_bytes(b"\x07" * 5000)
    with pytest.raises(HostError) as refused:
        State(tmp_path / "noise")
    assert refused.value.code == "chain.state_corrupt"
    State(tmp_path / "later").close()
    connection = sqlite3.connect(tmp_path / "later")
    connection.execute("PRAGMA user_version = 99")
    connection.commit()
    connection.close()
    with pytest.raises(HostError) as refused:
        State(tmp_path / "later")
    assert refused.value.code == "chain.state_format"


def test_genesis_can_be_repeated_until_the_first_block(state: State) -> None:
    """A second genesis begins from nothing; after a block there is none."""
    first = state.root()
    block = state.reset()
    assert block.index("one", "by").items() == []
    block.create_collection("one", "log")
    block.create_collection("one", "inbox")
    assert block.root() == first
    commit(state, block)
    write(state, lambda block: None)
    with pytest.raises(HostError) as refused:
        state.reset()
    assert refused.value.code == "chain.genesis_again"
