"""The only place where the wire comes in: requests of `kms.proto` are bounded, handed on, and answered.

Nothing here judges anything; what fails travels as the status of `cipherkeep_wire.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, NoReturn, TypeAlias, TypeVar

import grpc
import grpc.aio
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_wire import kms_pb2 as pb
from cipherkeep_wire import kms_pb2_grpc
from cipherkeep_wire.errors import CODE_KEY, ServiceError, status_of

from cipherkeep_enclave.keeper import Body, Keeper, VaultUpdate
from cipherkeep_enclave.logs import logger
from cipherkeep_enclave.vault.vault import StoredObject

Reply = TypeVar("Reply")
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class KmsService(kms_pb2_grpc.KmsServicer):
    """The servicer of one keeper."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._limits = keeper.limits
        self._processes = 0
        self._streams = 0

    async def Status(self, request: pb.StatusRequest, context: Context) -> pb.StatusReply:
        """Where the enclave stands."""
        return await _answered(context, self._status)

    async def Advance(self, request: pb.AdvanceRequest, context: Context) -> pb.AdvanceReply:
        """Move the light client."""
        return await _answered(context, lambda: self._advance(request))

    async def Freshen(self, request: pb.FreshenRequest, context: Context) -> pb.FreshenReply:
        """Show this boot's nonce."""
        return await _answered(context, lambda: self._freshen(request))

    async def Open(self, request: pb.OpenRequest, context: Context) -> pb.OpenReply:
        """Open or make the vault."""
        return await _answered(context, lambda: self._open(request))

    async def Register(self, request: pb.RegisterRequest, context: Context) -> pb.RegisterReply:
        """Make a registration."""
        return await _answered(context, lambda: self._register(request))

    async def Inbox(self, request: pb.InboxRequest, context: Context) -> pb.InboxReply:
        """Show a block's requests."""
        return await _answered(context, lambda: self._inbox(request))

    async def Process(self, request: pb.ProcessRequest, context: Context) -> pb.ProcessReply:
        """Answer requests."""
        return await _answered(context, lambda: self._process(request))

    async def Material(self, request: pb.MaterialRequest, context: Context) -> AsyncIterator[pb.MaterialChunk]:
        """Stream public material."""
        try:
            if self._streams >= self._limits.streams:
                raise ServiceError("service.busy", f"{self._streams} streams")
            self._streams += 1
            try:
                async for chunk in self._keeper.material(request.key_id, request.kind):
                    yield pb.MaterialChunk(data=chunk)
            finally:
                self._streams -= 1
        except Exception as error:  # noqa: BLE001  (every failure becomes a status)
            await _abort(context, error)

    # --- the calls ---

    async def _status(self) -> pb.StatusReply:
        keeper, ledger, vault = self._keeper, self._keeper.ledger, self._keeper.vault
        head, view, conflict = ledger.head, ledger.view, ledger.frozen
        forked = view is not None and view.fork is not None
        reply = pb.StatusReply(
            party=keeper.configuration.party,
            boot=keeper.boot,
            configuration=keeper.configuration_digest,
            freshness_nonce=ledger.nonce,
            fresh=ledger.fresh,
            open=vault is not None,
            control_serial=ledger.decisions.control.serial,
            party_index=ledger.party_index,
            frozen=conflict.code if conflict else "ledger.forked" if forked else "",
            now=int(keeper.now().timestamp()),
        )
        if head is not None:
            reply.head_height, reply.head_hash = head.height, head.hash()
            reply.head_time = int(head.time.datetime.timestamp())
        if conflict is not None:
            reply.fork_held_height, reply.fork_other = conflict.trusted.height, conflict.block.encode()
        if view is not None:
            reply.control_height = reply.checkpoint_height = view.height
            reply.checkpoint_hash = view.hash
        if vault is not None:
            reply.manifest_serial, reply.manifest_digest = vault.pin
            reply.keys.extend(vault.keys)
            reply.evidence_key = vault.identity.evidence_key
            reply.signing_key = vault.identity.signing_key
        return reply

    async def _advance(self, request: pb.AdvanceRequest) -> pb.AdvanceReply:
        _bound(request.light_blocks, self._limits.light_blocks, "light blocks")
        _bound(request.statements, self._limits.statements, "statements")
        await self._keeper.advance(
            request.light_blocks,
            control=request.control,
            proof=request.control_proof,
            statements=request.statements,
        )
        ledger = self._keeper.ledger
        head, view = ledger.head, ledger.view
        reply = pb.AdvanceReply(control_serial=ledger.decisions.control.serial)
        if head is not None:
            reply.head_height, reply.head_hash = head.height, head.hash()
        if view is not None:
            reply.control_height = view.height
        return reply

    async def _freshen(self, request: pb.FreshenRequest) -> pb.FreshenReply:
        self._keeper.ledger.freshen(request.header_height, request.key, request.proof)
        return pb.FreshenReply()

    async def _open(self, request: pb.OpenRequest) -> pb.OpenReply:
        _bound(request.objects, self._limits.objects, "objects")
        objects = [StoredObject(item.kind, item.id, item.data) for item in request.objects]
        if any(len(item.data) > self._limits.object_bytes for item in objects):
            raise ServiceError("service.size", f"an object of more than {self._limits.object_bytes} bytes")
        update = await self._keeper.open(
            request.header_height, request.record, request.proof, manifest=request.manifest, objects=objects
        )
        return pb.OpenReply(vault=_vault(update))

    async def _register(self, request: pb.RegisterRequest) -> pb.RegisterReply:
        registration, update = await self._keeper.register(request.block_height)
        return pb.RegisterReply(registration=registration, vault=_vault(update))

    async def _inbox(self, request: pb.InboxRequest) -> pb.InboxReply:
        count = self._keeper.ledger.show_inbox(request.height, request.header_height, request.inbox, request.proof)
        return pb.InboxReply(requests=count)

    async def _process(self, request: pb.ProcessRequest) -> pb.ProcessReply:
        if self._processes >= self._limits.processes:
            raise ServiceError("service.busy", f"{self._processes} calls")
        _bound(request.requests, self._limits.requests, "requests")
        if sum(len(item.ciphertexts) for item in request.requests) > self._limits.ciphertexts:
            raise ServiceError("service.size", f"more than {self._limits.ciphertexts} ciphertexts")
        bodies = [Body(item.counter, item.body, tuple(item.ciphertexts)) for item in request.requests]
        if sum(len(data) for body in bodies for data in body.ciphertexts) > self._limits.ciphertext_bytes:
            raise ServiceError("service.size", f"more than {self._limits.ciphertext_bytes} bytes of ciphertexts")
        self._processes += 1
        try:
            outcomes, update = await self._keeper.process(request.height, bodies)
        finally:
            self._processes -= 1
        rows = [
            pb.Outcome(counter=item.counter, answer=item.answer, code=item.code, detail=item.detail)
            for item in outcomes
        ]
        return pb.ProcessReply(outcomes=rows, vault=_vault(update))


