"""Forks on the chain: what is noted, for whom it binds, and who lifts it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cipherkeep_attestation.statements import layout
from cipherkeep_attestation.statements.layout import Control
from cipherkeep_host.contracts.interface import ContractState

from tests.host.connector.simulated import ProvenWorld


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ProvenWorld]:
    made = ProvenWorld(tmp_path / "state")
    made.set_up()
    made.block()
    yield made
    made.state.close()


def control(world: ProvenWorld) -> Control:
    data = world.value(layout.CONTROL, layout.CONTROL_KEY)
    assert data is not None
    return Control.decode(data)


def evidence(world: ProvenWorld, height: int) -> dict[str, bytes]:
    """This chain's block, and another one of the same height, signed by the same validator."""
    fork = world.chain.fork_at(height - 1)
    fork.produce(1)
    return {"held": world.chain.encoded(height), "other": fork.encoded(height)}


def report(world: ProvenWorld, body: dict[str, Any]) -> str:
    return world.block(("report_fork", body))[0].code


def test_a_fork_is_noted_until_governance_lifts_it(world: ProvenWorld) -> None:
    """Anyone reports it, once; another statement changes nothing; the one that names it clears it for good."""
    proof = evidence(world, world.height - 2)
    assert control(world).fork is None
    assert report(world, proof) == "ok"
    noted = control(world).fork
    assert noted is not None
    assert report(world, proof) == "fhevm.fork_noted"
    assert world.govern(world.governance.lift(bytes(32))) == "ok"
    assert control(world).fork == noted
    assert world.govern(world.governance.lift(noted)) == "ok"
    assert control(world).fork is None
    assert report(world, proof) == "fhevm.fork_lifted"
    assert report(world, evidence(world, world.height - 1)) == "ok"


def test_the_branch_that_is_held_is_this_chains(world: ProvenWorld) -> None:
    """Nobody has a fork noted between two blocks that this chain never had."""
    proof = evidence(world, world.height - 2)
    swapped = {"held": proof["other"], "other": proof["held"]}
    assert report(world, swapped) == "fhevm.fork_held"
    assert report(world, {**proof, "other": proof["held"]}) == "lightclient.no_fork"
    assert report(world, {"held": proof["held"]}) == "encoding.schema"
    assert report(world, {**proof, "other": proof["other"][:-1]}).startswith("protobuf.")
    assert control(world).fork is None


def test_the_pool_takes_no_report_that_proves_nothing(world: ProvenWorld) -> None:
    """What costs a place in a block was judged before."""
    proof = evidence(world, world.height - 2)
    view = ContractState(world.state.begin(world.height + 1), "one")
    world.contract.check(view, world.context(world.height), "report_fork", proof)
    for body in ({**proof, "other": proof["held"]}, {"held": proof["other"], "other": proof["held"]}):
        with pytest.raises(Exception, match="fork"):
            world.contract.check(view, world.context(world.height), "report_fork", body)
