"""The only place where a proven fork is noted: it binds every enclave of the instance until governance lifts it.

Anyone may report one: the evidence proves itself, and the branch that is held must be this chain's own.
"""

from __future__ import annotations

from dataclasses import replace

from cipherkeep_attestation import cbor
from cipherkeep_attestation.chain.fork import verify_fork
from cipherkeep_attestation.chain.header import LIMITS, LightBlock
from cipherkeep_attestation.statements import layout

from cipherkeep_host.contracts.fhevm.records import Records, number
from cipherkeep_host.contracts.interface import Body, Context, ContractRefusal, ContractState


def report(state: ContractState, context: Context, body: Body) -> bytes:
    """Take evidence in. Every refusal comes before the first write. The evidence itself stays in the block."""
    records = Records(state)
    digest = _judged(records, body)
    records.index("forks").put(digest, number(context.height))
    records.collection(layout.CONTROL).put(layout.CONTROL_KEY, replace(records.control(), fork=digest).encode())
    return cbor.encode({"fork": digest})


def check(state: ContractState, body: Body) -> None:
    """Before evidence enters the pool: all of it is judged."""
    _judged(Records(state), body)


def _judged(records: Records, body: Body) -> bytes:
    block = cbor.raw(1, LIMITS.light_block)
    found = cbor.fields(dict(body), held=block, other=block)
    header = LightBlock.decode(found["held"]).header
    # The header is believed for its hash alone, as far back as hashes are kept; its commit adds nothing.
    if records.index("hashes").get(number(header.height)) != header.hash():
        raise ContractRefusal("fhevm.fork_held", f"height {header.height}")
    noted = records.control().fork
    if noted is not None:  # before the signatures: nothing more needs to be reported now
        raise ContractRefusal("fhevm.fork_noted", noted.hex())
    digest = verify_fork(header, LightBlock.decode(found["other"]))
    if records.index("forks").get(digest) is not None:
        raise ContractRefusal("fhevm.fork_lifted", digest.hex())
    return digest
