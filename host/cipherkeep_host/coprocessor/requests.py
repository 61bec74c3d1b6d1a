"""The only place that reads what is asked of the coprocessor: deterministic CBOR, bounded before it is read.

    POST /inputs    {list: bytes, user: 20 bytes, contract: 20 bytes}
    POST /compute   {operation: text, operands: [handle, …], signature: 65 bytes}

The owner of all operands signs a computation as typed data under the key's domain of bindings:

    Compute(uint8 operation,bytes32[] operands)

It needs no nonce: the same computation has the same result, and the result belongs to who owned the operands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Malformed
from cipherkeep_attestation.statements import eip712
from cipherkeep_attestation.statements.eip712 import Domain

from cipherkeep_host.coprocessor.handles import OPERATIONS
from cipherkeep_host.errors import HostError

MAX_LIST = 1 << 20  # bytes of a proven list; 2048 bits take about 20 KB
MAX_BODY = MAX_LIST + 256
_LIMITS = cbor.Limits(size=MAX_BODY, depth=2, items=16)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Encrypted inputs of a user for a contract."""

    data: bytes
    user: bytes
    contract: bytes

    def encode(self) -> bytes:
        """Deterministic CBOR."""
        return cbor.encode({"contract": self.contract, "list": self.data, "user": self.user})

    @classmethod
    def decode(cls, data: bytes) -> Inputs:
        """Read what `encode` writes; `HostError("coprocessor.request")` for anything else."""
        try:
            found = cbor.fields(
                cbor.decode(data, limits=_LIMITS),
                contract=cbor.raw(20),
                list=cbor.raw(1, MAX_LIST),
                user=cbor.raw(20),
            )
        except Malformed as error:
            raise HostError("coprocessor.request", str(error)[:300]) from None
        return cls(found["list"], found["user"], found["contract"])


@dataclass(frozen=True, slots=True)
class Compute:
    """A computation on ciphertexts of one owner, who signed it."""

    operation: str
    operands: tuple[bytes, ...]
    signature: bytes

    def encode(self) -> bytes:
        """Deterministic CBOR."""
        return cbor.encode({"operands": list(self.operands), "operation": self.operation, "signature": self.signature})

    @classmethod
    def decode(cls, data: bytes) -> Compute:
        """Read what `encode` writes; `HostError("coprocessor.request")` for anything else."""
        try:
            found = cbor.fields(
                cbor.decode(data, limits=_LIMITS),
                operands=cbor.sequence(cbor.raw(32), 3, least=2),
                operation=cbor.one_of(*OPERATIONS),
                signature=cbor.raw(65),
            )
        except Malformed as error:
            raise HostError("coprocessor.request", str(error)[:300]) from None
        if len(found["operands"]) != (3 if found["operation"] == "select" else 2):
            raise HostError("coprocessor.request", f"{found['operation']} of {len(found['operands'])}")
        return cls(found["operation"], found["operands"], found["signature"])


def compute_digest(operation: str, operands: Sequence[bytes], domain: Domain) -> bytes:
    """What the owner signs (32 bytes)."""
    return domain.digest(
        eip712.struct_hash(
            "Compute(uint8 operation,bytes32[] operands)",
            eip712.uint(OPERATIONS[operation]),
            eip712.array(map(eip712.bytes32, operands)),
        )
    )
