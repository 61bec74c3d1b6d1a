"""The only place that puts together what a user does: encrypt, ask, wait, and have an answer that was verified here.

    client = Client(node=…, store=…, coprocessor=Address…, trust=Trust…, sender=…)
    bound = await client.encrypt([("uint64", 42)], user=…, contract=…)
    asked = await client.request_public_decrypt(key_id, [bound[0].handle])
    answer = await client.wait(asked.id)           # Verified: what was proven, and who signed

Node, store and coprocessor may lie; what leaves here has been verified from the trust root on (`verification`), and
blobs have the digests that were asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import coincurve
from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.receipts.judging import (
    Evidence,
    Key,
    Trust,
    Verified,
    verify_answer,
    verify_key,
    verify_request,
)
from cipherkeep_attestation.statements import eip712, fhevm, layout, request
from cipherkeep_attestation.statements.binding import MAX_CIPHERTEXT, Ciphertext, Grant, verify_binding
from cipherkeep_attestation.statements.layout import RequestRecord
from cipherkeep_attestation.statements.transaction import Message
from cipherkeep_wire.transport import Address

from cipherkeep_host.client import contract
from cipherkeep_host.client.encrypting import Encryptor
from cipherkeep_host.client.gather import gather
from cipherkeep_host.client.node import Node, Sender
from cipherkeep_host.client.user_decryption import UserKey, open_payload
from cipherkeep_host.coprocessor import handles
from cipherkeep_host.coprocessor.client import CoprocessorClient
from cipherkeep_host.coprocessor.requests import Compute, Inputs, compute_digest
from cipherkeep_host.errors import HostError
from cipherkeep_host.store.client import StoreClient

_LOOK = 5.0  # seconds for finding out why an answer did not come
# What the store says about a ciphertext, and what that is to whoever waits for its decryption.
_OBSTACLES = {
    "store.unknown": "client.ciphertext_missing",
    "store.digest": "client.ciphertext_damaged",
    "store.too_large": "client.ciphertext_too_large",
}
TODAY = b"\x00"  # the extra data that today's clients sign over


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that is in a block. `duplicate`: it stands for an earlier one of the same origin."""

    id: bytes
    counter: int
    state: str
    duplicate: bool
    height: int


@dataclass(frozen=True, slots=True)
class RequestState:
    """A request's proven state. `evidence` is what `verification` judges."""

    record: RequestRecord
    counter: int
    header_height: int
    header_hash: bytes
    evidence: Evidence


