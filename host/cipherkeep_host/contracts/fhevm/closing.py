"""The only place where requests end, and where a block's requests become its inbox.

    pending ─── enough equal answers ──► final, or refused
        └────── expiry_blocks later ───► expired

An ended request keeps its record, with digests only; its body can be looked up for some time more, that of a key's
generation always.
"""

from __future__ import annotations

from dataclasses import replace

from cipherkeep_attestation.statements import layout
from cipherkeep_attestation.statements.layout import Inbox, InboxEntry, RequestRecord
from cipherkeep_attestation.statements.request import KEYGEN

from cipherkeep_host.contracts.fhevm.limits import LIMITS
from cipherkeep_host.contracts.fhevm.records import (
    DROP,
    EXPIRY,
    INBOXED,
    PENDING,
    Records,
    number,
    queue_key,
    read_pending,
)
from cipherkeep_host.contracts.interface import Context, ContractState


def close(records: Records, height: int, counter: int, record: RequestRecord) -> None:
    """A request ends in the state that `record` says."""
    pending = records.index("pending")
    data = pending.get(number(counter))
    assert data is not None
    sender, expires = read_pending(data)
    pending.delete(number(counter))
    for name in (PENDING, sender):
        records.set_count(name, records.count(name) - 1)
    records.index("queue").delete(queue_key(expires, EXPIRY, counter))
    if record.operation != KEYGEN or record.state != layout.FINAL:
        # The body that made a key is evidence for as long as the key is.
        records.enqueue(height + LIMITS.body_blocks, DROP, counter)
    kept = {digest for _, digest in record.answers}
    for _, vote in records.votes(counter):
        # Answers in which a party contradicts itself are evidence; others that did not count serve nobody.
        if vote.answer not in kept and not vote.void:
            records.drop_answer(vote.answer, vote.size)
    records.put_request(counter, record)


def end_block(state: ContractState, context: Context) -> None:
    """Write the block's inbox, if it has requests, and do what is due at this height, as much as one block may."""
    records = Records(state)
    _write_inbox(records, context.height)
    queue = records.index("queue")
    for key, _ in queue.items(limit=LIMITS.closings):
        height, kind, counter = int.from_bytes(key[:8], "big"), key[8], int.from_bytes(key[9:], "big")
        if height > context.height:
            break
        queue.delete(key)
        if kind == EXPIRY:
            close(records, context.height, counter, replace(records.request(counter), state=layout.EXPIRED))
        else:
            records.index("bodies").delete(number(counter))


def _write_inbox(records: Records, height: int) -> None:
    first, last = records.count(INBOXED) + 1, records.collection(layout.REQUESTS).last_key()
    if first > last:
        return
    entries = []
    for counter in range(first, last + 1):
        record = records.request(counter)
        entries.append(InboxEntry(counter, record.id, record.digest))
    records.collection(layout.INBOX).put(height, Inbox(tuple(entries)).encode())
    records.set_count(INBOXED, last)


def begin_block(state: ContractState, context: Context) -> None:
    """Remember the hash of the block. Indexes are not under the app hash: an idle chain stays idle."""
    hashes = Records(state).index("hashes")
    if len(context.block_hash) == 32:
        hashes.put(number(context.height), context.block_hash)
    if context.height > LIMITS.block_hashes:
        hashes.delete(number(context.height - LIMITS.block_hashes))
