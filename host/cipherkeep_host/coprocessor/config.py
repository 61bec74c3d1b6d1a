"""The only place that reads the coprocessor's configuration file, which is JSON with exactly these fields:

| field | meaning |
| --- | --- |
| `listen` | unix:///PATH or tcp://127.0.0.1:PORT |
| `state` | folder of handles, expanded ciphertexts and published material |
| `node` | the chain node's RPC, unix:///PATH or http://127.0.0.1:PORT |
| `store` | the store |
| `configuration` | file with a measured configuration: trust root, instance, genesis parameters |
| `key_id` | the key to serve, 64 hexadecimal digits |
| `signing_key` | file with the key that signs bindings (hex, mode 0600) |
| `crs_bits` | how many bits one list of inputs may hold: 2048 for today's clients, less starts faster |
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from cipherkeep_attestation.statements.configuration import Configuration
from cipherkeep_wire.transport import Address

from cipherkeep_host import configuration_files as files
from cipherkeep_host.errors import HostError

_BITS = (64, 4096)


@dataclass(frozen=True, slots=True)
class Config:
    """What a coprocessor needs to know."""

    listen: str
    state: Path
    node: str
    store: Address
    configuration: Configuration
    key_id: bytes
    signing_key: Path
    crs_bits: int


def load(path: Path) -> Config:
    """Read the file. `HostError("process.configuration")` names the field that is wrong."""
    fields = files.read(path, *(field.name for field in dataclasses.fields(Config)))
    bits = fields["crs_bits"]
    if type(bits) is not int or not _BITS[0] <= bits <= _BITS[1]:
        raise HostError("process.configuration", f"crs_bits: {_BITS[0]} to {_BITS[1]}")
    key_id = files.text(fields, "key_id")
    if not re.fullmatch(r"[0-9a-f]{64}", key_id):
        raise HostError("process.configuration", "key_id: 64 hexadecimal digits")
    return Config(
        listen=files.text(fields, "listen"),
        state=Path(files.text(fields, "state")),
        node=files.text(fields, "node"),
        store=files.address(fields, "store"),
        configuration=files.measured(fields, "configuration"),
        key_id=bytes.fromhex(key_id),
        signing_key=Path(files.text(fields, "signing_key")),
        crs_bits=bits,
    )
