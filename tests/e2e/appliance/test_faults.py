"""kill -9 of every part at every stage of a request: answered once, with the same core, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from cipherkeep_attestation.receipts.judging import Verified
from cipherkeep_attestation.statements import answer as answers
from cipherkeep_attestation.statements import governance, layout
from cipherkeep_attestation.statements.manifest import Manifest
from cipherkeep_attestation.statements.request import Keygen, PublicDecrypt
from cipherkeep_host.appliance.plan import key_terms
from cipherkeep_host.cli.session import Session
from cipherkeep_host.cli.values import CONTRACT
from cipherkeep_host.client.library import Asked
from cipherkeep_host.client.user_decryption import UserKey
from cipherkeep_host.connector.boot import Boot
from cipherkeep_host.connector.progress import Progress
from cipherkeep_host.connector.vault import VaultFolder
from cipherkeep_host.errors import HostError
from cipherkeep_host.process import parse_address
from cipherkeep_host.store.client import StoreClient
from cipherkeep_wire import kms_pb2
from cipherkeep_wire.errors import RemoteError
from cipherkeep_wire.transport import TransportError

from tests.e2e.appliance.conftest import Inputs
from tests.e2e.appliance.hosts import host
from tests.e2e.appliance.running import Running, council, refused, send, until

# Node and application are killed six times each, far apart: more often in a minute, and the appliance gives them up.
PARTS = ("enclave", "nsm", "connector", "node", "application", "store", "coprocessor", "proxy", "aws-kms")
# What is halted, and where an answer stands meanwhile.
STAGES = {"signed, not sent": "node", "sent, in no block": "application"}
ANSWERED = "connector_process_seconds_count"  # calls of the enclave that have returned
# The last is what a node says while its application is gone.
_AWAY = ("node.unreachable", "node.answer", "node.query", "client.timeout", "client.header_passed", "node.refused")
T = TypeVar("T")


async def patiently(work: Callable[[], Awaitable[T]]) -> T:
    """The outcome of what asks a node that may be away for a while."""

    async def look() -> T | None:
        try:
            return await work()
        except HostError as error:
            if error.code not in _AWAY:
                raise
            return None

    found: T = await until(look, "the node")
    return found


async def answered(session: Session, request_id: bytes) -> Verified:
    """The verified answer, whatever is killed in the meantime."""
    return await patiently(lambda: session.client.wait(request_id, timeout=30))


async def check(session: Session, inputs: Inputs, request_id: bytes) -> Verified:
    """It is answered, rightly, once, and no party ever contradicted itself."""
    verified = await answered(session, request_id)
    assert [(name, value) for _, name, value in verified.values] == list(inputs.values)
    assert len(verified.vouchers) == 1
    assert await equivocations(session) == 0
    return verified


async def equivocations(session: Session) -> int:
    """How often a party was seen to contradict itself."""
    return await patiently(lambda: session.chain.last_key(session.trust.instance, layout.EQUIVOCATIONS))


# --- one kill, at a stage of one request ---


@pytest.mark.parametrize("name", PARTS)
async def test_killed_just_after_a_request_was_sent(
    appliance: Running, session: Session, inputs: Inputs, name: str
) -> None:
    """The request is in a block and perhaps on its way through the part that dies."""
    (asked,) = await send(session, PublicDecrypt(inputs.key_id, inputs.bound))
    killed = appliance.kill(name)
    await check(session, inputs, asked.id)
    await appliance.restarted(name, killed)
    await appliance.up()


@pytest.mark.parametrize("name", PARTS)
async def test_killed_while_a_request_is_pending(
    appliance: Running, session: Session, inputs: Inputs, name: str
) -> None:
    """Nobody carries the request while the part dies; later, whoever is there again does."""
    with appliance.halted("connector"):
        (asked,) = await send(session, PublicDecrypt(inputs.key_id, inputs.bound))
        killed = appliance.kill(name)
        if name != "connector":
            await appliance.restarted(name, killed)
        pending = await patiently(lambda: session.client.state(asked.id))
        assert pending.record.state == layout.PENDING
    await appliance.restarted(name, killed)
    await check(session, inputs, asked.id)
    await appliance.up()


@contextlib.asynccontextmanager
async def answer_held(appliance: Running, session: Session, inputs: Inputs, halted: str) -> AsyncIterator[Asked]:
    """A request whose answer the enclave has signed, and which `halted` keeps out of the chain.

    While the node is halted nothing can be sent; while the application is, what was sent is neither judged nor put into
    a block. To come there, the store keeps the ciphertexts back until the rest has been fetched from the node.
    """
    (warm,) = await send(session, PublicDecrypt(inputs.key_id, inputs.bound))
    await check(session, inputs, warm.id)  # the connector knows its nonce
    before = await appliance.metric("connector", ANSWERED)

    async def signed() -> bool | None:
        return await appliance.metric("connector", ANSWERED) > before or None

    with contextlib.ExitStack() as chain:
        store = contextlib.ExitStack()
        store.enter_context(appliance.halted("store"))
        try:
            (asked,) = await send(session, PublicDecrypt(inputs.key_id, inputs.bound))
            for _ in range(10):
                await asyncio.sleep(0.4)
                chain.enter_context(appliance.halted(halted))
                store.close()
                with contextlib.suppress(AssertionError):
                    await until(signed, "a signed answer", seconds=3)
                    break
                # The node had not told the connector everything yet.
                store.enter_context(appliance.halted("store"))
                chain.close()
            assert await signed()
        finally:
            store.close()
        await asyncio.sleep(0.2)  # what can be sent is sent
        yield asked


@pytest.mark.parametrize("name", ["enclave", "connector", "node", "application", "store"])
@pytest.mark.parametrize("stage", STAGES)
async def test_killed_while_an_answer_is_on_its_way(
    appliance: Running, session: Session, inputs: Inputs, stage: str, name: str
) -> None:
    """The enclave has signed, and the chain has not counted: whoever dies then, it is counted once."""
    async with answer_held(appliance, session, inputs, STAGES[stage]) as asked:
        killed = appliance.kill(name)
    await check(session, inputs, asked.id)
    record = (await patiently(lambda: session.client.state(asked.id))).record
    assert (record.state, len(record.answers)) == (layout.FINAL, 1)
    await appliance.restarted(name, killed)
    await appliance.up()


@pytest.mark.parametrize("name", ["enclave", "node", "store"])
async def test_killed_while_a_user_waits(appliance: Running, session: Session, inputs: Inputs, name: str) -> None:
    """A user's shares are sealed at random to all but their enclave: she opens them all the same, and once."""
    pair = UserKey.generate()
    asked = await session.client.request_user_decrypt(
        inputs.key_id, inputs.handles, user=inputs.user, user_key=pair, contracts=[CONTRACT]
    )
    killed = appliance.kill(name)
    verified = await answered(session, asked.id)
    opened = await patiently(lambda: session.client.open(verified, user_key=pair))
    assert [(kind, value) for _, kind, value in opened] == list(inputs.values)
    assert await equivocations(session) == 0
    await appliance.restarted(name, killed)
    await appliance.up()


