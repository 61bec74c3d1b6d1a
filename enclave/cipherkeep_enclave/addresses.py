"""The only place that knows where the enclave listens and what it may dial.

`--vsock DIR` is the folder of an emulated vsock device (unix sockets only); `--vsock vsock` is the real one, where the
parent is CID 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cipherkeep_wire.limits import CONFIGURATION_PORT, GRPC_PORT, HANDSHAKE_PORT, KMS_EGRESS_PORT
from cipherkeep_wire.transport import Address

REAL = "vsock"
_PARENT_CID = 3  # AWS Nitro Enclaves: the parent instance
_ANY_CID = 0xFFFFFFFF  # VMADDR_CID_ANY, Linux vsock(7)


@dataclass(frozen=True, slots=True)
class Addresses:
    """All that the enclave ever listens on or dials."""

    handshake: Address
    grpc: Address
    configuration: Address
    kms: Address

    @classmethod
    def of(cls, vsock: str) -> Addresses:
        """The addresses on the real device ("vsock") or on an emulated one (an absolute path)."""
        if vsock == REAL:
            listening = [Address("vsock", cid=_ANY_CID, port=port) for port in (HANDSHAKE_PORT, GRPC_PORT)]
            dialled = [Address("vsock", cid=_PARENT_CID, port=port) for port in (CONFIGURATION_PORT, KMS_EGRESS_PORT)]
            return cls(*listening, *dialled)
        folder = Path(vsock).absolute()
        listening = [Address("unix", path=str(folder / f"{port}.sock")) for port in (HANDSHAKE_PORT, GRPC_PORT)]
        way_out = str(folder / "out.sock")
        dialled = [Address("unix-vsock", path=way_out, port=port) for port in (CONFIGURATION_PORT, KMS_EGRESS_PORT)]
        return cls(*listening, *dialled)
