"""The only place for what the consensus engine asks of the application, in our own types.

The order of calls: `info`, then `init_chain` once in the life of a chain; for each block `prepare_proposal` at the
proposer, `process_proposal`, `finalize_block`, `commit`; `check_tx` and `query` in between. After a crash a block may
be finalised again, until its commit is durable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cipherkeep_attestation.chain.header import Timestamp

OK = 0
# Codes are hashed into the next header, `data` too; everything else is for people.
REFUSED_CONTRACT = 1  # by a contract: `data` is the code of the rule
REFUSED_EVIDENCE = 2  # evidence in a message does not hold: `data` is the code of the rule
REFUSED_TRANSACTION = 3  # the envelope, chain id, nonce or instance: `data` is the code of the rule


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a transaction. `data`: the results of its messages, or the code of the rule that refused it."""

    code: int = OK
    data: bytes = b""
    log: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query found: `value`, in the state after the block of `height`; or `code` and `log`."""

    code: int = OK
    value: bytes = b""
    height: int = 0
    log: str = ""


@dataclass(frozen=True, slots=True)
class Info:
    """How far the application has come. `app_hash` belongs to `height`."""

    app_version: int
    version: str
    height: int
    app_hash: bytes


class Application(Protocol):
    """What is behind the socket. Any exception from it halts the process."""

    def info(self) -> Info: ...

    def init_chain(self, chain_id: str, time: Timestamp, app_state: bytes, initial_height: int) -> bytes:
        """The app hash before the first block."""
        ...

    def check_tx(self, tx: bytes, *, recheck: bool) -> Verdict: ...

    def prepare_proposal(self, txs: Sequence[bytes], max_bytes: int) -> list[bytes]: ...

    def process_proposal(self, txs: Sequence[bytes]) -> bool: ...

    def finalize_block(
        self, height: int, time: Timestamp, block_hash: bytes, txs: Sequence[bytes]
    ) -> tuple[list[Verdict], bytes]:
        """The verdict on each transaction, and the app hash after the block."""
        ...

    def commit(self) -> None: ...

    def query(self, path: str, data: bytes, height: int) -> Answer: ...
