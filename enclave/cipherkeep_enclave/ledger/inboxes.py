"""The only place that remembers which requests blocks hold, as far as it was shown."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from cipherkeep_attestation.errors import Refused, Untrusted
from cipherkeep_attestation.statements.layout import Inbox, InboxEntry
from cipherkeep_attestation.statements.request import request_id


@dataclass(frozen=True, slots=True)
class ShownInbox:
    """The requests of the block at `height`, by counter."""

    height: int
    entries: Mapping[int, InboxEntry]

    def entry(self, counter: int) -> InboxEntry:
        """The request of this counter. `Refused("request.not_in_inbox")` when the block holds none."""
        try:
            return self.entries[counter]
        except KeyError:
            raise Refused("request.not_in_inbox", f"counter {counter} at height {self.height}") from None


class Inboxes:
    """Shown inboxes, the least recently used forgotten first once all together have more than `most` entries."""

    def __init__(self, *, first_header: bytes, instance: str, most: int) -> None:
        self._first_header = first_header
        self._instance = instance
        self._most = most
        self._shown: OrderedDict[int, ShownInbox] = OrderedDict()
        self._entries = 0

    def add(self, height: int, inbox: Inbox) -> ShownInbox:
        """Remember an inbox that is proven. `Untrusted` when an id does not follow from its content."""
        for entry in inbox.entries:
            expected = request_id(
                first_header=self._first_header, instance=self._instance, counter=entry.counter, digest=entry.digest
            )
            if entry.id != expected:
                raise Untrusted("ledger.request_id", f"counter {entry.counter} at height {height}")
        known = self._shown.pop(height, None)
        self._entries -= len(known.entries) if known else 0
        shown = ShownInbox(height, {entry.counter: entry for entry in inbox.entries})
        self._shown[height] = shown
        self._entries += len(shown.entries)
        while self._entries > self._most and len(self._shown) > 1:
            _, forgotten = self._shown.popitem(last=False)
            self._entries -= len(forgotten.entries)
        return shown

    def get(self, height: int) -> ShownInbox | None:
        """The inbox of a block, or None when it was not shown or was forgotten."""
        shown = self._shown.get(height)
        if shown is not None:
            self._shown.move_to_end(height)
        return shown
