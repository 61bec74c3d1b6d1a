"""Key generation: only what governance asked for, the same key when it is asked again, its public material with it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import replace
from typing import Any

import pytest
from cipherkeep_attestation.statements import eip712, fhevm
from cipherkeep_attestation.statements.request import Keygen
from cipherkeep_enclave.engine import keys as engine
from cipherkeep_enclave.keeper import Body
from cipherkeep_wire.errors import ServiceError

import tfhers
from tests.enclave.harness import TERMS, World


async def refused(world: World, statement: bytes) -> str:
    (asked,) = world.ask(Keygen(statement))
    refusal = world.open_answer(await world.process(asked)).core.refusal
    assert refusal is not None
    return refusal


async def material(world: World, key_id: bytes, kind: str) -> bytes:
    return b"".join([chunk async for chunk in world.keeper.material(key_id, kind)])


async def test_a_real_key_from_seed_to_value(world: World) -> None:
    """Production parameters, nothing cached: the published key encrypts, its server key packs, the enclave opens it."""
    await world.bring_up()
    key_id = await world.generate()
    public, server = await material(world, key_id, "public_key"), await material(world, key_id, "server_key")
    record = world.keeper.vault.key(key_id).record
    assert [(p.kind, p.size) for p in record.material] == [("public_key", len(public)), ("server_key", len(server))]
    server_key = tfhers.ServerKey.load(server)
    compact = tfhers.PublicKey.from_bytes(public).encrypt([("uint64", 0xC1F3)])
    packed = tfhers.compress(tfhers.expand(compact, server_key), server_key)
    (asked,) = world.ask(world.public(key_id, packed))
    assert world.open_answer(await world.process(asked, packed)).core.result == {
        "decrypted": (0xC1F3).to_bytes(32, "big")
    }


async def test_the_answer_names_the_material(world: World, cached_engine: Any) -> None:
    """Fingerprints in the core are those of the bytes that leave by stream, and the typed data covers them."""
    await world.bring_up()
    statement = world.governance.keygen(TERMS)
    world.govern(statement)
    (asked,) = world.ask(Keygen(statement))
    core = world.open_answer(await world.process(asked)).core
    assert core.key_id == core.id == asked.id
    streamed = {kind: await material(world, asked.id, kind) for kind in ("public_key", "server_key")}
    assert core.result == {
        "parameters": TERMS.parameters,
        "material": [
            [kind, hashlib.sha256(data).digest(), len(data), hashlib.shake_256(b"PDAT_KEY" + data).digest(32)]
            for kind, data in streamed.items()
        ],
    }
    digests = [(0, core.result["material"][1][3]), (1, core.result["material"][0][3])]
    struct = fhevm.key_generation(hashlib.sha256(statement).digest(), asked.id, digests)
    signer = eip712.recover(TERMS.decryption.digest(struct), core.signatures["eip712"])
    assert signer == world.keeper.vault.identity.address


async def test_a_generation_that_was_lost_gives_the_same_key(world: World, cached_engine: Any) -> None:
    """The host lost the answer and the object: the enclave, restarted from before, makes the same core and manifest."""
    await world.bring_up()
    statement = world.governance.keygen(TERMS)
    world.govern(statement)
    (asked,) = world.ask(Keygen(statement))
    first = world.open_answer(await world.process(asked))
    world.boot()
    await world.bring_up()
    assert world.keeper.vault.keys == ()
    again = world.open_answer(await world.process(asked))
    assert again.core.encode() == first.core.encode()
    assert again.context.manifest == first.context.manifest


async def test_the_vault_travels_with_the_answer_that_needs_it(world: World, cached_engine: Any) -> None:
    """A key's answer comes with its object, also when repeated; other answers name only what is stored already."""
    await world.bring_up()
    statement = world.governance.keygen(TERMS)
    world.govern(statement)
    (asked,) = world.ask(Keygen(statement))
    await world.advance()
    await world.show(asked.height)
    for _ in range(2):
        outcomes, update = await world.keeper.process(asked.height, [Body(asked.counter, asked.body, ())])
        assert update is not None and {item.id for item in update.objects} == {bytes(32), asked.id}
        pin = world.open_answer(outcomes[0]).context.manifest
        assert pin == (2, hashlib.sha256(update.manifest).digest())
    packed = cached_engine.packed(("uint64", 7))
    (other,) = world.ask(world.public(asked.id, packed))
    await world.advance()
    await world.show(other.height)
    outcomes, update = await world.keeper.process(other.height, [Body(other.counter, other.body, (packed,))])
    assert update is None and world.open_answer(outcomes[0]).context.manifest[0] == 1
    world.land(pin)
    await world.open()
    outcomes, _ = await world.keeper.process(other.height, [Body(other.counter, other.body, (packed,))])
    assert world.open_answer(outcomes[0]).context.manifest == pin


