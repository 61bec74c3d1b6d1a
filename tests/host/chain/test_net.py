"""A real net of four validators on loopback, and the light client that follows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from cipherkeep_attestation.chain.header import Commit, Flag, LightBlock
from cipherkeep_attestation.chain.state import verify_present
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_host.chain.home import Pace, make_homes
from cipherkeep_host.chain.node import Node
from cipherkeep_host.chain.rpc import RpcClient

from tests.host.chain.conftest import APP_STATE, APPLICATION, CHAIN_ID
from tests.host.chain.support import add, client_of, light_client, now


@pytest_asyncio.fixture
async def net(folder: Path) -> AsyncIterator[list[Node]]:
    """Four validators that have made their first blocks."""
    homes = [folder / f"v{number}" for number in range(4)]
    make_homes(homes, chain_id=CHAIN_ID, app_state=APP_STATE, pace=Pace(0, 1.0))
    nodes = [Node(home, application=APPLICATION) for home in homes]
    try:
        await asyncio.gather(*(node.start() for node in nodes))
        await asyncio.gather(*(node.wait_ready(height=2, within=60) for node in nodes))
        yield nodes
    finally:
        await asyncio.gather(*(node.kill() for node in nodes))


async def test_the_light_client_follows_a_real_net(net: list[Node]) -> None:
    """Adjacent and skipping steps, with a validator missing, and none with the signatures that a quorum needs gone."""
    async with RpcClient(net[0].rpc_address) as rpc:
        client = client_of(rpc)
        verifier = await light_client(rpc)
        sent = await client.send([add(1)])
        await client.block(sent.height + 1)
        for height in range(2, sent.height + 2):
            block = await rpc.light_block(height)
            assert len(block.validators.validators) == 4
            # Agreement with the net itself: it named these hashes, we computed them from the parts.
            assert block.header.hash() == block.commit.block_id.hash
            assert block.validators.hash() == block.header.validators_hash
            verifier.step(LightBlock.decode(block.encode()), now=now())
        assert (await client.prove("one", "total", 1)).value == b"6"

        # One of four is killed: the chain goes on, and its slot in the commits is empty.
        await net[3].kill()
        sent = await client.send([add(1)])
        for _ in range(3):
            sent = await client.send([add(1)])
        await client.block(sent.height + 1)
        block = await rpc.light_block(sent.height)
        absent = [slot for slot in block.commit.signatures if slot.flag is not Flag.COMMIT]
        assert len(absent) == 1

        # A skip over all the blocks since.
        assert block.header.height > verifier.head.height + 1
        verifier.step(block, now=now())
        found = await client.prove("one", "total", 1)
        header = verifier.step(found.block, now=now())
        assert found.value is not None
        verify_present(header.app_hash, instance="one", collection="total", key=1, value=found.value, proof=found.proof)

        # Without one more signature there is no quorum.
        later = await client.send([add(1)])
        block = await client.block(later.height)
        signatures = list(block.commit.signatures)
        signed = next(index for index, slot in enumerate(signatures) if slot.flag is Flag.COMMIT)
        signatures[signed] = absent[0] if absent[0].flag is Flag.ABSENT else type(absent[0])(Flag.ABSENT)
        commit = Commit(block.commit.height, block.commit.round, block.commit.block_id, tuple(signatures))
        with pytest.raises(EvidenceError) as refused:
            verifier.step(LightBlock(block.header, commit, block.validators), now=now())
        assert refused.value.code == "lightclient.quorum"


async def test_validators_agree_and_one_that_was_away_catches_up(net: list[Node]) -> None:
    """All four compute one app hash; a validator killed with kill -9 comes back to the same state."""
    async with RpcClient(net[0].rpc_address) as rpc:
        client = client_of(rpc)
        await net[2].kill()
        for _ in range(5):
            sent = await client.send([add(1)])
        await net[2].start()
        await net[2].wait_ready(height=sent.height + 1, within=60)
        hashes = set()
        for node in net:
            async with RpcClient(node.rpc_address) as other:
                hashes.add((await client_of(other).block(sent.height + 1)).header.app_hash)
                assert (await client_of(other).prove("one", "total", 1)).value == b"10"
        assert len(hashes) == 1
