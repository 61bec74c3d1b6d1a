"""ICS-23 proofs: others' proofs are read, ours agree with an independent tree, and each known forgery is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cipherkeep_attestation.chain import ics23
from cipherkeep_attestation.errors import EvidenceError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulators.chain import Tree, message, number, sha256, sized, uvarint

VECTORS = sorted((Path(__file__).parents[2] / "vectors" / "ics23").glob("*.json"))
KEYS = {n.to_bytes(8, "big"): b"value %d" % n for n in range(0, 40, 2)}
TREE = Tree(KEYS)


def at(n: int) -> bytes:
    return n.to_bytes(8, "big")


def code_of_existence(root: bytes, key: bytes, value: bytes, proof: bytes) -> str:
    with pytest.raises(EvidenceError) as refused:
        ics23.verify_existence(root, key=key, value=value, proof=proof, key_length=8)
    return refused.value.code


def code_of_absence(root: bytes, key: bytes, proof: bytes) -> str:
    with pytest.raises(EvidenceError) as refused:
        ics23.verify_absence(root, key=key, proof=proof, key_length=8)
    return refused.value.code


def test_there_are_vectors() -> None:
    """Existence and absence, at both edges and in the middle."""
    assert len(VECTORS) == 6


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_proofs_made_by_others_hold_and_every_changed_bit_is_refused(path: Path) -> None:
    """The reference's own proofs are accepted; no byte of them can be changed."""
    vector = json.loads(path.read_text())
    root, key = bytes.fromhex(vector["root"]), bytes.fromhex(vector["key"])
    value, proof = bytes.fromhex(vector["value"]), bytes.fromhex(vector["proof"])

    def verify(data: bytes) -> None:
        if value:
            ics23.verify_existence(root, key=key, value=value, proof=data)
        else:
            ics23.verify_absence(root, key=key, proof=data)

    verify(proof)
    for position in range(len(proof)):
        changed = bytearray(proof)
        changed[position] ^= 1 << (position % 8)
        with pytest.raises(EvidenceError):
            verify(bytes(changed))
    for cut in range(len(proof)):
        with pytest.raises(EvidenceError):
            verify(proof[:cut])


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.binary(min_size=8, max_size=8), st.binary(min_size=1, max_size=40), min_size=1, max_size=40))
def test_proofs_of_an_independent_tree_hold(content: dict[bytes, bytes]) -> None:
    """Every key exists with its value and no other; every other key is absent; neither can be shown as the other."""
    tree = Tree(content)
    root = tree.root()
    for key, value in content.items():
        proof = tree.prove(key)
        ics23.verify_existence(root, key=key, value=value, proof=proof, key_length=8)
        assert ics23.encode(ics23.decode(proof)) == proof
        assert code_of_existence(root, key, value + b"x", proof) == "proof.value"
        lie = tree.prove_absent(key)
        if len(content) > 1:
            assert code_of_absence(root, key, lie) == "proof.not_neighbours"
    for probe in (bytes(8), b"\xff" * 8, sha256(b"a")[:8]):
        if probe not in content:
            ics23.verify_absence(root, key=probe, proof=tree.prove_absent(probe), key_length=8)


def test_a_proof_is_for_its_root_key_and_kind() -> None:
    """Another root, another key, and existence where absence is asked or the other way round."""
    root = TREE.root()
    assert code_of_existence(sha256(b""), at(4), KEYS[at(4)], TREE.prove(at(4))) == "proof.root"
    assert code_of_existence(root, at(6), KEYS[at(4)], TREE.prove(at(4))) == "proof.key"
    assert code_of_existence(root, at(5), b"x", TREE.prove_absent(at(5))) == "proof.shape"
    assert code_of_absence(root, at(4), TREE.prove(at(4))) == "proof.shape"
    assert code_of_absence(root, at(7), TREE.prove_absent(at(5))) == "proof.key"
    assert code_of_absence(sha256(b""), at(5), TREE.prove_absent(at(5))) == "proof.root"


