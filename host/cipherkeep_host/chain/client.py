"""The only place that sends transactions in a sender's order, and fetches state with proofs that fit a header.

A transaction is sent until it is in a block. Its bytes stay the same as long as they may still take effect; only when
the chain has used the nonce up for another one are they signed anew, with the next. So nothing takes effect twice,
whatever is lost or restarted in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cipherkeep_attestation import cbor
from cipherkeep_attestation.chain.header import LightBlock
from cipherkeep_attestation.chain.state import StateProof, verify_absent, verify_present
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements.transaction import Message, Transaction, transaction_hash
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cipherkeep_host.chain.calls import OK, REFUSED_TRANSACTION
from cipherkeep_host.chain.rpc import Checked, Included, RpcClient
from cipherkeep_host.errors import HostError

SEND_SECONDS = 60.0
RESEND_SECONDS = 1.0  # without a sign of it in a block, a transaction is handed over again
_WRONG_NONCE, _NO_ROOM = b"chain.nonce", b"chain.sender_waiting"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.004, 0.02  # seconds between looks for it
_CONFLICT_PAUSE = 0.1  # seconds, when somebody else used the nonce, or the node is away
_RESULTS = cbor.sequence(cbor.raw(0, 1 << 20), 256)


@dataclass(frozen=True, slots=True)
class Sent:
    """A transaction that took effect: the block, and the result of each message."""

    hash: bytes
    height: int
    results: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ProvenValue:
    """A value, or None, with its proof, and a block under whose app hash it holds."""

    value: bytes | None
    proof: StateProof
    block: LightBlock


class TransactionRefused(HostError):
    """The chain refused a transaction. `rule` is the code of the rule; `included` whether it used its nonce up."""

    def __init__(self, rule: str, log: str, *, included: bool) -> None:
        super().__init__("client.transaction_refused", log or rule)
        self.rule = rule
        self.included = included


class ChainClient:
    """One sender at one node. Tasks of one loop may share it; no other process may use the key at the same time,
    or both will have to sign again and again."""

    def __init__(self, rpc: RpcClient, *, chain_id: str, key: Ed25519PrivateKey | None = None) -> None:
        self.rpc = rpc
        self.chain_id = chain_id
        self._key = key
        self._next: int | None = None  # nonce; None: ask the chain
        self._waiting: dict[int, bytes] = {}  # by nonce: handed over, and in no block yet
        self._handed = 0.0  # when all that waits was last handed over
        self._sought: dict[bytes, asyncio.Future[Included]] = {}  # by hash: until it is found in a block
        self._scanned = 0  # the highest block that was looked through
        self._looked = 0.0  # when
        self._lock = asyncio.Lock()
        self._scan_lock = asyncio.Lock()

    @property
    def sender(self) -> bytes:
        """The public key (32 bytes). ValueError for a client without a key."""
        if self._key is None:
            raise ValueError("this client has no key and cannot send")
        return self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    # --- transactions ---

    async def send(self, messages: Sequence[Message], *, fee_limit: int = 0, within: float = SEND_SECONDS) -> Sent:
        """Sign and send a transaction, and wait until it took effect.

        A node that is away is waited for. `TransactionRefused` when the chain refuses it, `HostError("node.timeout")`
        when it is in no block after so many seconds; it may still come into one then.
        """
        try:
            async with asyncio.timeout(within):
                while True:
                    tx, nonce = await self._submit(messages, fee_limit)
                    try:
                        included = await self._wait(tx, nonce)
                    finally:
                        self._waiting.pop(nonce, None)
                        self._sought.pop(transaction_hash(tx), None)
                    if included is not None:
                        return _effect(included)
        except TimeoutError:
            raise HostError("node.timeout", f"a transaction of {len(messages)} messages, {within:g} s") from None

    async def _submit(self, messages: Sequence[Message], fee_limit: int) -> tuple[bytes, int]:
        """Sign with the next nonce and hand over; in order, one at a time."""
        assert self._key is not None
        while True:
            async with self._lock:
                try:
                    nonce = await self._next_nonce()
                    if not self._sought:
                        self._scanned = max(self._scanned, (await self.rpc.status()).height - 1)
                except HostError:  # nothing is under way yet: a node that restarts is waited for
                    await asyncio.sleep(_CONFLICT_PAUSE)
                    continue
                tx = Transaction(self.chain_id, self.sender, nonce, tuple(messages), fee_limit).sign(self._key)
                # From here on these bytes may take effect, whatever is answered; `_wait` finds out. Only what the
                # chain itself refuses is known not to be under way.
                self._waiting[nonce] = tx
                name = transaction_hash(tx)
                self._sought.setdefault(name, asyncio.get_running_loop().create_future())
                self._next = nonce + 1
                try:
                    checked = await self._hand_over(tx)
                    if checked is not None and checked.data == _WRONG_NONCE and len(self._waiting) > 1:
                        await self._hand_over_all()  # earlier ones got lost
                        checked = await self._hand_over(tx)
                except BaseException:  # cancelled: nobody waits for it any more
                    del self._waiting[nonce], self._sought[name]
                    raise
                if checked is None or checked.code == OK:
                    return tx, nonce
                del self._waiting[nonce], self._sought[name]
                self._next = None
            if checked.data != _WRONG_NONCE:
                raise TransactionRefused(checked.data.decode(errors="replace"), checked.log, included=False)
            await asyncio.sleep(_CONFLICT_PAUSE)

    async def _hand_over(self, tx: bytes) -> Checked | None:
        """The chain's verdict on it; None when there is none: the node has it already, is full, or away."""
        try:
            checked = await self.rpc.broadcast(tx)
        except HostError as error:
            if error.code == "node.refused" and "too large" in error.detail:
                return Checked(transaction_hash(tx), REFUSED_TRANSACTION, b"chain.transaction_size", error.detail)
            return None
        return None if checked.data == _NO_ROOM else checked

    async def _hand_over_all(self) -> None:
        """Hand over everything that waits, in the order of the nonces. With the lock held."""
        self._handed = time.monotonic()
        for _, tx in sorted(self._waiting.items()):
            await self._hand_over(tx)

    async def _next_nonce(self) -> int:
        if self._next is None:
            self._next = max((await self.account())[1], *self._waiting, 0) + 1
        return self._next

    async def _wait(self, tx: bytes, nonce: int) -> Included | None:
        """Wait until it is in a block, handing it over again when it got lost. None: its nonce went to another one."""
        name = transaction_hash(tx)
        found = self._sought[name]
        pause, look = _FIRST_PAUSE, time.monotonic() + RESEND_SECONDS
        while True:
            with contextlib.suppress(HostError):  # a node that is away is waited for
                await self._scan(found, pause)
                if found.done():
                    return found.result()
                if time.monotonic() > look:
                    look = time.monotonic() + RESEND_SECONDS
                    if (await self.account())[1] >= nonce:
                        await self._scan(found, 0.0)  # at least as far as the account was seen
                        self._next = None
                        return found.result() if found.done() else None
                    async with self._lock:
                        if time.monotonic() - self._handed > RESEND_SECONDS:
                            await self._hand_over_all()
            await asyncio.wait([found], timeout=pause)
            pause = min(pause * 1.3, _LONGEST_PAUSE)

    async def _scan(self, found: asyncio.Future[Included], age: float) -> None:
        """Look through the blocks since the last look, for all that is sought; unless that was less than `age` ago.

        The blocks themselves are read, not the node's index: that may have gaps after a crash. And only as far as the
        application has committed: a block's results can be read before that, and whoever was told of them would still
        find the state of before.
        """
        async with self._scan_lock:
            if found.done() or time.monotonic() - self._looked < age:
                return
            self._looked = time.monotonic()
            newest = (await self.rpc.query("/chain")).height
            while self._scanned < newest:
                for one in await self.rpc.included(self._scanned + 1):
                    sought = self._sought.get(one.hash)
                    if sought is not None and not sought.done():
                        sought.set_result(one)
                self._scanned += 1

    # --- reading ---

    async def account(self, sender: bytes | None = None) -> tuple[int, int]:
        """Where a sender's account stands in `chain/accounts` (0: nowhere yet), and its last nonce. Not proven."""
        answer = await self.rpc.query("/account", self.sender if sender is None else sender)
        found = _read(answer.value, key=cbor.uint(), nonce=cbor.uint())
        return found["key"], found["nonce"]

    async def instances(self) -> list[dict[str, object]]:
        """The contract instances: {genesis, kind, name, version} each. Not proven."""
        value = cbor.decode((await self.rpc.query("/instances")).value)
        if not isinstance(value, list):
            raise HostError("node.answer", "instances are not an array")
        schema = {"genesis": cbor.raw(32), "kind": cbor.text(64), "name": cbor.text(64), "version": cbor.uint()}
        return [cbor.fields(item, **schema) for item in value]

    async def last_key(self, instance: str, collection: str) -> int:
        """The highest key of a collection. Not proven."""
        value = cbor.decode((await self.rpc.query(f"/last/{instance}/{collection}")).value)
        if type(value) is not int:
            raise HostError("node.answer", "not a key")
        return value

    async def index(self, instance: str, name: str, key: bytes) -> bytes | None:
        """A value of an index. Not proven."""
        value = cbor.decode((await self.rpc.query(f"/index/{instance}/{name}", key)).value)
        if value is not None and type(value) is not bytes:
            raise HostError("node.answer", "not bytes")
        return value

    async def state(
        self, instance: str, collection: str, key: int, *, height: int = 0
    ) -> tuple[bytes | None, StateProof, int, int]:
        """Value or None, proof, and the heights (first, last) after whose blocks it stands; headers one above prove it.

        Nothing is checked here. `height` 0 asks for the newest state; the last few that differed can be had too.
        """
        answer = await self.rpc.query(f"/state/{instance}/{collection}", key.to_bytes(8, "big"), height=height)
        found = _read(
            answer.value,
            height=cbor.uint(),
            proof=cbor.raw(1, 1 << 21),
            until=cbor.uint(),
            value=cbor.nullable(cbor.raw(1, 1 << 18)),
        )
        try:
            return found["value"], StateProof.decode(found["proof"]), found["height"], found["until"]
        except EvidenceError as error:
            raise HostError("node.answer", str(error)) from None

    async def prove(self, instance: str, collection: str, key: int, *, within: float = SEND_SECONDS) -> ProvenValue:
        """The newest value of a key, or its absence, under a block's app hash; waits for that block if need be.

        The block is fetched and the proof is checked against it; whether the block holds is for a light client.
        """
        value, proof, first, _ = await self.state(instance, collection, key)
        block = await self.block(first + 1, within=within)
        app_hash = block.header.app_hash
        try:
            if value is None:
                verify_absent(app_hash, instance=instance, collection=collection, key=key, proof=proof)
            else:
                verify_present(app_hash, instance=instance, collection=collection, key=key, value=value, proof=proof)
        except EvidenceError as error:
            raise HostError("node.answer", str(error)) from None
        return ProvenValue(value, proof, block)

    async def block(self, height: int, *, within: float = SEND_SECONDS) -> LightBlock:
        """A light block, waited for while it is not there yet."""
        try:
            async with asyncio.timeout(within):
                pause = _FIRST_PAUSE
                while True:
                    with contextlib.suppress(HostError):
                        if (await self.rpc.status()).height >= height:
                            return await self.rpc.light_block(height)
                    await asyncio.sleep(pause)
                    pause = min(pause * 1.3, _LONGEST_PAUSE)
        except TimeoutError:
            raise HostError("node.timeout", f"block {height}, {within:g} s") from None


def _read(data: bytes, **schema: cbor.Reader) -> dict[str, Any]:
    try:
        return cbor.fields(cbor.decode(data), **schema)
    except EvidenceError as error:
        raise HostError("node.answer", str(error)) from None


def _effect(included: Included) -> Sent:
    if included.code != OK:
        raise TransactionRefused(included.data.decode(errors="replace"), included.log, included=True)
    try:
        results = cbor.fields({"results": cbor.decode(included.data)}, results=_RESULTS)["results"]
    except EvidenceError as error:
        raise HostError("node.answer", str(error)) from None
    return Sent(included.hash, included.height, results)