@pytest.mark.parametrize("name", ["enclave", "connector", "application"])
async def test_killed_while_requests_flow(appliance: Running, session: Session, inputs: Inputs, name: str) -> None:
    """Thirty requests at all stages at once: each is answered once."""
    asked = []
    killed = 0
    for number in range(30):
        if number == 15:
            killed = appliance.kill(name)
        asked += await send(session, PublicDecrypt(inputs.key_id, inputs.bound))
    await asyncio.gather(*(check(session, inputs, item.id) for item in asked))
    await appliance.restarted(name, killed)
    await appliance.up()


# --- what is there again after a kill ---


async def test_a_request_has_the_same_core_after_a_restart(
    appliance: Running, session: Session, inputs: Inputs
) -> None:
    """Re-encryption is randomised, and yet an enclave that lost everything but its vault makes the same bytes."""
    asked = await session.client.request_user_decrypt(
        inputs.key_id, inputs.handles, user=inputs.user, user_key=UserKey.generate(), contracts=[CONTRACT]
    )
    first = await answered(session, asked.id)
    ciphertexts = [appliance.blob(item.digest).read_bytes() for item in inputs.bound]
    killed = appliance.kill("enclave")
    await appliance.restarted("enclave", killed)
    await asyncio.wait_for(_other_boot(appliance, session, inputs, first), 90)
    async with host(appliance, session) as found:
        again = await found.core(asked.height, asked.counter, *ciphertexts)
    assert again.encode() == first.core.encode()
    assert await equivocations(session) == 0


async def _other_boot(appliance: Running, session: Session, inputs: Inputs, before: Verified) -> None:
    """An answer of the new boot: it says so, its count begins anew, and the party has registered again."""
    (asked,) = await send(session, PublicDecrypt(inputs.key_id, inputs.bound))
    after = await check(session, inputs, asked.id)
    old, new = answers.unverified(before.answer).context, answers.unverified(after.answer).context
    assert new.boot != old.boot
    assert new.sequence == 1 and new.previous == bytes(32)
    assert after.vouchers[0].signer == before.vouchers[0].signer
    assert after.vouchers[0].evidence_key == before.vouchers[0].evidence_key


