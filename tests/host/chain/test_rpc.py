"""What a node says is read strictly and with bounds, and a node that lies is named."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cipherkeep_host.chain import rpc
from cipherkeep_host.chain.rpc import RpcClient
from cipherkeep_host.errors import HostError

from tests.simulators import rpc_json
from tests.simulators.chain import ABSENT, COMMIT, Draft, SimulatedChain


class FakeNode:
    """Answers one HTTP request after another with what `answer` makes of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answer: Callable[[dict[str, Any]], bytes] = lambda call: b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length")
                )
                body = self.answer(json.loads(await reader.readexactly(length)))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def node(folder: Path) -> AsyncIterator[FakeNode]:
    """A node that says what the test wants."""
    made = FakeNode(folder / "rpc.sock")
    server = await asyncio.start_unix_server(made.serve, str(made.path))
    yield made
    server.close()


def result(call: dict[str, Any], value: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": value}).encode()


def serving(draft: Draft, edit: Callable[[dict[str, Any]], object] = lambda answers: None) -> Any:
    """Answers for one light block; `edit` changes them before they are sent."""

    def answer(call: dict[str, Any]) -> bytes:
        answers = {
            "commit": rpc_json.commit_answer(draft)["result"],
            "validators": rpc_json.validators_answer(draft, page=int(call["params"].get("page", 1)))["result"],
        }
        edit(answers)
        return result(call, answers[call["method"]])

    return answer


@pytest.mark.parametrize("validators", [1, 4, 100, 101, 205])
async def test_a_light_block_comes_through_the_nodes_json(node: FakeNode, validators: int) -> None:
    """With absent votes and several pages of validators it is the block that was made, to the byte."""
    chain = SimulatedChain(validators)
    chain.produce()
    votes = [ABSENT if validators > 3 and n == 0 else COMMIT for n in range(validators)]
    draft = chain.forge_draft(height=2, votes=votes)
    node.answer = serving(draft)
    async with RpcClient(f"unix://{node.path}") as client:
        assert (await client.light_block(2)).encode() == draft.encode()


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a height as a float": lambda a: a["commit"]["signed_header"]["header"].update(height=2.0),
    "a height that is no number": lambda a: a["commit"]["signed_header"]["header"].update(height="2x"),
    "a height with a plus": lambda a: a["commit"]["signed_header"]["header"].update(height="+2"),
    "another height": lambda a: a["commit"]["signed_header"]["header"].update(height="3"),
    "a height as true": lambda a: a["commit"]["signed_header"]["header"].update(height=True),
    "a time without a zone": lambda a: a["commit"]["signed_header"]["header"].update(time="2026-01-01T00:00:00"),
    "a time that is none": lambda a: a["commit"]["signed_header"]["header"].update(time="2026-02-31T00:00:00Z"),
    "ten decimals": lambda a: a["commit"]["signed_header"]["header"].update(time="2026-01-01T00:00:00.0000000001Z"),
    "a height as a number": lambda a: a["commit"]["signed_header"]["header"].update(height=2),
    "a name too many": lambda a: a["commit"]["signed_header"]["header"].update(extra="1"),
    "hex in two cases": lambda a: a["commit"]["signed_header"]["header"].update(app_hash="aB" * 32),
    "a short hash": lambda a: a["commit"]["signed_header"]["header"].update(data_hash="AB"),
    "a missing field": lambda a: a["commit"]["signed_header"]["header"].pop("evidence_hash"),
    "no header": lambda a: a["commit"]["signed_header"].update(header=None),
    "a header that is a list": lambda a: a["commit"]["signed_header"].update(header=[]),
    "flag 4": lambda a: a["commit"]["signed_header"]["commit"]["signatures"][0].update(block_id_flag=4),
    "no base64": lambda a: a["commit"]["signed_header"]["commit"]["signatures"][0].update(signature="#"),
    "another block version": lambda a: a["commit"]["signed_header"]["header"]["version"].update(block="12"),
    "another key type": lambda a: a["validators"]["validators"][0]["pub_key"].update(type="tendermint/PubKeySecp256k1"),
    "power 0": lambda a: a["validators"]["validators"][0].update(voting_power="0"),
    "power beyond 64 bits": lambda a: a["validators"]["validators"][0].update(voting_power=str(10 + 2**64)),
    "another address": lambda a: a["validators"]["validators"][0].update(address="00" * 20),
    "a validator twice": lambda a: a["validators"].update(
        validators=[*a["validators"]["validators"], a["validators"]["validators"][0]], count="5", total="5"
    ),
    "another count": lambda a: a["validators"].update(count="3"),
    "no validators": lambda a: a["validators"].update(validators=None, count="0", total="0"),
    "validators for ever": lambda a: a["validators"].update(validators=[], count="0", total="100000"),
}


@pytest.mark.parametrize("name", EDITS)
async def test_a_light_block_that_is_none_is_refused(node: FakeNode, name: str) -> None:
    """Whatever the node's interface does not promise has one code."""
    chain = SimulatedChain(4)
    chain.produce()
    node.answer = serving(chain.drafts[1], EDITS[name])
    async with RpcClient(f"unix://{node.path}") as client:
        with pytest.raises(HostError) as refused:
            await client.light_block(2)
    assert refused.value.code == "node.answer"


