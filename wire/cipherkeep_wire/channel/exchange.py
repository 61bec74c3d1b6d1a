"""The only place that knows how handshake messages cross a stream: one frame each, and a frame that says why not."""

from __future__ import annotations

import re
from typing import Final

from cipherkeep_attestation import cbor, handshake
from cipherkeep_attestation.errors import Malformed

from cipherkeep_wire.errors import ServiceError
from cipherkeep_wire.limits import DEFAULT, Limits
from cipherkeep_wire.transport import Address, Stream, connect, finish, read_frame, write_frame

SESSION_SERVICE: Final = "cipherkeep.channel.Session"  # the channel's own gRPC service: `Begin`, `End`
_LABEL: Final = "cipherkeep refusal"
_VERSION: Final = 1
_CODE: Final = re.compile(r"[a-z0-9_]{1,40}(\.[a-z0-9_]{1,40}){1,3}")


def refusal_frame(code: str) -> bytes:
    """What a responder sends instead of a message: the code of the rule that failed. Codes are public."""
    return cbor.encode({"label": _LABEL, "version": _VERSION, "code": code})


def _raise_refusal(frame: bytes) -> None:
    """ServiceError `channel.refused` (or the channel's own code) if this frame is a refusal."""
    try:
        value = cbor.decode(frame, limits=cbor.Limits(size=handshake.MESSAGE_LIMIT, depth=1, items=16))
    except Malformed:
        return
    if not isinstance(value, dict) or value.get("label") != _LABEL or value.get("version") != _VERSION:
        return
    code = value.get("code")
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise ServiceError("channel.refused", "without a known code")
    if code in ("channel.busy", "channel.sessions_full", "channel.certificate_in_use"):
        raise ServiceError(code)
    raise ServiceError("channel.refused", code)


async def receive(stream: Stream, limits: Limits) -> bytes:
    """The next handshake message. ServiceError when it is a refusal, TransportError when none comes."""
    frame = await read_frame(stream[0], maximum=limits.handshake_frame, timeout=limits.handshake_deadline)
    _raise_refusal(frame)
    return frame


async def send(stream: Stream, message: bytes, limits: Limits) -> None:
    """Send one handshake message."""
    await write_frame(stream[1], message, maximum=limits.handshake_frame, timeout=limits.handshake_deadline)


async def request_document(address: Address, nonce: bytes, *, limits: Limits = DEFAULT) -> bytes:
    """Run step 1 with the responder at `address`: its message 2, unjudged (`handshake.judge_responder` judges it).

    `nonce` has 32 bytes. Anyone may ask: this is what an auditor does.
    """
    stream = await connect(address, timeout=limits.connect_timeout)
    try:
        await send(stream, handshake.hello(nonce), limits)
        return await receive(stream, limits)
    finally:
        await finish(stream[1])
