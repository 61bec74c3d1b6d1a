"""When a client says that a transaction took effect."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any, cast

from cipherkeep_attestation import cbor
from cipherkeep_host.chain.rpc import Checked, Included, Queried, RpcClient, Status

from tests.host.chain.conftest import CHAIN_ID
from tests.host.chain.support import add, client_of


class SlowToCommit:
    """A node whose block 5 can be read, results and all, while its application still stands at block 4."""

    def __init__(self) -> None:
        self.committed = 4
        self.txs: list[bytes] = []

    async def status(self) -> Status:
        return Status(CHAIN_ID, 5)

    async def broadcast(self, tx: bytes) -> Checked:
        self.txs.append(tx)
        return Checked(hashlib.sha256(tx).digest(), 0, b"", "")

    async def query(self, path: str, data: bytes = b"", *, height: int = 0) -> Queried:
        return Queried(cbor.encode({"key": 0, "nonce": 0}), self.committed)

    async def included(self, height: int) -> list[Included]:
        found = self.txs if height == 5 else []
        return [Included(hashlib.sha256(tx).digest(), 5, 0, cbor.encode([b"result"]), "") for tx in found]


async def test_a_sender_with_much_that_waits_is_not_refused_but_waits() -> None:
    """Like a full pool: the transaction is handed over again until the node has room for it."""
    node = SlowToCommit()
    take, verdicts = node.broadcast, [b"chain.sender_waiting"] * 2

    async def full(tx: bytes) -> Checked:
        if verdicts:
            return Checked(hashlib.sha256(tx).digest(), 3, verdicts.pop(), "")
        node.committed = 5
        return await take(tx)

    node.broadcast = full  # type: ignore[method-assign]  (a node whose pool is full)
    sent = await asyncio.wait_for(client_of(cast("RpcClient", node)).send([add(1)]), 10)
    assert sent.height == 5 and not verdicts


async def test_a_transaction_has_taken_effect_once_its_state_can_be_read() -> None:
    """What is asked of the node after `send` stands on it: the next serial number is not the one just used."""
    node = SlowToCommit()
    sending = asyncio.create_task(client_of(cast("RpcClient", node)).send([add(1)]))
    done: set[Any]
    done, _ = await asyncio.wait({sending}, timeout=0.3)
    assert not done
    node.committed = 5
    sent = await asyncio.wait_for(sending, 5)
    assert sent.height == 5 and sent.results == (b"result",)
