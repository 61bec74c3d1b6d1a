"""The connector between a simulated chain and an enclave that checks its evidence: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from cipherkeep_attestation.chain.light import Conflict
from cipherkeep_attestation.statements import layout
from cipherkeep_attestation.statements.request import Keygen
from cipherkeep_host.contracts.fhevm import records
from cipherkeep_wire.errors import ServiceError

from tests.host.connector.simulated import LIMIT, MATERIAL, QUICK, Scene
from tests.simulators.contract import RELEASE, Found
from tests.simulators.coprocessor import TERMS


async def test_it_brings_an_enclave_up_and_answers(scene: Scene) -> None:
    """From nothing: anchor, nonce, vault, registration, a key with its material, and a decryption."""
    await scene.up()
    record = scene.world.party_record(1)
    assert record.registration is not None and record.manifest_serial == 1
    await scene.generate()
    for data in MATERIAL.values():
        assert await scene.store.get_bytes(hashlib.sha256(data).digest(), limit=1 << 20) == data
    found = await scene.ask(scene.world.public(1))
    assert await scene.ended(found.counter) == layout.FINAL
    assert scene.world.party_record(1).manifest_serial == 2


async def test_a_block_of_requests_is_one_batch(scene: Scene) -> None:
    """The requests of a block go through the enclave together, and their answers share transactions."""
    await scene.up()
    await scene.generate()
    before = len(scene.node.sent)
    found = await scene.ask_all(*(scene.world.public(number) for number in range(1, 21)))
    for one in found:
        assert await scene.ended(one.counter) == layout.FINAL
    assert scene.enclave.calls["Process"] == 2
    assert scene.node.looked_up == 0
    assert len(scene.node.sent) - before <= 3
    assert all(times == 1 for times in scene.enclave.processed.values())


async def test_one_bad_request_does_not_hold_up_the_others(scene: Scene) -> None:
    """A ciphertext that is missing leaves its own request open; it is answered once the ciphertext is there."""
    await scene.up()
    await scene.generate()
    bad, good = scene.world.public(1), scene.world.public(2)
    await scene.put(good.ciphertexts[0])
    outcomes = await scene.node.mine(*((one.operation, {"request": one.encode()}) for one in (bad, good)))
    first, second = (outcome.value["counter"] for outcome in outcomes)
    assert await scene.ended(second) == layout.FINAL
    assert scene.connector is not None
    progress = scene.connector.progress
    await scene.until(lambda: progress.open, "open")
    assert scene.state(first) == layout.PENDING
    later = await scene.ask(scene.world.public(3))
    assert await scene.ended(later.counter) == layout.FINAL
    await scene.put(bad.ciphertexts[0])
    assert await scene.ended(first) == layout.FINAL
    await scene.until(lambda: not progress.open, "closed")


async def test_a_ciphertext_with_other_bytes_does_not_hold_up_the_others(scene: Scene) -> None:
    """A blob that the store has damaged fails its own request, under its code, and none beside it in the block."""
    await scene.up()
    await scene.generate()
    bad, good = scene.world.public(1), scene.world.public(2)
    for one in (bad, good):
        await scene.put(one.ciphertexts[0])
    name = bad.ciphertexts[0].digest.hex()
    file = next(path for path in scene.folder.rglob(f"*{name}*") if path.is_file())
    right = file.read_bytes()
    file.unlink()
    file.write_bytes(bytes(len(right)))
    outcomes = await scene.node.mine(*((one.operation, {"request": one.encode()}) for one in (bad, good)))
    first, second = (outcome.value["counter"] for outcome in outcomes)
    assert await scene.ended(second) == layout.FINAL
    connector = scene.connector
    assert connector is not None
    await scene.until(lambda: connector.progress.open, "open")
    assert connector.metrics.registry.get_sample_value("connector_failures_total", {"code": "store.digest"})
    assert scene.state(first) == layout.PENDING
    file.write_bytes(right)
    assert await scene.ended(first) == layout.FINAL


async def test_an_error_of_the_enclave_for_one_request_is_its_own(scene: Scene) -> None:
    """When a batch is refused as a whole for good, each request is tried alone."""
    await scene.up()
    await scene.generate()
    asked = [scene.world.public(number) for number in (1, 2, 3)]

    def refuse(call: Any) -> None:
        if len(call.requests) > 1 or any(asked[1].encode() == item.body for item in call.requests):
            raise ServiceError("service.size")

    scene.enclave.before["Process"] = refuse
    found = await scene.ask_all(*asked)
    assert [await scene.ended(found[at].counter) for at in (0, 2)] == [layout.FINAL] * 2
    assert scene.state(found[1].counter) == layout.PENDING


@pytest.mark.parametrize("stage", ["Status", "Advance", "Freshen", "Open", "Register", "Inbox", "Process"])
async def test_it_goes_on_after_a_kill_at_every_stage(scene: Scene, stage: str) -> None:
    """Wherever the connector dies, a new one on the same folder finishes the work, and the vault is the same."""
    reached = asyncio.Event()

    async def hang(_: Any) -> None:
        reached.set()
        await asyncio.sleep(30)

    scene.enclave.before[stage] = hang
    scene.start()
    asking: asyncio.Task[bytes] | None = None
    if stage in ("Inbox", "Process"):
        await scene.up()
        asking = asyncio.create_task(scene.generate())
    await asyncio.wait_for(reached.wait(), 10)
    await scene.kill()
    scene.enclave.before.clear()
    await scene.up()
    await (asking or asyncio.create_task(scene.generate()))
    found = await scene.ask(scene.world.public(1))
    assert await scene.ended(found.counter) == layout.FINAL


@pytest.mark.parametrize("stage", ["Freshen", "Open", "Register", "Inbox", "Process"])
async def test_it_goes_on_after_the_enclave_died_at_every_stage(scene: Scene, stage: str) -> None:
    """A new boot of the enclave is brought up again, with the vault that the chain pins."""
    died = asyncio.Event()

    async def die(_: Any) -> None:
        if not died.is_set():
            died.set()
            asyncio.get_running_loop().call_soon(restart)
            await asyncio.sleep(30)

    def restart() -> None:
        restarting.append(asyncio.create_task(scene.enclave.restart()))

    restarting: list[asyncio.Task[None]] = []
    if stage in ("Inbox", "Process"):
        await scene.up()
        await scene.generate()
    scene.enclave.before[stage] = die
    if stage not in ("Inbox", "Process"):
        await scene.up()
        await scene.generate()
    found = await scene.ask(scene.world.public(1))
    assert await scene.ended(found.counter) == layout.FINAL
    assert died.is_set()
    assert scene.world.party_record(1).manifest_serial == 2


async def test_an_enclave_that_was_started_anew_is_brought_up_on_a_quiet_chain(scene: Scene) -> None:
    """No request is needed for the connector to notice: the new boot registers by itself."""
    await scene.up()
    before = scene.world.party_record(1).registration
    await scene.enclave.restart()
    await scene.until(lambda: scene.world.party_record(1).registration != before, "another registration")
    assert scene.world.party_record(1).manifest_serial == 1


async def test_a_nonce_is_not_kept_out_by_who_is_first_in_every_block(scene: Scene) -> None:
    """Somebody who writes a nonce for the party at the head of each block delays no enclave's start."""
    mine = scene.node.mine

    async def crowded(*messages: Any) -> Any:
        nonce = {"party": scene.enclave.party.name, "nonce": secrets.token_bytes(32)}
        outcomes = (await mine(("freshness", nonce, b"\x66" * 32), *messages))[1:]
        await mine(("freshness", nonce | {"nonce": bytes(32)}, b"\x66" * 32))
        return outcomes

    scene.node.mine = crowded  # type: ignore[method-assign]  (others write too)
    await scene.up()
    assert scene.enclave.calls["Freshen"] == 1
    assert [message.name for message in scene.node.sent] == ["freshness", "register"]


