"""The only place for what travels between the coprocessor and its worker: frames of deterministic CBOR on two pipes.

A frame is a length of four bytes, big-endian, and that many bytes. Both sides refuse a frame beyond `MAX_FRAME` before
they read it.
"""

from __future__ import annotations

from typing import Any, BinaryIO

from cipherkeep_attestation import cbor

MAX_FRAME = 96 << 20  # bytes; the values of a list under a string of 2048 bits expand to at most 17 MB
_LIMITS = cbor.Limits(size=MAX_FRAME, depth=6, items=20_000)


def pack(value: object) -> bytes:
    """A frame. ValueError beyond `MAX_FRAME`."""
    data = cbor.encode(value)
    if len(data) > MAX_FRAME:
        raise ValueError(f"a frame of {len(data)} bytes")
    return len(data).to_bytes(4, "big") + data


def unpack(data: bytes) -> dict[str, Any]:
    """The map in a frame's bytes; `Malformed` for anything else."""
    return dict(cbor.fields({"frame": cbor.decode(data, limits=_LIMITS)}, frame=_MAP)["frame"])


_MAP = cbor.mapping(cbor.text(32), cbor.anything, 16)


def read(stream: BinaryIO) -> dict[str, Any] | None:
    """The next frame of a blocking stream; None at its end."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    size = int.from_bytes(head, "big")
    if size > MAX_FRAME:
        raise ValueError(f"a frame of {size} bytes")
    data = stream.read(size)
    return unpack(data) if len(data) == size else None
