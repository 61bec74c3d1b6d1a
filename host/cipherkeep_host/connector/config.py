"""The only place that reads the connector's configuration file, which is JSON with exactly these fields:

| field | meaning |
| --- | --- |
| `listen` | unix:///PATH or tcp://127.0.0.1:PORT of `/healthz` and `/metrics` |
| `state` | folder of progress, vault and scratch files |
| `node` | the chain node's RPC, unix:///PATH or http://127.0.0.1:PORT |
| `store` | the store |
| `handshake`, `grpc` | the enclave behind the proxy, as addresses of `cipherkeep_wire.transport` |
| `configuration` | file with the enclave's measured configuration |
| `measurements` | `{"0": hex, "1": hex, "2": hex}`: the image that the enclave must run |
| `sender_key` | file with the connector's key for transactions (hex, mode 0600) |
| `host_attestor` | folder of the emulated host's attestation key |

Party, instance, trust root and the root of enclave documents stand in the measured configuration.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements.configuration import MAX_CONFIGURATION, Configuration
from cipherkeep_wire.transport import Address, TransportError

from cipherkeep_host.errors import HostError

MAX_FILE = 1 << 16  # bytes
_TEXTS = ("configuration", "grpc", "handshake", "host_attestor", "listen", "node", "sender_key", "state", "store")


@dataclass(frozen=True, slots=True)
class Config:
    """What a connector needs to know."""

    listen: str
    state: Path
    node: str
    store: Address
    handshake: Address
    grpc: Address
    configuration: Configuration
    pcrs: dict[int, bytes]  # PCR0, PCR1, PCR2
    sender_key: Path
    host_attestor: Path


def read_json(path: Path) -> dict[str, object]:
    """A JSON object from a file, with no key twice. `HostError("process.configuration")`."""
    try:
        data = path.read_bytes()
        if len(data) > MAX_FILE:
            raise HostError("process.configuration", f"{path}: more than {MAX_FILE} bytes")
        value = json.loads(data, object_pairs_hook=_unique)
    except (OSError, ValueError) as problem:
        raise HostError("process.configuration", f"{path}: {problem}"[:300]) from None
    if not isinstance(value, dict):
        raise HostError("process.configuration", f"{path}: not an object")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field twice")
    return found


def texts(value: dict[str, object], names: tuple[str, ...], others: tuple[str, ...] = ()) -> dict[str, str]:
    """The text fields of an object that has exactly `names` and `others`."""
    if value.keys() != {*names, *others}:
        odd = sorted(value.keys() ^ {*names, *others})
        raise HostError("process.configuration", f"missing or unknown: {', '.join(odd)}"[:300])
    found = {}
    for name in names:
        text = value[name]
        if not isinstance(text, str) or not text:
            raise HostError("process.configuration", f"{name}: not a text")
        found[name] = text
    return found


def address(name: str, text: str) -> Address:
    """An address of the wire's transport."""
    try:
        return Address.parse(text)
    except TransportError:
        raise HostError("process.configuration", f"{name}: {text}"[:200]) from None


def measured(path: Path) -> Configuration:
    """The enclave's configuration from its file."""
    try:
        data = path.read_bytes()
        if len(data) > MAX_CONFIGURATION:
            raise HostError("process.configuration", f"{path}: more than {MAX_CONFIGURATION} bytes")
        return Configuration.decode(data)
    except (OSError, EvidenceError) as problem:
        raise HostError("process.configuration", f"{path}: {problem}"[:300]) from None


def load(path: Path) -> Config:
    """Read the file. `HostError("process.configuration")` names the field that is wrong."""
    value = read_json(path)
    found = texts(value, _TEXTS, ("measurements",))
    rows = value["measurements"]
    if not isinstance(rows, dict) or set(rows) != {"0", "1", "2"}:
        raise HostError("process.configuration", "measurements: PCRs 0, 1 and 2")
    try:
        pcrs = {int(index): bytes.fromhex(text) for index, text in rows.items()}
    except (TypeError, ValueError):
        raise HostError("process.configuration", "measurements: not hexadecimal") from None
    if any(len(pcr) != 48 for pcr in pcrs.values()):
        raise HostError("process.configuration", "measurements: a PCR has 48 bytes")
    return Config(
        listen=found["listen"],
        state=Path(found["state"]),
        node=found["node"],
        store=address("store", found["store"]),
        handshake=address("handshake", found["handshake"]),
        grpc=address("grpc", found["grpc"]),
        configuration=measured(Path(found["configuration"])),
        pcrs=pcrs,
        sender_key=Path(found["sender_key"]),
        host_attestor=Path(found["host_attestor"]),
    )
