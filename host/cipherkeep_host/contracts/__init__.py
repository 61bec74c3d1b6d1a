"""Contracts of the chain: the interface that they are written against, and every kind that this release knows.

A contract is a reviewed class and comes with a release; operators make instances of it. What it may do stands in
`interface`; `kinds` is the only list of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cipherkeep_host.contracts.interface import Contract

# "module:class" of every kind, in no particular order.
_KINDS: tuple[str, ...] = ("cipherkeep_host.contracts.fhevm:Fhevm",)


def kinds() -> dict[str, type[Contract]]:
    """Every kind of contract that this release knows, by `Contract.kind`."""
    found: dict[str, type[Contract]] = {}
    for place in _KINDS:
        module, _, name = place.partition(":")
        contract: type[Contract] = getattr(import_module(module), name)
        found[contract.kind] = contract
    return found
