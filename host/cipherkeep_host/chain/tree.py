"""The only place that keeps a hash tree of RFC 6962 up to date without hashing it anew.

All nodes are kept, level by level, 32 bytes each in one buffer: level 0 are the leaves, an odd last node is carried
up. A block's changes are computed beside the tree (`change`), and only a commit merges them (`apply`), which returns
what undoes it: with a few of these at hand, paths in the newest trees of the past can be shown too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cipherkeep_attestation.chain import merkle, protobuf
from cipherkeep_attestation.chain.ics23 import Step

NODE = 32  # bytes


def state_leaf(key: bytes, value: bytes) -> bytes:
    """The hash of a leaf of ICS-23's specification "tendermint": key and value's SHA-256, each with its length."""
    return merkle.leaf_hash(protobuf.varint(len(key)) + key + b"\x20" + hashlib.sha256(value).digest())


@dataclass(frozen=True, slots=True)
class Delta:
    """Nodes that differ from a tree's own, by level and position, and the number of leaves that goes with them.

    Made by `change` it leads from a tree to the next one; made by `apply` it leads back.
    """

    size: int
    nodes: tuple[Mapping[int, bytes], ...]


class Tree:
    """The nodes of one tree. `size` is its number of leaves."""

    __slots__ = ("_levels", "size")

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        level = bytearray().join(leaves)
        self.size = len(level) // NODE
        self._levels = [level]
        sha256 = hashlib.sha256
        while len(level) > NODE:
            pairs = len(level) // (2 * NODE) * (2 * NODE)
            above = bytearray().join(
                sha256(b"\x01" + level[i : i + 2 * NODE]).digest() for i in range(0, pairs, 2 * NODE)
            )
            above += level[pairs:]
            self._levels.append(above)
            level = above

    def root(self, delta: Delta | None = None) -> bytes:
        """The root over all leaves (32 bytes), of the tree that `delta` leads to if one is given."""
        size = self.size if delta is None else delta.size
        if size == 0:
            return merkle.EMPTY
        return self._node((size - 1).bit_length(), 0, () if delta is None else (delta,))

    def change(self, leaves: Mapping[int, bytes]) -> Delta:
        """The nodes of the tree with these leaf hashes at these positions; new positions follow on the last one."""
        size = max(self.size, max(leaves, default=-1) + 1)
        nodes: list[dict[int, bytes]] = [dict(leaves)]
        count, level = size, 0
        while count > 1:
            below = nodes[level]
            made: dict[int, bytes] = {}
            for parent in {position >> 1 for position in below}:
                left, right = 2 * parent, 2 * parent + 1
                first = below.get(left) or self._stored(level, left)
                if right < count:
                    made[parent] = merkle.inner_hash(first, below.get(right) or self._stored(level, right))
                else:
                    made[parent] = first
            nodes.append(made)
            count, level = (count + 1) >> 1, level + 1
        return Delta(size, tuple(nodes))

    def apply(self, delta: Delta) -> Delta:
        """Take a change in; returns the way back."""
        old: list[dict[int, bytes]] = []
        for level, nodes in enumerate(delta.nodes):
            if level == len(self._levels):
                self._levels.append(bytearray())
            buffer = self._levels[level]
            count = len(buffer) // NODE
            replaced = {position: self._stored(level, position) for position in nodes if position < count}
            for position in sorted(nodes):
                buffer[position * NODE : (position + 1) * NODE] = nodes[position]
            old.append(replaced)
        undo = Delta(self.size, tuple(old))
        self.size = delta.size
        return undo

    def path(self, position: int, undo: Sequence[Delta] = ()) -> tuple[Step, ...]:
        """The way from a leaf to the root.

        `undo`: what leads back to the tree that is meant, the oldest first; none for the tree as it is.
        """
        steps: list[Step] = []
        count, level = undo[0].size if undo else self.size, 0
        while count > 1:
            sibling = position ^ 1
            if sibling < count:
                steps.append(Step(self._node(level, sibling, undo), sibling_is_left=sibling < position))
            position, count, level = position >> 1, (count + 1) >> 1, level + 1
        return tuple(steps)

    def _node(self, level: int, position: int, undo: Sequence[Delta]) -> bytes:
        for delta in undo:
            if level < len(delta.nodes):
                node = delta.nodes[level].get(position)
                if node is not None:
                    return node
        return self._stored(level, position)

    def _stored(self, level: int, position: int) -> bytes:
        return bytes(self._levels[level][position * NODE : (position + 1) * NODE])
