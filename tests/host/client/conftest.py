"""A simulated chain with answered requests, and what a client knows beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cipherkeep_attestation.receipts.judging import Evidence, Trust
from cipherkeep_attestation.statements.governance import KeyTerms
from cipherkeep_host.client.gather import gather

from tests.host.connector.simulated import ProvenWorld, SimulatedNode
from tests.host.coprocessor.conftest import keys  # noqa: F401  (a fixture)
from tests.simulators.contract import Found
from tests.simulators.coprocessor import TERMS


@dataclass
class Setting:
    """A world, its node, and the trust of somebody who looks at it."""

    world: ProvenWorld
    node: SimulatedNode
    trust: Trust
    terms: KeyTerms = TERMS

    @property
    def now(self) -> Any:
        return self.world.now

    def answered(self, asked: Any, *values: int) -> Found:
        """A request that all parties have answered honestly."""
        world = self.world
        found = world.ask(asked)
        world.block()
        answers = []
        for party in world.parties:
            core = party.public_core(found.id, asked, values) if values else party.user_core(found.id, asked)
            answers.append(party.answer(core, world.head))
        assert "final" in world.vote(answers)
        world.block()
        return found

    async def evidence(self, counter: int) -> Evidence:
        return await gather(self.node, "one", counter, root=self.trust.root)


def setting(path: Path, **how: Any) -> Setting:
    world = ProvenWorld(path, **how)
    world.set_up()
    world.block()
    trust = Trust(world.chain.root(), "one", world.governance.genesis, timedelta(minutes=10))
    return Setting(world, SimulatedNode(world), trust)


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Setting]:
    """One party."""
    made = setting(tmp_path / "state")
    yield made
    made.world.state.close()


@pytest.fixture
def four(tmp_path: Path) -> Iterator[Setting]:
    """Four parties, three of which must agree."""
    made = setting(tmp_path / "state", parties=4, answers=3)
    yield made
    made.world.state.close()
