"""The kept hash tree against one that is hashed anew."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from cipherkeep_host.chain.tree import Delta, Tree
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulators.chain import split_point

Changes = list[list[tuple[int, bytes]]]


def root_of(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 over leaf hashes, as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = split_point(len(leaves))
    return hashlib.sha256(b"\x01" + root_of(leaves[:split]) + root_of(leaves[split:])).digest()


NODE = st.binary(min_size=32, max_size=32)


@settings(max_examples=150, deadline=None)
@given(st.lists(NODE, max_size=20), st.lists(st.lists(st.tuples(st.integers(0, 40), NODE), max_size=5), max_size=6))
def test_updates_and_appends_give_the_root_of_a_tree_made_anew(start: list[bytes], blocks: Changes) -> None:
    """Before and after each change is taken in, and for every path in this tree and those before it."""
    tree, model = Tree(start), list(start)
    undo: list[Delta] = []
    versions = [list(model)]
    for block in blocks:
        changes: dict[int, bytes] = {}
        for position, leaf in block:
            place = min(position, len(model))
            if place == len(model):
                model.append(leaf)
            model[place] = changes[place] = leaf
        delta = tree.change(changes)
        assert tree.root() == root_of(versions[-1])
        assert tree.root(delta) == root_of(model)
        undo.append(tree.apply(delta))
        assert tree.root() == root_of(model)
        versions.append(list(model))
    for number, leaves in enumerate(versions):
        for position, leaf in enumerate(leaves):
            node = leaf
            for step in tree.path(position, undo[number:]):
                node = step.apply(node)
            assert node == root_of(leaves)