async def test_a_long_log_of_decisions_is_shown_in_parts(scene: Scene) -> None:
    """An enclave that starts where governance has decided more than one call takes is brought up all the same."""
    world = scene.world
    decisions = [world.governance.lift(bytes(32)) for _ in range(2 * LIMIT + 1)]
    outcomes = await scene.node.mine(*(("govern", {"statement": decision}) for decision in decisions))
    assert {outcome.code for outcome in outcomes} == {"ok"}
    await scene.up()
    assert scene.enclave.serial == world.control().serial == 3 + len(decisions)
    await scene.generate()


async def test_it_catches_up_from_its_own_height(scene: Scene) -> None:
    """What came while it was away is answered, in its order, and what was done is not looked at again."""
    await scene.up()
    await scene.generate()
    first = await scene.ask(scene.world.public(1))
    assert await scene.ended(first.counter) == layout.FINAL
    assert scene.connector is not None
    done = scene.connector.progress
    await scene.until(lambda: done.done >= scene.world.record(first.counter).height, "done")
    await asyncio.sleep(0.3)
    await scene.kill()
    found = []
    for number in range(2, 8):
        found.append(await scene.ask(scene.world.public(number)))
        scene.world.skip(3)
    await scene.up()
    for one in found:
        assert await scene.ended(one.counter) == layout.FINAL
    assert scene.enclave.processed[first.counter] == 1


