"""The only place that brings an enclave from its start to where it answers: anchor, freshness, vault, registration.

    forks ── begin ── advance until admitted ── freshness tx, Freshen ── record proof, Open ── Register, register tx

Each step asks the enclave first whether it is done already, so that all of it may be repeated after any failure. Two
of them wait for governance, as long as it takes: admission, and a registration that the contract refuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements import layout
from cipherkeep_attestation.statements.transaction import Message
from cipherkeep_wire import kms_pb2
from cipherkeep_wire.errors import ServiceError

from cipherkeep_host.chain.client import TransactionRefused
from cipherkeep_host.client.node import Node, Sender
from cipherkeep_host.connector.enclave import Enclave
from cipherkeep_host.connector.feed import Feed
from cipherkeep_host.connector.progress import Progress
from cipherkeep_host.connector.vault import VaultFolder
from cipherkeep_host.errors import HostError

_LOOK = 2.0  # seconds between looks at whether governance has decided what is waited for
_REGISTER_AGAIN = 60.0  # seconds until a refused registration is made again though nothing was decided
_log = structlog.get_logger()


class Boot:
    """What is needed to bring one enclave up."""

    def __init__(
        self,
        *,
        enclave: Enclave,
        feed: Feed,
        node: Node,
        sender: Sender,
        vault: VaultFolder,
        progress: Progress,
        instance: str,
        party: str,
    ) -> None:
        self._enclave = enclave
        self._feed = feed
        self._node = node
        self._sender = sender
        self._vault = vault
        self._progress = progress
        self._instance = instance
        self._party = party
        self.stage = "new"
        self.hindrance: HostError | ServiceError | None = None  # what only governance or the operator can remove

    async def run(self) -> kms_pb2.StatusReply:
        """Bring the enclave up; returns where it stood when it was admitted: boot and party's index do not change.

        `HostError`, `RemoteError` when a step fails.
        """
        self.stage = "anchor"
        await self._report_fork()
        await self._feed.begin()
        status = await self._admitted()
        if not status.fresh:
            self.stage = "freshness"
            await self._freshen(status)
        if not status.open:
            self.stage = "open"
            await self._open(status.party_index)
        # A landed registration names image and configuration; each boot makes a new one, so that it names the present.
        # One that lapsed meanwhile, because governance admitted another configuration or image, is made again too.
        lapsed = await self._lapsed(status.party_index)
        if lapsed or self._progress.registered != status.boot:
            self.stage = "register"
            await self._registered(status.boot)
            if lapsed:
                self._progress.reopen_votes()
        self.stage = "up"
        return status

    async def _report_fork(self) -> None:
        """A fork that the enclave has seen is the whole chain's business: noted there, it binds every enclave."""
        status = await self._enclave.status()
        if not status.fork_other:
            return
        held = await self._node.light_block(status.fork_held_height)
        body = {"held": held.encode(), "other": status.fork_other}
        try:
            await self._sender.send([Message(self._instance, "report_fork", body)])
        except TransactionRefused as refused:
            if refused.rule not in ("fhevm.fork_noted", "fhevm.fork_lifted"):
                # The enclave holds another branch than our node, or the fork is too old: operators must look.
                _log.warning("fork not reported", code=refused.rule, detail=refused.detail)
        _log.error("the chain has forked", code=status.frozen, held=status.fork_held_height)

    async def _admitted(self) -> kms_pb2.StatusReply:
        self.stage = "admission"
        while True:
            await self._feed.advance()
            status = await self._enclave.status()
            if status.party_index:
                return status
            self._hindered(ServiceError("service.not_admitted", self._party))
            await asyncio.sleep(_LOOK)

    def _hindered(self, problem: HostError | ServiceError) -> None:
        if str(problem) != str(self.hindrance):
            _log.warning("waiting", code=problem.code, detail=problem.detail, hint=problem.hint, stage=self.stage)
        self.hindrance = problem

    async def _freshen(self, status: kms_pb2.StatusReply) -> None:
        message = Message(self._instance, "freshness", {"nonce": status.freshness_nonce, "party": self._party})
        key = _place((await self._sender.send([message])).results)
        async with self._feed.lock:
            found, header = await self._feed.wait_for(layout.FRESHNESS, key, expected=status.freshness_nonce)
            await self._enclave.freshen(header, key, found.proof.encode())
        _log.info("fresh", header=header)

    async def _open(self, index: int) -> None:
        async with self._feed.lock:
            found, header = await self._feed.show(layout.PARTIES, index)
            if found.value is None:
                raise HostError("connector.record_missing", f"party {index}")
            record = layout.PartyRecord.decode(found.value)
            manifest = b""
            objects: list[kms_pb2.SealedObject] = []
            if record.manifest is not None and record.manifest_serial:
                manifest, objects = await self._vault.load(record.manifest)
            made = await self._enclave.open(
                kms_pb2.OpenRequest(
                    header_height=header,
                    record=found.value,
                    proof=found.proof.encode(),
                    manifest=manifest,
                    objects=objects,
                )
            )
        if made is not None:
            await self._vault.keep(made)
        _log.info("vault open", new=made is not None, manifest=record.manifest_serial)

    async def _lapsed(self, index: int) -> bool:
        async with self._feed.lock:
            found, _ = await self._feed.show(layout.PARTIES, index)
        return found.value is not None and layout.PartyRecord.decode(found.value).registration is None

    async def _registered(self, boot: bytes) -> None:
        """Register. What the contract refuses is tried again with every decision of governance, and now and then."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._register(boot)
            except TransactionRefused as refused:
                self._hindered(HostError("connector.registration_refused", refused.detail[:300]))
            else:
                return
            serial, again = self._feed.stand.serial, loop.time() + _REGISTER_AGAIN
            while self._feed.stand.serial == serial and loop.time() < again:
                await asyncio.sleep(_LOOK)
                await self._feed.advance()

    async def _register(self, boot: bytes) -> None:
        height = await self._feed.advance()
        reply = await self._enclave.register(height)
        if reply.HasField("vault"):
            await self._vault.keep(reply.vault)
        body = {"party": self._party, "registration": reply.registration}
        await self._sender.send([Message(self._instance, "register", body)])
        self._progress.registered = boot
        await self._progress.save()
        _log.info("registered", block=height, boot=boot.hex())


def _place(results: Sequence[bytes]) -> int:
    """Where the contract put the nonce. A hint: what stands there is proven to the enclave."""
    try:
        key: int = cbor.fields(cbor.decode(b"".join(results)), key=cbor.uint(least=1))["key"]
    except EvidenceError as error:
        raise HostError("node.answer", str(error)[:300]) from None
    return key
