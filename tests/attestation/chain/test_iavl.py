"""IAVL proofs: Cosmos chains' own proofs are read, an independent tree's hold, and each known forgery is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cipherkeep_attestation.chain import iavl, ics23
from cipherkeep_attestation.errors import EvidenceError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulators.chain import message, number, sha256, sized, uvarint
from tests.simulators.iavl import Tree, absence, node_prefix, zigzag

VECTORS = sorted((Path(__file__).parents[2] / "vectors" / "ics23" / "iavl").glob("*.json"))
KEYS = {b"key %02d" % n: b"value %d" % n for n in range(0, 40, 2)}
TREE = Tree(KEYS)
KEY = b"key 04"


def code_of_existence(key: bytes, value: bytes, proof: bytes, root: bytes | None = None) -> str:
    with pytest.raises(EvidenceError) as refused:
        iavl.verify_existence(root or TREE.root(), key=key, value=value, proof=proof)
    return refused.value.code


def code_of_absence(key: bytes, proof: bytes, root: bytes | None = None) -> str:
    with pytest.raises(EvidenceError) as refused:
        iavl.verify_absence(root or TREE.root(), key=key, proof=proof)
    return refused.value.code


def test_there_are_vectors() -> None:
    """Existence and absence, at both edges and in the middle."""
    assert len(VECTORS) == 6


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_proofs_made_by_others_hold_and_every_changed_bit_is_refused(path: Path) -> None:
    """The reference's own proofs are accepted; no byte can be changed, and the other specification takes none."""
    vector = {name: bytes.fromhex(text) for name, text in json.loads(path.read_text()).items()}

    def verify(data: bytes, tree: object = iavl) -> None:
        assert tree in (iavl, ics23)
        if vector["value"]:
            tree.verify_existence(vector["root"], key=vector["key"], value=vector["value"], proof=data)
        else:
            tree.verify_absence(vector["root"], key=vector["key"], proof=data)

    proof = vector["proof"]
    verify(proof)
    with pytest.raises(EvidenceError):
        verify(proof, ics23)
    for position in range(len(proof)):
        changed = bytearray(proof)
        changed[position] ^= 1 << (position % 8)
        with pytest.raises(EvidenceError):
            verify(bytes(changed))
        with pytest.raises(EvidenceError):
            verify(proof[:position])


@settings(max_examples=40, deadline=None)
@given(
    content=st.dictionaries(st.binary(min_size=1, max_size=9), st.binary(min_size=1, max_size=9), min_size=1),
    version=st.integers(min_value=0, max_value=(1 << 62)),
)
def test_proofs_of_an_independent_tree_hold(content: dict[bytes, bytes], version: int) -> None:
    """Every key exists with its value and no other; every other key is absent; neither can be shown as the other."""
    tree = Tree(content, version)
    for key, value in content.items():
        iavl.verify_existence(tree.root(), key=key, value=value, proof=tree.prove(key))
        assert code_of_existence(key, value + b"x", tree.prove(key), tree.root()) == "proof.value"
        if len(content) > 1:
            assert code_of_absence(key, tree.prove_absent(key), tree.root()) == "proof.not_neighbours"
    for probe in (b"\x00", b"\xff" * 10, b"middle"):
        if probe not in content:
            iavl.verify_absence(tree.root(), key=probe, proof=tree.prove_absent(probe))


def test_a_proof_is_for_its_root_key_and_kind() -> None:
    """Another root, another key, existence where absence is asked or the other way round, batches."""
    proof, gap = TREE.prove(KEY), TREE.prove_absent(b"key 05")
    assert code_of_existence(KEY, KEYS[KEY], proof, sha256(b"")) == "proof.root"
    assert code_of_existence(b"key 06", KEYS[KEY], proof) == "proof.key"
    assert code_of_existence(b"key 05", b"x", gap) == "proof.shape"
    assert code_of_absence(KEY, proof) == "proof.shape"
    assert code_of_absence(b"key 07", gap) == "proof.key"
    assert code_of_absence(b"", absence(b"", b"", TREE.existence(b"key 00"))) == "proof.key"
    assert code_of_absence(b"key 05", gap, sha256(b"")) == "proof.root"
    for batch in (message(3, message(1, message(1, TREE.existence(KEY)))), message(4, b"")):
        assert code_of_existence(KEY, KEYS[KEY], batch) == "proof.batch"
    assert code_of_existence(KEY, KEYS[KEY], bytes(ics23.MAX_PROOF + 1)) == "proof.size"