async def test_a_lost_answer_is_sent_again(scene: Scene) -> None:
    """An answer whose transaction was included without its sender hearing of it is not answered twice."""
    await scene.up()
    await scene.generate()
    scene.node.lose_answers = 1
    found = await scene.ask(scene.world.public(1))
    assert await scene.ended(found.counter) == layout.FINAL
    assert scene.connector is not None
    progress, height = scene.connector.progress, scene.world.record(found.counter).height
    await scene.until(lambda: progress.done >= height and not progress.open, "done")
    again = await scene.ask(scene.world.public(2))
    assert await scene.ended(again.counter) == layout.FINAL


async def test_a_lost_vault_object_stops_the_boot_with_its_code(scene: Scene) -> None:
    """Without an object that the record pins, in folder and store, nothing is opened; a restored one helps."""
    await scene.up()
    await scene.generate()
    await scene.kill()
    objects = scene.folder / "connector" / "vault" / "objects"
    saved = {path: path.read_bytes() for path in objects.iterdir()}
    for path in saved:
        path.unlink()
        (scene.folder / "blobs" / "blobs" / path.name[:2] / path.name).unlink()
    await scene.enclave.restart()
    scene.start()
    await scene.until(lambda: scene.connector and scene.connector.problem == "connector.vault_lost", "lost")
    for path, data in saved.items():
        path.write_bytes(data)
    await scene.up()
    found = await scene.ask(scene.world.public(1))
    assert await scene.ended(found.counter) == layout.FINAL


async def test_a_damaged_vault_object_is_taken_from_the_store(scene: Scene) -> None:
    """The store's copy replaces what does not have its digest any more."""
    await scene.up()
    await scene.generate()
    await scene.kill()
    for path in (scene.folder / "connector" / "vault" / "objects").iterdir():
        path.chmod(0o600)
        path.write_bytes(b"damaged")
    await scene.enclave.restart()
    await scene.up()
    found = await scene.ask(scene.world.public(1))
    assert await scene.ended(found.counter) == layout.FINAL


