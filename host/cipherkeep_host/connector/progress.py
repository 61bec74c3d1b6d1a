"""The only place that remembers how far the connector has come: a height, and what was left open below it.

Every request at or below `done` has been answered on the chain or needs no answer, except those in `open`. Losing
the file, or its last changes, costs only work: whatever is done twice has the same outcome.
"""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path

from cipherkeep_attestation import cbor
from cipherkeep_attestation.errors import Malformed

from cipherkeep_host import durable
from cipherkeep_host.errors import HostError

_LABEL = "cipherkeep/connector-progress/v1"
_MAX_OPEN = 10_000  # the contract's own bound of pending requests


class Progress:
    """Kept in one file, replaced atomically. Not safe for use by several threads."""

    def __init__(self, path: Path, *, start: int) -> None:
        self._path = path
        self.done = start
        self.open: set[tuple[int, int]] = set()  # (height, counter)
        self.registered: bytes = b""  # boot of the enclave that last registered
        # (height, counter) of the newest votes that were counted and waited for others'. Not kept on disk.
        self.voted: deque[tuple[int, int]] = deque(maxlen=_MAX_OPEN)
        durable.make_folder(path.parent)
        durable.sweep(path.parent)
        if path.exists():
            self._read(path.read_bytes())

    def _read(self, data: bytes) -> None:
        try:
            found = cbor.fields(
                cbor.decode(data),
                done=cbor.uint(),
                label=cbor.exactly(_LABEL),
                open=cbor.sequence(cbor.sequence(cbor.uint(), 2, least=2), _MAX_OPEN),
                registered=cbor.raw(0, 16),
            )
        except Malformed as error:
            raise HostError("connector.progress", f"{self._path}: {error.detail}"[:300]) from None
        self.done = found["done"]
        self.open = {(height, counter) for height, counter in found["open"]}
        self.registered = found["registered"]

    async def save(self) -> None:
        """Put it, as it is now, on disk."""
        fields = {
            "done": self.done,
            "label": _LABEL,
            "open": [list(item) for item in sorted(self.open)],
            "registered": self.registered,
        }
        await asyncio.to_thread(durable.write, self._path, cbor.encode(fields))

    def reopen_votes(self) -> None:
        """After a lapse a vote counts once it is repeated: those that may still matter are looked at again."""
        room = _MAX_OPEN - len(self.open)
        self.open.update(list(self.voted)[-room:] if room > 0 else ())
        self.voted.clear()

    def postpone(self, height: int, counter: int) -> None:
        """Leave a request open. `HostError("connector.too_many_open")` beyond what a contract can have pending."""
        if len(self.open) >= _MAX_OPEN:
            raise HostError("connector.too_many_open", f"{_MAX_OPEN}")
        self.open.add((height, counter))
