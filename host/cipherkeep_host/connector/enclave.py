"""The only place that calls the enclave's service: one coroutine for each call, each with its deadline.

A refusal, a cut connection and a missed deadline all become `RemoteError`, which says by its code whether the same call
may succeed later.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Protocol, TypeVar

import grpc
from cipherkeep_wire import kms_pb2, kms_pb2_grpc
from cipherkeep_wire.errors import RemoteError, remote_error

_QUICK = 30.0  # seconds for calls that only judge evidence
_OPEN = 120.0  # seconds; an enclave asks the key service and unseals keys
_PROCESS = 600.0  # seconds; key generation takes 5 to 70
_PIECE = 120.0  # seconds until the next piece of a stream; a key may have to be made again from its seed
_T = TypeVar("_T")


class Channel(Protocol):
    """An attested channel, which may exchange what it wraps when it is renewed."""

    @property
    def grpc(self) -> grpc.aio.Channel:
        """The channel to use for the next call."""
        ...


class Enclave:
    """The service of one enclave."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._used: grpc.aio.Channel | None = None
        self._cached: kms_pb2_grpc.KmsStub | None = None

    @property
    def _stub(self) -> kms_pb2_grpc.KmsStub:
        channel = self._channel.grpc
        if self._cached is None or self._used is not channel:
            self._used, self._cached = channel, kms_pb2_grpc.KmsStub(channel)  # type: ignore[no-untyped-call]
        return self._cached

    async def status(self) -> kms_pb2.StatusReply:
        """Where the enclave stands."""
        return await _judged(self._stub.Status(kms_pb2.StatusRequest(), timeout=_QUICK))

    async def advance(
        self,
        light_blocks: Sequence[bytes],
        *,
        control: bytes = b"",
        control_proof: bytes = b"",
        statements: Sequence[bytes] = (),
    ) -> kms_pb2.AdvanceReply:
        """Move its light client, and show the control leaf under the last header."""
        request = kms_pb2.AdvanceRequest(
            light_blocks=light_blocks, control=control, control_proof=control_proof, statements=statements
        )
        return await _judged(self._stub.Advance(request, timeout=_QUICK))

    async def freshen(self, header_height: int, key: int, proof: bytes) -> None:
        """Show that its nonce stands in state."""
        request = kms_pb2.FreshenRequest(header_height=header_height, key=key, proof=proof)
        await _judged(self._stub.Freshen(request, timeout=_QUICK))

    async def open(self, request: kms_pb2.OpenRequest) -> kms_pb2.Vault | None:
        """Open its vault; the vault, when a new one was made."""
        reply = await _judged(self._stub.Open(request, timeout=_OPEN))
        return reply.vault if reply.HasField("vault") else None

    async def register(self, block_height: int) -> kms_pb2.RegisterReply:
        """Have it make a registration over the hash of a block it holds."""
        return await _judged(self._stub.Register(kms_pb2.RegisterRequest(block_height=block_height), timeout=_QUICK))

    async def inbox(self, *, height: int, header_height: int, inbox: bytes, proof: bytes) -> None:
        """Show the requests of a block."""
        request = kms_pb2.InboxRequest(height=height, header_height=header_height, inbox=inbox, proof=proof)
        await _judged(self._stub.Inbox(request, timeout=_QUICK))

    async def process(self, height: int, requests: Sequence[kms_pb2.RequestBody]) -> kms_pb2.ProcessReply:
        """Have requests of a shown block answered."""
        request = kms_pb2.ProcessRequest(height=height, requests=requests)
        return await _judged(self._stub.Process(request, timeout=_PROCESS))

    async def material(self, key_id: bytes, kind: str) -> AsyncIterator[bytes]:
        """The public material of a key, in pieces."""
        call = self._stub.Material(kms_pb2.MaterialRequest(key_id=key_id, kind=kind))
        chunks = call.__aiter__()
        try:
            while True:
                async with asyncio.timeout(_PIECE):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return
                yield chunk.data
        except grpc.aio.AioRpcError as error:
            raise remote_error(error) from None
        except TimeoutError:
            raise RemoteError("channel.broken", "the stream stalled", retryable=True) from None
        finally:
            call.cancel()


async def _judged(call: Awaitable[_T]) -> _T:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise remote_error(error) from None
    except grpc.aio.UsageError as error:
        # The channel was closed under the call: it is being renewed.
        raise RemoteError("channel.broken", str(error)[:200], retryable=True) from None