async def test_each_boot_registers_again(appliance: Running, session: Session, inputs: Inputs) -> None:
    """A new boot's registration stands in the party's record; the vault that it pins is the same."""
    before = await party(session)
    killed = appliance.kill("enclave")

    async def registered() -> layout.PartyRecord | None:
        found = await party(session)
        return found if found.registration != before.registration else None

    after: layout.PartyRecord = await until(registered, "another registration")
    assert (after.manifest_serial, after.manifest) == (before.manifest_serial, before.manifest)
    assert after.evidence_key == before.evidence_key and after.signing_key == before.signing_key
    await appliance.restarted("enclave", killed)
    await appliance.up()


async def party(session: Session) -> layout.PartyRecord:
    """The record of the only party."""
    found = await session.chain.prove(session.trust.instance, layout.PARTIES, 1)
    assert found.value is not None
    return layout.PartyRecord.decode(found.value)


async def test_what_the_coprocessor_acknowledged_survives(appliance: Running, session: Session, inputs: Inputs) -> None:
    """Bindings are the same after kill -9 of coprocessor and store, and its worker dies with it."""
    before = [await session.client.ciphertext(inputs.key_id, handle) for handle in inputs.handles]
    killed = appliance.kill("coprocessor")
    other = appliance.kill("store")
    await appliance.restarted("store", other)
    await appliance.restarted("coprocessor", killed)
    await appliance.healthy("coprocessor", lambda body: body.get("ready") is True)
    assert [await session.client.ciphertext(inputs.key_id, handle) for handle in inputs.handles] == before
    names = [name for name, _ in inputs.values]
    again = await session.client.bind(inputs.key_id, inputs.data, names, user=inputs.owner, contract_address=CONTRACT)
    assert tuple(again) == inputs.bound


async def test_an_old_record_of_what_was_done_does_no_harm(
    appliance: Running, session: Session, inputs: Inputs
) -> None:
    """A connector restored from a snapshot looks at all old requests again, and changes none of them."""
    path = appliance.state / "connector" / "progress.cbor"
    (asked,) = await send(session, PublicDecrypt(inputs.key_id, inputs.bound))
    first = await check(session, inputs, asked.id)
    count = await session.chain.last_key(session.trust.instance, layout.REQUESTS)
    with appliance.halted("connector") as pid:
        # From the chain's beginning on, which is older than any snapshot.
        path.unlink()
        os.kill(pid, signal.SIGKILL)
    await appliance.restarted("connector", pid)
    await appliance.up()
    (other,) = await send(session, PublicDecrypt(inputs.key_id, inputs.bound))
    await check(session, inputs, other.id)
    assert (await answered(session, asked.id)).answer == first.answer
    assert await session.chain.last_key(session.trust.instance, layout.REQUESTS) == count + 1


# --- keys ---


@pytest.mark.parametrize("name", ["enclave", "connector", "node", "application", "store"])
async def test_killed_while_a_key_is_generated(appliance: Running, session: Session, inputs: Inputs, name: str) -> None:
    """The key that governance decided on comes to be, once, with its material; retired, it serves nobody."""
    before = await session.client.keys()
    ruling = council(session)
    signed = await ruling.decide(governance.KEYGEN, key_terms().to_map())
    (asked,) = await send(session, Keygen(signed))
    killed = appliance.kill(name)
    await patiently(lambda: session.client.wait(asked.id, timeout=120))
    after = await session.client.keys()
    assert [key.id for key in after] == [*(key.id for key in before), asked.id]
    for piece in after[-1].material:
        assert appliance.blob(piece.digest).stat().st_size == piece.size
    await appliance.restarted(name, killed)
    await appliance.up()
    async with refused("client.key_not_served"):
        await session.client.encrypt(asked.id, [("bool", 1)], user=inputs.owner, contract_address=CONTRACT)
    await ruling.decide(governance.RETIRE_KEY, {"key_id": asked.id})
    async with refused("fhevm.key_retired"):
        await send(session, PublicDecrypt(asked.id, inputs.bound))


# --- the vault ---


@dataclass(frozen=True)
class LyingVault:
    """The connector's vault, of which a host hands over something else."""

    folder: VaultFolder
    change: Callable[[bytes, list[kms_pb2.SealedObject]], tuple[bytes, list[kms_pb2.SealedObject]]]

    async def load(self, digest: bytes) -> tuple[bytes, list[kms_pb2.SealedObject]]:
        """What is handed over in place of the vault."""
        return self.change(*await self.folder.load(digest))

    async def keep(self, vault: kms_pb2.Vault) -> None:
        """No vault is made over one that stands on the chain."""
        raise AssertionError(f"a new vault: {vault.manifest.hex()}")


