"""The light client: what it follows, and the forgeries that it must refuse, each with its code."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cipherkeep_attestation.chain.header import LIMITS, LightBlock, Validator
from cipherkeep_attestation.chain.light import STORED_HEADERS, Conflict, LightClient, LightRoot
from cipherkeep_attestation.errors import EvidenceError, Refused, Stale, Untrusted

from tests.simulators.chain import ABSENT, COMMIT, NIL, PREVOTE, YEAR_ONE, Draft, Signer, SimulatedChain, sha256

DRIFT = timedelta(seconds=60)
PERIOD = timedelta(days=3650)


def follow(chain: SimulatedChain, *, period: timedelta = PERIOD, anchored: bool = True) -> LightClient:
    """A client whose root is block 1, and which may leave heights out."""
    client = LightClient(chain.root(), trusting_period=period, clock_drift=DRIFT, skipping=True)
    if anchored:
        client.anchor(chain.light_block(1), now=chain.now)
    return client


def refusal(client: LightClient, chain: SimulatedChain, data: bytes | LightBlock) -> str:
    """The code by which a block is refused; nothing else may change."""
    head = client.head_hash
    with pytest.raises(EvidenceError) as refused:
        block = LightBlock.decode(data) if isinstance(data, bytes) else data
        client.step(block, now=chain.now + timedelta(seconds=1))
    assert client.head_hash == head
    return refused.value.code


@pytest.fixture
def chain() -> SimulatedChain:
    """Four validators of equal power, three blocks."""
    made = SimulatedChain(4)
    made.produce()
    made.produce()
    return made


# --- what an honest chain does ---


def test_heights_are_left_out_only_where_that_was_asked_for(chain: SimulatedChain) -> None:
    """By default each block is the one right above the last."""
    client = LightClient(chain.root(), trusting_period=PERIOD, clock_drift=DRIFT)
    client.anchor(chain.light_block(1), now=chain.now)
    assert refusal(client, chain, chain.encoded(3)) == "lightclient.not_sequential"
    client.step(chain.light_block(2), now=chain.now)
    client.step(chain.light_block(3), now=chain.now)
    assert client.head.height == 3


@pytest.mark.parametrize("validators", [1, 2, 3, 4, 7, 100])
def test_honest_chains_are_followed(validators: int) -> None:
    """Step by step and by skipping, with any number of validators."""
    chain = SimulatedChain(validators)
    client = follow(chain)
    for _ in range(3):
        assert client.step(chain.produce(), now=chain.now).height == chain.height
    for _ in range(5):
        chain.produce()
    assert client.step(chain.light_block(chain.height), now=chain.now).height == 9
    assert client.head_hash == chain.header_hash(9)


def test_a_commit_may_lack_less_than_a_third(chain: SimulatedChain) -> None:
    """One of four may be absent or vote for nil."""
    for votes in ([ABSENT, COMMIT, COMMIT, COMMIT], [COMMIT, NIL, COMMIT, COMMIT]):
        client = follow(chain)
        client.step(chain.light_block(2), now=chain.now)
        client.step(LightBlock.decode(chain.forge(height=3, votes=votes)), now=chain.now)


def test_validators_may_change_with_announcement() -> None:
    """A new set is followed adjacently; a skip over the announcement needs the block between."""
    chain = SimulatedChain(4)
    client = follow(chain)
    chain.set_validators([Signer.named(f"new-{n}") for n in range(3)])
    chain.produce()
    chain.produce()
    changed = chain.produce()
    with pytest.raises(EvidenceError) as refused:
        client.step(changed, now=chain.now)
    assert refused.value.code == "lightclient.skip_quorum"
    client.step(chain.light_block(2), now=chain.now)
    with pytest.raises(EvidenceError) as refused:
        client.step(changed, now=chain.now)
    assert refused.value.code == "lightclient.skip_unknown_set"
    client.step(chain.light_block(3), now=chain.now)
    client.step(changed, now=chain.now)


def test_blocks_below_the_head_are_known_by_hash(chain: SimulatedChain) -> None:
    """A stored header, and one that a stored header names as its parent, are given again; others are not judged."""
    for _ in range(5):
        chain.produce()
    client = follow(chain)
    client.step(chain.light_block(8), now=chain.now)
    assert client.step(chain.light_block(7), now=chain.now).height == 7
    assert client.step(chain.light_block(6), now=chain.now).height == 6
    assert client.header_at(6).height == 6
    assert refusal(client, chain, chain.light_block(3)) == "lightclient.height_below"
    with pytest.raises(Refused):
        client.header_at(3)


def test_old_headers_are_forgotten_and_the_head_never() -> None:
    """What is stored has a bound; going back through many headers does not push the head out."""
    chain = SimulatedChain(1)
    client = follow(chain)
    for _ in range(STORED_HEADERS + 20):
        client.step(chain.produce(), now=chain.now)
    assert refusal(client, chain, chain.light_block(5)) == "lightclient.height_below"
    assert client.header_at(chain.height).height == chain.height


# --- the start ---


def test_the_root_decides_where_to_begin(chain: SimulatedChain) -> None:
    """Another header, another height, another chain, and a second beginning are refused."""
    other = SimulatedChain(4, chain_id="cipherkeep-other")
    cases: list[tuple[LightRoot, LightBlock, str]] = [
        (LightRoot(chain.chain_id, 1, sha256(b"")), chain.light_block(1), "lightclient.root"),
        (LightRoot(chain.chain_id, 2, chain.header_hash(1)), chain.light_block(1), "lightclient.root"),
        (chain.root(), chain.light_block(2), "lightclient.root"),
        (chain.root(), other.light_block(1), "lightclient.chain_id"),
    ]
    for root, block, code in cases:
        client = LightClient(root, trusting_period=PERIOD, clock_drift=DRIFT, skipping=True)
        with pytest.raises(Untrusted) as refused:
            client.anchor(block, now=chain.now)
        assert refused.value.code == code
    client = follow(chain)
    with pytest.raises(Refused) as again:
        client.anchor(chain.light_block(1), now=chain.now)
    assert again.value.code == "lightclient.anchored"


def test_nothing_is_judged_before_the_start(chain: SimulatedChain) -> None:
    """A client without its root's block has no head and takes no step."""
    client = follow(chain, anchored=False)
    for use in (lambda: client.head, client.checkpoint, lambda: client.step(chain.light_block(2), now=chain.now)):
        with pytest.raises(Refused) as refused:
            use()
        assert refused.value.code == "lightclient.not_anchored"


