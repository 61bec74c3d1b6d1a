"""The only place that calls a node's JSON-RPC: light blocks, transactions, queries, and hints that a block was made.

    async with RpcClient("unix:///run/node/rpc.sock") as rpc:
        block = await rpc.light_block(7)          # for the verifier to judge
        async for height in rpc.heights(): …      # hints; what counts is what is then fetched and verified

Nothing a node says is believed here. Answers are read with a bound, and strictly (`rpc_json`).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import itertools
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx
import websockets
from cipherkeep_attestation.chain.header import LightBlock, ValidatorSet
from cipherkeep_attestation.errors import EvidenceError
from websockets.asyncio.client import ClientConnection, connect, unix_connect

from cipherkeep_host.chain import rpc_json
from cipherkeep_host.errors import HostError

MAX_ANSWER = 16 << 20  # bytes; a block of 4 MiB in base64, and its results
MAX_EVENT = 1 << 20  # bytes; the event of a new header has about 2 KiB
PAGE = 100  # validators; the node's own maximum
MAX_VALIDATORS = 1000
POLL_SECONDS = 0.5  # between looks at the height, while there is no subscription
EVENT_SECONDS = 30.0  # without an event, the height is looked at
_QUERY = "tm.event='NewBlockHeader'"


@dataclass(frozen=True, slots=True)
class Status:
    """Where a node stands. `catching_up`: it is replaying blocks that others made."""

    chain_id: str
    height: int
    catching_up: bool


@dataclass(frozen=True, slots=True)
class Checked:
    """The verdict of a node's application on a transaction that was sent: `code` 0 means that it waits for a block."""

    hash: bytes
    code: int
    data: bytes
    log: str


@dataclass(frozen=True, slots=True)
class Included:
    """A transaction in a block, and the verdict on it."""

    hash: bytes
    height: int
    code: int
    data: bytes
    log: str


@dataclass(frozen=True, slots=True)
class Queried:
    """The application's answer to a query, at its newest height."""

    value: bytes
    height: int


