"""Evidence of a fork: what contradicts what, and who must have signed it."""

from __future__ import annotations

import pytest
from cipherkeep_attestation.chain.fork import verify_fork
from cipherkeep_attestation.chain.light import Conflict, LightClient
from cipherkeep_attestation.errors import EvidenceError

from tests.attestation.chain.test_light import DRIFT, PERIOD
from tests.simulators.chain import SimulatedChain


@pytest.fixture
def chain() -> SimulatedChain:
    """Four validators, five blocks."""
    return grown(SimulatedChain(4), 4)


def grown(chain: SimulatedChain, blocks: int) -> SimulatedChain:
    for _ in range(blocks):
        chain.produce()
    return chain


def refusal(chain: SimulatedChain, held: int, other: SimulatedChain, height: int) -> str:
    with pytest.raises(EvidenceError) as refused:
        verify_fork(chain.light_block(held).header, other.light_block(height))
    return refused.value.code


def test_two_blocks_of_one_height_are_a_fork(chain: SimulatedChain) -> None:
    """And the same that freezes a light client, by the same name."""
    fork = chain.fork_at(2)
    fork.produce()
    digest = verify_fork(chain.light_block(3).header, fork.light_block(3))
    client = LightClient(chain.root(), trusting_period=PERIOD, clock_drift=DRIFT)
    client.anchor(chain.light_block(1), now=chain.now)
    for height in (2, 3, 4):
        client.step(chain.light_block(height), now=chain.now)
    with pytest.raises(Conflict) as conflict:
        client.step(fork.light_block(3), now=chain.now)
    assert conflict.value.digest == digest
    other_way = verify_fork(fork.light_block(3).header, chain.light_block(3))
    assert other_way != digest  # the digest names the branch that is held


def test_a_block_on_another_parent_is_a_fork(chain: SimulatedChain) -> None:
    """One height above or below what is held."""
    fork = grown(chain.fork_at(2), 2)
    verify_fork(chain.light_block(3).header, fork.light_block(4))
    verify_fork(chain.light_block(4).header, fork.light_block(3))


def test_what_does_not_contradict_is_no_fork(chain: SimulatedChain) -> None:
    """The same block, a child, a parent, and heights that are further apart."""
    fork = grown(chain.fork_at(2), 3)
    for held, other, height in ((3, chain, 3), (3, chain, 4), (3, chain, 2), (3, fork, 5), (5, fork, 3)):
        assert refusal(chain, held, other, height) == "lightclient.no_fork"


def test_only_the_same_validators_make_a_fork(chain: SimulatedChain) -> None:
    """Another chain, other validators, and a minority of them."""
    stranger = grown(SimulatedChain(4, "other-chain"), 2)
    assert refusal(chain, 3, stranger, 3) == "lightclient.chain_id"
    others = grown(SimulatedChain(5), 2)
    assert refusal(chain, 3, others, 3) == "lightclient.validators_hash"
    fork = chain.fork_at(2)
    fork.drafts.append(fork.forge_draft(votes=(2, 2, 1, 1)))
    assert refusal(chain, 3, fork, 3) == "lightclient.quorum"