def test_bytes_moved_from_a_key_into_the_leafs_prefix_are_refused() -> None:
    """The forgery that the specification lets pass: one leaf, split elsewhere, is a neighbour with another key."""
    key, value = at(0x0105), b"honest"
    tree = Tree({**KEYS, key: value})
    # The same bytes give the same hash: the head of the key has become prefix, what is left is the key 05.
    prefix, forged_key = b"\x00\x08" + bytes(6), b"\x05"
    honest = b"\x00" + uvarint(8) + key + b"\x20" + sha256(value)
    assert prefix + uvarint(1) + forged_key + b"\x20" + sha256(value) == honest
    path = b"".join(message(4, step.encode()) for step in ics23.Existence.decode(tree.existence(key)).path)
    leaf_op = number(1, 1) + number(3, 1) + number(4, 1) + sized(5, prefix)
    forged = sized(1, forged_key) + sized(2, value) + message(3, leaf_op) + path
    # The last leaf now seems to have the key 05, so that nothing seems to follow it.
    proof = message(2, sized(1, key) + message(2, forged))
    assert code_of_absence(tree.root(), key, proof) == "proof.leaf_op"
    assert code_of_existence(tree.root(), forged_key, value, message(1, forged)) == "proof.leaf_op"


@pytest.mark.parametrize(
    "leaf_op",
    [
        number(3, 1) + number(4, 1) + sized(5, b"\x00"),  # no hash
        number(1, 2) + number(3, 1) + number(4, 1) + sized(5, b"\x00"),  # SHA-512
        number(1, 1) + number(2, 1) + number(3, 1) + number(4, 1) + sized(5, b"\x00"),  # the key hashed before
        number(1, 1) + number(4, 1) + sized(5, b"\x00"),  # the value not hashed before
        number(1, 1) + number(3, 1) + sized(5, b"\x00"),  # no lengths
        number(1, 1) + number(3, 1) + number(4, 1),  # no prefix: an inner node could pass for a leaf
        number(1, 1) + number(3, 1) + number(4, 1) + sized(5, b"\x01"),
        number(1, 1) + number(3, 1) + number(4, 1) + sized(5, b"\x00\x00"),
    ],
)
def test_a_leaf_is_hashed_in_one_way_only(leaf_op: bytes) -> None:
    """Other hashes, lengths and prefixes are not those of the tree."""
    body = sized(1, at(4)) + sized(2, KEYS[at(4)]) + message(3, leaf_op)
    assert code_of_existence(TREE.root(), at(4), KEYS[at(4)], message(1, body)) == "proof.leaf_op"


@pytest.mark.parametrize(
    "step",
    [
        number(1, 1) + sized(2, b"\x00") + sized(3, bytes(32)),  # a leaf's prefix
        number(1, 1) + sized(2, b"\x01") + sized(3, bytes(31)),
        number(1, 1) + sized(2, b"\x01") + sized(3, bytes(33)),
        number(1, 1) + sized(2, b"\x01" + bytes(32)) + sized(3, bytes(32)),  # three children
        number(1, 1) + sized(2, b"\x01"),  # one child
        number(1, 1) + sized(2, b"\x01\x01") + sized(3, bytes(32)),
        number(1, 2) + sized(2, b"\x01") + sized(3, bytes(32)),
        sized(2, b"\x01") + sized(3, bytes(32)),
    ],
)
def test_an_inner_node_has_two_children_of_32_bytes(step: bytes) -> None:
    """No room is left in a step for bytes that nobody looks at."""
    leaf_op = number(1, 1) + number(3, 1) + number(4, 1) + sized(5, b"\x00")
    body = sized(1, at(4)) + sized(2, KEYS[at(4)]) + message(3, leaf_op) + message(4, step)
    assert code_of_existence(TREE.root(), at(4), KEYS[at(4)], message(1, body)) == "proof.inner_op"


def test_an_inner_node_does_not_pass_for_a_leaf() -> None:
    """A key and value cut from the two children of an inner node prove nothing."""
    body = TREE.existence(at(4))
    existence = ics23.Existence.decode(body)
    for drop in range(1, len(existence.path) + 1):
        short = ics23.Existence(existence.key, existence.value, existence.path[drop:])
        assert code_of_existence(TREE.root(), at(4), KEYS[at(4)], ics23.encode(short)) == "proof.root"


