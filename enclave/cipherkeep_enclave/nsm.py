"""The only place that talks to the Nitro Security Module: entropy, PCRs, documents about this enclave, and the time.

    with Nsm("nsm:///dev/nsm") as nsm:  # real hardware: one ioctl per call
        nsm.extend_pcr(16, configuration_digest)

An emulated module is reached as `unix:///PATH`; the same CBOR travels there behind a four-byte length. The module is
the platform: its answers are decoded strictly and bounded, and otherwise believed. Source: AWS nsm-api; linux/nsm.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Protocol

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Malformed

REQUEST_LIMIT = 0x1000  # bytes; the driver answers EMSGSIZE beyond
RESPONSE_LIMIT = 0x3000  # bytes; the driver truncates silently beyond
FIELD_LIMIT = 1024  # bytes of nonce, public_key and user_data each
RANDOM_LIMIT = 4096  # bytes of one call of random(); the module gives 256 at a time
PCRS = 32
NSM_IOCTL = 0xC0200A00  # _IOWR(0x0A, 0, 32 bytes)
TIMEOUT = 30.0  # seconds for an emulated module; the driver has its own two minutes
_LIMITS = cbor.Limits(size=RESPONSE_LIMIT, depth=4, items=256)
_LATEST = 253_402_300_799_000  # milliseconds at the end of the year 9999, the last that a datetime holds
_CODES = (
    "InvalidArgument",
    "InvalidIndex",
    "InvalidResponse",
    "ReadOnlyIndex",
    "InvalidOperation",
    "BufferTooSmall",
    "InputTooLarge",
    "InternalError",
)


class NsmError(Exception):
    """A call failed. `code` is the module's own, or `Transport` (it cannot be reached), or `Malformed` (its answer)."""

    def __init__(self, code: str, detail: str = "") -> None:
        self.code = code
        super().__init__(f"the Nitro Security Module: {code}" + (f" ({detail})" if detail else ""))


@dataclass(frozen=True, slots=True)
class Description:
    """What the module says about itself."""

    version: tuple[int, int, int]
    module_id: str
    max_pcrs: int
    locked_pcrs: frozenset[int]


@dataclass(frozen=True, slots=True)
class Pcr:
    """A register: whether it is locked, and its 48 bytes."""

    locked: bool
    value: bytes


class _Device(Protocol):
    def exchange(self, request: bytes) -> bytes: ...

    def close(self) -> None: ...


class Nsm:
    """A synchronous client; several threads may share it, their calls follow one another."""

    def __init__(self, address: str) -> None:
        """`nsm:///dev/nsm` for the device, `unix:///PATH` for an emulated module. ValueError for anything else."""
        scheme, separator, path = address.partition("://")
        if not separator or not path.startswith("/") or scheme not in ("nsm", "unix"):
            raise ValueError("an NSM address is nsm:///DEVICE or unix:///PATH")
        self._device: _Device = _Ioctl(path) if scheme == "nsm" else _Unix(path)
        self._lock = threading.Lock()

    def __enter__(self) -> Nsm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the device back."""
        with self._lock:
            self._device.close()

    def describe(self) -> Description:
        """Version, module id, number of PCRs, and which are locked."""
        answer = self._call("DescribeNSM", None)
        found = _fields(
            answer,
            version_major=cbor.uint(0xFFFF),
            version_minor=cbor.uint(0xFFFF),
            version_patch=cbor.uint(0xFFFF),
            module_id=cbor.text(256),
            max_pcrs=cbor.uint(PCRS, 1),
            locked_pcrs=cbor.sequence(cbor.uint(PCRS - 1), PCRS),
            digest=cbor.exactly("SHA384"),
        )
        version = (found["version_major"], found["version_minor"], found["version_patch"])
        return Description(version, found["module_id"], found["max_pcrs"], frozenset(found["locked_pcrs"]))

    def describe_pcr(self, index: int) -> Pcr:
        """The register `index`, 0 to 31."""
        found = _fields(self._call("DescribePCR", {"index": index}), lock=cbor.boolean, data=cbor.raw(48))
        return Pcr(found["lock"], found["data"])

    def extend_pcr(self, index: int, data: bytes) -> bytes:
        """The new value, SHA384(old ‖ data). `NsmError("ReadOnlyIndex")` once the register is locked."""
        new: bytes = _fields(self._call("ExtendPCR", {"index": index, "data": data}), data=cbor.raw(48))["data"]
        return new

    def lock_pcr(self, index: int) -> None:
        """Lock one register until the enclave ends; from now on it stands in documents."""
        self._call("LockPCR", {"index": index}, answered=False)

    def lock_pcrs(self, end: int) -> None:
        """Lock the registers 0 to `end` - 1."""
        self._call("LockPCRs", {"range": end}, answered=False)

    def random(self, length: int) -> bytes:
        """`length` bytes (at most 4096) from the module's generator."""
        if not 0 < length <= RANDOM_LIMIT:
            raise ValueError(f"1 to {RANDOM_LIMIT} bytes at a time")
        collected = bytearray()
        while len(collected) < length:
            collected += _fields(self._call("GetRandom", None), random=cbor.raw(1, 256))["random"]
        return bytes(collected[:length])

    def attest(
        self, *, nonce: bytes | None = None, public_key: bytes | None = None, user_data: bytes | None = None
    ) -> bytes:
        """An attestation document about this enclave over these fields, each of at most 1024 bytes (ValueError)."""
        if any(field is not None and len(field) > FIELD_LIMIT for field in (nonce, public_key, user_data)):
            raise ValueError(f"a field of a document has at most {FIELD_LIMIT} bytes")
        arguments = {"user_data": user_data, "nonce": nonce, "public_key": public_key}
        answer = self._call("Attestation", arguments)
        document: bytes = _fields(answer, document=cbor.raw(1, RESPONSE_LIMIT))["document"]
        return document

    def _call(self, name: str, arguments: dict[str, Any] | None, *, answered: bool = True) -> object:
        request = cbor.encode(name if arguments is None else {name: arguments})
        if len(request) > REQUEST_LIMIT:
            raise NsmError("InputTooLarge")
        with self._lock:
            response = self._device.exchange(request)
        try:
            value = cbor.decode_foreign(response, limits=_LIMITS)
        except Malformed as error:
            raise NsmError("Malformed", error.code) from None
        if isinstance(value, dict) and value.keys() == {"Error"}:
            code = value["Error"]
            raise NsmError(code if isinstance(code, str) and code in _CODES else "Malformed")
        if not answered:
            if value != name:
                raise NsmError("Malformed", name)
            return None
        if not isinstance(value, dict) or value.keys() != {name}:
            raise NsmError("Malformed", name)
        return value[name]