def test_neighbours_must_be_neighbours() -> None:
    """Leaves with others between them, the same leaf twice, swapped sides and edges that are none are refused."""

    def shown(n: int | None) -> bytes:
        return b"" if n is None else TREE.existence(b"key %02d" % n)

    for left, right in ((2, 6), (4, 8), (0, 38), (None, 6), (4, None), (2, None), (None, 8)):
        assert code_of_absence(b"key 05", absence(b"key 05", shown(left), shown(right))) == "proof.not_neighbours"
    for left, right in ((6, 4), (6, 8), (4, 4), (2, 4)):
        assert code_of_absence(b"key 05", absence(b"key 05", shown(left), shown(right))) == "proof.not_between"
    assert code_of_absence(b"key 05", absence(b"key 05", b"", b"")) == "proof.shape"


def test_bytes_moved_between_key_and_prefix_are_refused() -> None:
    """One leaf, split elsewhere, would be a neighbour with another key: a leaf's prefix ends behind its version."""
    honest = node_prefix(0, 1, 7) + uvarint(len(KEY)) + KEY
    for cut in range(1, len(KEY)):
        # The key's own head becomes prefix; the byte before what is left is read as its length.
        prefix, rest = honest[: -cut - 1], honest[-cut:]
        body = sized(1, rest) + sized(2, KEYS[KEY]) + message(3, TREE.leaf_op(prefix))
        path = b"".join(message(4, step) for step in TREE.steps(KEY))
        assert code_of_existence(rest, KEYS[KEY], message(1, body + path)) == "proof.leaf_op"


@pytest.mark.parametrize(
    "prefix",
    [
        b"",
        b"\x00",
        node_prefix(0, 1, 7)[:-1],
        node_prefix(0, 1, 7) + b"\x00",
        node_prefix(1, 1, 7),  # an inner node's height
        node_prefix(0, 2, 7),  # more than one leaf
        node_prefix(0, 1, -7),
        node_prefix(0, -1, 7),
        b"\x80\x00\x02\x0e",  # a zero of two bytes
        b"\x00\x02" + b"\xff" * 10 + b"\x01",  # a number beyond 64 bits
        node_prefix(1, 2, 7) + b"\x20" + bytes(32) + b"\x20",  # an inner node's whole prefix
    ],
)
def test_a_leaf_has_height_zero_size_one_and_a_version(prefix: bytes) -> None:
    """Nothing but these three, each in its shortest form."""
    body = sized(1, KEY) + sized(2, KEYS[KEY]) + message(3, TREE.leaf_op(prefix))
    assert code_of_existence(KEY, KEYS[KEY], message(1, body)) == "proof.leaf_op"


@pytest.mark.parametrize("leaf_op", [b"", number(1, 1), number(1, 2) + number(3, 1) + number(4, 1)])
def test_a_leaf_is_hashed_in_one_way_only(leaf_op: bytes) -> None:
    """Other hashes and lengths are not those of the tree."""
    body = sized(1, KEY) + sized(2, KEYS[KEY]) + message(3, leaf_op + sized(5, node_prefix(0, 1, 7)))
    assert code_of_existence(KEY, KEYS[KEY], message(1, body)) == "proof.leaf_op"


def step(prefix: bytes, suffix: bytes = b"\x20" + bytes(32), how: bytes = number(1, 1)) -> bytes:
    return how + sized(2, prefix) + sized(3, suffix)