@pytest.mark.parametrize(
    "root", [("", 1, bytes(32)), ("a", 0, bytes(32)), ("a", 1 << 63, bytes(32)), ("a", 1, bytes(31)), ("a", 1, b"")]
)
def test_a_root_has_its_form(root: tuple[str, int, bytes]) -> None:
    """Chain, height and hash, none empty."""
    with pytest.raises(EvidenceError) as refused:
        LightRoot(*root)
    assert refused.value.code == "lightclient.root_form"


# --- forgeries ---


def slots(**change: Any) -> Callable[[Draft], object]:
    return lambda draft: draft.slots[0].update(change)


def resigned(edit: Callable[[Draft], object], **how: Any) -> Callable[[Draft], object]:
    """An edit behind the signatures, which are then made again."""

    def change(draft: Draft) -> None:
        edit(draft)
        draft.sign(**how)

    return change


def swap(draft: Draft) -> None:
    draft.slots[0], draft.slots[1] = draft.slots[1], draft.slots[0]


def swapped_addresses(draft: Draft) -> None:
    """CSA-2026-001: slots in their places, addresses not."""
    draft.slots[0]["address"], draft.slots[1]["address"] = draft.slots[1]["address"], draft.slots[0]["address"]


def one_signature_for_all(draft: Draft) -> None:
    for slot in draft.slots[1:]:
        slot["signature"] = draft.slots[0]["signature"]