def _fields(value: object, **schema: cbor.Reader) -> dict[str, Any]:
    try:
        return cbor.fields(value, **schema)
    except Malformed as error:
        raise NsmError("Malformed", error.detail) from None


class _Ioctl:
    """The driver of Linux 6.8 and later: two buffers by address, the answer's length comes back in the structure."""

    _MESSAGE = struct.Struct("=QQQQ")  # request address and length, response address and length

    def __init__(self, path: str) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise NsmError("Transport", error.strerror or "open") from error

    def exchange(self, request: bytes) -> bytes:
        if self._descriptor < 0:
            raise NsmError("Transport", "closed")
        question = ctypes.create_string_buffer(request, len(request))
        answer = ctypes.create_string_buffer(RESPONSE_LIMIT)
        message = bytearray(
            self._MESSAGE.pack(ctypes.addressof(question), len(request), ctypes.addressof(answer), RESPONSE_LIMIT)
        )
        try:
            fcntl.ioctl(self._descriptor, NSM_IOCTL, message, True)
        except OSError as error:
            raise NsmError("Transport", error.strerror or "ioctl") from error
        length = self._MESSAGE.unpack(message)[3]
        if length > RESPONSE_LIMIT:
            raise NsmError("Malformed", "response length")
        return answer.raw[:length]

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _Unix:
    """An emulated module. A call that failed on the way is never repeated: extending a PCR twice is not the same."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = self._connect()

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(TIMEOUT)
            connection.connect(self._path)
        except OSError as error:
            connection.close()
            raise NsmError("Transport", error.strerror or "connect") from error
        return connection

    def exchange(self, request: bytes) -> bytes:
        if self._socket is None:
            self._socket = self._connect()
        try:
            self._socket.sendall(len(request).to_bytes(4, "big") + request)
            length = int.from_bytes(self._receive(self._socket, 4), "big")
            if not 0 < length <= RESPONSE_LIMIT:
                raise NsmError("Malformed", "response length")
            return self._receive(self._socket, length)
        except OSError as error:
            self.close()
            raise NsmError("Transport", str(error)) from error
        except NsmError:
            self.close()
            raise

    @staticmethod
    def _receive(connection: socket.socket, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            piece = connection.recv(length - len(data))
            if not piece:
                raise NsmError("Transport", "the connection ended")
            data += piece
        return bytes(data)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class SecureClock:
    """The time according to the module: its documents carry the hypervisor's clock, which the host cannot set.

    Between documents it runs on the monotonic clock. It never goes backwards, and fails with `NsmError` rather than
    answer from a document older than 30 seconds.
    """

    RESYNC = 30.0  # seconds; the monotonic clock drifts less than milliseconds in that time

    def __init__(self, nsm: Nsm, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._nsm = nsm
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._base = datetime.min.replace(tzinfo=UTC)
        self._synced: float | None = None
        self._last = self._base

    def now(self) -> datetime:
        """The current time in UTC, to the microsecond, correct to about the duration of one call to the module."""
        with self._lock:
            moment = self._monotonic()
            if self._synced is None or moment - self._synced >= self.RESYNC:
                self._base = self._document_time()
                # The document was made after `moment`: counting from there errs towards the future, so that what
                # expires does so early.
                self._synced = moment
                moment = self._monotonic()
            self._last = max(self._last, self._base + timedelta(seconds=moment - self._synced))
            return self._last

    def _document_time(self) -> datetime:
        nonce = os.urandom(32)
        document = self._nsm.attest(nonce=nonce)
        try:
            envelope = cbor.decode_foreign(document, limits=_LIMITS)
            payload = envelope[2] if isinstance(envelope, list) and len(envelope) == 4 else None
            content = cbor.decode_foreign(payload, limits=_LIMITS) if isinstance(payload, bytes) else None
        except Malformed as error:
            raise NsmError("Malformed", error.code) from None
        if not isinstance(content, dict) or content.get("nonce") != nonce:
            raise NsmError("Malformed", "a document over another nonce")
        timestamp = content.get("timestamp")
        if type(timestamp) is not int or not 0 < timestamp <= _LATEST:
            raise NsmError("Malformed", "timestamp")
        return datetime.fromtimestamp(timestamp // 1000, UTC) + timedelta(milliseconds=timestamp % 1000)
