"""The only place that judges evidence of a fork: two blocks of one chain that cannot both be its blocks.

    held ── a block whose header is known to hold       other ── signed by more than two thirds of the same validators

They contradict each other when they have one height and two hashes, or when the higher one names another parent than
the lower one. Whoever holds `held` and sees `other` knows that more than a third of the power signed both branches.

Source: CometBFT v0.38, light-client/accountability.
"""

from __future__ import annotations

from cipherkeep_attestation.chain.header import Header, LightBlock
from cipherkeep_attestation.chain.light import check_commit, conflict_digest
from cipherkeep_attestation.errors import Untrusted


def verify_fork(held: Header, other: LightBlock) -> bytes:
    """The digest of the fork that these two prove. `Untrusted` when they prove none."""
    if other.header.chain_id != held.chain_id:
        raise Untrusted("lightclient.chain_id", other.header.chain_id)
    if not _contradict(held, other.header):
        raise Untrusted("lightclient.no_fork", f"heights {held.height} and {other.header.height}")
    if other.header.validators_hash != held.validators_hash:
        raise Untrusted("lightclient.validators_hash", "not the validators that signed the other block")
    check_commit(other)
    return conflict_digest(held, other.header)


def _contradict(held: Header, other: Header) -> bool:
    if other.height == held.height:
        return other.hash() != held.hash()
    if other.height == held.height + 1:
        return other.last_block_id.hash != held.hash()
    return other.height == held.height - 1 and held.last_block_id.hash != other.hash()
