"""The only place for the application's part of the genesis file: the contract instances that a chain begins with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import EvidenceError

from cipherkeep_host.errors import HostError

CHAIN = "chain"  # the name under which the application itself keeps its state; no instance has it
MAX_INSTANCES = 100
MAX_APP_STATE = 1 << 20  # bytes
_TEXT = re.compile(rb'"([0-9a-f]*)"')
_NAME = re.compile(r"[a-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Instance:
    """A contract instance as it begins: its name, the kind of its contract, its parameters for `Contract.create`."""

    name: str
    kind: str
    genesis: bytes

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name == CHAIN:
            raise HostError("chain.genesis_form", f"instance name {self.name!r}"[:100])


@dataclass(frozen=True, slots=True)
class AppState:
    """All instances, in the order in which they are made."""

    instances: tuple[Instance, ...]

    def __post_init__(self) -> None:
        names = [instance.name for instance in self.instances]
        if len(set(names)) != len(names) or len(names) > MAX_INSTANCES:
            raise HostError("chain.genesis_form", "instances with the same name, or too many")

    @classmethod
    def of(cls, instances: Sequence[Instance]) -> AppState:
        """From a sequence."""
        return cls(tuple(instances))

    def text(self) -> str:
        """What stands in the genesis file as `app_state`: hex of deterministic CBOR."""
        fields = [{"genesis": i.genesis, "kind": i.kind, "name": i.name} for i in self.instances]
        return cbor.encode({"instances": fields}).hex()

    @classmethod
    def read(cls, data: bytes) -> AppState:
        """From the JSON string that the engine hands over. `HostError("chain.genesis_form")` for anything else."""
        try:
            if len(data) > MAX_APP_STATE:
                raise ValueError(f"{len(data)} bytes")
            text = _TEXT.fullmatch(data)
            if text is None:
                raise ValueError("not a JSON text of hex")
            state = cbor.decode(bytes.fromhex(text.group(1).decode()))
            found = cbor.fields(state, instances=cbor.sequence(cbor.anything, MAX_INSTANCES))
            return cls(
                tuple(
                    Instance(
                        **cbor.fields(item, name=cbor.text(64), kind=cbor.text(64), genesis=cbor.raw(0, MAX_APP_STATE))
                    )
                    for item in found["instances"]
                )
            )
        except (ValueError, EvidenceError) as error:
            raise HostError("chain.genesis_form", str(error)[:200]) from None