async def test_the_vault_is_kept_before_its_answer_leaves(scene: Scene) -> None:
    """When a key's answer is on the chain, its sealed object is on disk and in the store."""
    await scene.up()
    kept: list[bool] = []
    send = scene.node.send

    async def watch(messages: Any) -> Any:
        if messages[0].name == "answer":
            vault = scene.folder / "connector" / "vault"
            named = scene.enclave.party.manifest[1].hex()
            kept.append((vault / "manifests" / named).exists() and len(list((vault / "objects").iterdir())) == 2)
        return await send(messages)

    scene.node.send = watch  # type: ignore[method-assign]
    await scene.kill()
    await scene.up()
    await scene.generate()
    assert kept and all(kept)


async def test_material_that_is_not_what_was_signed_is_not_published(scene: Scene) -> None:
    """A stream that brings other bytes keeps the key's answer back until it brings the right ones."""
    await scene.up()
    scene.enclave.material["server_key"] = b"other bytes"
    generating = asyncio.create_task(scene.generate())
    assert scene.connector is not None
    metric = scene.connector.metrics.failures.labels("connector.material")
    await scene.until(lambda: metric._value.get() >= 1, "refused")
    assert scene.state(1) == layout.PENDING
    scene.enclave.material = dict(MATERIAL)
    await generating


async def test_material_under_another_typed_data_digest_is_not_published(scene: Scene) -> None:
    """The digest that contracts will read must be the material's as well, not only the one by which stores find it."""
    await scene.up()
    honest = scene.enclave.named
    scene.enclave.named = [honest[0], replace(honest[1], typed_digest=bytes(32))]
    generating = asyncio.create_task(scene.generate())
    assert scene.connector is not None
    metric = scene.connector.metrics.failures.labels("connector.material")
    await scene.until(lambda: metric._value.get() >= 1, "refused")
    assert scene.state(1) == layout.PENDING
    assert not await scene.store.has(honest[1].digest)
    scene.enclave.named = honest
    await generating
    assert await scene.store.has(honest[1].digest)


async def test_a_body_that_is_not_the_inboxs_is_not_handed_over(scene: Scene) -> None:
    """A node that lies about bodies makes nothing happen; a node that tells the truth makes it happen."""
    await scene.up()
    await scene.generate()
    scene.node.wrong_bodies = True
    found = await scene.ask(scene.world.public(1))
    assert scene.connector is not None
    metric = scene.connector.metrics.failures.labels("connector.body")
    await scene.until(lambda: metric._value.get() >= 1, "refused")
    assert scene.enclave.processed[found.counter] == 0
    scene.node.wrong_bodies = False
    assert await scene.ended(found.counter) == layout.FINAL


async def test_a_registration_that_lapsed_is_made_again(scene: Scene) -> None:
    """Admitted with another configuration and then with its own again, the same boot of an enclave registers anew."""
    await scene.up()
    await scene.generate()
    await scene.kill()
    world, digest = scene.world, scene.enclave.party.configuration.digest()
    before = world.party_record(1)
    for configuration in (bytes(48), digest):
        assert world.govern(world.governance.admit(scene.enclave.party.name, configuration)) == "ok"
    assert world.party_record(1).registration is None
    await scene.up()
    after = world.party_record(1)
    assert after.registration not in (None, before.registration)
    assert replace(after, registration=None) == replace(before, registration=None)


def lapse(scene: Scene) -> None:
    """Governance admits the party with another configuration, and then with its own again."""
    world, party = scene.world, scene.enclave.party
    for configuration in (bytes(48), party.configuration.digest()):
        assert world.govern(world.governance.admit(party.name, configuration)) == "ok"
    assert world.party_record(1).registration is None


async def test_a_registration_that_lapses_while_it_works_is_made_again_on_a_quiet_chain(scene: Scene) -> None:
    """No answer must fail first: the party's record is looked at from time to time."""
    await scene.up()
    await scene.generate()
    lapse(scene)
    await scene.node.mine()
    await scene.until(lambda: scene.world.party_record(1).registration is not None, "registered")
    found = await scene.ask(scene.world.public(1))
    assert await scene.ended(found.counter) == layout.FINAL


