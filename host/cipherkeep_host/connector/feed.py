"""The only place that keeps the enclave's view of the chain current: light blocks, control leaf, statements, proofs.

The enclave judges state only under headers it holds, and uses secrets only under a head for which it was shown the
control leaf. So every step goes to one header and brings the leaf that is proven under it; what else is to be shown
under that header is shown before the next step. `Feed.lock` keeps steps apart.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cipherkeep_attestation.chain import ics23
from cipherkeep_attestation.chain.light import LightRoot
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements import layout

from cipherkeep_host.client.node import Node, Proven
from cipherkeep_host.connector.enclave import Enclave
from cipherkeep_host.errors import HostError

_ATTEMPTS = 8  # the chain may move on between a height and its proof
_INBOXES = 64  # inboxes shown in one step
_STATEMENTS = 200  # statements of one call: what the enclave takes
_WAIT = 60.0  # seconds for the header that proves a change; an idle chain makes one every 30


# The states before the newest few are gone: the chain has moved on since we asked for its height.
_PASSED = ("node.query", "connector.header_passed")


@dataclass(frozen=True, slots=True)
class Stand:
    """How far the enclave has come."""

    height: int
    serial: int


@dataclass(frozen=True, slots=True)
class Shown:
    """An inbox that the enclave has been shown."""

    height: int
    inbox: layout.Inbox


class Feed:
    """Feeds one enclave from one node."""

    def __init__(self, node: Node, enclave: Enclave, *, instance: str, root: LightRoot) -> None:
        self._node = node
        self._enclave = enclave
        self._instance = instance
        self._root = root
        self.lock = asyncio.Lock()
        self.stand = Stand(0, 0)

    async def begin(self) -> None:
        """Learn where the enclave stands, and anchor it at the trust root when it stands nowhere."""
        async with self.lock:
            status = await self._enclave.status()
            self.stand = Stand(status.head_height, status.control_serial)
            if status.head_height == 0:
                block = await self._node.light_block(self._root.height)
                reply = await self._enclave.advance([block.encode()])
                self.stand = Stand(reply.head_height, reply.control_serial)

    async def advance(self) -> int:
        """Bring the enclave to the newest header, with the control leaf under it; that header's height."""
        async with self.lock:
            return (await self.show(layout.CONTROL, layout.CONTROL_KEY))[1]

    async def show_inboxes(self, first: int, newest: int) -> tuple[list[Shown], int]:
        """Show the enclave the inboxes from height `first` on that are proven under the header of `newest` or later.

        Returns them, and the height up to which nothing else is to be shown.
        """
        last: HostError | None = None
        async with self.lock:
            for _ in range(_ATTEMPTS):
                header = max(newest, self.stand.height)
                try:
                    found, scanned = await self._inboxes(first, header)
                    if not found:
                        return [], scanned
                    control = await self._under(layout.CONTROL, layout.CONTROL_KEY, header)
                except HostError as error:
                    if error.code not in _PASSED:
                        raise
                    last = error
                    await asyncio.sleep(0.02)
                    newest = await self._node.height()
                    continue
                await self._step(header, control)
                shown = []
                for height, proven in found:
                    assert proven.value is not None
                    await self._enclave.inbox(
                        height=height, header_height=header, inbox=proven.value, proof=proven.proof.encode()
                    )
                    shown.append(Shown(height, layout.Inbox.decode(proven.value)))
                return shown, scanned
            raise last or HostError("connector.header_passed", f"inboxes from {first}")

    async def _inboxes(self, first: int, header: int) -> tuple[list[tuple[int, Proven]], int]:
        found: list[tuple[int, Proven]] = []
        key = first
        while key < header and len(found) < _INBOXES:
            proven = await self._under(layout.INBOX, key, header)
            if proven.value is not None:
                found.append((key, proven))
                key += 1
                continue
            following = _following(proven)
            if following is None:
                return found, header - 1
            key = following
        return found, key - 1

    async def show(self, collection: str, key: int) -> tuple[Proven, int]:
        """Bring the enclave to a header under which the newest state of this key is proven. Hold `lock`.

        Returns what stands there and the height of the header, which is now the enclave's head.
        """
        last: HostError | None = None
        for _ in range(_ATTEMPTS):
            try:
                height = max(await self._node.height(), self.stand.height)
                found, control = await asyncio.gather(
                    self._under(collection, key, height),
                    self._under(layout.CONTROL, layout.CONTROL_KEY, height),
                )
            except HostError as error:
                if error.code not in _PASSED:
                    raise
                last = error
                await asyncio.sleep(0.02)
                continue
            await self._step(height, control)
            return found, height
        raise last or HostError("connector.header_passed")

    async def _under(self, collection: str, key: int, height: int) -> Proven:
        """The key's state as it is proven under the header of `height`."""
        found = await self._node.prove(self._instance, collection, key, height=height - 1)
        if not found.first_header <= height <= found.last_header:
            raise HostError("connector.header_passed", f"{collection}: header {height} of {found.first_header}")
        return found

    async def _step(self, height: int, control: Proven) -> None:
        blocks = []
        if height > self.stand.height:
            blocks = [(await self._node.light_block(height)).encode()]
        leaf = control.value
        serial = 0 if leaf is None else layout.Control.decode(leaf).serial
        statements = await self._statements(self.stand.serial + 1, serial)
        while len(statements) > _STATEMENTS:  # a new boot learns all that was ever decided
            await self._enclave.advance([], statements=statements[:_STATEMENTS])
            statements = statements[_STATEMENTS:]
        reply = await self._enclave.advance(
            blocks, control=leaf or b"", control_proof=control.proof.encode(), statements=statements
        )
        self.stand = Stand(reply.head_height, reply.control_serial)

    async def _statements(self, first: int, last: int) -> list[bytes]:
        found = []
        for serial in range(first, last + 1):
            value = (await self._node.prove(self._instance, layout.STATEMENTS, serial)).value
            if value is None:
                raise HostError("connector.statement_missing", f"statement {serial} of {last}")
            found.append(value)
        return found

    async def wait_for(self, collection: str, key: int, *, expected: bytes) -> tuple[Proven, int]:
        """As `show`, once the key holds `expected`. Hold `lock`. `HostError("connector.timeout")` after a minute."""
        try:
            async with asyncio.timeout(_WAIT):
                while True:
                    found, height = await self.show(collection, key)
                    if found.value == expected:
                        return found, height
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise HostError("connector.timeout", f"{collection} {key}") from None


def _following(absent: Proven) -> int | None:
    """The next higher key, which a proof of absence names: a hint here, proven when it is shown."""
    try:
        proof = ics23.decode(absent.proof.collection)
    except EvidenceError as error:
        raise HostError("node.answer", str(error)[:300]) from None
    if not isinstance(proof, ics23.Absence) or proof.right is None:
        return None
    return int.from_bytes(proof.right.key, "big")