async def test_no_key_without_governance(world: World, cached_engine: Any) -> None:
    """A statement that is not in force, of too few governors, or of another kind makes no key."""
    await world.bring_up()
    unheard = world.governance.keygen(TERMS, serial=3)
    assert await refused(world, unheard) == "request.statement"
    lone = world.governance.keygen(TERMS, serial=3, signers=world.governance.keys[:1])
    assert await refused(world, lone) == "request.statement"
    world.govern(world.governance.admit("beta"))
    assert await refused(world, world.statements[-1]) == "request.statement"


async def test_one_statement_makes_one_key(world: World, cached_engine: Any) -> None:
    """A lying validator that lists a generation twice gets one key."""
    await world.bring_up()
    await world.generate()
    assert await refused(world, world.statements[-1]) == "request.statement"


async def test_unknown_and_weak_parameters(world: World, cached_engine: Any) -> None:
    """Parameters that the engine does not have, or that the configuration does not allow, make no key."""
    await world.bring_up()
    for name in ("v0_unheard_of", "insecure_test_tiny"):
        statement = world.governance.keygen(replace(TERMS, parameters=name))
        world.govern(statement)
        assert await refused(world, statement) == "key.parameters"


async def test_a_generation_takes_no_ciphertexts(world: World, cached_engine: Any) -> None:
    """What does not belong there is the host's mistake, and no vote."""
    await world.bring_up()
    statement = world.governance.keygen(TERMS)
    world.govern(statement)
    (asked,) = world.ask(Keygen(statement))
    assert (await world.process(asked, b"ciphertext")).code == "ledger.ciphertexts"


async def test_material_is_made_again(world: World, cached_engine: Any) -> None:
    """After a restart the scratch folder is empty; the seed gives the same bytes."""
    await world.bring_up()
    key_id = await world.generate()
    before = [await material(world, key_id, kind) for kind in ("public_key", "server_key")]
    world.boot()
    await world.bring_up()
    assert [await material(world, key_id, kind) for kind in ("public_key", "server_key")] == before


@pytest.mark.parametrize(("wrong", "code"), [("key", "service.unknown_key"), ("kind", "service.unknown_kind")])
async def test_material_that_does_not_exist(wrong: str, code: str, world: World, cached_engine: Any) -> None:
    """Unknown ids and kinds are refused by name."""
    await world.bring_up()
    key_id = await world.generate()
    with pytest.raises(ServiceError) as refusal:
        await material(
            world, bytes(32) if wrong == "key" else key_id, "secret_key" if wrong == "kind" else "public_key"
        )
    assert refusal.value.code == code


async def test_a_host_that_leaves_and_comes_back_finds_its_key(
    world: World, cached_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that is cut off does not stop the generation, and its repeat joins it: the key is made once."""
    made = engine.public_material
    begun: list[float] = []

    def slow(*arguments: Any) -> Any:
        begun.append(time.monotonic())
        time.sleep(0.3)
        return made(*arguments)

    monkeypatch.setattr(engine, "public_material", slow)
    await world.bring_up()
    statement = world.governance.keygen(TERMS)
    world.govern(statement)
    (asked,) = world.ask(Keygen(statement))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(world.process(asked), 0.1)
    first, second = await asyncio.gather(world.process(asked), world.process(asked))
    assert world.open_answer(first).core.encode() == world.open_answer(second).core.encode()
    assert len(begun) == 1 and world.keeper.vault is not None and world.keeper.vault.keys == (asked.id,)


async def test_a_generation_that_fails_can_be_asked_for_again(
    world: World, cached_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure is an error and no vote; nothing of it stays in the vault."""
    made = engine.public_material

    def broken(*_: Any) -> Any:
        raise tfhers.TfheError("no memory")

    await world.bring_up()
    statement = world.governance.keygen(TERMS)
    world.govern(statement)
    (asked,) = world.ask(Keygen(statement))
    monkeypatch.setattr(engine, "public_material", broken)
    failed = await world.process(asked)
    assert (failed.code, failed.detail, failed.answer) == ("service.internal", "TfheError", b"")
    assert world.keeper.vault is not None and world.keeper.vault.keys == ()
    monkeypatch.setattr(engine, "public_material", made)
    assert world.open_answer(await world.process(asked)).core.refusal is None


async def test_two_keys_of_one_reply_name_the_manifest_in_it(world: World, cached_engine: Any) -> None:
    """Whichever of the two answers lands, the manifest that it pins is one that the host was given."""
    await world.bring_up()
    statements = [world.governance.keygen(TERMS), world.governance.keygen(TERMS)]
    world.govern(*statements)
    shown = world.ask(*map(Keygen, statements))
    await world.advance()
    await world.show(shown[0].height)
    bodies = [Body(asked.counter, asked.body, ()) for asked in shown]
    outcomes, update = await world.keeper.process(shown[0].height, bodies)
    assert update is not None and {item.id for item in update.objects} == {bytes(32), *(asked.id for asked in shown)}
    pins = {world.open_answer(outcome).context.manifest for outcome in outcomes}
    assert pins == {(3, hashlib.sha256(update.manifest).digest())}
    assert [outcome.counter for outcome in outcomes] == [asked.counter for asked in shown]
