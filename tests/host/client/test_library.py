"""The client library from encryption to a verified answer: real ciphertexts, the real contract, a simulated enclave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import coincurve
import pytest
from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_attestation.receipts.judging import Trust
from cipherkeep_attestation.statements import layout, request
from cipherkeep_attestation.statements.binding import MAX_CIPHERTEXT, PACKED, Ciphertext, ciphertext_digest
from cipherkeep_attestation.statements.governance import Coprocessors
from cipherkeep_attestation.statements.material import PUBLIC_KEY, SERVER_KEY, Material
from cipherkeep_attestation.statements.request import Keygen
from cipherkeep_host.client.library import Client
from cipherkeep_host.client.user_decryption import UserKey
from cipherkeep_host.coprocessor.server import Published
from cipherkeep_host.coprocessor.supervisor import Supervisor
from cipherkeep_host.coprocessor.table import Entry
from cipherkeep_host.errors import HostError
from cipherkeep_wire.transport import Address

from tests.host.client.test_user_decryption import seal
from tests.host.connector.simulated import ProvenWorld, SimulatedNode
from tests.host.coprocessor.conftest import ALICE, BOB, CONTRACT, SIGNER, Keys, Served, make_worker
from tests.simulators.contract import RELEASE
from tests.simulators.coprocessor import TERMS


class Setting:
    """World, node, coprocessor, client; the enclave is played by `answer`."""

    def __init__(self, world: ProvenWorld, served: Served) -> None:
        self.world = world
        self.served = served
        self.node = SimulatedNode(world)
        self.party = world.parties[0]
        trust = Trust(world.chain.root(), "one", world.governance.genesis, timedelta(minutes=10))
        self.client = Client(
            node=self.node,
            trust=trust,
            store=served.store,
            coprocessor=Address("unix", str(served.folder / "coprocessor.sock")),
            sender=self.node,
            clock=lambda: world.now,
        )

    async def set_up(self) -> bytes:
        """One party, this coprocessor, a key with the material of the test's key set."""
        world, governance = self.world, self.world.governance
        assert world.govern(governance.set_coprocessors(Coprocessors((SIGNER.address,), 1))) == "ok"
        assert world.govern(governance.set_releases(RELEASE)) == "ok"
        assert world.govern(governance.admit("alpha", self.party.configuration.digest())) == "ok"
        assert world.register(self.party, world.honest_registration(self.party)) == "ok"
        statement = governance.keygen(TERMS)
        assert world.govern(statement) == "ok"
        asked = await self.client.request_keygen(statement)
        files = {PUBLIC_KEY: self.served.keys.public_file, SERVER_KEY: self.served.keys.server_file}
        named = [Material.of(kind, path.read_bytes()) for kind, path in files.items()]
        await self.served.store.put_file(self.served.keys.public_file)
        crs = await self.served.store.put_file(self.served.keys.crs_file)
        await self.vote(self.party.keygen_core(asked.id, Keygen(statement), named))
        loaded = self.served.service.loaded
        assert loaded is not None
        loaded.coprocessor.key_id = asked.id
        self.served.service.loaded = replace(loaded, crs=Published(crs, 1))
        return asked.id

    async def vote(self, core: Any) -> None:
        """The party's answer, in a block."""
        signed = self.party.answer(core, self.world.head)
        outcomes = await self.node.mine(("answer", {"answers": [signed]}))
        assert outcomes[0].value[0][1] == "final"

    async def answer(self, counter: int, user_key: UserKey | None = None) -> None:
        """What an enclave would do: decrypt what the store holds, and sign."""
        body = self.world.index("bodies", counter.to_bytes(8, "big"))
        assert body is not None
        asked: Any = request.decode(body)
        record = self.world.record(counter)
        values = []
        for item in asked.ciphertexts:
            packed = await self.served.store.get_bytes(item.digest, limit=1 << 16)
            values.append(self.served.keys.client.decrypt_packed(packed))
        if user_key is None:
            core = self.party.public_core(record.id, asked, [value for _, value in values])
        else:
            handles = [item.handle for item in asked.ciphertexts]
            payload = seal(user_key, values, handles, user=asked.user, signing=self.party.signing)
            core = self.party.user_core(record.id, asked, payload)
        await self.vote(core)