async def test_a_fork_that_the_enclave_saw_is_noted_on_the_chain(scene: Scene) -> None:
    """Another host showed it the other branch. Once governance has lifted the fork, everything goes on."""
    await scene.up()
    await scene.generate()
    world, light = scene.world, scene.enclave.light
    fork = world.chain.fork_at(light.head.height - 1)
    fork.produce(1)
    with pytest.raises(Conflict) as conflict:
        light.step(fork.light_block(light.head.height), now=world.now)
    connector = scene.connector
    assert connector is not None

    def noted() -> bytes | None:
        return layout.Control.decode(world.value(layout.CONTROL, layout.CONTROL_KEY) or b"").fork

    await scene.until(lambda: noted() == conflict.value.digest, "noted")
    await scene.until(lambda: connector.problem == "lightclient.frozen", "frozen")
    found = await scene.ask(scene.world.public(1))
    assert scene.state(found.counter) == layout.PENDING
    assert world.govern(world.governance.lift(conflict.value.digest)) == "ok"
    await scene.node.mine()
    assert await scene.ended(found.counter) == layout.FINAL
    assert noted() is None


@pytest.mark.parametrize("pool", [True, False])
async def test_an_answer_that_is_refused_for_a_lapse_is_given_again_once_registered(scene: Scene, pool: bool) -> None:
    """Whether the pool refuses its transaction or the contract its vote: the session begins anew, and nothing waits."""
    scene.start(replace(QUICK, watch_pause=60))
    await scene.up()
    await scene.generate()
    lapse(scene)
    scene.node.checks = pool
    found = await scene.ask(scene.world.public(1))
    assert await scene.ended(found.counter) == layout.FINAL
    connector = scene.connector
    assert connector is not None
    await scene.until(lambda: connector.stage == "up", "up")
    assert not connector.progress.open
    assert connector.metrics.registry.get_sample_value("connector_sessions_total") == 2


