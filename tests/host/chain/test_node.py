"""The real consensus engine with the application: transactions, proofs, idleness."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from cipherkeep_attestation.chain.state import verify_absent, verify_present
from cipherkeep_attestation.errors import Refused
from cipherkeep_attestation.statements.transaction import MAX_TRANSACTION, Transaction
from cipherkeep_host.chain.client import ChainClient, TransactionRefused
from cipherkeep_host.chain.node import Node
from cipherkeep_host.chain.rpc import RpcClient
from cipherkeep_host.errors import HostError
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.host.chain.conftest import CHAIN_ID, StartNode
from tests.host.chain.support import add, call, client_of, included, light_client, now


async def test_what_a_transaction_wrote_is_proven_under_the_next_header(start_node: StartNode) -> None:
    """State after block H is proven, present and absent, under the app hash of header H + 1."""
    node = await start_node()
    async with RpcClient(node.rpc_address) as rpc:
        client = client_of(rpc)
        sent = await client.send([add(2), add(3)])
        assert sent.results == (b"7", b"10")
        found = await client.prove("one", "total", 1)
        assert (found.value, found.block.header.height) == (b"10", sent.height + 1)
        header = (await light_client(rpc)).step(found.block, now=now())
        verify_present(header.app_hash, instance="one", collection="total", key=1, value=b"10", proof=found.proof)
        missing = await client.prove("one", "log", 3)
        assert missing.value is None
        verify_absent(header.app_hash, instance="one", collection="log", key=3, proof=missing.proof)
        with pytest.raises(Refused):
            verify_absent(header.app_hash, instance="one", collection="log", key=2, proof=missing.proof)


async def test_an_idle_chain_makes_no_blocks(start_node: StartNode) -> None:
    """The app hash rests when nothing happens, so that proof blocks end: none in three seconds."""
    node = await start_node()
    async with RpcClient(node.rpc_address) as rpc:
        sent = await client_of(rpc).send([add(1)])
        await client_of(rpc).block(sent.height + 1)
        await asyncio.sleep(3)
        assert (await rpc.status()).height == sent.height + 1


async def test_a_chain_shows_signs_of_life(start_node: StartNode) -> None:
    """Empty blocks come at their interval, and leave the app hash as it is."""
    node = await start_node(empty_seconds=0.3)
    async with RpcClient(node.rpc_address) as rpc:
        first = await client_of(rpc).block(3)
        later = await client_of(rpc).block(6)
        assert later.header.app_hash == first.header.app_hash


async def test_many_tasks_and_senders_lose_nothing(start_node: StartNode) -> None:
    """Tasks that share a key get one nonce each, and every transaction takes effect exactly once."""
    node = await start_node(commit_ms=50)
    async with RpcClient(node.rpc_address) as rpc:
        clients = [client_of(rpc) for _ in range(3)]
        sent = await asyncio.gather(*(client.send([add(1)]) for client in clients for _ in range(40)))
        assert len({one.hash for one in sent}) == 120
        assert (await clients[0].prove("one", "total", 1)).value == b"125"
        assert await clients[0].last_key("one", "log") == 120


async def test_two_processes_with_one_key_get_along(start_node: StartNode) -> None:
    """A nonce that another process used is signed anew, and nothing takes effect twice."""
    node = await start_node()
    key = Ed25519PrivateKey.generate()
    async with RpcClient(node.rpc_address) as rpc:
        clients = [client_of(rpc, key) for _ in range(2)]
        # Different amounts: the same message with the same nonce would be the same transaction.
        amounts = [(client, 100**side) for side, client in enumerate(clients)]
        await asyncio.gather(*(client.send([add(by)]) for client, by in amounts for _ in range(10)))
        assert (await clients[0].prove("one", "total", 1)).value == b"1015"


async def test_a_replayed_transaction_is_refused(start_node: StartNode) -> None:
    """The same bytes again, and another transaction with a used nonce, change nothing."""
    node = await start_node()
    key = Ed25519PrivateKey.generate()
    async with RpcClient(node.rpc_address) as rpc:
        client = client_of(rpc, key)
        tx = Transaction(CHAIN_ID, client.sender, 1, (add(1),)).sign(key)
        assert (await rpc.broadcast(tx)).code == 0
        assert (await included(rpc, tx)).code == 0
        with pytest.raises(HostError) as refused:
            await rpc.broadcast(tx)
        assert refused.value.code == "node.refused"
        other = Transaction(CHAIN_ID, client.sender, 1, (add(2),)).sign(key)
        checked = await rpc.broadcast(other)
        assert (checked.code, checked.data) == (3, b"chain.nonce")
        assert (await client.prove("one", "total", 1)).value == b"6"


async def test_a_refused_transaction_says_by_which_rule(start_node: StartNode) -> None:
    """Refusals of the block and of the check before it carry their code, and the sender can go on."""
    node = await start_node()
    async with RpcClient(node.rpc_address) as rpc:
        client = client_of(rpc)
        with pytest.raises(TransactionRefused) as refused:
            await client.send([add(1), call("refuse")])
        assert (refused.value.rule, refused.value.included) == ("contract.value_size", True)
        with pytest.raises(TransactionRefused) as refused:
            await client.send([call("evidence")])
        assert (refused.value.rule, refused.value.included) == ("proof.value", True)
        with pytest.raises(TransactionRefused) as refused:
            await client.send([call("unwanted")])
        assert (refused.value.rule, refused.value.included) == ("contract.value_size", False)
        stranger = ChainClient(rpc, chain_id="another", key=Ed25519PrivateKey.generate())
        with pytest.raises(TransactionRefused) as refused:
            await stranger.send([add(1)])
        assert refused.value.rule == "chain.other_chain"
        assert (await client.send([add(1)])).results == (b"6",)


async def test_the_largest_transaction_passes_and_a_larger_one_is_refused(start_node: StartNode) -> None:
    """A transaction of one mebibyte goes through all the way; one byte more does not enter."""
    node = await start_node()
    key = Ed25519PrivateKey.generate()
    async with RpcClient(node.rpc_address) as rpc:
        client = client_of(rpc, key)
        frame = len(Transaction(CHAIN_ID, client.sender, 1, (call("add", by=1, pad=bytes(1 << 16)),)).sign(key))
        pad = MAX_TRANSACTION - frame + (1 << 16)
        tx = Transaction(CHAIN_ID, client.sender, 1, (call("add", by=1, pad=bytes(pad)),)).sign(key)
        assert len(tx) == MAX_TRANSACTION
        assert (await rpc.broadcast(tx)).code == 0
        assert (await included(rpc, tx)).code == 0
        tx = Transaction(CHAIN_ID, client.sender, 2, (call("add", by=1, pad=bytes(pad + 1)),)).sign(key)
        with pytest.raises(HostError) as refused:
            await rpc.broadcast(tx)
        assert refused.value.code == "node.refused"


async def test_heights_are_announced(start_node: StartNode) -> None:
    """The subscription gives rising heights: the present one at once, later ones as they are made."""
    node = await start_node()
    async with RpcClient(node.rpc_address) as rpc:
        heights = rpc.heights()
        first = await asyncio.wait_for(anext(heights), 5)
        assert first == (await rpc.status()).height
        sent = await client_of(rpc).send([add(1)])
        assert await asyncio.wait_for(anext(heights), 5) == first + 1
        assert sent.height == first + 1
        await heights.aclose()


async def test_queries_of_what_is_not_there_are_refused(start_node: StartNode) -> None:
    """A wrong path, an unknown collection and a key of another length are sentences, not crashes."""
    node = await start_node()
    async with RpcClient(node.rpc_address) as rpc:
        for path, data in (
            ("/nowhere", b""),
            ("/state/one/unknown", bytes(8)),
            ("/state/one/log", bytes(7)),
            ("/state/one/log", b"\xff" * 8),
            ("/account", b"short"),
            ("/state/One/log", bytes(8)),
            ("/" * 300, b""),
        ):
            with pytest.raises(HostError) as refused:
                await rpc.query(path, data)
            assert refused.value.code == "node.query"
        assert [one["name"] for one in await client_of(rpc).instances()] == ["one", "two"]


async def test_health_and_metrics_are_served(start_node: StartNode) -> None:
    """The application tells its height and counts its transactions."""
    node: Node = await start_node()
    async with RpcClient(node.rpc_address) as rpc:
        sent = await client_of(rpc).send([add(1)])
        await client_of(rpc).block(sent.height + 1)
    path = node.health_address.removeprefix("unix://")
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=path)) as http:
        answer = await http.get("http://node/healthz")
        assert (answer.status_code, answer.json()["ready"]) == (200, True)
        assert answer.json()["height"] >= sent.height
        metrics = (await http.get("http://node/metrics")).text
        assert 'cipherkeep_chain_transactions_total{code="0"} 1.0' in metrics


async def test_the_engine_counts_for_operators(start_node: StartNode) -> None:
    """CometBFT's own metrics, on loopback, also after another start."""
    node = await start_node()
    assert node.metrics_address.startswith("http://127.0.0.1:")
    for _ in range(2):
        async with httpx.AsyncClient(trust_env=False) as http:
            text = (await http.get(node.metrics_address)).text
        assert "cometbft_consensus_height" in text
        await node.stop()
        await node.start()
        await node.wait_ready()
