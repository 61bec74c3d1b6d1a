"""The only place that decides what a block does to the state.

Each transaction runs on its own savepoint: all of its messages take effect, or none. A nonce is used up by every
transaction that is well-formed, signed, for this chain and next in its sender's order, whether its messages are
refused or not; nothing refused can therefore be played again. What is refused, and by which rule, is hashed into the
next header.

`ContractRefusal` and `EvidenceError` are refusals. Anything else that a handler raises is a defect and ends the
process before the block is committed.
"""

from __future__ import annotations

import copy
import hashlib
import time as clock  # for metrics only: nothing that is computed depends on it
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import structlog
from cipherkeep_attestation import cbor
from cipherkeep_attestation.chain.header import Timestamp
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements.transaction import MAX_TRANSACTION, Transaction

from cipherkeep_host.chain import accounts, queries, release
from cipherkeep_host.chain.abci import MAX_BLOCK
from cipherkeep_host.chain.block import Block
from cipherkeep_host.chain.calls import (
    OK,
    REFUSED_CONTRACT,
    REFUSED_EVIDENCE,
    REFUSED_TRANSACTION,
    Answer,
    Info,
    Verdict,
)
from cipherkeep_host.chain.genesis import CHAIN, AppState
from cipherkeep_host.chain.metrics import Metrics
from cipherkeep_host.chain.state import State
from cipherkeep_host.chain.view import View
from cipherkeep_host.contracts.interface import Context, Contract, ContractState
from cipherkeep_host.contracts.refusal import ContractRefusal
from cipherkeep_host.errors import HostError

MAX_BLOCK_TRANSACTIONS = 5000
WAITING_OF_SENDER = 1000  # transactions in the pool, of the engine's 5,000: one sender alone does not fill it
CACHE_BYTES = 64 << 20  # of transactions whose signature was checked, so that it is checked once
INSTANCES, APPLICATION = "instances", "application"
_OVERHEAD = 8  # bytes at most for a transaction's tag and length in a block

log = structlog.get_logger("cipherkeep.chain")


class _Opened:
    """Transactions that were opened before, by the hash of their bytes; the least recently used go first."""

    def __init__(self) -> None:
        self._held: OrderedDict[bytes, tuple[Transaction, int]] = OrderedDict()
        self._bytes = 0

    def open(self, tx: bytes) -> Transaction:
        """The transaction, or `EvidenceError`."""
        name = hashlib.sha256(tx).digest()
        found = self._held.get(name)
        if found is not None:
            self._held.move_to_end(name)
            return found[0]
        opened = Transaction.open(tx)
        self._held[name] = (opened, len(tx))
        self._bytes += len(tx)
        while self._bytes > CACHE_BYTES:
            self._bytes -= self._held.popitem(last=False)[1][1]
        return opened


