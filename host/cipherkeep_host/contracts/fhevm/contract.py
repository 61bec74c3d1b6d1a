"""The only place that names the contract's messages and sends each to its handler."""

from __future__ import annotations

from typing import ClassVar

from cipherkeep_attestation.statements import layout, request
from cipherkeep_attestation.statements.configuration import Genesis
from cipherkeep_attestation.statements.layout import Control

from cipherkeep_host.contracts.fhevm import answering, closing, forking, governing, registering, requesting
from cipherkeep_host.contracts.fhevm.records import GENESIS
from cipherkeep_host.contracts.interface import Body, Context, Contract, ContractRefusal, ContractState

REQUESTS = (request.KEYGEN, request.PUBLIC_DECRYPT, request.USER_DECRYPT)
GOVERN, REGISTER, FRESHNESS, ANSWER, REPORT_FORK = "govern", "register", "freshness", "answer", "report_fork"
MESSAGES = (GOVERN, REGISTER, FRESHNESS, *REQUESTS, ANSWER, REPORT_FORK)


class Fhevm(Contract):
    """Key management for one fhEVM deployment."""

    kind: ClassVar[str] = "fhevm"
    version: ClassVar[int] = 1
    collections: ClassVar[tuple[str, ...]] = layout.COLLECTIONS

    @classmethod
    def create(cls, state: ContractState, genesis: bytes) -> None:
        """`genesis` is a `statements.configuration.Genesis`; the control leaf stands from the start."""
        Genesis.decode(genesis)
        state.index("policy").put(GENESIS, genesis)
        state.collection(layout.CONTROL).put(layout.CONTROL_KEY, Control().encode())

    def execute(self, state: ContractState, context: Context, name: str, body: Body) -> bytes:
        """Carry out one message."""
        if name in REQUESTS:
            return requesting.accept(state, context, name, body)
        if name == ANSWER:
            return answering.answer(state, context, body)
        if name == GOVERN:
            return governing.govern(state, body)
        if name == REGISTER:
            return registering.register(state, context, body)
        if name == FRESHNESS:
            return registering.freshness(state, context, body)
        if name == REPORT_FORK:
            return forking.report(state, context, body)
        raise ContractRefusal("fhevm.message", name)

    def check(self, state: ContractState, context: Context, name: str, body: Body) -> None:
        """Requests: form, key and room. Others: whether somebody signed who may. The rest is the block's."""
        if name in REQUESTS:
            requesting.check(state, context, name, body)
        elif name == ANSWER:
            answering.check(state, body)
        elif name == GOVERN:
            governing.check(state, body)
        elif name == REGISTER:
            registering.check(state, body)
        elif name == REPORT_FORK:
            forking.check(state, body)
        elif name != FRESHNESS:
            raise ContractRefusal("fhevm.message", name)

    def begin_block(self, state: ContractState, context: Context) -> None:
        """Remember the block."""
        closing.begin_block(state, context)

    def end_block(self, state: ContractState, context: Context) -> None:
        """Write the inbox; end what has expired."""
        closing.end_block(state, context)
