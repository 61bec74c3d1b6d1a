"""The only place where inputs and results become bound handles.

Order, for both: judge who asks; have the worker verify or compute; store the packed form; sign; keep; answer. What was
answered is durable. The same input or computation again has the same answer without new work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements import eip712, fhevm
from cipherkeep_attestation.statements.binding import PACKED, Ciphertext, ciphertext_digest
from cipherkeep_attestation.statements.governance import KeyTerms

from cipherkeep_host.coprocessor import handles
from cipherkeep_host.coprocessor.requests import Compute, Inputs, compute_digest
from cipherkeep_host.coprocessor.signer import Signer
from cipherkeep_host.coprocessor.supervisor import Supervisor, Value
from cipherkeep_host.coprocessor.table import Entry, Table
from cipherkeep_host.errors import HostError
from cipherkeep_host.store.client import StoreClient

MAX_VALUES = 128  # of one list


class Coprocessor:
    """Serves one key."""

    def __init__(
        self, *, key_id: bytes, terms: KeyTerms, signer: Signer, table: Table, store: StoreClient, worker: Supervisor
    ) -> None:
        self.key_id = key_id
        self.terms = terms
        self.signer = signer
        self._domain = terms.bindings()
        self._table = table
        self._store = store
        self._worker = worker
        self._writing = asyncio.Lock()

    async def inputs(self, asked: Inputs) -> list[Ciphertext]:
        """Take a proven list; the bindings of its values, which belong to its user."""
        terms = self.terms
        known = self._known(asked)
        if known:
            return known
        metadata = handles.metadata(
            contract=asked.contract, user=asked.user, acl=terms.acl, chain_id=terms.host_chain_id
        )
        values = await self._worker.expand(asked.data, metadata=metadata, most=MAX_VALUES)
        types = [fhevm.TYPES[value.type][0] for value in values]
        hashed = handles.list_hash(asked.data)
        named = [self._input_handle(hashed, index, fhe_type) for index, fhe_type in enumerate(types)]
        return await self._bind(list(zip(named, values, strict=True)), owner=asked.user)

    async def compute(self, asked: Compute) -> Ciphertext:
        """Compute for the owner of all operands, who owns the result too."""
        operands = [self.find(handle) for handle in asked.operands]
        owner = self._owner(asked, operands)
        result = _result_type(asked.operation, [item.fhe_type for item in operands])
        terms = self.terms
        handle = handles.computed_handle(
            asked.operation, asked.operands, result, acl=terms.acl, chain_id=terms.host_chain_id
        )
        known = self._table.find(handle)
        if known is not None:
            return known
        rows = [(fhevm.type_name(item.fhe_type), self._table.expanded(item.handle)) for item in operands]
        value = await self._worker.compute(asked.operation, rows)
        if fhevm.TYPES[value.type][0] != result:
            raise HostError("coprocessor.worker", f"a result of type {value.type}")
        return (await self._bind([(handle, value)], owner=owner))[0]

    def find(self, handle: bytes) -> Ciphertext:
        """The binding of a handle. `HostError("coprocessor.handle")`."""
        found = self._table.find(handle)
        if found is None:
            raise HostError("coprocessor.handle", handle.hex())
        return found

    def _input_handle(self, hashed: bytes, index: int, fhe_type: int) -> bytes:
        return handles.input_handle(hashed, index, fhe_type, acl=self.terms.acl, chain_id=self.terms.host_chain_id)

    def _known(self, asked: Inputs) -> list[Ciphertext]:
        """The bindings of a list that its user brought before; what was kept, was kept for the whole list."""
        hashed = handles.list_hash(asked.data)
        found: list[Ciphertext] = []
        for index in range(MAX_VALUES):
            named = (self._input_handle(hashed, index, fhe_type) for fhe_type in fhevm.TYPE_NAMES)
            binding = next((item for item in map(self._table.find, named) if item is not None), None)
            if binding is None or binding.owner != asked.user:
                break  # the end of the list; or somebody else's, and the proof decides
            found.append(binding)
        return found

    def _owner(self, asked: Compute, operands: Sequence[Ciphertext]) -> bytes:
        owners = {item.owner for item in operands}
        if len(owners) != 1:
            raise HostError("coprocessor.owner", f"{len(owners)} owners")
        owner = owners.pop()
        try:
            signer = eip712.recover(compute_digest(asked.operation, asked.operands, self._domain), asked.signature)
        except EvidenceError as error:
            raise HostError("coprocessor.owner", error.code) from None
        if signer != owner:
            raise HostError("coprocessor.owner", f"signed by {eip712.checksum(signer)}")
        return owner

    async def _bind(self, values: Sequence[tuple[bytes, Value]], *, owner: bytes) -> list[Ciphertext]:
        await asyncio.gather(*(self._store.put_bytes(value.packed) for _, value in values))
        entries = [Entry(self._signed(handle, value, owner), value.expanded) for handle, value in values]
        async with self._writing:
            await asyncio.to_thread(self._table.add, entries)
        # What is kept counts: a binding that was there before stays, and nobody gets two for one handle.
        return [self.find(handle) for handle, _ in values]

    def _signed(self, handle: bytes, value: Value, owner: bytes) -> Ciphertext:
        unsigned = Ciphertext(handle, fhevm.TYPES[value.type][0], PACKED, ciphertext_digest(value.packed), owner, ())
        signature = self.signer.sign(unsigned, key_id=self.key_id, domain=self._domain)
        return Ciphertext(handle, unsigned.fhe_type, PACKED, unsigned.digest, owner, (signature,))


def _result_type(operation: str, types: Sequence[int]) -> int:
    """The number of the result's type. `HostError("coprocessor.operation")` when it is not defined for these."""
    boolean = fhevm.TYPES["bool"][0]
    if operation == "select":
        condition, left, right = types
        if condition != boolean or left != right:
            raise HostError("coprocessor.operation", "select takes a bool and two of one type")
        return left
    left, right = types
    if left != right:
        raise HostError("coprocessor.operation", f"{operation} of types {left} and {right}")
    if operation in ("add", "sub"):
        if left == boolean:
            raise HostError("coprocessor.operation", f"{operation} of bools")
        return left
    if left == boolean and operation not in ("eq", "ne"):
        raise HostError("coprocessor.operation", f"{operation} of bools")
    return boolean
