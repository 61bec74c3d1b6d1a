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

from dataclasses import dataclass
from pathlib import Path

from cipherkeep_attestation.statements.configuration import Configuration
from cipherkeep_wire.transport import Address

from cipherkeep_host import configuration_files as files
from cipherkeep_host.errors import HostError

_TEXTS = ("listen", "state", "node", "store", "handshake", "grpc", "configuration", "sender_key", "host_attestor")


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


def load(path: Path) -> Config:
    """Read the file. `HostError("process.configuration")` names the field that is wrong."""
    fields = files.read(path, *_TEXTS, "measurements")
    return Config(
        listen=files.text(fields, "listen"),
        state=Path(files.text(fields, "state")),
        node=files.text(fields, "node"),
        store=files.address(fields, "store"),
        handshake=files.address(fields, "handshake"),
        grpc=files.address(fields, "grpc"),
        configuration=files.measured(fields, "configuration"),
        pcrs=_pcrs(fields["measurements"]),
        sender_key=Path(files.text(fields, "sender_key")),
        host_attestor=Path(files.text(fields, "host_attestor")),
    )


def _pcrs(rows: object) -> dict[int, bytes]:
    try:
        pcrs = {int(index): bytes.fromhex(text) for index, text in files.exact(rows, "0", "1", "2").items()}
    except (TypeError, ValueError):
        raise HostError("process.configuration", "measurements: PCRs 0, 1 and 2 in hexadecimal") from None
    if any(len(pcr) != 48 for pcr in pcrs.values()):
        raise HostError("process.configuration", "measurements: a PCR has 48 bytes")
    return pcrs