async def test_a_refusal_names_the_call_the_rule_and_the_value(node: FakeNode) -> None:
    """An operator reads from the detail what the node said."""
    chain = SimulatedChain(4)
    chain.produce()
    node.answer = serving(chain.drafts[1], EDITS["power beyond 64 bits"])
    async with RpcClient(f"unix://{node.path}") as client:
        with pytest.raises(HostError) as refused:
            await client.light_block(2)
    assert refused.value.detail.startswith("validators: json.range: ")
    assert str(10 + 2**64) in refused.value.detail


@pytest.mark.parametrize("response", [[], None, {"code": "0"}, {"code": 0, "value": "A"}, {"code": 0, "height": 7}])
async def test_an_answer_to_a_query_that_is_none_is_refused(node: FakeNode, response: object) -> None:
    """Codes are numbers, heights texts, values base64."""
    node.answer = lambda call: result(call, {"response": response})
    async with RpcClient(f"unix://{node.path}") as client:
        with pytest.raises(HostError) as refused:
            await client.query("/height")
        assert refused.value.code == "node.answer"
        node.answer = lambda call: result(call, {"response": {"code": 0, "value": None, "height": "7"}})
        assert await client.query("/height") == rpc.Queried(b"", 7)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "node.answer"),
        (b"[" * 100_000, "node.answer"),
        (b"null", "node.answer"),
        (b'{"jsonrpc": "2.0", "id": 999, "result": {}}', "node.answer"),
        (b'{"id": 1, "result": {}, "result": {}}', "node.answer"),
        (b'{"id": 1, "result": NaN}', "node.answer"),
        (b'{"id": 1}', "node.answer"),
        (b'{"id": 1, "error": {"code": -32603, "message": "Internal error", "data": "no"}}', "node.refused"),
        (b'{"id": 1, "error": "no"}', "node.refused"),
        (b"\xff\xfe", "node.answer"),
    ],
)
async def test_an_answer_that_is_none_is_refused(node: FakeNode, answer: bytes, code: str) -> None:
    """Neither another call's answer, nor names that stand twice, nor noise."""
    node.answer = lambda call: answer
    async with RpcClient(f"unix://{node.path}") as client:
        with pytest.raises(HostError) as refused:
            await client.status()
    assert refused.value.code == code


async def test_an_answer_has_a_bound(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading stops when it is passed."""
    monkeypatch.setattr(rpc, "MAX_ANSWER", 1000)
    node.answer = lambda call: bytes(100_000)
    async with RpcClient(f"unix://{node.path}") as client:
        with pytest.raises(HostError) as refused:
            await client.status()
    assert refused.value.code == "node.answer_size"


async def test_a_node_that_is_away_is_named(folder: Path) -> None:
    """No socket is no answer."""
    async with RpcClient(f"unix://{folder / 'none.sock'}") as client:
        with pytest.raises(HostError) as refused:
            await client.status()
    assert refused.value.code == "node.unreachable"
    with pytest.raises(ValueError):
        RpcClient("ftp://127.0.0.1")


async def test_another_transactions_verdict_is_refused(node: FakeNode) -> None:
    """The hash in the answer must be that of the bytes that were sent."""
    wrong = {"code": 0, "data": "", "log": "", "hash": "00" * 32}
    node.answer = lambda call: result(call, wrong)
    async with RpcClient(f"unix://{node.path}") as client:
        with pytest.raises(HostError) as refused:
            await client.broadcast(b"tx")
        assert refused.value.code == "node.answer"
        node.answer = lambda call: result(call, wrong | {"hash": rpc_json.hexed(hashlib.sha256(b"tx").digest())})
        assert (await client.broadcast(b"tx")).code == 0


async def test_transactions_are_read_from_the_block_itself(node: FakeNode) -> None:
    """Each with the result at the same place, and refused where there is not one for each."""
    txs = {5: [b"a"], 6: [], 7: [b"b", b"c"]}

    def answer(call: dict[str, Any]) -> bytes:
        height = int(call["params"]["height"])
        if call["method"] == "block":
            encoded = [base64.b64encode(tx).decode() for tx in txs[height]]
            return result(call, {"block": {"data": {"txs": encoded}}})
        results = [{"code": n, "data": base64.b64encode(b"%d" % n).decode()} for n in range(len(txs[height]))]
        return result(call, {"txs_results": results or None})

    node.answer = answer
    async with RpcClient(f"unix://{node.path}") as client:
        found = await client.included(7)
        assert [(one.hash, one.height, one.code, one.data) for one in found] == [
            (hashlib.sha256(b"b").digest(), 7, 0, b"0"),
            (hashlib.sha256(b"c").digest(), 7, 1, b"1"),
        ]
        assert await client.included(6) == []
        txs[7].append(b"d")
        node.answer = lambda call: result(call, {"txs_results": []}) if call["method"] != "block" else answer(call)
        with pytest.raises(HostError) as refused:
            await client.included(7)
        assert refused.value.code == "node.answer"


async def test_heights_are_looked_at_where_there_is_no_subscription(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node without a websocket is asked again and again, and failures in between are borne."""
    monkeypatch.setattr(rpc, "POLL_SECONDS", 0.01)
    heights = iter([3, 3, None, 4, 9])

    def answer(call: dict[str, Any]) -> bytes:
        height = next(heights, 9)
        if height is None:
            return b"noise"
        return result(call, {"node_info": {"network": "n"}, "sync_info": {"latest_block_height": str(height)}})

    node.answer = answer
    async with RpcClient(f"unix://{node.path}") as client:
        found = client.heights()
        assert [await asyncio.wait_for(anext(found), 5) for _ in range(3)] == [3, 4, 9]
        await found.aclose()
