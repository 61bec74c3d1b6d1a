"""The only place that judges one step of the chain from a header and a next set that are given: no state, no root.

`light` follows a chain and remembers; this answers one question, as an auditor's batch asks it: does this block follow
from that header? The rules, their order and their codes are those of `light`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from cipherkeep_attestation.chain.header import Commit, Header, LightBlock, Timestamp, ValidatorSet, nanoseconds
from cipherkeep_attestation.chain.light import check_commit, voted
from cipherkeep_attestation.errors import Refused, Stale, Untrusted


def judge_step(
    trusted: Header,
    next_validators: ValidatorSet,
    block: LightBlock,
    *,
    now: datetime,
    trusting_period: timedelta,
    clock_drift: timedelta,
) -> bytes:
    """The hash of a block that follows from `trusted`: adjacent, or signed by more than two thirds of its next set too.

    Raises an `EvidenceError`. `next_validators` is the set that `trusted` announces: its hash is compared.
    """
    header = block.header
    if header.chain_id != trusted.chain_id:
        raise Untrusted("lightclient.chain_id", header.chain_id)
    if header.height <= trusted.height:
        raise Refused("lightclient.height_below", f"height {header.height}, trusted {trusted.height}")
    if header.time <= trusted.time:
        raise Untrusted("lightclient.time_order")
    at = Timestamp.of(now)
    if header.time.after(at) > nanoseconds(clock_drift):
        raise Stale("lightclient.time_future", f"{header.time.datetime.isoformat()} at {now.isoformat()}")
    if at.after(trusted.time) >= nanoseconds(trusting_period):
        raise Stale("lightclient.trust_expired", f"{trusted.time.datetime.isoformat()} at {now.isoformat()}")
    if next_validators.hash() != trusted.next_validators_hash:
        raise Untrusted("lightclient.next_validators_hash", "the set beside the trusted header")
    adjacent = header.height == trusted.height + 1
    if adjacent and header.validators_hash != trusted.next_validators_hash:
        raise Untrusted("lightclient.next_validators_hash")
    digest = check_commit(block)
    if not adjacent and voted(block, next_validators) * 3 <= next_validators.power * 2:
        raise Untrusted("lightclient.skip_quorum", f"from {trusted.height} to {header.height}")
    if adjacent and header.last_block_id.hash != trusted.hash():
        raise Untrusted("lightclient.parent", f"height {header.height}")
    return digest


def check_named(header: Header, commit: Commit) -> None:
    """A commit beside a trusted header is for that header: what was trusted is one thing, not two."""
    if commit.height != header.height:
        raise Untrusted("lightclient.commit_height", f"{commit.height} for {header.height}")
    if commit.block_id.hash != header.hash():
        raise Untrusted("lightclient.commit_header")
