"""Mutated evidence and requests: refused by a code, or answered by a core, and never anything else."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.statements.layout import InboxEntry
from cipherkeep_attestation.statements.request import Keygen, request_digest
from cipherkeep_enclave.operations import answers
from cipherkeep_enclave.operations.setting import Setting
from cipherkeep_enclave.operations.signcryption import _ENVELOPE
from cipherkeep_wire.errors import ServiceError

from tests.enclave.harness import INSTANCE, TERMS, World

ROUNDS = 150


def mutations(data: bytes, seed: int) -> Iterator[bytes]:
    """Bit flips, cuts, splices and length edits, the same in every run."""
    chance = random.Random(seed)
    for _ in range(ROUNDS):
        position = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                changed = bytes([data[position] ^ (1 << chance.randrange(8))])
                yield data[:position] + changed + data[position + 1 :]
            case 1:
                yield data[:position]
            case 2:
                yield data[:position] + chance.randbytes(chance.randrange(1, 9)) + data[position:]
            case 3:
                yield data[:position] + b"\xff" * chance.randrange(1, 9) + data[position + 8 :]


async def test_mutated_evidence_changes_nothing(world: World) -> None:
    """No mutation of a block, leaf, proof, statement, record or inbox is taken, and none raises what has no code."""
    world.govern(world.governance.set_coprocessors(world.coprocessors.policy), world.admission())
    await world.advance()
    await world.freshen()
    (asked,) = world.ask(b"anything")
    world.write_record()
    world.govern(world.governance.retire(bytes(32)))
    ledger, chain = world.keeper.ledger, world.chain
    await world.advance(control=False)
    height, before = chain.height, ledger.view
    chain.produce()
    control, statement = world.control.encode(), world.statements[-1]
    inbox, record = chain.value(INSTANCE, "inbox", asked.height), world.record.encode()

    def proof(name: str, key: int) -> bytes:
        return chain.prove(INSTANCE, name, key, under=height).encode()

    cases: list[tuple[bytes, Callable[[bytes], Any]]] = [
        (chain.encoded(height + 1), ledger.step),
        (control, lambda data: ledger.show_control(data, proof("control", 1), [statement])),
        (proof("control", 1), lambda data: ledger.show_control(control, data, [statement])),
        (statement, lambda data: ledger.show_control(control, proof("control", 1), [data])),
        (record, lambda data: ledger.record(height, data, proof("parties", 1))),
        (proof("parties", 1), lambda data: ledger.record(height, record, data)),
        (inbox, lambda data: ledger.show_inbox(asked.height, height, data, proof("inbox", asked.height))),
        (proof("inbox", asked.height), lambda data: ledger.show_inbox(asked.height, height, inbox, data)),
    ]
    for seed, (genuine, take) in enumerate(cases):
        for mutated in mutations(genuine, seed):
            if mutated != genuine:
                with pytest.raises((EvidenceError, ServiceError)):
                    take(mutated)
        assert (ledger.head.height if ledger.head else 0) == height and ledger.view == before
    assert ledger.show_inbox(asked.height, height, inbox, proof("inbox", asked.height)) == 1
    ledger.show_control(control, proof("control", 1), [statement])


async def test_mutated_requests_get_a_core_or_a_code(world: World, cached_engine: Any) -> None:
    """Whatever a lying validator puts into an inbox is refused by vote or, with the wrong ciphertexts, by a code."""
    await world.bring_up()
    key_id = await world.generate()
    packed = cached_engine.packed(("uint64", 99))
    user = world.alice.request(
        key_id, world.bind(key_id, packed), start=int(world.now.timestamp()) - 60, terms=TERMS, public_key=_ENVELOPE
    )
    view, vault = world.keeper.ledger.current(), world.keeper.vault
    assert vault is not None
    setting = Setting(world.configuration, world.keeper.ledger.genesis, view, vault, 1)
    answered = 0
    for seed, genuine in enumerate([world.public(key_id, packed).encode(), user.encode()]):
        for body in mutations(genuine, seed):
            if body == genuine:
                continue
            request = answers.read(InboxEntry(1, bytes(32), request_digest(body)), body)
            if request is None or isinstance(request, Keygen):
                continue
            try:
                core = answers.decrypt_core(request, [packed], request_id=bytes(32), setting=setting)
            except EvidenceError as error:
                assert error.code in ("ledger.ciphertexts", "binding.digest")
                continue
            # What is not bound by a signature may be changed and is then another request; a result is never wrong.
            answered += core.result is not None
            assert core.refusal is not None or core.result in (
                {"decrypted": (99).to_bytes(32, "big")},
                core.result if isinstance(request, type(user)) else None,
            )
    assert answered < ROUNDS


async def test_mutated_ciphertexts_that_are_bound_anyway(world: World, cached_engine: Any) -> None:
    """Coprocessors that sign for crafted bytes get a value or a refusal; the process lives and goes on."""
    await world.bring_up()
    key_id = await world.generate()
    packed = cached_engine.packed(("uint64", 99))
    view, vault = world.keeper.ledger.current(), world.keeper.vault
    assert vault is not None
    setting = Setting(world.configuration, world.keeper.ledger.genesis, view, vault, 1)
    seen = set()
    for data in mutations(packed, 5):
        request = world.public(key_id, data)
        core = answers.decrypt_core(request, [data], request_id=bytes(32), setting=setting)
        seen.add(core.refusal)
    assert seen <= {None, "ciphertext.format", "ciphertext.type"} and "ciphertext.format" in seen
