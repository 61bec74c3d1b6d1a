"""An IAVL tree with its ICS-23 proofs, written from the reference's description of node hashes: honest or not.

tree = Tree({b"key": b"value", …}, version=7)
proof = tree.prove(b"key")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.simulators.chain import message, number, sha256, sized, uvarint


def zigzag(value: int) -> bytes:
    return uvarint(value * 2 if value >= 0 else -value * 2 - 1)


def node_prefix(height: int, size: int, version: int) -> bytes:
    return zigzag(height) + zigzag(size) + zigzag(version)


@dataclass
class Node:
    """A subtree: its keys in order, and how it is hashed."""

    keys: list[bytes]
    height: int
    hash: bytes
    left: Node | None = None
    right: Node | None = None


class Tree:
    """A balanced tree over sorted keys; every node has the same version."""

    def __init__(self, content: Mapping[bytes, bytes], version: int = 7) -> None:
        self.content = dict(content)
        self.version = version
        self.top = self._node(sorted(content))

    def _node(self, keys: list[bytes]) -> Node:
        if len(keys) == 1:
            key, prefix = keys[0], node_prefix(0, 1, self.version)
            data = prefix + uvarint(len(key)) + key + b"\x20" + sha256(self.content[key])
            return Node(keys, 0, sha256(data))
        middle = (len(keys) + 1) // 2
        left, right = self._node(keys[:middle]), self._node(keys[middle:])
        height = max(left.height, right.height) + 1
        prefix = node_prefix(height, len(keys), self.version)
        return Node(keys, height, sha256(prefix + b"\x20" + left.hash + b"\x20" + right.hash), left, right)

    def root(self) -> bytes:
        return self.top.hash

    def steps(self, key: bytes) -> list[bytes]:
        """ics23.InnerOp from the leaf up."""
        found, node = [], self.top
        while node.left is not None and node.right is not None:
            prefix = node_prefix(node.height, len(node.keys), self.version)
            if key in node.left.keys:
                op = sized(2, prefix + b"\x20") + sized(3, b"\x20" + node.right.hash)
                below = node.left
            else:
                op = sized(2, prefix + b"\x20" + node.left.hash + b"\x20")
                below = node.right
            node = below
            found.append(number(1, 1) + op)
        return found[::-1]

    def leaf_op(self, prefix: bytes | None = None) -> bytes:
        chosen = node_prefix(0, 1, self.version) if prefix is None else prefix
        return number(1, 1) + number(3, 1) + number(4, 1) + sized(5, chosen)

    def existence(self, key: bytes) -> bytes:
        """ics23.ExistenceProof."""
        path = b"".join(message(4, step) for step in self.steps(key))
        return sized(1, key) + sized(2, self.content[key]) + message(3, self.leaf_op()) + path

    def prove(self, key: bytes) -> bytes:
        """ics23.CommitmentProof of existence."""
        return message(1, self.existence(key))

    def prove_absent(self, key: bytes) -> bytes:
        """ics23.CommitmentProof of absence, or, for a key that is there, a lie with its neighbours."""
        below = [other for other in self.top.keys if other < key]
        above = [other for other in self.top.keys if other > key]
        return absence(key, self.existence(below[-1]) if below else b"", self.existence(above[0]) if above else b"")


def absence(key: bytes, left: bytes, right: bytes) -> bytes:
    """ics23.CommitmentProof of absence from two existence proofs, empty where there is none."""
    body = sized(1, key) + (message(2, left) if left else b"") + (message(3, right) if right else b"")
    return message(2, body)
