"""The application's process with contracts for tests: `python counter_application.py --home … --socket … --health …`.

`counter` counts, refuses on request, and breaks on request. It is not collected by pytest.
"""

from __future__ import annotations

import sys

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Refused
from cipherkeep_host.chain.__main__ import main
from cipherkeep_host.contracts.interface import Body, Context, Contract, ContractRefusal, ContractState


class Counter(Contract):
    """`add {by}` appends to `log` and returns the sum; `set {key, value}` writes; others refuse or break."""

    kind = "counter"
    version = 1
    collections = ("total", "log", "ticks")

    @classmethod
    def create(cls, state: ContractState, genesis: bytes) -> None:
        state.collection("total").put(1, genesis or b"0")

    def execute(self, state: ContractState, context: Context, name: str, body: Body) -> bytes:
        total = state.collection("total")
        if name == "add":
            value = str(int(total.get(1) or b"0") + body["by"]).encode()
            total.put(1, value)
            key = state.collection("log").append(cbor.encode([context.height, context.sender, body["by"]]))
            state.index("by").put(value, key.to_bytes(8, "big"))
            return value
        if name == "blob":
            state.collection("log").append(body["data"])
            return b""
        if name == "refuse":
            total.put(1, b"taken back")
            state.index("by").put(b"taken", b"back")
            raise ContractRefusal("contract.value_size", "on request")
        if name == "evidence":
            raise Refused("proof.value", "on request")
        if name == "mutate":
            body["list"].append(1)
            return cbor.encode(len(body["list"]))
        raise RuntimeError("broken on request")

    def check(self, state: ContractState, context: Context, name: str, body: Body) -> None:
        if name == "unwanted":
            raise ContractRefusal("contract.value_size", "not even checked in")
        if name == "break check":
            raise RuntimeError("broken on request")

    def end_block(self, state: ContractState, context: Context) -> None:
        if state.index("by").get(b"4096") is not None and state.collection("ticks").last_key() == 0:
            state.collection("ticks").put(context.height, b"reached")


KINDS = {Counter.kind: Counter}

if __name__ == "__main__":
    sys.exit(main(kinds=KINDS))