class Client:
    """One instance of the contract, seen through a node, a store and a coprocessor that are not trusted."""

    def __init__(
        self,
        *,
        node: Node,
        trust: Trust,
        store: StoreClient,
        coprocessor: Address,
        sender: Sender | None = None,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._node = node
        self._trust = trust
        self._store = store
        self._coprocessor = CoprocessorClient(coprocessor)
        self._encryptor = Encryptor(store, self._coprocessor)
        self._sender = sender
        self._clock = clock
        self._keys: dict[bytes, Key] = {}

    async def close(self) -> None:
        """Close the connections of its own."""
        await self._coprocessor.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- keys ---

    async def keys(self) -> list[Key]:
        """All keys, verified, the oldest first."""
        return [await self.key(key_id) for key_id in await contract.key_ids(self._node, self._trust.instance)]

    async def key(self, key_id: bytes) -> Key:
        """One key, verified. `HostError("client.key_unknown")`, `EvidenceError`."""
        if key_id not in self._keys:
            row = await contract.key_row(self._node, self._trust.instance, key_id)
            evidence = await self._evidence(row.counter)
            key = verify_key(evidence, trust=self._trust, now=self._clock())
            if key.id != key_id:
                raise HostError("client.key_unknown", key_id.hex())
            self._keys[key_id] = key
        return self._keys[key_id]

    async def public_key(self, key_id: bytes) -> bytes:
        """The compact public key that the key's generation names (safe-serialised)."""
        return await self._encryptor.public_key(await self.key(key_id))

    async def reference_string(self) -> bytes:
        """The digest of the reference string that the coprocessor verifies under, which is in the store."""
        return await self._coprocessor.reference_string()

    async def served_key(self) -> bytes:
        """The id of the key that the coprocessor says it serves."""
        return await self._coprocessor.key_id()

    # --- ciphertexts ---

    async def encrypt(
        self, key_id: bytes, values: Sequence[tuple[str, int]], *, user: bytes, contract_address: bytes
    ) -> list[Ciphertext]:
        """Encrypt (type, value) pairs for a user and a contract, prove that, and have the coprocessor bind them.

        The bindings are verified. `HostError`: `client.value` for a value that does not fit its type,
        `client.key_not_served` for a key that the coprocessor does not serve.
        """
        for name, value in values:
            if name not in fhevm.TYPES or not 0 <= value < 1 << fhevm.TYPES[name][1]:
                raise HostError("client.value", f"{value} as {name}"[:120])
        await self._need_served(key_id)
        key = await self.key(key_id)
        data = await self._encryptor.prove(key, values, user=user, contract_address=contract_address)
        names = [name for name, _ in values]
        return await self.bind(key_id, data, names, user=user, contract_address=contract_address)

    async def bind(
        self, key_id: bytes, data: bytes, names: Sequence[str], *, user: bytes, contract_address: bytes
    ) -> list[Ciphertext]:
        """Have the coprocessor verify a proven list of values of these types, from whatever client, and bind them.

        The bindings are verified: they are for these handles, types and this user.
        """
        key = await self.key(key_id)
        await self._need_served(key_id)
        bound = await self._coprocessor.inputs(Inputs(data, user, contract_address))
        if len(bound) != len(names):
            raise HostError("coprocessor.answer", "one binding for each value")
        hashed = handles.list_hash(data)
        for index, (name, item) in enumerate(zip(names, bound, strict=True)):
            number = fhevm.TYPES[name][0]
            expected = handles.input_handle(hashed, index, number, acl=key.terms.acl, chain_id=key.terms.host_chain_id)
            if (item.handle, item.fhe_type, item.owner) != (expected, number, user):
                raise HostError("coprocessor.answer", f"value {index} is bound to something else")
            await self._check_binding(item, key)
        return bound

    async def compute(
        self, key_id: bytes, operation: str, operands: Sequence[bytes], *, owner: coincurve.PrivateKey
    ) -> Ciphertext:
        """Have the coprocessor compute on handles of one owner, who signs for it; the result's verified binding."""
        key = await self.key(key_id)
        if operation not in handles.OPERATIONS:
            raise HostError("coprocessor.operation", operation[:40])
        signature = eip712.sign(compute_digest(operation, operands, key.terms.bindings()), owner)
        bound = await self._coprocessor.compute(Compute(operation, tuple(operands), signature))
        await self._check_binding(bound, key)
        return bound

    async def ciphertext(self, key_id: bytes, handle: bytes) -> Ciphertext:
        """The verified binding of a handle. `HostError("coprocessor.handle")` when there is none."""
        bound = await self._coprocessor.ciphertext(handle)
        await self._check_binding(bound, await self.key(key_id))
        return bound

    # --- requests ---

    async def request_keygen(self, statement: bytes) -> Asked:
        """Ask for the key that a governance statement describes; the statement must stand in state."""
        return await self._ask(request.Keygen(statement))

    async def request_public_decrypt(
        self,
        key_id: bytes,
        wanted: Sequence[bytes],
        *,
        extra_data: bytes = b"",
        source: request.Origin | None = None,
    ) -> Asked:
        """Ask to open ciphertexts for everyone, by their handles: all of them or none."""
        bound = await self._bound(key_id, wanted)
        return await self._ask(request.PublicDecrypt(key_id, bound, extra_data, source))

    async def request_user_decrypt(
        self,
        key_id: bytes,
        wanted: Sequence[bytes],
        *,
        user: coincurve.PrivateKey,
        user_key: UserKey,
        contracts: Sequence[bytes],
        start: int | None = None,
        days: int = 1,
        grants: Sequence[Grant] = (),
        extra_data: bytes = TODAY,
    ) -> Asked:
        """Ask to re-encrypt ciphertexts to a user's key; she signs for it here. `start`: seconds since 1970."""
        key = await self.key(key_id)
        begins = int(self._clock().timestamp()) - 60 if start is None else start
        struct = fhevm.user_decryption_request(
            user_key.public_key, contracts, start=begins, days=days, extra_data=extra_data
        )
        asked = request.UserDecrypt(
            key_id=key_id,
            ciphertexts=await self._bound(key_id, wanted),
            user=eip712.address_of(user.public_key.format(compressed=False)),
            public_key=user_key.public_key,
            contracts=tuple(contracts),
            start=begins,
            days=days,
            extra_data=extra_data,
            signature=eip712.sign(key.terms.user_requests().digest(struct), user),
            grants=tuple(grants),
        )
        return await self._ask(asked)

    async def state(self, request_id: bytes) -> RequestState:
        """A request's state with its proof, verified. `HostError("client.request_unknown")`, `EvidenceError`."""
        counter = await contract.counter_of(self._node, self._trust.instance, request_id)
        evidence = await self._evidence(counter)
        header, digest, record = verify_request(evidence, trust=self._trust, now=self._clock())
        if record.id != request_id:
            raise HostError("client.request_unknown", request_id.hex())
        return RequestState(record, counter, header.height, digest, evidence)

    async def wait(self, request_id: bytes, *, timeout: float = 60.0) -> Verified:  # noqa: ASYNC109  (it raises a code, not TimeoutError)
        """The verified answer of a request, within `timeout` seconds.

        `HostError`: `client.not_final` when it expired or was refused, the refusal in the detail; when it did not come
        in time, what `obstacle` finds, or `client.timeout`.
        """
        try:
            async with asyncio.timeout(timeout), self._hints() as hints:
                async for _ in hints:
                    verified = await self._answer(request_id)
                    if verified is not None:
                        return verified
        except TimeoutError:
            pass
        raise await self._late(request_id) or HostError("client.timeout", f"request {request_id.hex()}, {timeout:g} s")

    async def obstacle(self, found: RequestState) -> HostError | None:
        """Which of a decryption's ciphertexts keeps it from being answered: `client.ciphertext_missing`, `…_damaged`,
        `…_too_large`. None when the store has them all, or cannot say.
        """
        asked = request.decode(found.evidence.body)
        if isinstance(asked, request.Keygen):
            return None
        try:
            held = await self._store.get_many([item.digest for item in asked.ciphertexts])
        except HostError:
            return None
        for item in asked.ciphertexts:
            if item.digest not in held:
                try:
                    await self._store.get_bytes(item.digest, limit=MAX_CIPHERTEXT)
                except HostError as error:
                    if error.code in _OBSTACLES:
                        detail = f"request {found.record.id.hex()}, handle {item.handle.hex()}: {error.code}"
                        return HostError(_OBSTACLES[error.code], f"{detail} ({error.detail})")
        return None

    async def open(self, verified: Verified, *, user_key: UserKey) -> tuple[tuple[bytes, str, int], ...]:
        """(handle, type, value) of a verified user decryption, opened with the user's key."""
        asked = verified.asked
        if not isinstance(asked, request.UserDecrypt) or verified.core.result is None:
            raise HostError("client.opening", "not a user decryption")
        key = await self.key(asked.key_id)
        wanted = [item.handle for item in asked.ciphertexts]
        opened = open_payload(
            verified.core.result["payload"],
            key=user_key,
            user=asked.user,
            handles=wanted,
            terms=key.terms,
            signer=verified.vouchers[0].signer,
        )
        for (name, _), item in zip(opened, asked.ciphertexts, strict=True):
            if fhevm.TYPES[name][0] != item.fhe_type:
                raise HostError("client.opening", f"a {name} for another type")
        return tuple((handle, name, value) for handle, (name, value) in zip(wanted, opened, strict=True))

    # --- inside ---

    @asynccontextmanager
    async def _hints(self) -> AsyncGenerator[AsyncGenerator[int, None], None]:
        heights = self._node.heights()
        try:
            yield heights
        finally:
            await heights.aclose()

    async def _answer(self, request_id: bytes) -> Verified | None:
        """The verified answer, or None while the request is pending."""
        found = await self.state(request_id)
        record = found.record
        if record.state == layout.PENDING:
            return None
        if record.state == layout.EXPIRED:
            why = await self.obstacle(found)
            raise HostError("client.not_final", f"{request_id.hex()}: expired" + (f" ({why.code})" if why else ""))
        asked = request.decode(found.evidence.body)
        terms = None if isinstance(asked, request.Keygen) else (await self.key(asked.key_id)).terms
        verified = verify_answer(found.evidence, trust=self._trust, terms=terms, now=self._clock())
        if verified.core.refusal is not None:
            raise HostError("client.not_final", f"{request_id.hex()}: {verified.core.refusal}")
        return verified

    async def _late(self, request_id: bytes) -> HostError | None:
        """What keeps a request from being answered, if that can be found out."""
        with contextlib.suppress(HostError, EvidenceError, TimeoutError):
            async with asyncio.timeout(_LOOK):
                return await self.obstacle(await self.state(request_id))
        return None

    async def _evidence(self, counter: int) -> Evidence:
        return await gather(self._node, self._trust.instance, counter, root=self._trust.root)

    async def _bound(self, key_id: bytes, wanted: Sequence[bytes]) -> tuple[Ciphertext, ...]:
        return tuple(await asyncio.gather(*(self.ciphertext(key_id, handle) for handle in wanted)))

    async def _check_binding(self, bound: Ciphertext, key: Key) -> None:
        """The coprocessors in force, as the node says, signed it: the contract and the enclaves judge that again."""
        current = await contract.coprocessors(self._node, self._trust.instance)
        if current is None:
            raise HostError("client.no_coprocessors")
        try:
            verify_binding(bound, key_id=key.id, domain=key.terms.bindings(), coprocessors=current)
        except EvidenceError:
            await self._need_served(key.id)  # a coprocessor of another key signs for that one
            raise

    async def _need_served(self, key_id: bytes) -> None:
        served = await self.served_key()
        if served != key_id:
            raise HostError("client.key_not_served", f"{key_id.hex()}; it serves {served.hex()}")

    async def _ask(self, asked: request.Request) -> Asked:
        if self._sender is None:
            raise ValueError("a client without a sender cannot ask")
        message = Message(self._trust.instance, asked.operation, {"request": asked.encode()})
        sent = await self._sender.send([message])
        try:
            found = cbor.fields(
                cbor.decode(sent.results[0]),
                counter=cbor.uint(least=1),
                duplicate=cbor.boolean,
                id=cbor.raw(32),
                state=cbor.text(16),
            )
        except (EvidenceError, IndexError) as error:
            raise HostError("node.answer", str(error)[:300]) from None
        return Asked(found["id"], found["counter"], found["state"], found["duplicate"], sent.height)
