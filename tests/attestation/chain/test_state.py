"""State proofs: two trees, one app hash, and hosts that lie about either."""

from __future__ import annotations

import pytest
from cipherkeep_attestation.chain.state import StateProof, collection_key, store_key, verify_absent, verify_present
from cipherkeep_attestation.errors import EvidenceError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulators.chain import SimulatedChain

STATE = {"one/inbox": {7: b"seven", 9: b"nine"}, "one/control": {1: b"leaf"}, "two/inbox": {7: b"other"}}


@pytest.fixture
def chain() -> SimulatedChain:
    """Block 2 has the state under its header."""
    made = SimulatedChain(state=STATE)
    made.produce()
    return made


def code(chain: SimulatedChain, proof: StateProof, value: bytes | None, **where: object) -> str:
    place = {"instance": "one", "collection": "inbox", "key": 7} | where
    with pytest.raises(EvidenceError) as refused:
        if value is None:
            verify_absent(chain.app_hash(), proof=proof, **place)  # type: ignore[arg-type]
        else:
            verify_present(chain.app_hash(), proof=proof, value=value, **place)  # type: ignore[arg-type]
    return refused.value.code


def test_what_is_there_and_what_is_not_is_proven(chain: SimulatedChain) -> None:
    """Present with its value, absent between, before and after the others, through the encoding and back."""
    for key, value in STATE["one/inbox"].items():
        proof = StateProof.decode(chain.prove("one", "inbox", key).encode())
        verify_present(chain.app_hash(), instance="one", collection="inbox", key=key, value=value, proof=proof)
    for key in (1, 8, 10, (1 << 64) - 1):
        proof = StateProof.decode(chain.prove_absent("one", "inbox", key).encode())
        verify_absent(chain.app_hash(), instance="one", collection="inbox", key=key, proof=proof)


def test_another_value_key_collection_or_instance_is_refused(chain: SimulatedChain) -> None:
    """A proof shows one value at one place."""
    proof = chain.prove("one", "inbox", 7)
    assert code(chain, proof, b"eight") == "proof.value"
    assert code(chain, proof, b"seven", key=9) == "proof.key"
    assert code(chain, proof, b"seven", collection="control") == "proof.key"
    assert code(chain, chain.prove("two", "inbox", 7), b"other") == "proof.key"


def test_what_is_there_cannot_be_shown_absent(chain: SimulatedChain) -> None:
    """A host that hides a leaf offers its neighbours, or another collection's absence, or an older state's."""
    assert code(chain, chain.prove_absent("one", "inbox", 7), None) == "proof.not_neighbours"
    assert code(chain, chain.prove_absent("one", "control", 7), None) == "proof.key"
    chain.produce(changes={"one/inbox": {11: b"retired"}})
    chain.produce()
    old = chain.prove_absent("one", "inbox", 11, under=2)
    assert code(chain, old, None, key=11) == "proof.root"


def test_the_root_between_the_trees_is_bound_on_both_sides(chain: SimulatedChain) -> None:
    """A collection tree of the host's own making does not stand under the top tree."""
    forged = SimulatedChain(state={"one/inbox": {7: b"forged"}})
    forged.produce()
    honest, lie = chain.prove("one", "inbox", 7), forged.prove("one", "inbox", 7)
    mixed = StateProof(honest.store, lie.collection, lie.collection_root)
    assert code(chain, mixed, b"forged") == "proof.value"
    mixed = StateProof(honest.store, lie.collection, honest.collection_root)
    assert code(chain, mixed, b"forged") == "proof.root"
    assert code(chain, lie, b"forged") == "proof.root"


def test_state_is_proven_under_the_header_after_its_block(chain: SimulatedChain) -> None:
    """Under the header of the block that wrote it, it is not there yet."""
    chain.produce(changes={"one/inbox": {7: b"new"}})
    assert code(chain, chain.prove("one", "inbox", 7), b"new") == "proof.value"
    chain.produce()
    proof = chain.prove("one", "inbox", 7)
    verify_present(chain.app_hash(), instance="one", collection="inbox", key=7, value=b"new", proof=proof)


def test_an_app_hash_has_32_bytes(chain: SimulatedChain) -> None:
    """An empty app hash, which a header may carry, proves nothing (VSA-2022-100)."""
    proof = chain.prove("one", "inbox", 7)
    for app_hash in (b"", bytes(31), bytes(64)):
        with pytest.raises(EvidenceError) as refused:
            verify_present(app_hash, instance="one", collection="inbox", key=7, value=b"seven", proof=proof)
        assert refused.value.code == "proof.app_hash"
    with pytest.raises(EvidenceError) as refused:
        verify_present(
            chain.app_hash(),
            instance="one",
            collection="inbox",
            key=7,
            value=b"seven",
            proof=StateProof(proof.store, proof.collection, b""),
        )
    assert refused.value.code == "proof.root"


@pytest.mark.parametrize("name", ["", "a/b", "A", "x" * 65, "ä", "a\n", "a b"])
def test_names_cannot_stand_for_others(name: str) -> None:
    """Neither a slash nor anything else outside the alphabet of names, nor a line end after it."""
    for instance, collection in ((name, "inbox"), ("one", name)):
        with pytest.raises(EvidenceError) as refused:
            store_key(instance, collection)
        assert refused.value.code == "proof.name"


def test_keys_have_64_bits() -> None:
    """No key wraps around onto another."""
    for key in (-1, 1 << 64):
        with pytest.raises(EvidenceError) as refused:
            collection_key(key)
        assert refused.value.code == "proof.key_range"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100))
def test_bytes_at_random_are_refused_with_a_code(data: bytes) -> None:
    """No input ends in another exception."""
    with pytest.raises(EvidenceError):
        StateProof.decode(data)


def test_an_oversized_proof_is_not_read() -> None:
    """Before anything is parsed."""
    with pytest.raises(EvidenceError) as refused:
        StateProof.decode(bytes(3 << 20))
    assert refused.value.code == "proof.size"
