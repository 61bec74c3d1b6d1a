"""The contract on the real consensus engine: registration over a real header, proofs, kill -9, replays."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cipherkeep_attestation import cbor
from cipherkeep_attestation.chain.light import LightClient, LightRoot
from cipherkeep_attestation.chain.state import verify_absent, verify_present
from cipherkeep_attestation.statements import layout
from cipherkeep_attestation.statements.layout import Control, Inbox, RequestRecord
from cipherkeep_attestation.statements.request import Keygen, PublicDecrypt, request_digest, request_id
from cipherkeep_attestation.statements.transaction import Message, Transaction
from cipherkeep_host.chain.client import ChainClient, TransactionRefused
from cipherkeep_host.chain.genesis import AppState, Instance
from cipherkeep_host.chain.home import Pace, make_home
from cipherkeep_host.chain.node import Node
from cipherkeep_host.chain.rpc import RpcClient
from cipherkeep_host.errors import HostError
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.simulators.attestation import SimulatedPlatform
from tests.simulators.contract import RELEASE
from tests.simulators.coprocessor import TERMS, SimulatedCoprocessors, SimulatedUser
from tests.simulators.governance import SimulatedGovernance
from tests.simulators.party import SimulatedParty, configuration

CHAIN_ID = "cipherkeep-test"


@dataclass
class Appliance:
    """A node with one instance, and everybody who talks to it."""

    node: Node
    rpc: RpcClient
    client: ChainClient
    governance: SimulatedGovernance
    party: SimulatedParty
    coprocessors: SimulatedCoprocessors
    header: bytes

    async def send(self, name: str, **body: Any) -> Any:
        """One message in one transaction; its decoded result and the block's height."""
        sent = await self.client.send([Message("one", name, body)])
        return cbor.decode(sent.results[0]), sent.height

    async def refused(self, name: str, **body: Any) -> str:
        with pytest.raises(TransactionRefused) as refusal:
            await self.send(name, **body)
        return refusal.value.rule

    async def head(self, above: int) -> tuple[int, bytes]:
        block = await self.client.block(above)
        return block.header.height, block.header.hash()

    async def register(self) -> int:
        block = await self.rpc.light_block((await self.rpc.status()).height)
        signed = self.party.register(block.header.height, block.header.hash(), at=datetime.now(UTC))
        return (await self.send("register", party="alpha", registration=signed))[1]  # type: ignore[no-any-return]

    async def answer(self, core: Any, height: int) -> Any:
        # The block after the head must exist before an answer under it can be in a block: any transaction makes one.
        head = await self.head(height + 1)
        found, _ = await self.send("answer", answers=[self.party.answer(core, head)])
        return found[0][1]

    async def set_up(self) -> bytes:
        governance = self.governance
        for statement in (
            governance.set_coprocessors(self.coprocessors.policy),
            governance.set_releases(RELEASE),
            governance.admit("alpha", self.party.configuration.digest()),
        ):
            await self.send("govern", statement=statement)
        await self.register()
        statement = governance.keygen(TERMS)
        await self.send("govern", statement=statement)
        found, height = await self.send("keygen", request=Keygen(statement).encode())
        assert await self.answer(self.party.keygen_core(found["id"], Keygen(statement)), height) == "final"
        key_id: bytes = found["id"]
        return key_id

    def public(self, key_id: bytes, number: int) -> PublicDecrypt:
        owner = SimulatedUser("alice").address
        item = self.coprocessors.bind(number.to_bytes(32, "big"), b"%d" % number, key_id=key_id, owner=owner)
        return PublicDecrypt(key_id, (item,))


