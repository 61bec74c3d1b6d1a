"""The only place that believes something about the chain, and only with proof.

Evidence comes in this order, each part as often as the host likes: light blocks from the trust root on, with the
control leaf under the newest and the statements it stands for, in several parts where they are many; the nonce of this
boot under a header; then inboxes. What the host leaves out stays unknown, and what depends on it is not done: `current`
is the one way to a view under which secrets may be used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cipherkeep_attestation.chain import state
from cipherkeep_attestation.chain.header import Header, LightBlock
from cipherkeep_attestation.chain.light import Conflict, LightClient
from cipherkeep_attestation.chain.state import StateProof
from cipherkeep_attestation.errors import Malformed, Refused, Untrusted
from cipherkeep_attestation.statements import governance, layout
from cipherkeep_attestation.statements.configuration import Configuration
from cipherkeep_attestation.statements.decisions import Decisions
from cipherkeep_attestation.statements.layout import Control, Inbox, PartyRecord
from cipherkeep_wire.errors import ServiceError

from cipherkeep_enclave.ledger.inboxes import Inboxes, ShownInbox
from cipherkeep_enclave.limits import DEFAULT, EnclaveLimits

TRUSTING_PERIOD = timedelta(days=3653)  # ten years: safety comes from the two thirds and from freshness
CLOCK_DRIFT = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class View:
    """What holds under one header: the control leaf was proven under it, so no decision before it is missing."""

    height: int
    hash: bytes
    time: int  # seconds since 1970
    decisions: Decisions
    fork: bytes | None = None  # that the chain has noted and governance has not lifted


class Ledger:
    """One chain and one contract instance, from the trust root in the measured configuration. Not thread-safe."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        nonce: bytes,
        now: Callable[[], datetime],
        limits: EnclaveLimits = DEFAULT,
    ) -> None:
        """`nonce` (32 bytes) is drawn at boot. `Malformed` unless the trust root is header 1, whose hash is in ids."""
        root = configuration.root
        if root.height != 1:
            raise Malformed("ledger.root_height", f"height {root.height}")
        self.configuration = configuration
        self.nonce = nonce
        self._genesis = configuration.genesis.digest()
        self._digest = configuration.digest()
        self._now = now
        self._limits = limits
        self._client = LightClient(root, trusting_period=TRUSTING_PERIOD, clock_drift=CLOCK_DRIFT, skipping=True)
        self._anchored = False
        self._view: View | None = None
        self._learnt: Decisions | None = None  # with statements whose leaf is still to come: not in force
        self._fresh_height = 0
        self._inboxes = Inboxes(
            first_header=root.header_hash, instance=configuration.instance, most=limits.inbox_entries
        )

    # --- what is known ---

    @property
    def instance(self) -> str:
        """The contract instance."""
        return self.configuration.instance

    @property
    def genesis(self) -> bytes:
        """SHA-256 of the instance's genesis parameters."""
        return self._genesis

    @property
    def head(self) -> Header | None:
        """The newest header, or None before the trust root's block was seen."""
        return self._client.head if self._anchored else None

    @property
    def view(self) -> View | None:
        """The newest view, however old, or None while no control leaf was shown."""
        return self._view

    @property
    def decisions(self) -> Decisions:
        """What governance has decided as far as was shown."""
        return self._view.decisions if self._view else Decisions()

    @property
    def fresh(self) -> bool:
        """Whether this boot's nonce was seen in state."""
        return self._fresh_height > 0

    @property
    def frozen(self) -> Conflict | None:
        """The conflict that froze the light client."""
        return self._client.frozen

    @property
    def party_index(self) -> int:
        """This party's index, from 1; 0 while it is not admitted with this enclave's configuration."""
        return self.decisions.index_of(self.configuration.party, self._digest)

    def header_at(self, height: int) -> Header:
        """A header that holds. `Refused` when it is not among those kept."""
        return self._client.header_at(height)

    def current(self) -> View:
        """The view under which secrets may be used now; otherwise the first thing that is missing is raised."""
        if not self._anchored:
            raise ServiceError("service.not_anchored")
        conflict = self._client.frozen
        if conflict is not None:
            raise Refused("lightclient.frozen", conflict.digest.hex())
        view = self._view
        if view is None:
            raise ServiceError("service.no_control")
        if view.fork is not None:
            raise Refused("ledger.forked", view.fork.hex())
        age = self._now().timestamp() - view.time
        if age > self._limits.head_age.total_seconds():
            raise ServiceError("service.stale_head", f"{int(age)} seconds at height {view.height}")
        if not self._fresh_height:
            raise ServiceError("service.not_fresh")
        return view

    # --- evidence ---

    def step(self, encoded: bytes) -> None:
        """Judge one light block: the trust root's first. A known one again changes nothing."""
        block = LightBlock.decode(encoded)
        if not self._anchored:
            self._client.anchor(block, now=self._now())
            self._anchored = True
            return
        self._client.step(block, now=self._now())

    def lift(self, statements: Sequence[bytes]) -> None:
        """Thaw the light client when one of the statements, signed by enough governors, names the conflict.

        No header is needed for that: a frozen client judges none, and governance stands above the chain.
        """
        conflict = self._client.frozen
        if conflict is None:
            return
        for data in statements:
            statement = self._verify(data)
            if statement.kind == governance.LIFT_FREEZE and statement.content()["conflict"] == conflict.digest:
                self._client.lift(conflict.digest)
                return

    def learn(self, statements: Sequence[bytes]) -> None:
        """Take statements after those known, so that one call need not carry all that a leaf stands for.

        They are in force only once a leaf that stands for them is shown. When one does not follow, or the leaf stands
        for others, all that were taken like this are forgotten, and come again after those in force.
        """
        self._learnt = self._follow(statements)

    def show_control(self, control: bytes, proof: bytes, statements: Sequence[bytes]) -> View:
        """Take the control leaf under the head, and the statements after those known that it stands for."""
        if not self._anchored:
            raise ServiceError("service.not_anchored")
        head = self._client.head
        state.verify_present(
            head.app_hash,
            instance=self.instance,
            collection=layout.CONTROL,
            key=layout.CONTROL_KEY,
            value=control,
            proof=StateProof.decode(proof),
        )
        decisions = self._follow(statements)
        leaf = Control.decode(control)
        if not leaf.counts(decisions.control):
            raise Untrusted("governance.log", f"leaf {leaf.serial}, known {decisions.control.serial}")
        time = int(head.time.datetime.timestamp())
        self._view = View(head.height, self._client.head_hash, time, decisions, leaf.fork)
        return self._view

    def freshen(self, header_height: int, key: int, proof: bytes) -> None:
        """Take the proof that this boot's nonce stands in state: no header from then on is an old copy.

        Whose place it stands in does not matter: nobody could have written it anywhere before it was drawn.
        """
        self._index()
        header = self._client.header_at(header_height)
        state.verify_present(
            header.app_hash,
            instance=self.instance,
            collection=layout.FRESHNESS,
            key=key,
            value=self.nonce,
            proof=StateProof.decode(proof),
        )
        self._fresh_height = self._fresh_height or header_height

    def record(self, header_height: int, record: bytes, proof: bytes) -> PartyRecord:
        """This party's record, under a header at least as new as the one that showed the nonce of this boot."""
        index = self._index()
        self.current()
        if header_height < self._fresh_height:
            raise Refused("ledger.record_old", f"height {header_height}, fresh since {self._fresh_height}")
        state.verify_present(
            self._client.header_at(header_height).app_hash,
            instance=self.instance,
            collection=layout.PARTIES,
            key=index,
            value=record,
            proof=StateProof.decode(proof),
        )
        found = PartyRecord.decode(record)
        if found.name != self.configuration.party:
            raise Untrusted("ledger.record_party", found.name)
        if (found.manifest is None) != (found.manifest_serial == 0):
            raise Untrusted("ledger.record_manifest", f"number {found.manifest_serial}")
        return found

    def show_inbox(self, height: int, header_height: int, inbox: bytes, proof: bytes) -> int:
        """Take the requests of a block, proven under a later header; returns how many there are."""
        if not self._anchored:
            raise ServiceError("service.not_anchored")
        if header_height <= height:
            raise Refused("ledger.inbox_header", f"block {height}, header {header_height}")
        state.verify_present(
            self._client.header_at(header_height).app_hash,
            instance=self.instance,
            collection=layout.INBOX,
            key=height,
            value=inbox,
            proof=StateProof.decode(proof),
        )
        return len(self._inboxes.add(height, Inbox.decode(inbox)).entries)

    def inbox(self, height: int, view: View) -> ShownInbox:
        """A shown inbox, for use under `view`: decisions before the inbox's own block must not be missing.

        `Refused("ledger.expired")` once an answer under `view` could only come after the end of the requests.
        """
        shown = self._inboxes.get(height)
        if shown is None:
            raise ServiceError("service.unknown_inbox", f"height {height}")
        if view.height <= height:
            raise ServiceError("service.no_control", f"shown at {view.height}, requests of {height}")
        if view.height >= height + self.configuration.genesis.expiry_blocks:
            raise Refused("ledger.expired", f"requests of {height}, head {view.height}")
        return shown

    # --- inside ---

    def _index(self) -> int:
        if not self._anchored:
            raise ServiceError("service.not_anchored")
        index = self.party_index
        if index == 0:
            raise ServiceError("service.not_admitted", self.configuration.party)
        return index

    def _verify(self, data: bytes, serial: int | None = None) -> governance.Statement:
        return governance.verify(
            data,
            governors=self.configuration.genesis.governors,
            instance=self.instance,
            genesis=self._genesis,
            serial=serial,
        )

    def _follow(self, statements: Sequence[bytes]) -> Decisions:
        """The decisions after these statements, each in its turn. Those known already are passed over."""
        decisions, self._learnt = self._learnt or self.decisions, None
        for data in statements:
            statement = self._verify(data)
            if statement.serial <= len(decisions.digests):
                if decisions.digests[statement.serial - 1] != hashlib.sha256(data).digest():
                    raise Untrusted("ledger.statement_fork", f"number {statement.serial}")
                continue
            if statement.serial != len(decisions.digests) + 1:
                raise Untrusted("governance.log", f"number {statement.serial} after {len(decisions.digests)}")
            decisions = decisions.after(data, statement)
        return decisions