@pytest.mark.parametrize(
    "inner",
    [
        step(node_prefix(0, 2, 7) + b"\x20"),  # a leaf's height
        step(node_prefix(1, 1, 7) + b"\x20"),  # no more leaves than below
        step(node_prefix(1, 0, 7) + b"\x20"),
        step(node_prefix(-1, 2, 7) + b"\x20"),
        step(node_prefix(1, 2, 7)),  # no length
        step(node_prefix(1, 2, 7) + b"\x21"),
        step(node_prefix(1, 2, 7) + b"\x20", b"\x20" + bytes(31)),
        step(node_prefix(1, 2, 7) + b"\x20", b"\x20" + bytes(33)),
        step(node_prefix(1, 2, 7) + b"\x20", b"\x21" + bytes(32)),
        step(node_prefix(1, 2, 7) + b"\x20" + bytes(32) + b"\x20", b"\x20" + bytes(32)),  # three children
        step(node_prefix(1, 2, 7) + b"\x21" + bytes(32) + b"\x20", b""),
        step(node_prefix(1, 2, 7) + b"\x20" + bytes(32) + b"\x21", b""),
        step(node_prefix(1, 2, 7) + b"\x20" + bytes(31) + b"\x20", b""),
        step(zigzag(1) + zigzag(2) + b"\x8e\x00" + b"\x20"),  # a version of two bytes
        step(node_prefix(1, 2, 7) + b"\x20", how=number(1, 2)),
        step(node_prefix(1, 2, 7) + b"\x20", how=b""),
        step(b"", b"\x20" + bytes(32)),
    ],
)
def test_an_inner_node_has_its_form(inner: bytes) -> None:
    """Height and size above what is below, a version, and two hashes with their lengths."""
    body = sized(1, KEY) + sized(2, KEYS[KEY]) + message(3, TREE.leaf_op()) + message(4, inner)
    assert code_of_existence(KEY, KEYS[KEY], message(1, body)) == "proof.inner_op"


def test_heights_and_sizes_rise_towards_the_root() -> None:
    """A path that goes down, or stays, is none of a tree."""
    low = step(node_prefix(2, 4, 7) + b"\x20")
    for high in (node_prefix(2, 8, 7), node_prefix(1, 8, 7), node_prefix(3, 4, 7), node_prefix(3, 3, 7)):
        body = sized(1, KEY) + sized(2, KEYS[KEY]) + message(3, TREE.leaf_op()) + message(4, low)
        body += message(4, step(high + b"\x20"))
        assert code_of_existence(KEY, KEYS[KEY], message(1, body)) == "proof.inner_op"


def test_an_inner_node_does_not_pass_for_a_leaf() -> None:
    """Key and value cut from the children of an inner node would need an inner node's prefix."""
    steps = TREE.steps(KEY)
    for drop in range(1, len(steps) + 1):
        path = b"".join(message(4, item) for item in steps[drop:])
        body = sized(1, KEY) + sized(2, KEYS[KEY]) + message(3, TREE.leaf_op()) + path
        assert code_of_existence(KEY, KEYS[KEY], message(1, body)) == "proof.root"


def test_depth_and_emptiness_have_bounds() -> None:
    """A path longer than heights can be is not walked, an empty key or value not shown."""
    many = b"".join(message(4, step(node_prefix(n + 1, n + 2, 7) + b"\x20")) for n in range(128))
    body = sized(1, KEY) + sized(2, KEYS[KEY]) + message(3, TREE.leaf_op()) + many
    assert code_of_existence(KEY, KEYS[KEY], message(1, body)) == "proof.depth"
    body = sized(1, KEY) + message(3, TREE.leaf_op())
    assert code_of_existence(KEY, b"", message(1, body)) == "proof.empty"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_and_nothing_else_happens(data: bytes) -> None:
    """Random bytes raise an error with a code, whichever way they are read."""
    code_of_existence(KEY, b"x", data)
    code_of_absence(KEY, data)