@pytest.fixture
async def setting(keys: Keys, folder: Path) -> AsyncIterator[Setting]:
    world = ProvenWorld(folder / "chain")
    worker: Supervisor = make_worker(keys)
    async with Served(keys, folder, worker) as served:
        made = Setting(world, served)
        async with made.client:
            yield made
    await worker.close()
    world.state.close()


async def test_from_encryption_to_verified_answers(setting: Setting) -> None:
    """A user encrypts, computes, has the result opened for all and for herself; each answer is verified on the way."""
    client, node = setting.client, setting.node
    key_id = await setting.set_up()
    (key,) = await client.keys()
    assert (key.id, key.terms) == (key_id, TERMS)
    bound = await client.encrypt(key_id, [("uint64", 40), ("uint64", 2)], user=ALICE.address, contract_address=CONTRACT)
    total = await client.compute(key_id, "add", [item.handle for item in bound], owner=ALICE.key)

    asked = await client.request_public_decrypt(key_id, [total.handle, bound[0].handle])
    with pytest.raises(HostError) as late:
        await client.wait(asked.id, timeout=0.3)
    assert late.value.code == "client.timeout"
    assert (await client.state(asked.id)).record.state == layout.PENDING
    waiting = asyncio.create_task(client.wait(asked.id, timeout=20))
    await setting.answer(asked.counter)
    verified = await waiting
    assert [value for _, _, value in verified.values] == [42, 40]
    assert verified.vouchers[0].typed_data == "PublicDecryptVerification"

    await _user(setting, key_id, total.handle)
    await _wrong(setting, key_id, total.handle)
    node.down = True
    with pytest.raises(HostError):
        await client.state(asked.id)


@pytest.mark.parametrize(
    ("size", "what", "code"),
    [
        (100, "nothing", "client.ciphertext_missing"),
        (100, "other", "client.ciphertext_damaged"),
        (MAX_CIPHERTEXT + 1, "right", "client.ciphertext_too_large"),
    ],
)
async def test_who_waits_in_vain_learns_why(setting: Setting, size: int, what: str, code: str) -> None:
    """A ciphertext that the store lacks, has damaged, or that nobody reads: each has its code, sentence and hint."""
    client, store = setting.client, setting.served.store
    key_id = await setting.set_up()
    data = bytes(size)
    item = signed(key_id, data)
    if what != "nothing":
        await store.put_bytes(data)
    if what == "other":
        file = setting.served.blobs.path(item.digest.hex())
        file.chmod(0o600)
        file.write_bytes(b"\1" + data[1:])
    asked = await client._ask(request.PublicDecrypt(key_id, (item,)))
    with pytest.raises(HostError) as late:
        await client.wait(asked.id, timeout=0.1)
    assert late.value.code == code and late.value.sentence and late.value.hint
    assert item.handle.hex() in late.value.detail
    found = await client.state(asked.id)
    obstacle = await client.obstacle(found)
    assert found.record.state == layout.PENDING
    assert obstacle is not None and obstacle.code == code
    if what == "right":
        return
    await store.put_bytes(data)
    with pytest.raises(HostError) as late:
        await client.wait(asked.id, timeout=0.1)
    assert late.value.code == "client.timeout"


async def test_an_expired_request_says_what_kept_it(setting: Setting) -> None:
    """When nobody answered in time, the requester is told so, and by which of its ciphertexts if it was that."""
    client, world = setting.client, setting.world
    key_id = await setting.set_up()
    asked = await client._ask(request.PublicDecrypt(key_id, (signed(key_id, b"nowhere"),)))
    world.skip(world.governance.genesis.expiry_blocks)
    assert (await client.state(asked.id)).record.state == layout.EXPIRED
    with pytest.raises(HostError) as ended:
        await client.wait(asked.id)
    assert ended.value.code == "client.not_final"
    assert ended.value.detail == f"{asked.id.hex()}: expired (client.ciphertext_missing)"