def handlers(keeper: Keeper) -> Sequence[Any]:
    """gRPC's handlers of a keeper's service, for a server that is made elsewhere."""
    collected = _Collector()
    kms_pb2_grpc.add_KmsServicer_to_server(KmsService(keeper), collected)  # type: ignore[no-untyped-call]
    return collected.handlers


class _Collector:
    """Stands in for a server: the generated code only knows how to add itself to one."""

    def __init__(self) -> None:
        self.handlers: list[Any] = []

    def add_generic_rpc_handlers(self, generic: Sequence[Any]) -> None:
        self.handlers.extend(generic)

    def add_registered_method_handlers(self, service: str, methods: dict[str, Any]) -> None:
        """The same methods again, for servers that route by name."""


def _vault(update: VaultUpdate | None) -> pb.Vault | None:
    if update is None:
        return None
    objects = [pb.SealedObject(kind=item.kind, id=item.id, data=item.data) for item in update.objects]
    return pb.Vault(manifest=update.manifest, objects=objects)


def _bound(items: Sequence[Any], most: int, what: str) -> None:
    if len(items) > most:
        raise ServiceError("service.size", f"{len(items)} {what}, at most {most}")


async def _answered(context: Context, call: Callable[[], Awaitable[Reply]]) -> Reply:
    try:
        return await call()
    except Exception as error:  # noqa: BLE001  (every failure becomes a status; abort raises)
        await _abort(context, error)


async def _abort(context: Context, error: Exception) -> NoReturn:
    status, code, text = status_of(error)
    if not isinstance(error, (ServiceError, EvidenceError)):
        logger().error("service.internal", error=type(error).__name__)
    await context.abort(status, text, trailing_metadata=((CODE_KEY, code),))