def test_neighbours_must_be_neighbours() -> None:
    """Leaves with others between them, the same leaf twice, swapped sides and edges that are none are refused."""
    root = TREE.root()

    def absence(key: int, left: int | None, right: int | None) -> bytes:
        body = sized(1, at(key))
        body += b"" if left is None else message(2, TREE.existence(at(left)))
        body += b"" if right is None else message(3, TREE.existence(at(right)))
        return message(2, body)

    ics23.verify_absence(root, key=at(5), proof=absence(5, 4, 6), key_length=8)
    for left, right in ((2, 6), (4, 8), (0, 38), (None, 6), (4, None), (2, None), (None, 8)):
        assert code_of_absence(root, at(5), absence(5, left, right)) == "proof.not_neighbours"
    for left, right in ((6, 4), (6, 8), (4, 4), (2, 4)):
        assert code_of_absence(root, at(5), absence(5, left, right)) == "proof.not_between"
    assert code_of_absence(root, at(4), absence(4, 4, 6)) == "proof.not_between"
    assert code_of_absence(root, at(6), absence(6, 4, 6)) == "proof.not_between"
    assert code_of_absence(root, at(5), message(2, sized(1, at(5)))) == "proof.shape"


def test_a_neighbour_of_another_tree_is_refused() -> None:
    """Each neighbour leads to the root by itself."""
    other = Tree({**KEYS, at(5): b"there"})
    body = sized(1, at(5)) + message(2, TREE.existence(at(4))) + message(3, other.existence(at(6)))
    assert code_of_absence(TREE.root(), at(5), message(2, body)) == "proof.root"


def test_keys_have_the_length_of_their_tree() -> None:
    """A shorter or longer key that would sort between two others is none of this tree's."""
    root = TREE.root()
    for key in (at(4) + b"\x00", at(5)[:7]):
        body = sized(1, key) + message(2, TREE.existence(at(4))) + message(3, TREE.existence(at(6)))
        assert code_of_absence(root, key, message(2, body)) == "proof.key_length"
    long = Tree({at(4) + b"!": b"value"})
    assert code_of_existence(long.root(), at(4) + b"!", b"value", long.prove(at(4) + b"!")) == "proof.key_length"


def test_batches_and_both_kinds_at_once_are_not_read() -> None:
    """One proof, existence or absence: nothing else, not compressed, not several."""
    existence = TREE.existence(at(4))
    for proof in (b"", message(3, message(1, message(1, existence))), message(4, b"")):
        with pytest.raises(EvidenceError) as refused:
            ics23.decode(proof)
        assert refused.value.code in ("proof.shape", "proof.batch")
    both = message(1, existence) + TREE.prove_absent(at(5))
    with pytest.raises(EvidenceError) as refused:
        ics23.decode(both)
    assert refused.value.code == "proof.shape"


def test_size_depth_and_emptiness_have_bounds() -> None:
    """A huge proof is not parsed, a long path not walked, an empty value not shown."""
    with pytest.raises(EvidenceError) as refused:
        ics23.decode(bytes(ics23.MAX_PROOF + 1))
    assert refused.value.code == "proof.size"
    leaf_op = number(1, 1) + number(3, 1) + number(4, 1) + sized(5, b"\x00")
    step = message(4, number(1, 1) + sized(2, b"\x01") + sized(3, bytes(32)))
    body = sized(1, at(4)) + sized(2, b"v") + message(3, leaf_op) + step * 65
    assert code_of_existence(TREE.root(), at(4), b"v", message(1, body)) == "proof.depth"
    body = sized(1, at(4)) + message(3, leaf_op)
    assert code_of_existence(TREE.root(), at(4), b"", message(1, body)) == "proof.empty"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_at_random_are_refused_with_a_code(data: bytes) -> None:
    """No input ends in another exception."""
    with pytest.raises(EvidenceError):
        ics23.verify_absence(TREE.root(), key=at(5), proof=data)
