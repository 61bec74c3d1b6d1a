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

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cipherkeep_wire.transport import Address

from cipherkeep_host import configuration_files as files
from cipherkeep_host.errors import HostError
from cipherkeep_host.process import parse_address


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
    fields = files.read(path, "listen", "handshake", "grpc", "kms")
    try:
        listen = parse_address(files.text(fields, "listen"))
    except HostError as problem:
        raise HostError("process.configuration", f"{path}: listen: {problem.detail}") from None
    return Config(
        listen=listen,
        handshake=_pair(path, fields, "handshake"),
        grpc=_pair(path, fields, "grpc"),
        kms=_pair(path, fields, "kms"),
    )


def _pair(path: Path, fields: Mapping[str, object], name: str) -> Pair:
    try:
        pair = files.exact(fields[name], "listen", "connect")
        return Pair(files.address(pair, "listen"), files.address(pair, "connect"))
    except (ValueError, HostError) as problem:
        detail = problem.detail if isinstance(problem, HostError) else problem
        raise HostError("process.configuration", f"{path}: {name}: {detail}"[:300]) from None