class Application:
    """The state machine behind the socket. `kinds`: every kind of contract that this release knows."""

    def __init__(self, state: State, kinds: Mapping[str, type[Contract]], metrics: Metrics | None = None) -> None:
        self.state = state
        self.metrics = metrics or Metrics()
        self._kinds = kinds
        self._opened = _Opened()
        self._block: Block | None = None
        self._time = state.facts.time
        self._genesis_hash = state.facts.genesis_hash
        self._block_hash = b""
        self._pending: dict[bytes, int] = {}  # nonces of transactions that were checked and wait
        self._instances: dict[str, Contract] = {}
        if state.facts.chain_id:
            self._check_release()
            self._instances = self._load_instances(state)
        self.metrics.height.set(state.height)

    # --- start ---

    def _check_release(self) -> None:
        recorded, here = self.state.collection(CHAIN, APPLICATION).get(1) or b"", release.identity()
        if recorded != here:
            raise HostError("chain.application_version", f"recorded {recorded.hex()}, here {here.hex()}")

    def _load_instances(self, view: View) -> dict[str, Contract]:
        """The instances in state, by name, in the order in which they were made."""
        found: dict[str, Contract] = {}
        for _, value in view.collection(CHAIN, INSTANCES).items(limit=1 << 20):
            record = cbor.fields(
                cbor.decode(value),
                genesis=cbor.raw(32),
                kind=cbor.text(64),
                name=cbor.text(64),
                version=cbor.uint(),
            )
            kind = self._kind(record["kind"])
            if kind.version != record["version"]:
                raise HostError("chain.contract_version", f"{record['name']}: version {record['version']}")
            found[record["name"]] = kind()
        return found

    def _kind(self, name: str) -> type[Contract]:
        kind = self._kinds.get(name)
        if kind is None:
            raise HostError("chain.unknown_kind", name)
        return kind

    def info(self) -> Info:
        """How far the state has come."""
        facts = self.state.facts
        return Info(release.APPLICATION_VERSION, "cipherkeep", facts.height, facts.app_hash)

    def init_chain(self, chain_id: str, time: Timestamp, app_state: bytes, initial_height: int) -> bytes:
        """Make the first state; durable at once, and made anew if the engine asks again before block 1."""
        if initial_height != 1:
            raise HostError("chain.genesis_form", f"initial height {initial_height}")
        instances = AppState.read(app_state).instances
        block = self.state.reset()
        for name in (accounts.ACCOUNTS, APPLICATION, INSTANCES):
            block.create_collection(CHAIN, name)
        block.collection(CHAIN, APPLICATION).append(release.identity())
        for instance in instances:
            kind = self._kind(instance.kind)
            record = {
                "genesis": hashlib.sha256(instance.genesis).digest(),
                "kind": instance.kind,
                "name": instance.name,
                "version": kind.version,
            }
            block.collection(CHAIN, INSTANCES).append(cbor.encode(record))
            for name in kind.collections:
                block.create_collection(instance.name, name)
            kind.create(ContractState(block, instance.name), instance.genesis)
        self.state.commit(block, time=time, chain_id=chain_id, genesis_hash=b"")
        self._instances = self._load_instances(self.state)
        self._time = time
        log.info("chain.genesis", chain_id=chain_id, instances=[instance.name for instance in instances])
        return self.state.root()

    # --- the pool of transactions ---

    def check_tx(self, tx: bytes, *, recheck: bool) -> Verdict:
        """Whether a transaction may wait for a block."""
        facts = self.state.facts
        try:
            transaction = self._admissible(tx)
            sender = transaction.sender
            used = accounts.nonce_of(self.state, sender)
            self._expect_nonce(transaction, self._pending.get(sender, used))
            if transaction.nonce - used > WAITING_OF_SENDER:
                raise HostError("chain.sender_waiting", f"{WAITING_OF_SENDER}")
            if not recheck:
                for message in transaction.messages:
                    contract = self._contract(message.instance)
                    context = Context(
                        facts.height, facts.time, facts.chain_id, facts.genesis_hash, message.instance, sender
                    )
                    view = ContractState(self.state, message.instance)
                    contract.check(view, context, message.name, copy.deepcopy(message.body))
            self._pending[sender] = transaction.nonce
            verdict = Verdict()
        except (HostError, EvidenceError) as error:
            verdict = _refused(error)
        except Exception:  # a defect in a check refuses: it is no reason to stop a chain that never ran it
            log.exception("chain.check_failed")
            verdict = _refused(HostError("chain.check_failed"))
        self.metrics.checks.labels(str(verdict.code)).inc()
        return verdict

    def _admissible(self, tx: bytes) -> Transaction:
        if len(tx) > MAX_TRANSACTION:
            raise HostError("chain.transaction_size", f"{len(tx)} bytes")
        transaction = self._opened.open(tx)
        if transaction.chain_id != self.state.facts.chain_id:
            raise HostError("chain.other_chain", transaction.chain_id)
        return transaction

    @staticmethod
    def _expect_nonce(transaction: Transaction, last: int) -> None:
        if transaction.nonce != last + 1:
            raise HostError("chain.nonce", f"{transaction.nonce}, expected {last + 1}")

    def _contract(self, instance: str) -> Contract:
        contract = self._instances.get(instance)
        if contract is None:
            raise HostError("chain.no_instance", instance[:64])
        return contract

    # --- proposals ---

    def prepare_proposal(self, txs: Sequence[bytes], max_bytes: int) -> list[bytes]:
        """As many of the waiting transactions, in their order, as a block takes."""
        room = min(max_bytes, MAX_BLOCK)
        chosen: list[bytes] = []
        for tx in txs:
            room -= len(tx) + _OVERHEAD
            if room < 0 or len(chosen) == MAX_BLOCK_TRANSACTIONS:
                break
            if self._opens(tx):
                chosen.append(tx)
        return chosen

    def process_proposal(self, txs: Sequence[bytes]) -> bool:
        """Whether every transaction of a proposed block can be opened, and the block is not too large."""
        if len(txs) > MAX_BLOCK_TRANSACTIONS or sum(map(len, txs)) > MAX_BLOCK:
            return False
        return all(self._opens(tx) for tx in txs)

    def _opens(self, tx: bytes) -> bool:
        try:
            self._admissible(tx)
        except (HostError, EvidenceError):
            return False
        return True

    # --- blocks ---

    def finalize_block(
        self, height: int, time: Timestamp, block_hash: bytes, txs: Sequence[bytes]
    ) -> tuple[list[Verdict], bytes]:
        """Execute a block beside the committed state; the verdicts and the app hash after it."""
        begun = clock.perf_counter()
        if height != self.state.height + 1 or not self.state.facts.chain_id:
            raise HostError("chain.height_order", f"{height} after {self.state.height}")
        self._genesis_hash = block_hash if height == 1 else self.state.facts.genesis_hash
        self._time, self._block_hash = time, block_hash
        block = self._block = self.state.begin(height)
        for name, contract in self._instances.items():
            contract.begin_block(ContractState(block, name), self._context(height, name))
        verdicts = [self._execute(block, tx) for tx in txs]
        for name, contract in self._instances.items():
            contract.end_block(ContractState(block, name), self._context(height, name))
        app_hash = block.root()
        for verdict in verdicts:
            self.metrics.transactions.labels(str(verdict.code)).inc()
        self.metrics.finalize.observe(clock.perf_counter() - begun)
        return verdicts, app_hash

    def _context(self, height: int, instance: str, sender: bytes = b"") -> Context:
        facts = self.state.facts
        return Context(
            height, self._time, facts.chain_id, self._genesis_hash, instance, sender, block_hash=self._block_hash
        )

    def _execute(self, block: Block, tx: bytes) -> Verdict:
        try:
            transaction = self._admissible(tx)
            self._expect_nonce(transaction, accounts.nonce_of(block, transaction.sender))
        except (HostError, EvidenceError) as error:
            return _refused(error)
        accounts.use_nonce(block, transaction.sender, transaction.nonce)
        begun = block.savepoint()
        results: list[bytes] = []
        try:
            for message in transaction.messages:
                contract = self._instances.get(message.instance)
                if contract is None:
                    raise ContractRefusal("chain.no_instance", message.instance[:64])
                context = self._context(block.height, message.instance, transaction.sender)
                view = ContractState(block, message.instance)
                # A copy, because opened transactions are kept and a handler might change what it is given.
                results.append(contract.execute(view, context, message.name, copy.deepcopy(message.body)))
        except (ContractRefusal, EvidenceError) as error:
            block.rollback(begun)
            return _refused(error)
        return Verdict(OK, cbor.encode(results))

    def commit(self) -> None:
        """Make the executed block durable."""
        begun = clock.perf_counter()
        block = self._block
        if block is None:
            raise HostError("chain.height_order", "a commit without a block")
        self.state.commit(block, time=self._time, chain_id=self.state.facts.chain_id, genesis_hash=self._genesis_hash)
        self._block = None
        self._pending.clear()  # the engine now checks again what still waits, in its order
        self.metrics.height.set(self.state.height)
        self.metrics.commit.observe(clock.perf_counter() - begun)

    def query(self, path: str, data: bytes, height: int) -> Answer:
        """Read the committed state; see `queries`."""
        return queries.answer(self.state, path, data, height)


def _refused(error: HostError | EvidenceError) -> Verdict:
    """Which rule refused; the sentence is for people and in no hash."""
    code = REFUSED_TRANSACTION
    if isinstance(error, ContractRefusal):
        code = REFUSED_CONTRACT
    elif isinstance(error, EvidenceError):
        code = REFUSED_EVIDENCE
    return Verdict(code, error.code.encode(), str(error)[:1000])
