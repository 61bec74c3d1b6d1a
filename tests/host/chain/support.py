"""What several tests of the chain need: clients, messages, a light client at a node's first header."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cipherkeep_attestation.chain.light import LightClient, LightRoot
from cipherkeep_attestation.statements.transaction import Message
from cipherkeep_host.chain.client import ChainClient
from cipherkeep_host.chain.rpc import Included, RpcClient
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.host.chain.conftest import CHAIN_ID


def now() -> datetime:
    """The time, for the light client."""
    return datetime.now(UTC)


def client_of(rpc: RpcClient, key: Ed25519PrivateKey | None = None) -> ChainClient:
    """A client with a key of its own."""
    return ChainClient(rpc, chain_id=CHAIN_ID, key=key or Ed25519PrivateKey.generate())


def call(name: str, instance: str = "one", **body: Any) -> Message:
    """A message to a counter."""
    return Message(instance, name, body)


def add(by: int, instance: str = "one") -> Message:
    """A message that counts."""
    return call("add", instance, by=by)


async def light_client(rpc: RpcClient) -> LightClient:
    """A light client whose root is the node's first header, anchored there."""
    first = await rpc.light_block(1)
    root = LightRoot(first.header.chain_id, 1, first.header.hash())
    client = LightClient(root, trusting_period=timedelta(days=3650), clock_drift=timedelta(seconds=60), skipping=True)
    client.anchor(first, now=now())
    return client


async def eventually(condition: Callable[[], bool], within: float = 10.0) -> None:
    """Return once the condition holds; fail when it does not in so many seconds."""
    for _ in range(round(within / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {within:g} s")


async def included(rpc: RpcClient, tx: bytes) -> Included:
    """The transaction's verdict once a block has it; looked for from block 1 on."""
    name, height = hashlib.sha256(tx).digest(), 1
    async with asyncio.timeout(30):
        while True:
            if height < (await rpc.status()).height:  # the newest block may lack its results for a moment
                found = [one for one in await rpc.included(height) if one.hash == name]
                if found:
                    return found[0]
                height += 1
            else:
                await asyncio.sleep(0.02)
