"""The only place that folds governance's statements into what is in force."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cipherkeep_attestation.errors import Untrusted
from cipherkeep_attestation.statements import governance
from cipherkeep_attestation.statements.configuration import Genesis
from cipherkeep_attestation.statements.governance import Coprocessors, KeyTerms, Releases, Statement
from cipherkeep_attestation.statements.layout import Control


@dataclass(frozen=True, slots=True)
class Decisions:
    """What the statements up to `control.serial` say together. Values never change: `after` makes new ones."""

    control: Control = field(default_factory=Control)
    digests: tuple[bytes, ...] = ()  # SHA-256 of each statement, from serial 1
    coprocessors: Coprocessors | None = None
    releases: Releases | None = None
    parties: Mapping[str, bytes] = field(default_factory=dict)  # configuration newly admitted; by first admission
    keygens: Mapping[bytes, KeyTerms] = field(default_factory=dict)  # by SHA-256 of the signed statement
    retired: frozenset[bytes] = frozenset()

    def after(self, data: bytes, statement: Statement) -> Decisions:
        """What is in force once one more statement, whose signed bytes are `data`, stands."""
        content: Any = statement.content()
        base = replace(self, control=self.control.after(data), digests=(*self.digests, hashlib.sha256(data).digest()))
        match statement.kind:
            case governance.SET_COPROCESSORS:
                return replace(base, coprocessors=content)
            case governance.SET_RELEASES:
                return replace(base, releases=content)
            case governance.ADMIT_PARTY:
                # A name that is there keeps its place: mappings keep the order of first insertion.
                return replace(base, parties={**self.parties, content["name"]: content["configuration"]})
            case governance.KEYGEN:
                return replace(base, keygens={**self.keygens, base.digests[-1]: content})
            case governance.RETIRE_KEY:
                return replace(base, retired=self.retired | {content["key_id"]})
        return base

    def index_of(self, party: str, configuration: bytes) -> int:
        """The party's index, from 1, by the first admission of its name.

        0 when governance has not admitted it, or when the newest admission names another configuration (SHA-384).
        """
        if self.parties.get(party) != configuration:
            return 0
        return list(self.parties).index(party) + 1


def decide(
    statements: Sequence[bytes], *, instance: str, genesis: Genesis, since: Decisions | None = None
) -> Decisions:
    """What signed statements say together: all of them from serial 1 on, or after `since`, each by enough governors.

    `EvidenceError`; `Untrusted("governance.log")` when one is left out.
    """
    decisions, digest = since or Decisions(), genesis.digest()
    for serial, data in enumerate(statements, decisions.control.serial + 1):
        statement = governance.verify(data, governors=genesis.governors, instance=instance, genesis=digest)
        if statement.serial != serial:
            raise Untrusted("governance.log", f"number {statement.serial} where {serial} belongs")
        decisions = decisions.after(data, statement)
    return decisions
