"""The only place for how much the enclave's service accepts, holds and waits for: each with its unit and its reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from cipherkeep_attestation.statements.governance import FHE_KEYS


@dataclass(frozen=True, slots=True)
class EnclaveLimits:
    """What one enclave does at most. Oversized input is refused before anything is done with it."""

    # --- the chain's view ---
    light_blocks: int = 1_000  # of one Advance; an hour of a quiet chain, under 2 MiB with one validator
    statements: int = 200  # of one Advance; 12.5 MiB at most, more travel in further calls
    head_age: timedelta = timedelta(minutes=10)  # a head older than this serves nothing (design, decision 6)
    inbox_entries: int = 50_000  # entries of all shown inboxes together: 10 MiB of Python objects

    # --- requests ---
    requests: int = 256  # of one Process; more travel in further calls
    ciphertexts: int = 4_096  # of one Process, all its requests together
    ciphertext_bytes: int = 14 << 20  # of one Process: what fits a gRPC message
    processes: int = 64  # Process calls running or waiting; beyond it `service.busy`
    inline_ciphertexts: int = 8  # of one request: fewer are opened on the event loop, more in a thread
    threads: int = 2  # of the pool for batches; there are two processors

    # --- keys ---
    keys: int = FHE_KEYS  # keys of one vault; the contract decides on no more
    objects: int = 128  # sealed objects of one Open
    object_bytes: int = 1 << 16  # one sealed object; a key's record has about 600
    material_chunk: int = 1 << 20  # bytes of one message of a stream of public material
    streams: int = 4  # streams of public material at once


DEFAULT: Final = EnclaveLimits()