async def test_a_key_that_the_coprocessor_does_not_serve(setting: Setting) -> None:
    """Nothing is encrypted, bound or found under it, and the refusal says that and nothing of proofs or strangers."""
    client = setting.client
    key_id = await setting.set_up()
    loaded = setting.served.service.loaded
    assert loaded is not None and await client.served_key() == key_id
    loaded.coprocessor.key_id = b"\x0a" * 32
    calls = (
        client.encrypt(key_id, [("uint64", 1)], user=ALICE.address, contract_address=CONTRACT),
        client.bind(key_id, b"a list", ["uint64"], user=ALICE.address, contract_address=CONTRACT),
    )
    for call in calls:
        with pytest.raises(HostError) as refusal:
            await call
        assert refusal.value.code == "client.key_not_served"
        assert (b"\x0a" * 32).hex() in refusal.value.detail and refusal.value.hint
    # A handle's binding is by this coprocessor, and for another key.
    setting.served.table.add([Entry(signed(b"\x0a" * 32, b"bytes"), b"")])
    with pytest.raises(HostError) as refusal:
        await client.ciphertext(key_id, signed(key_id, b"bytes").handle)
    assert refusal.value.code == "client.key_not_served"


def signed(key_id: bytes, data: bytes) -> Ciphertext:
    """A binding of these bytes by the coprocessor of this setting."""
    unsigned = Ciphertext(b"\x77" * 32, 5, PACKED, ciphertext_digest(data), ALICE.address, ())
    return replace(unsigned, signatures=(SIGNER.sign(unsigned, key_id=key_id, domain=TERMS.bindings()),))


async def _user(setting: Setting, key_id: bytes, handle: bytes) -> None:
    client, pair = setting.client, UserKey.generate()
    asked = await client.request_user_decrypt(key_id, [handle], user=ALICE.key, user_key=pair, contracts=[CONTRACT])
    await setting.answer(asked.counter, pair)
    verified = await client.wait(asked.id, timeout=20)
    assert await client.open(verified, user_key=pair) == ((handle, "uint64", 42),)
    with pytest.raises(HostError) as refusal:
        await client.open(verified, user_key=UserKey.generate())
    assert refusal.value.code == "client.opening"


async def _wrong(setting: Setting, key_id: bytes, handle: bytes) -> None:
    """What does not fit is refused here, before anything is asked; a stranger's request by the chain."""
    client = setting.client
    for values in ([("uint8", 256)], [("uint64", -1)], [("uint7", 1)]):
        with pytest.raises(HostError) as refusal:
            await client.encrypt(key_id, values, user=ALICE.address, contract_address=CONTRACT)
        assert refusal.value.code == "client.value"
    with pytest.raises(HostError) as refusal:
        await client.public_key(bytes(32))
    assert refusal.value.code == "client.key_unknown"
    with pytest.raises(HostError) as refusal:
        await client.ciphertext(key_id, bytes(32))
    assert refusal.value.code == "coprocessor.handle"
    with pytest.raises(HostError) as refusal:
        await client.request_user_decrypt(
            key_id, [handle], user=BOB.key, user_key=UserKey.generate(), contracts=[CONTRACT]
        )
    assert refusal.value.code == "client.transaction_refused"
    foreign = coincurve.PrivateKey()
    with pytest.raises(HostError) as refusal:
        await client.compute(key_id, "add", [handle, handle], owner=foreign)
    assert refusal.value.code == "coprocessor.owner"
    # A coprocessor that governance does not name.
    governance = setting.world.governance
    strangers = Coprocessors((b"\x01" * 20,), 1)
    assert setting.world.govern(governance.set_coprocessors(strangers)) == "ok"
    setting.world.block()
    with pytest.raises(EvidenceError) as stranger:
        await client.ciphertext(key_id, handle)
    assert stranger.value.code == "binding.stranger"