class RpcClient:
    """One node. `address`: `unix:///path` or `http://127.0.0.1:PORT`. Safe for use by many tasks of one loop."""

    def __init__(self, address: str, *, timeout: float = 10.0) -> None:
        self.address = address
        self._ids = itertools.count(1)
        if address.startswith("unix://"):
            self._path: str | None = address.removeprefix("unix://")
            transport = httpx.AsyncHTTPTransport(uds=self._path)
            self._base = "http://node"
        elif address.startswith(("http://", "tcp://")):
            self._path = None
            transport = httpx.AsyncHTTPTransport()
            self._base = "http://" + address.split("://", 1)[1].rstrip("/")
        else:
            raise ValueError(f"{address}: neither unix:// nor http://")
        self._http = httpx.AsyncClient(transport=transport, timeout=timeout, base_url=self._base, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Drop all connections."""
        await self._http.aclose()

    async def call(self, method: str, **parameters: object) -> Any:
        """One call; its `result`. `HostError`: node.unreachable, node.answer, node.answer_size, node.refused."""
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": parameters}
        data = bytearray()
        try:
            async with self._http.stream("POST", "/", json=request) as response:
                async for chunk in response.aiter_bytes():
                    data += chunk
                    if len(data) > MAX_ANSWER:
                        raise HostError("node.answer_size", f"{method}: more than {MAX_ANSWER} bytes")
        except httpx.HTTPError as error:
            raise HostError("node.unreachable", f"{method}: {type(error).__name__}") from None
        answer = rpc_json.loads(bytes(data))
        if not isinstance(answer, dict) or answer.get("id") != request["id"]:
            raise HostError("node.answer", f"{method}: not an answer to this call")
        failure = answer.get("error")
        if failure is not None:
            sentence = f"{failure.get('message', '')}: {failure.get('data', '')}" if isinstance(failure, dict) else ""
            raise HostError("node.refused", f"{method}: {sentence}"[:500])
        return rpc_json.member(answer, "result")

    # --- blocks ---

    async def status(self) -> Status:
        """Where the node stands."""
        found = await self.call("status")
        return Status(
            rpc_json.text(rpc_json.member(found, "node_info", "network")),
            rpc_json.integer(rpc_json.member(found, "sync_info", "latest_block_height")),
            rpc_json.member(found, "sync_info", "catching_up") is True,
        )

    async def light_block(self, height: int | None = None) -> LightBlock:
        """Header, commit and validators of a height, the newest by default. Well-formed, and judged by nobody yet."""
        arguments = {} if height is None else {"height": str(height)}
        header, commit = rpc_json.signed_header(await self.call("commit", **arguments))
        if height is not None and header.height != height:
            raise HostError("node.answer", f"height {header.height} instead of {height}")
        found: list[Any] = []
        for page in range(1, MAX_VALIDATORS // PAGE + 1):
            answer = await self.call("validators", height=str(header.height), page=str(page), per_page=str(PAGE))
            found += rpc_json.validators(answer)
            total = rpc_json.integer(rpc_json.member(answer, "total"))
            if len(found) >= total:
                break
        try:
            return LightBlock(header, commit, ValidatorSet(tuple(found)))
        except EvidenceError as error:
            raise HostError("node.answer", str(error)) from None

    # --- transactions and queries ---

    async def broadcast(self, tx: bytes) -> Checked:
        """Hand a transaction over; returns when the node has checked it. Sent twice, the node says so: node.refused."""
        found = await self.call("broadcast_tx_sync", tx=base64.b64encode(tx).decode())
        verdict = Checked(
            rpc_json.hexadecimal(rpc_json.member(found, "hash")),
            rpc_json.integer(rpc_json.member(found, "code")),
            rpc_json.hexadecimal(found.get("data", "")),  # unlike everywhere else
            rpc_json.text(found.get("log", "")),
        )
        if verdict.hash != hashlib.sha256(tx).digest():
            raise HostError("node.answer", "another transaction's hash")
        return verdict

    async def included(self, height: int) -> list[Included]:
        """All transactions of a block with their verdicts, from the block itself."""
        block = await self.call("block", height=str(height))
        txs = rpc_json.array(rpc_json.member(block, "block", "data", "txs"))
        if not txs:
            return []
        answer = await self.call("block_results", height=str(height))
        results = rpc_json.array(rpc_json.member(answer, "txs_results"))
        if len(results) != len(txs):
            raise HostError("node.answer", "not a result for each transaction")
        hashes = [hashlib.sha256(rpc_json.base64_bytes(tx)).digest() for tx in txs]
        return [_included(name, height, result) for name, result in zip(hashes, results, strict=True)]

    async def query(self, path: str, data: bytes = b"", *, height: int = 0) -> Queried:
        """Ask the application; `HostError("node.query")` with its sentence when it refuses."""
        found = await self.call("abci_query", path=path, data=data.hex(), height=str(height), prove=False)
        response = rpc_json.member(found, "response")
        if rpc_json.integer(response.get("code", 0)) != 0:
            raise HostError("node.query", rpc_json.text(response.get("log", ""))[:500])
        return Queried(rpc_json.base64_bytes(response.get("value")), rpc_json.integer(response.get("height", "0")))

    # --- hints ---

    async def heights(self) -> AsyncGenerator[int, None]:
        """Rising heights, each at least once soon after its block; some may be left out. Ends only when closed.

        From a subscription where it can be had, by looking every half second where not. A node that is away is
        waited for. The first height comes at once.
        """
        last = 0
        while True:
            try:
                async with contextlib.aclosing(self._subscribed()) as events:
                    async for height in events:
                        if height > last:
                            last = height
                            yield height
            except (OSError, HostError, websockets.WebSocketException, TimeoutError):
                pass
            # No subscription, or it broke: look, wait, try again.
            with contextlib.suppress(HostError):
                height = (await self.status()).height
                if height > last:
                    last = height
                    yield height
            await asyncio.sleep(POLL_SECONDS)

    async def _subscribed(self) -> AsyncGenerator[int, None]:
        async with self._websocket() as socket:
            request = {"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": {"query": _QUERY}}
            await socket.send(httpx.Request("POST", "http://node", json=request).content.decode())
            rpc_json.member(await self._event(socket), "result")
            # Subscribed first and looked second: no block falls between the two.
            yield (await self.status()).height
            while True:
                try:
                    event = await self._event(socket)
                except TimeoutError:
                    yield (await self.status()).height
                    continue
                height = rpc_json.member(event, "result", "data", "value", "header", "height")
                yield rpc_json.integer(height)

    async def _event(self, socket: ClientConnection) -> Any:
        async with asyncio.timeout(EVENT_SECONDS):
            message = await socket.recv(decode=False)
        return rpc_json.loads(message)

    def _websocket(self) -> connect:
        options: dict[str, Any] = {"max_size": MAX_EVENT, "open_timeout": 5.0, "compression": None, "proxy": None}
        if self._path is not None:
            del options["proxy"]
            return unix_connect(self._path, "ws://node/websocket", **options)
        return connect(self._base.replace("http://", "ws://") + "/websocket", **options)


def _included(name: bytes, height: int, result: Any) -> Included:
    return Included(
        name,
        height,
        rpc_json.integer(rpc_json.member(result, "code")),
        rpc_json.base64_bytes(result.get("data")),
        rpc_json.text(result.get("log", "")),
    )
