"""The only place that reads the proxy's configuration file, which is JSON with exactly these fields:

| field | meaning |
| --- | --- |
| `listen` | unix:///PATH or tcp://127.0.0.1:PORT of `POST /attestation`, `/healthz` and `/metrics` |
| `handshake`, `grpc` | `{"listen": …, "connect": …}`: where host clients dial, and the enclave's port behind it |
| `kms` | `{"listen": …, "connect": …}`: the enclave's egress port, and the one endpoint it leads to |

`listen` and `connect` of a pair are addresses of `cipherkeep_wire.transport`. On a laptop:

    {"listen": "tcp://127.0.0.1:7080",
     "handshake": {"listen": "unix:///run/handshake.sock", "connect": "unix-vsock:///run/host/e.vsock#5001"},
     "grpc":      {"listen": "unix:///run/grpc.sock",      "connect": "unix-vsock:///run/host/e.vsock#5002"},
     "kms":       {"listen": "unix-vsock:///run/host/e.vsock#7002", "connect": "unix:///run/kms.sock"}}
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cipherkeep_attestation import strict_json
from cipherkeep_wire.transport import Address, TransportError

from cipherkeep_host.errors import HostError
from cipherkeep_host.process import parse_address

MAX_FILE: Final = 1 << 16  # bytes


@dataclass(frozen=True, slots=True)
class Pair:
    """Where is listened, and where each connection is carried to."""

    listen: Address
    connect: Address


@dataclass(frozen=True, slots=True)
class Config:
    """What a proxy needs to know."""

    listen: Address
    handshake: Pair
    grpc: Pair
    kms: Pair


def load(path: Path) -> Config:
    """Read the file. `HostError("process.configuration")` names the field that is wrong."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as problem:
        raise HostError("process.configuration", f"{path}: {problem.strerror}") from None
    if len(data) > MAX_FILE:
        raise HostError("process.configuration", f"{path}: more than {MAX_FILE} bytes")
    try:
        fields = exact_object(data, "listen", "handshake", "grpc", "kms")
        return Config(
            listen=parse_address(_text(fields["listen"])),
            handshake=_pair(fields["handshake"]),
            grpc=_pair(fields["grpc"]),
            kms=_pair(fields["kms"]),
        )
    except (ValueError, TransportError, HostError) as problem:
        raise HostError("process.configuration", f"{path}: {problem}"[:300]) from None


def exact_object(data: bytes, *names: str) -> dict[str, Any]:
    """A JSON object with exactly these members, none twice. ValueError says what is wrong with it."""
    value = strict_json.loads(data)
    return _exact(value, *names)


def _exact(value: Any, *names: str) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != set(names):
        raise ValueError(f"not an object with exactly {', '.join(names)}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("an address is a text")
    return value


def _pair(value: Any) -> Pair:
    fields = _exact(value, "listen", "connect")
    return Pair(Address.parse(_text(fields["listen"])), Address.parse(_text(fields["connect"])))
