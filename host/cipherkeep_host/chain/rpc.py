"""The only place that calls a node's JSON-RPC: light blocks, transactions, queries, and hints that a block was made.

    async with RpcClient("unix:///run/node/rpc.sock") as rpc:
        block = await rpc.light_block(7)          # for the verifier to judge
        async for height in rpc.heights(): …      # hints; what counts is what is then fetched and verified

Nothing a node says is believed here. Answers are read with a bound, and by the verifier's own strict reader; what
that refuses is `HostError("node.answer")` here, with the rule and what broke it in the detail.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import itertools
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx
import websockets
from cipherkeep_attestation import strict_json
from cipherkeep_attestation.chain import rpc_json
from cipherkeep_attestation.chain.header import LIMITS, LightBlock, Validator, ValidatorSet
from cipherkeep_attestation.errors import EvidenceError
from websockets.asyncio.client import ClientConnection, connect, unix_connect

from cipherkeep_host.errors import HostError

MAX_ANSWER = 16 << 20  # bytes; a block of 4 MiB in base64, and its results
MAX_EVENT = 1 << 20  # bytes; the event of a new header has about 2 KiB
PAGE = 100  # validators; the node's own maximum
MAX_TRANSACTIONS = 1 << 16  # of a block; the application takes 5000
MAX_CODE = (1 << 32) - 1
POLL_SECONDS = 0.5  # between looks at the height, while there is no subscription
EVENT_SECONDS = 30.0  # without an event, the height is looked at
_QUERY = "tm.event='NewBlockHeader'"


@dataclass(frozen=True, slots=True)
class Status:
    """Where a node stands."""

    chain_id: str
    height: int


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
        with _reading(method):
            answer = strict_json.loads(bytes(data))
        if not isinstance(answer, dict) or answer.get("id") != request["id"]:
            raise HostError("node.answer", f"{method}: not an answer to this call")
        failure = answer.get("error")
        if failure is not None:
            sentence = f"{failure.get('message', '')}: {failure.get('data', '')}" if isinstance(failure, dict) else ""
            raise HostError("node.refused", f"{method}: {sentence}"[:500])
        with _reading(method):
            return rpc_json.member(answer, "result")

    # --- blocks ---

    async def status(self) -> Status:
        """Where the node stands."""
        found = await self.call("status")
        with _reading("status"):
            return Status(
                rpc_json.text(rpc_json.member(found, "node_info", "network"), "network"),
                rpc_json.decimal(rpc_json.member(found, "sync_info", "latest_block_height"), "latest_block_height"),
            )

    async def light_block(self, height: int | None = None) -> LightBlock:
        """Header, commit and validators of a height, the newest by default. Well-formed, and judged by nobody yet."""
        arguments = {} if height is None else {"height": str(height)}
        answer = await self.call("commit", **arguments)
        with _reading("commit"):
            header, commit = rpc_json.commit_answer(answer)
        if height is not None and header.height != height:
            raise HostError("node.answer", f"height {header.height} instead of {height}")
        found: list[Validator] = []
        for number in range(1, LIMITS.validators // PAGE + 1):
            answer = await self.call("validators", height=str(header.height), page=str(number), per_page=str(PAGE))
            with _reading("validators"):
                page = rpc_json.validators_page(answer)
            found += page.validators
            if len(found) >= page.total:
                break
        with _reading("light block"):
            return LightBlock(header, commit, ValidatorSet(tuple(found)))

    # --- transactions and queries ---

    async def broadcast(self, tx: bytes) -> Checked:
        """Hand a transaction over; returns when the node has checked it. Sent twice, the node says so: node.refused."""
        found = await self.call("broadcast_tx_sync", tx=base64.b64encode(tx).decode())
        with _reading("broadcast_tx_sync"):
            verdict = Checked(
                rpc_json.hexadecimal(rpc_json.member(found, "hash"), "hash"),
                rpc_json.number(rpc_json.member(found, "code"), "code", most=MAX_CODE),
                rpc_json.hexadecimal(found.get("data", ""), "data"),  # unlike everywhere else
                rpc_json.text(found.get("log", ""), "log"),
            )
        if verdict.hash != hashlib.sha256(tx).digest():
            raise HostError("node.answer", "another transaction's hash")
        return verdict

    async def transactions(self, height: int) -> list[bytes]:
        """The transactions of a block, in order; whatever became of them."""
        block = await self.call("block", height=str(height))
        with _reading("block"):
            rows = _rows(rpc_json.member(block, "block", "data", "txs"), "txs")
            return [rpc_json.base64_bytes(row, "tx") for row in rows]

    async def included(self, height: int) -> list[Included]:
        """All transactions of a block with their verdicts, from the block itself."""
        txs = await self.transactions(height)
        if not txs:
            return []
        answer = await self.call("block_results", height=str(height))
        with _reading("block_results"):
            results = _rows(rpc_json.member(answer, "txs_results"), "txs_results")
            if len(results) != len(txs):
                raise HostError("node.answer", "not a result for each transaction")
            return [_included(tx, height, result) for tx, result in zip(txs, results, strict=True)]

    async def query(self, path: str, data: bytes = b"", *, height: int = 0) -> Queried:
        """Ask the application; `HostError("node.query")` with its sentence when it refuses."""
        found = await self.call("abci_query", path=path, data=data.hex(), height=str(height), prove=False)
        with _reading("abci_query"):
            response = rpc_json.mapping(rpc_json.member(found, "response"), "response")
            if rpc_json.number(response.get("code", 0), "code", most=MAX_CODE) != 0:
                raise HostError("node.query", rpc_json.text(response.get("log", ""), "log")[:500])
            return Queried(
                rpc_json.optional_bytes(response.get("value"), "value"),
                rpc_json.decimal(response.get("height", "0"), "height"),
            )

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
            with _reading("subscribe"):
                rpc_json.member(await self._event(socket), "result")
            # Subscribed first and looked second: no block falls between the two.
            yield (await self.status()).height
            while True:
                try:
                    event = await self._event(socket)
                except TimeoutError:
                    yield (await self.status()).height
                    continue
                with _reading("event"):
                    height = rpc_json.member(event, "result", "data", "value", "header", "height")
                    found = rpc_json.decimal(height, "height")
                yield found

    async def _event(self, socket: ClientConnection) -> Any:
        async with asyncio.timeout(EVENT_SECONDS):
            message = await socket.recv(decode=False)
        with _reading("event"):
            return strict_json.loads(message)

    def _websocket(self) -> connect:
        options: dict[str, Any] = {"max_size": MAX_EVENT, "open_timeout": 5.0, "compression": None, "proxy": None}
        if self._path is not None:
            del options["proxy"]
            return unix_connect(self._path, "ws://node/websocket", **options)
        return connect(self._base.replace("http://", "ws://") + "/websocket", **options)


@contextlib.contextmanager
def _reading(what: str) -> Iterator[None]:
    """What the strict reader refuses within is the node's fault."""
    try:
        yield
    except (EvidenceError, strict_json.NotJsonError) as error:
        raise HostError("node.answer", f"{what}: {error}"[:500]) from None


def _rows(value: Any, what: str) -> list[Any]:
    """An array with an item for each transaction; the node writes null for an empty one."""
    return [] if value is None else rpc_json.array(value, what, MAX_TRANSACTIONS)


def _included(tx: bytes, height: int, result: Any) -> Included:
    found = rpc_json.mapping(result, "a transaction's result")
    return Included(
        hashlib.sha256(tx).digest(),
        height,
        rpc_json.number(rpc_json.member(found, "code"), "code", most=MAX_CODE),
        rpc_json.optional_bytes(found.get("data"), "data"),
        rpc_json.text(found.get("log", ""), "log"),
    )