@pytest_asyncio.fixture
async def appliance() -> AsyncIterator[Appliance]:
    """A chain of one validator whose instance has a governor, and a party that is not admitted yet."""
    folder = Path(tempfile.mkdtemp(prefix="ck-", dir="/tmp"))
    platform = SimulatedPlatform(at=datetime.now(UTC))
    governance = SimulatedGovernance(roots=(platform.root().certificate_der,))
    state = AppState((Instance("one", "fhevm", governance.genesis.encode()),))
    home = folder / "home"
    make_home(home, chain_id=CHAIN_ID, app_state=state, pace=Pace(0, 1.0))
    node = Node(home)
    try:
        await node.start()
        await node.wait_ready()
        async with RpcClient(node.rpc_address) as rpc:
            header = (await rpc.light_block(1)).header.hash()
            configured = configuration(
                "alpha", genesis=governance.genesis, platform=platform, chain_id=CHAIN_ID, header=header
            )
            party = SimulatedParty("alpha", 1, platform, configured)
            client = ChainClient(rpc, chain_id=CHAIN_ID, key=Ed25519PrivateKey.generate())
            yield Appliance(node, rpc, client, governance, party, SimulatedCoprocessors(), header)
    finally:
        await node.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def test_a_request_and_its_answer_on_the_chain(appliance: Appliance) -> None:
    """From genesis to a final answer, each step proven under a header that the light client verified."""
    key_id = await appliance.set_up()
    asked = appliance.public(key_id, 7)
    found, height = await appliance.send("public_decrypt", request=asked.encode())
    digest = request_digest(asked.encode())
    assert found["id"] == request_id(
        first_header=appliance.header, instance="one", counter=found["counter"], digest=digest
    )
    inbox = await appliance.client.prove("one", layout.INBOX, height)
    verifier = LightClient(
        LightRoot(CHAIN_ID, 1, appliance.header),
        trusting_period=timedelta(days=3650),
        clock_drift=timedelta(seconds=60),
        skipping=True,
    )
    verifier.anchor(await appliance.rpc.light_block(1), now=datetime.now(UTC))
    header = verifier.step(inbox.block, now=datetime.now(UTC))
    assert inbox.value is not None
    place: dict[str, Any] = {"instance": "one", "collection": layout.INBOX}
    verify_present(header.app_hash, key=height, value=inbox.value, proof=inbox.proof, **place)
    assert [entry.id for entry in Inbox.decode(inbox.value).entries] == [found["id"]]
    none = await appliance.client.prove("one", layout.INBOX, height + 1)
    verify_absent(none.block.header.app_hash, key=height + 1, proof=none.proof, **place)
    assert await appliance.answer(appliance.party.public_core(found["id"], asked, [42]), height) == "final"
    record = await appliance.client.prove("one", layout.REQUESTS, found["counter"])
    assert record.value is not None
    assert RequestRecord.decode(record.value).state == layout.FINAL
    control = await appliance.client.prove("one", layout.CONTROL, layout.CONTROL_KEY)
    assert control.value is not None
    assert Control.decode(control.value).serial == 4


async def test_an_idle_instance_leaves_the_app_hash_alone(appliance: Appliance) -> None:
    """Blocks without requests, which remember their hashes, all have one app hash."""
    key_id = await appliance.set_up()
    _, height = await appliance.send("public_decrypt", request=appliance.public(key_id, 7).encode())
    hashes = {(await appliance.client.block(height + 1 + i)).header.app_hash for i in range(3)}
    assert len(hashes) == 1


async def test_refusals_of_the_contract_reach_the_sender(appliance: Appliance) -> None:
    """With the code of the rule, from the pool where it is cheap to tell and from the block otherwise."""
    assert await appliance.refused("transfer") == "fhevm.message"
    strange = appliance.public(bytes(32), 1)
    assert await appliance.refused("public_decrypt", request=strange.encode()) == "fhevm.key_unknown"
    forged = appliance.governance.admit("alpha", signers=appliance.governance.keys[:1])
    assert await appliance.refused("govern", statement=forged) == "governance.quorum"


async def test_a_transaction_runs_once(appliance: Appliance) -> None:
    """The same signed bytes again are refused by their nonce: no request is multiplied by replaying it."""
    key_id = await appliance.set_up()
    key = Ed25519PrivateKey.generate()
    asked = appliance.public(key_id, 7)
    message = Message("one", "public_decrypt", {"request": asked.encode()})
    data = Transaction(CHAIN_ID, key.public_key().public_bytes_raw(), 1, (message,)).sign(key)
    checked = await appliance.rpc.broadcast(data)
    assert checked.code == 0
    # Another transaction, so that the first one is in a block by the time this one is.
    assert await appliance.send("freshness", party="alpha", nonce=bytes(32))
    assert await appliance.client.last_key("one", layout.REQUESTS) == 2
    with pytest.raises(HostError) as known:
        await appliance.rpc.broadcast(data)
    assert known.value.code == "node.refused"
    # The engine forgets what it has seen when it starts; the application does not.
    await appliance.node.kill()
    await appliance.node.start()
    await appliance.node.wait_ready()
    again = await appliance.rpc.broadcast(data)
    assert (again.code != 0, again.data) == (True, b"chain.nonce")
    assert await appliance.client.last_key("one", layout.REQUESTS) == 2


async def test_kill_9_between_request_and_answer(appliance: Appliance) -> None:
    """Application and engine are killed with requests pending; what was accepted is there, and is answered once."""
    key_id = await appliance.set_up()
    asked = [appliance.public(key_id, number) for number in range(1, 6)]
    found = [await appliance.send("public_decrypt", request=item.encode()) for item in asked]
    await appliance.node.kill()
    await appliance.node.start()
    await appliance.node.wait_ready()
    cores = [appliance.party.public_core(row["id"], item, [1]) for item, (row, _) in zip(asked, found, strict=True)]
    for core, (row, height) in zip(cores, found, strict=True):
        assert await appliance.answer(core, height) == "final"
        record = await appliance.client.prove("one", layout.REQUESTS, row["counter"])
        assert record.value is not None
        assert RequestRecord.decode(record.value).state == layout.FINAL
    assert await appliance.client.last_key("one", layout.REQUESTS) == 6
    # The restarted node knows the hashes of the blocks before: a registration over one of them holds.
    await appliance.register()
