"""The only place that knows the forms of an address, and the error of everything that is done with one."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from cipherkeep_wire.errors import ServiceError

Scheme: TypeAlias = Literal["vsock", "unix", "unix-vsock", "tcp"]

PATH_BYTES: Final = 107  # sockaddr_un.sun_path less its NUL, Linux unix(7)
_ANY_CID: Final = 0xFFFFFFFF  # VMADDR_CID_ANY, Linux vsock(7)

_PATH = r"(?P<path>/[^#\x00-\x1f\ud800-\udfff]+)"
_PORT = r"(?P<port>0|[1-9][0-9]{0,9})"
_FORMS: Final[dict[Scheme, re.Pattern[str]]] = {
    "vsock": re.compile(rf"vsock://(?P<cid>0|[1-9][0-9]{{0,9}}):{_PORT}"),
    "unix": re.compile(rf"unix://{_PATH}"),
    "unix-vsock": re.compile(rf"unix-vsock://{_PATH}#{_PORT}"),
    "tcp": re.compile(rf"tcp://127\.0\.0\.1:{_PORT}"),
}


class TransportError(ServiceError):
    """A stream could not be had or broke, with a code `transport.…`; `detail` is for people, without payload."""


def unreachable(address: Address, problem: OSError) -> TransportError:
    """What an error of the kernel becomes: the address and the kernel's words."""
    return TransportError("transport.unreachable", f"{address}: {problem.strerror or type(problem).__name__}")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a stream goes. `path` is absolute; port 0 of tcp: the kernel chooses; vsock has 32-bit numbers."""

    scheme: Scheme
    path: str = ""
    cid: int = 0
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read one of the four forms, exactly. `TransportError("transport.address")` for anything else."""
        if len(text) > 256:
            raise TransportError("transport.address", "longer than 256 characters")
        matches = ((scheme, form.fullmatch(text)) for scheme, form in _FORMS.items())
        scheme, found = next((match for match in matches if match[1]), ("unix", None))
        if found is None:
            raise TransportError("transport.address", text)
        part = found.groupdict()
        address = cls(scheme, part.get("path", ""), int(part.get("cid", 0)), int(part.get("port", 0)))
        most = 0xFFFF if scheme == "tcp" else _ANY_CID - 1
        least = 0 if scheme in ("tcp", "unix") else 1
        if not least <= address.port <= most or address.cid > _ANY_CID:
            raise TransportError("transport.address", text)
        if len(os.fsencode(address.path)) > PATH_BYTES:
            raise TransportError("transport.address", text)
        return address

    def __str__(self) -> str:
        match self.scheme:
            case "vsock":
                return f"vsock://{self.cid}:{self.port}"
            case "unix":
                return f"unix://{self.path}"
            case "unix-vsock":
                return f"unix-vsock://{self.path}#{self.port}"
            case "tcp":
                return f"tcp://127.0.0.1:{self.port}"