def old_manifests(folder: Path, newest: bytes) -> list[bytes]:
    """The manifests that were kept before the newest."""
    found = [path.read_bytes() for path in sorted((folder / "manifests").iterdir())]
    return [data for data in found if Manifest.decode(data).serial < Manifest.decode(newest).serial]


def changed(item: kms_pb2.SealedObject) -> kms_pb2.SealedObject:
    """A sealed object with one bit of another value."""
    return kms_pb2.SealedObject(kind=item.kind, id=item.id, data=item.data[:-1] + bytes((item.data[-1] ^ 1,)))


async def test_an_old_or_incomplete_vault_is_refused_by_the_enclave(
    appliance: Running, session: Session, inputs: Inputs, tmp_path: Path
) -> None:
    """A host that hands over an old manifest, too few objects or changed ones does not get the vault opened."""
    kept = appliance.state / "connector" / "vault"
    with appliance.halted("connector"):
        killed = appliance.kill("enclave")
        await appliance.restarted("enclave", killed)
        for code, change in (
            ("vault.object_missing", lambda manifest, objects: (manifest, objects[:-1])),
            ("vault.object_missing", lambda manifest, objects: (manifest, [])),
            ("vault.object_old", lambda manifest, objects: (old_manifests(kept, manifest)[0], objects)),
            ("vault.object_old", lambda manifest, objects: (manifest, [*objects[:-1], changed(objects[-1])])),
        ):
            assert await _open(appliance, session, LyingVault(_folder(kept, session), change), tmp_path) == code
    (asked,) = await send(session, PublicDecrypt(inputs.key_id, inputs.bound))
    await check(session, inputs, asked.id)
    await appliance.up()


def _folder(path: Path, session: Session) -> VaultFolder:
    return VaultFolder(path, StoreClient(parse_address(session.environment.store)))


async def _open(appliance: Running, session: Session, vault: LyingVault, scratch: Path) -> str:
    """The code with which the enclave refuses this vault."""
    ends = time.monotonic() + 60
    while True:
        try:
            async with host(appliance, session) as found:
                boot = Boot(
                    enclave=found.enclave,
                    feed=found.feed,
                    node=session.node,
                    sender=session.chain,
                    vault=vault,  # type: ignore[arg-type]
                    progress=Progress(scratch / "progress.cbor", start=0),
                    instance=session.trust.instance,
                    party=session.environment.party,
                )
                await boot.run()
        except RemoteError as error:
            if error.code != "channel.broken" or time.monotonic() > ends:
                return error.code
        except TransportError:
            # The enclave's process is there before its handshake is.
            assert time.monotonic() < ends
        else:
            return "opened"
        await asyncio.sleep(0.1)


async def test_a_lost_vault_is_said_and_can_be_restored(appliance: Running, session: Session, inputs: Inputs) -> None:
    """Without the newest sealed objects nothing is opened and the connector says why; from a backup all goes on."""
    kept = appliance.state / "connector" / "vault"
    backup = appliance.state / "backup"
    record = await party(session)
    assert record.manifest is not None
    manifest = (kept / "manifests" / record.manifest.hex()).read_bytes()
    lost = [record.manifest, *(item.digest for item in Manifest.decode(manifest).objects)]
    copies = {digest: appliance.blob(digest) for digest in lost}
    with appliance.halted("connector"):
        shutil.copytree(kept, backup)
        for digest, copy in copies.items():
            copy.rename(appliance.state / digest.hex())
        for path in (kept / "manifests" / record.manifest.hex(), *(kept / "objects").iterdir()):
            path.unlink()
        killed = appliance.kill("enclave")
        await appliance.restarted("enclave", killed)
        (asked,) = await send(session, PublicDecrypt(inputs.key_id, inputs.bound))
    said = await appliance.healthy("connector", lambda body: body.get("problem") == "connector.vault_lost")
    assert said["ready"] is False
    assert (await session.client.state(asked.id)).record.state == layout.PENDING
    shutil.copytree(backup, kept, dirs_exist_ok=True)
    await check(session, inputs, asked.id)
    for digest, copy in copies.items():
        (appliance.state / digest.hex()).rename(copy)
    await appliance.up()


async def test_nothing_was_contradicted_in_all_this(session: Session) -> None:
    """After all kills the chain holds no evidence of a party that said two things."""
    assert await equivocations(session) == 0
