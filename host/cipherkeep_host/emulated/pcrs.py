"""The only place for what an emulated NSM answers: one bank of PCRs, one boot of an enclave, no I/O.

Requests and answers are the CBOR of the real module (the enums of AWS's nsm-api): a text for a call without arguments,
a map of one entry otherwise. What the real module refuses is refused with its error code.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Malformed

from cipherkeep_host.emulated.documents import FIELD_LIMIT

MAX_PCRS = 32
PLATFORM_PCRS = 16  # PCRs 0-15 are the platform's and locked before an enclave runs
REQUEST_LIMIT = 0x1000  # bytes, linux/nsm.h
RESPONSE_LIMIT = 0x3000  # bytes, linux/nsm.h
RANDOM_LENGTH = 256  # bytes that the real module returns
ZERO = bytes(48)
_LIMITS = cbor.Limits(size=REQUEST_LIMIT, depth=3, items=32)

Attest = Callable[[Mapping[int, bytes], "bytes | None", "bytes | None", "bytes | None"], bytes]


class NsmRefusal(Exception):
    """The module refuses; `code` is one of the real module's error codes."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


class PcrBank:
    """Thirty-two PCRs with their locks, and the module's calls on them."""

    def __init__(self, measurements: Mapping[int, bytes], *, module_id: str, attest: Attest) -> None:
        if any(not 0 <= index < PLATFORM_PCRS or len(value) != 48 for index, value in measurements.items()):
            raise ValueError("the platform measures into PCRs 0-15, 48 bytes each")
        self._values = [measurements.get(index, ZERO) for index in range(MAX_PCRS)]
        self._locked = [index < PLATFORM_PCRS for index in range(MAX_PCRS)]
        self.module_id = module_id
        self._attest = attest

    def answer(self, request: bytes) -> bytes:
        """The encoded answer to an encoded request; refusals are answers too."""
        try:
            name, arguments = _parse(request)
            result = self._call(name, arguments)
        except NsmRefusal as refusal:
            result = {"Error": refusal.code}
        encoded = cbor.encode(result)
        return encoded if len(encoded) <= RESPONSE_LIMIT else cbor.encode({"Error": "BufferTooSmall"})

    def _call(self, name: str, arguments: dict[str, Any]) -> object:
        match name:
            case "DescribeNSM":
                return {"DescribeNSM": self._describe()}
            case "GetRandom":
                return {"GetRandom": {"random": os.urandom(RANDOM_LENGTH)}}
            case "DescribePCR":
                index = _index(arguments["index"])
                return {"DescribePCR": {"lock": self._locked[index], "data": self._values[index]}}
            case "ExtendPCR":
                return {"ExtendPCR": {"data": self._extend(_index(arguments["index"]), arguments["data"])}}
            case "LockPCR":
                index = _index(arguments["index"])
                if self._locked[index]:
                    raise NsmRefusal("ReadOnlyIndex")
                self._locked[index] = True
                return "LockPCR"
            case "LockPCRs":
                self._lock_below(arguments["range"])
                return "LockPCRs"
            case _:
                return {"Attestation": {"document": self._document(arguments)}}

    def _describe(self) -> dict[str, object]:
        return {
            "version_major": 1,
            "version_minor": 0,
            "version_patch": 0,
            "module_id": self.module_id,
            "max_pcrs": MAX_PCRS,
            "locked_pcrs": [index for index in range(MAX_PCRS) if self._locked[index]],
            "digest": "SHA384",
        }

    def _extend(self, index: int, data: Any) -> bytes:
        if type(data) is not bytes or not data:
            raise NsmRefusal("InvalidArgument")
        if self._locked[index]:
            raise NsmRefusal("ReadOnlyIndex")
        self._values[index] = hashlib.sha384(self._values[index] + data).digest()
        return self._values[index]

    def _lock_below(self, end: Any) -> None:
        if type(end) is not int or end < 0:
            raise NsmRefusal("InvalidArgument")
        if end > MAX_PCRS:
            raise NsmRefusal("InvalidIndex")
        for index in range(end):
            self._locked[index] = True

    def _document(self, arguments: dict[str, Any]) -> bytes:
        for field in arguments.values():
            if field is not None and type(field) is not bytes:
                raise NsmRefusal("InvalidArgument")
            if field is not None and len(field) > FIELD_LIMIT:
                raise NsmRefusal("InputTooLarge")
        shown = {index: self._values[index] for index in range(MAX_PCRS) if self._locked[index]}
        return self._attest(shown, arguments["public_key"], arguments["user_data"], arguments["nonce"])


_ARGUMENTS: dict[str, frozenset[str]] = {
    "DescribeNSM": frozenset(),
    "GetRandom": frozenset(),
    "DescribePCR": frozenset({"index"}),
    "ExtendPCR": frozenset({"index", "data"}),
    "LockPCR": frozenset({"index"}),
    "LockPCRs": frozenset({"range"}),
    "Attestation": frozenset({"user_data", "nonce", "public_key"}),
}


def _parse(request: bytes) -> tuple[str, dict[str, Any]]:
    if len(request) > REQUEST_LIMIT:
        raise NsmRefusal("InputTooLarge")
    try:
        value = cbor.decode_foreign(request, limits=_LIMITS)
    except Malformed:
        raise NsmRefusal("InvalidOperation") from None
    if isinstance(value, str) and _ARGUMENTS.get(value) == frozenset():
        return value, {}
    if not isinstance(value, dict) or len(value) != 1:
        raise NsmRefusal("InvalidOperation")
    ((name, arguments),) = value.items()
    if not isinstance(name, str) or name not in _ARGUMENTS:
        raise NsmRefusal("InvalidOperation")
    if not isinstance(arguments, dict) or not _ARGUMENTS[name] or arguments.keys() != _ARGUMENTS[name]:
        raise NsmRefusal("InvalidArgument")
    return name, {str(key): item for key, item in arguments.items()}


def _index(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 16:
        raise NsmRefusal("InvalidArgument")
    if value >= MAX_PCRS:
        raise NsmRefusal("InvalidIndex")
    return value