FORGERIES: dict[str, tuple[dict[str, Any], str]] = {
    "of another chain": ({"header": {"chain_id": "cipherkeep-else"}}, "lightclient.chain_id"),
    "another chain's votes": ({"after": lambda d: d.sign(chain_id="cipherkeep-else")}, "lightclient.signature"),
    "prevotes": ({"after": lambda d: d.sign(kind=PREVOTE)}, "lightclient.signature"),
    "half of the votes": ({"votes": [COMMIT, COMMIT, ABSENT, ABSENT]}, "lightclient.quorum"),
    "nil votes counted": ({"votes": [COMMIT, COMMIT, NIL, NIL]}, "lightclient.quorum"),
    "nobody's votes": ({"votes": [ABSENT] * 4}, "lightclient.quorum"),
    "a nil vote flagged as a vote": (
        {"votes": [COMMIT, COMMIT, COMMIT, NIL], "after": lambda d: d.slots[3].update(flag=COMMIT)},
        "lightclient.signature",
    ),
    "a signature of zeros": ({"after": slots(signature=bytes(64))}, "lightclient.signature"),
    "one bad signature beside a quorum": ({"after": slots(signature=b"\x01" * 64)}, "lightclient.signature"),
    "one signature in all slots": ({"after": one_signature_for_all}, "lightclient.signature"),
    "a vote's time changed": ({"after": slots(time=(1, 1))}, "lightclient.signature"),
    "slots in another order": ({"after": swap}, "lightclient.slot_address"),
    "addresses swapped": ({"after": swapped_addresses}, "lightclient.slot_address"),
    "addresses swapped and signed": ({"after": resigned(swapped_addresses)}, "lightclient.slot_address"),
    "a slot too many": ({"after": lambda d: d.slots.append(d.slots[0])}, "lightclient.commit_slots"),
    "a slot too few": ({"after": lambda d: d.slots.pop()}, "lightclient.commit_slots"),
    "a commit for another height": (
        {"after": resigned(lambda d: d.commit.update(height=9))},
        "lightclient.commit_height",
    ),
    "votes of another round": ({"after": lambda d: d.commit.update(round=1)}, "lightclient.signature"),
    "votes for other parts": (
        {"after": lambda d: d.commit.update(block_id={**d.commit["block_id"], "parts_hash": sha256(b"x")})},
        "lightclient.signature",
    ),
    "a header changed after the votes": (
        {"after": lambda d: d.header.update(app_hash=sha256(b"forged"))},
        "lightclient.commit_header",
    ),
    "a set that the header does not name": (
        {"after": lambda d: d.validators.pop() and d.slots.pop()},
        "lightclient.validators_hash",
    ),
    "a proposer from elsewhere": ({"header": {"proposer_address": bytes(20)}}, "lightclient.proposer"),
    "a set of the forger's own": (
        {"validators": [Signer.named("forger")]},
        "lightclient.next_validators_hash",
    ),
    "time that stands still": ({"header": {"time": "head"}}, "lightclient.time_order"),
    "time that runs back": ({"header": {"time": (0, 1)}}, "lightclient.time_order"),
    "time from the future": ({"header": {"time": (4_000_000_000, 0)}}, "lightclient.time_future"),
    "the year 10000": ({"header": {"time": (253_402_300_800, 0)}}, "lightclient.time_range"),
    "too many nanoseconds": ({"header": {"time": (1_800_000_000, 10**9)}}, "lightclient.time_range"),
    "height 0": ({"header": {"height": 0}}, "lightclient.height_range"),
    "a negative height": ({"header": {"height": -1}}, "lightclient.height_range"),
    "a negative round": ({"after": lambda d: d.commit.update(round=-1)}, "lightclient.round_range"),
    "a round beyond 31 bits": ({"after": lambda d: d.commit.update(round=2**31)}, "lightclient.round_range"),
    "another block protocol": ({"header": {"block_version": 12}}, "lightclient.block_version"),
    "a long chain id": ({"header": {"chain_id": "x" * 51}}, "lightclient.chain_id_form"),
    "a chain id of other letters": ({"header": {"chain_id": "chäin"}}, "lightclient.chain_id_form"),
    "a short hash": ({"header": {"data_hash": bytes(31)}}, "lightclient.hash_length"),
    "a missing set hash": ({"header": {"next_validators_hash": b""}}, "lightclient.hash_length"),
    "a long app hash": ({"header": {"app_hash": bytes(65)}}, "lightclient.hash_length"),
    "a short proposer address": ({"header": {"proposer_address": bytes(19)}}, "lightclient.proposer_address"),
    "half a block id": (
        {"header": {"last_block_id": {"hash": bytes(32), "parts": 0, "parts_hash": b""}}},
        "lightclient.block_id",
    ),
    "a commit for no block": (
        {"after": lambda d: d.commit.update(block_id={"hash": b"", "parts": 0, "parts_hash": b""})},
        "lightclient.block_id",
    ),
    "flag 0": ({"after": slots(flag=0)}, "lightclient.flag"),
    "flag 4": ({"after": slots(flag=4)}, "lightclient.flag"),
    "an absent slot with a signature": ({"after": slots(flag=ABSENT)}, "lightclient.absent_with_data"),
    "an absent slot with a time": (
        {"votes": [ABSENT, COMMIT, COMMIT, COMMIT], "after": slots(time=(1, 0))},
        "lightclient.absent_with_data",
    ),
    "a vote without an address": ({"after": slots(address=b"")}, "lightclient.address_length"),
    "a vote without a signature": ({"after": slots(signature=b"")}, "lightclient.signature_length"),
    "a long signature": ({"after": slots(signature=bytes(65))}, "lightclient.signature_length"),
    "a validator twice": (
        {"validators": [Signer.named("a"), Signer.named("a")]},
        "lightclient.duplicate_validator",
    ),
    "a validator twice with other powers": (
        {"validators": [Signer.named("a", 11), Signer.named("a", 10)]},
        "lightclient.duplicate_validator",
    ),
    "power beyond 64 bits": (
        {"validators": [Signer.named("a", 2**63)], "votes": [ABSENT]},
        "lightclient.voting_power_range",
    ),
    "power that wraps to a negative": (
        {"validators": [Signer.named("a", -(2**60))], "votes": [ABSENT]},
        "lightclient.voting_power_range",
    ),
    "power 0": ({"validators": [Signer.named("a", 0)]}, "lightclient.voting_power_range"),
    "powers that overflow together": (
        {"validators": [Signer.named(f"big-{n}", 2**60 - 1) for n in range(2)]},
        "lightclient.total_power",
    ),
    "no validators": ({"validators": [], "votes": []}, "lightclient.size"),
    "a key of another kind": (
        {"after": lambda d: setattr(d.validators[0], "public", bytes(33))},
        "lightclient.key_type",
    ),
    "an address that is not the key's": (
        {"after": lambda d: setattr(d.validators[0], "address", bytes(20))},
        "lightclient.validator_address",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_next_block_is_refused(chain: SimulatedChain, name: str) -> None:
    """Each way to forge the next block has its own code, and the head stays."""
    client = follow(chain)
    client.step(chain.light_block(2), now=chain.now)
    client.step(chain.light_block(3), now=chain.now)
    forgery, code = FORGERIES[name]
    forgery = dict(forgery)
    if forgery.get("header", {}).get("time") == "head":
        forgery["header"] = {"time": chain.drafts[-1].header["time"]}
    assert refusal(client, chain, chain.forge(**forgery)) == code
    client.step(chain.produce(), now=chain.now)


def test_a_set_in_another_order_is_refused(chain: SimulatedChain) -> None:
    """Power falls, then addresses rise; any other order would let one set have two hashes."""
    reversed_set = list(reversed(chain.validators))
    client = follow(chain)
    assert refusal(client, chain, chain.forge(validators=reversed_set)) == "lightclient.validator_order"


def test_voting_power_that_wraps_around_does_not_make_a_quorum(chain: SimulatedChain) -> None:
    """A power of p - 2^64 has the bytes of an honest one: as bytes it is that one, as a value it cannot be made."""
    with pytest.raises(EvidenceError) as refused:
        Validator(chain.validators[0].public, 10 - 2**64)
    assert refused.value.code == "lightclient.voting_power_range"
    with pytest.raises(EvidenceError) as refused:
        Validator(chain.validators[0].public, 10 + 2**64)
    assert refused.value.code == "lightclient.voting_power_range"


def test_exactly_two_thirds_are_not_enough() -> None:
    """Two of three vote: more than two thirds is what counts, adjacent and skipping."""
    chain = SimulatedChain(3)
    chain.produce()
    client = follow(chain)
    two = [COMMIT, COMMIT, ABSENT]
    assert refusal(client, chain, chain.forge(height=2, votes=two)) == "lightclient.quorum"
    chain.produce()
    assert refusal(client, chain, chain.forge(height=3, votes=two)) == "lightclient.quorum"


def test_a_third_of_the_trusted_set_cannot_jump_to_a_set_of_its_own() -> None:
    """A skip needs more than two thirds of the trusted power besides the new set's own quorum."""
    chain = SimulatedChain(3)
    for _ in range(3):
        chain.produce()
    client = follow(chain)
    traitors = sorted(
        [*chain.validators[:2], Signer.named("x", 10), Signer.named("y", 10)], key=lambda v: (-v.power, v.address)
    )
    forged = chain.forge(validators=traitors, votes=[COMMIT] * 4)
    assert refusal(client, chain, forged) == "lightclient.skip_quorum"


def test_trust_expires(chain: SimulatedChain) -> None:
    """A head older than the trusting period judges nothing, adjacent or not, and nothing is anchored on it."""
    client = follow(chain, period=timedelta(days=1))
    late = chain.now + timedelta(days=1)
    for height in (2, 3):
        with pytest.raises(Stale) as refused:
            client.step(chain.light_block(height), now=late)
        assert refused.value.code == "lightclient.trust_expired"
    fresh = LightClient(chain.root(), trusting_period=timedelta(days=1), clock_drift=DRIFT, skipping=True)
    with pytest.raises(Stale) as refused:
        fresh.anchor(chain.light_block(1), now=late)
    assert refused.value.code == "lightclient.trust_expired"


@pytest.mark.parametrize("drift", [DRIFT, timedelta(days=999_999)], ids=str)
def test_times_at_either_end_are_judged_like_any_other(chain: SimulatedChain, drift: timedelta) -> None:
    """No sum of a stated time with a period or a drift leaves the years that a time can name."""
    last, first = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)
    client = LightClient(chain.root(), trusting_period=PERIOD, clock_drift=drift)
    with pytest.raises(Stale) as refused:
        client.anchor(chain.light_block(1), now=last)
    assert refused.value.code == "lightclient.trust_expired"
    if drift == DRIFT:
        with pytest.raises(Stale) as refused:
            client.anchor(chain.light_block(1), now=first)
        assert refused.value.code == "lightclient.time_future"
    patient = LightClient(chain.root(), trusting_period=timedelta(days=9_999_999), clock_drift=drift)
    patient.anchor(chain.light_block(1), now=last)
    assert patient.step(chain.light_block(2), now=last).height == 2


def test_a_large_block_is_not_read() -> None:
    """The bound is checked before anything is parsed."""
    with pytest.raises(EvidenceError) as refused:
        LightBlock.decode(bytes(LIMITS.light_block + 1))
    assert refused.value.code == "lightclient.size"


# --- forks ---


def test_two_blocks_for_one_height_freeze_the_client(chain: SimulatedChain) -> None:
    """A quorum signed both: from then on nothing is judged, until governance names this conflict."""
    client = follow(chain)
    client.step(chain.light_block(2), now=chain.now)
    client.step(chain.light_block(3), now=chain.now)
    fork = chain.fork_at(2)
    other = fork.produce()
    with pytest.raises(Conflict) as conflict:
        client.step(other, now=chain.now)
    assert conflict.value.code == "lightclient.conflict"
    assert (client.frozen, conflict.value.trusted.height, conflict.value.conflicting) == (
        conflict.value,
        3,
        other.header,
    )
    assert refusal(client, chain, chain.produce()) == "lightclient.frozen"
    with pytest.raises(Refused) as refused:
        client.lift(sha256(b"another"))
    assert refused.value.code == "lightclient.no_such_conflict"
    client.lift(conflict.value.digest)
    client.step(chain.light_block(4), now=chain.now)


def test_a_block_whose_parent_is_another_freezes_the_client(chain: SimulatedChain) -> None:
    """Go's own light client does not look at the parent; a quorum that changes it has forked the chain."""
    client = follow(chain)
    client.step(chain.light_block(2), now=chain.now)
    fork = chain.fork_at(1)
    fork.produce(2)
    child = fork.produce(5)
    with pytest.raises(Conflict) as conflict:
        client.step(child, now=fork.now)
    assert conflict.value.code == "lightclient.parent"
    assert client.frozen is conflict.value


def test_a_contradiction_that_nobody_signed_does_not_freeze(chain: SimulatedChain) -> None:
    """Otherwise any host could stop the client with a forged header."""
    client = follow(chain)
    client.step(chain.light_block(2), now=chain.now)
    forged = chain.forge(height=2, header={"data_hash": sha256(b"x")}, votes=[COMMIT, ABSENT, ABSENT, ABSENT])
    assert refusal(client, chain, forged) == "lightclient.quorum"
    strangers = sorted((Signer.named(f"stranger-{n}") for n in range(4)), key=lambda v: (-v.power, v.address))
    forged = chain.forge(height=2, validators=strangers, header={"proposer_address": strangers[0].address})
    assert refusal(client, chain, forged) == "lightclient.other_header"
    assert client.frozen is None


# --- checkpoints ---


def test_a_checkpoint_is_a_lower_bound(chain: SimulatedChain) -> None:
    """After a restart an older copy of the chain, another branch and another chain's checkpoint are refused."""
    client = follow(chain)
    client.step(chain.light_block(2), now=chain.now)
    client.step(chain.light_block(3), now=chain.now)
    checkpoint = client.checkpoint()
    again = follow(chain)
    with pytest.raises(Stale) as stale:
        again.restore(checkpoint)
    assert stale.value.code == "lightclient.below_checkpoint"
    again.step(chain.light_block(3), now=chain.now)
    again.restore(checkpoint)
    fork = chain.fork_at(2)
    fork.produce(7)
    other = follow(fork)
    other.step(fork.light_block(3), now=fork.now)
    with pytest.raises(Refused) as refused:
        other.restore(checkpoint)
    assert refused.value.code == "lightclient.checkpoint_fork"
    stranger = follow(SimulatedChain(4, chain_id="cipherkeep-other"))
    with pytest.raises(EvidenceError):
        stranger.restore(checkpoint)


def test_every_time_of_an_absent_slot_is_year_one() -> None:
    """What CometBFT writes for an absent vote is read, and its one encoding is ten bytes long."""
    chain = SimulatedChain(4)
    chain.produce()
    block = LightBlock.decode(chain.forge(height=2, votes=[ABSENT, COMMIT, COMMIT, COMMIT]))
    assert (block.commit.signatures[0].time.seconds, block.commit.signatures[0].time.nanos) == YEAR_ONE
