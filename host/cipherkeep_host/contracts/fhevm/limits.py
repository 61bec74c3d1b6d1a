"""The only place for the contract's limits. All nodes must have the same: a change is a new version of the contract."""

from __future__ import annotations

from dataclasses import dataclass

from cipherkeep_attestation.statements.governance import FHE_KEYS
from cipherkeep_attestation.statements.layout import MAX_INBOX


@dataclass(frozen=True, slots=True)
class Limits:
    """What one instance holds, and what one block may do."""

    parties: int = 128  # admitted ever; every vote may be looked at once for each answer
    keys: int = FHE_KEYS  # decided ever; enclaves hold no more, and their ids stand in one value of an index
    pending: int = 10_000  # requests without a final answer; beyond it new ones are refused, nothing is dropped
    pending_of_sender: int = 5_000  # so that one sender alone cannot fill the queue
    block_requests: int = MAX_INBOX  # requests that one block may add: what one inbox holds
    answers: int = 256  # answers in one message
    closings: int = 500  # requests that expire, and bodies that are dropped, in one block; the rest wait for the next
    body_blocks: int = 200_000  # a finished request's body can be looked up for so long: 11 hours at 200 ms
    block_hashes: int = 100_000  # newest blocks whose hashes are kept, for registrations, heads of answers and forks
    part: int = 120 << 10  # bytes of an answer in one value of an index (at most 128 KiB)


LIMITS = Limits()