async def test_a_registration_that_is_refused_waits_for_governance(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that is no longer listed cannot register: /healthz and log say so once, and a decision ends it."""
    monkeypatch.setattr("cipherkeep_host.connector.boot._LOOK", 0.05)
    await scene.up()
    await scene.generate()
    world = scene.world
    with structlog.testing.capture_logs() as logs:
        assert world.govern(world.governance.set_releases(replace(RELEASE, pcr0=b"\x99" * 48))) == "ok"
        found = await scene.ask(world.public(1))
        connector = scene.connector
        assert connector is not None
        await scene.until(lambda: connector.problem == "connector.registration_refused", "refused")
        await asyncio.sleep(0.5)
    health = connector.health()
    assert (health["ready"], health["stage"], health["problem"]) == (
        False,
        "register",
        "connector.registration_refused",
    )
    assert "set_releases" in str(health["hint"]) and "document.pcr_mismatch" in str(health["detail"])
    warned = [(log["event"], log["code"]) for log in logs if log["log_level"] == "warning"]
    assert warned[-2:] == [
        ("session ended", "connector.party_lapsed"),
        ("waiting", "connector.registration_refused"),
    ]
    assert {code for _, code in warned[:-2]} <= {"connector.party_lapsed"}
    assert [message.name for message in scene.node.sent].count("register") == 2
    assert world.govern(world.governance.set_releases(RELEASE)) == "ok"
    await scene.node.mine()
    assert await scene.ended(found.counter) == layout.FINAL
    await scene.up()
    assert connector.health()["problem"] == connector.health()["hint"] == ""


async def test_votes_from_before_a_lapse_are_given_again(folder: Path) -> None:
    """What waits for others' votes would otherwise stay as it is: theirs came while this party's did not count."""
    async with Scene(folder, parties=2, answers=2) as scene:
        world, (alpha, beta) = scene.world, scene.world.parties
        assert world.govern(world.governance.admit(beta.name, beta.configuration.digest())) == "ok"
        await scene.up()
        assert world.register(beta, world.honest_registration(beta)) == "ok"

        async def voted(found: Found) -> None:
            key = records.number(found.counter) + records.number(alpha.index)
            await scene.until(lambda: world.index("votes", key), "alpha's vote")
            await asyncio.sleep(0.1)  # its verdict is on its way

        statement = world.governance.keygen(TERMS)
        assert world.govern(statement) == "ok"
        made = await scene.ask(Keygen(statement))
        await voted(made)
        core = beta.keygen_core(made.id, Keygen(statement), scene.enclave.named)
        assert world.vote([beta.answer(core, world.head)]) == ["final"]
        world.key_id = made.id

        asked = world.public(1)
        found = await scene.ask(asked)
        await voted(found)
        lapse(scene)
        assert world.vote([beta.answer(beta.public_core(found.id, asked, [7]), world.head)]) == ["counted"]
        await scene.node.mine()
        assert await scene.ended(found.counter) == layout.FINAL
        connector = scene.connector
        assert connector is not None
        await scene.until(lambda: not connector.progress.open, "closed")


async def test_a_party_that_is_not_admitted_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While governance has not admitted the party, /healthz names the rule and what governance must do."""
    monkeypatch.setattr("cipherkeep_host.connector.boot._LOOK", 0.05)
    async with Scene(folder, admitted=False) as scene:
        scene.start()
        connector = scene.connector
        assert connector is not None
        await scene.until(lambda: connector.problem == "service.not_admitted", "not admitted")
        assert not connector.health()["ready"] and "admit_party" in str(connector.health()["hint"])
        scene.admit()
        await scene.node.mine()
        await scene.up()


async def test_a_node_that_is_away_is_waited_for(scene: Scene) -> None:
    """The session ends and begins anew when the node is back."""
    await scene.up()
    await scene.generate()
    scene.node.down = True
    found = await scene.ask(scene.world.public(1))
    assert scene.connector is not None
    await scene.until(lambda: scene.connector and scene.connector.problem == "node.unreachable", "down")
    scene.node.down = False
    assert await scene.ended(found.counter) == layout.FINAL


async def test_a_stale_head_is_refreshed(scene: Scene) -> None:
    """When the enclave finds its head too old, newer headers are shown and the request tried again."""
    await scene.up()
    await scene.generate()
    times = 0

    def stale(_: Any) -> None:
        nonlocal times
        times += 1
        if times == 1:
            raise ServiceError("service.stale_head")
        if times == 2:
            raise ServiceError("service.unknown_inbox")

    scene.enclave.before["Process"] = stale
    found = await scene.ask(scene.world.public(1))
    assert await scene.ended(found.counter) == layout.FINAL


async def test_an_expired_request_is_let_go(folder: Path) -> None:
    """What cannot be answered is left open until it expires, and then forgotten."""
    async with Scene(folder, expiry_blocks=6) as scene:
        await scene.up()
        await scene.generate()
        asked = scene.world.public(1)
        outcomes = await scene.node.mine((asked.operation, {"request": asked.encode()}))
        counter = outcomes[0].value["counter"]
        assert scene.connector is not None
        progress = scene.connector.progress
        await scene.until(lambda: progress.open, "open")
        for _ in range(4):
            await scene.node.mine()
        assert scene.state(counter) == layout.EXPIRED
        await scene.until(lambda: not progress.open, "forgotten")


def warnings(logs: Sequence[Any], code: str) -> list[Any]:
    return [log for log in logs if log["log_level"] == "warning" and log.get("code") == code]


async def test_a_key_that_comes_after_its_request_expired_is_given_up(folder: Path) -> None:
    """It is said what became of it and what to do; its material is not published, the vault that has it is pinned."""
    async with Scene(folder, expiry_blocks=6) as scene:
        await scene.up()

        async def slow(_: Any) -> None:
            scene.enclave.before.clear()
            for _ in range(4):
                await scene.node.mine()

        scene.enclave.before["Process"] = slow
        statement = scene.world.governance.keygen(TERMS)
        assert scene.world.govern(statement) == "ok"
        with structlog.testing.capture_logs() as logs:
            found = await scene.ask(Keygen(statement))
            connector = scene.connector
            assert connector is not None
            height = scene.world.record(found.counter).height
            await scene.until(lambda: connector.progress.done >= height, "done")
            await asyncio.sleep(0.5)
        assert scene.state(found.counter) == layout.EXPIRED
        (said,) = warnings(logs, "connector.key_unused")
        assert said["id"] == found.id.hex() and "keygen statement" in said["hint"]
        assert scene.enclave.processed[found.counter] == 1 and not connector.progress.open
        assert scene.enclave.calls["Material"] == 0
        assert scene.world.party_record(1).manifest_serial == 2
        key_id = await scene.generate()
        assert key_id != found.id and scene.enclave.calls["Material"] == len(MATERIAL)


async def test_requests_that_expired_while_it_was_away_are_named(folder: Path) -> None:
    """What was lost to an outage stands in the log, in one line for each block, and is counted."""
    async with Scene(folder, expiry_blocks=6) as scene:
        await scene.up()
        await scene.generate()
        await scene.kill()
        found = await scene.ask_all(scene.world.public(1), scene.world.public(2))
        scene.world.skip(8)
        with structlog.testing.capture_logs() as logs:
            scene.start()
            connector = scene.connector
            assert connector is not None
            await scene.until(lambda: connector.progress.done >= scene.world.height - 3, "done")
        (said,) = warnings(logs, "connector.request_expired")
        assert said["counters"] == [one.counter for one in found]
        failures = connector.metrics.registry.get_sample_value
        assert failures("connector_failures_total", {"code": "connector.request_expired"}) == 2
        assert not any(scene.enclave.processed[one.counter] for one in found)


async def test_an_answer_that_comes_after_its_request_expired_is_named(folder: Path) -> None:
    """A decryption that landed too late is not answered again, and is not passed over in silence."""
    async with Scene(folder, expiry_blocks=6) as scene:
        await scene.up()
        await scene.generate()

        async def slow(_: Any) -> None:
            for _ in range(4):
                await scene.node.mine()

        scene.enclave.before["Process"] = slow
        with structlog.testing.capture_logs() as logs:
            found = await scene.ask(scene.world.public(1))
            connector = scene.connector
            assert connector is not None
            height = scene.world.record(found.counter).height
            await scene.until(lambda: connector.progress.done >= height, "done")
        assert scene.state(found.counter) == layout.EXPIRED
        (said,) = warnings(logs, "connector.request_expired")
        assert said["counters"] == [found.counter]


async def test_an_answer_that_comes_after_the_end_changes_nothing(folder: Path) -> None:
    """Signed while the request expired: no vote is counted any more, and the connector is done with it."""
    async with Scene(folder, expiry_blocks=6) as scene:
        await scene.up()
        await scene.generate()
        reached, go_on = asyncio.Event(), asyncio.Event()

        async def slowly(_: Any) -> None:
            reached.set()
            await go_on.wait()

        scene.enclave.before["Process"] = slowly
        found = await scene.ask(scene.world.public(1))
        await asyncio.wait_for(reached.wait(), 10)
        for _ in range(4):
            await scene.node.mine()
        ended = scene.world.record(found.counter)
        assert (ended.state, ended.answers) == (layout.EXPIRED, ())
        go_on.set()
        connector = scene.connector
        assert connector is not None
        late = connector.metrics.answers.labels("fhevm.answer_late")
        await scene.until(lambda: late._value.get() == 1, "an answer that is late")
        assert scene.world.record(found.counter) == ended
        await scene.until(lambda: connector.progress.done >= ended.height and not connector.progress.open, "done")
        assert scene.enclave.processed[found.counter] == 1
        # The next one is answered as ever.
        again = await scene.ask(scene.world.public(2))
        assert await scene.ended(again.counter) == layout.FINAL
