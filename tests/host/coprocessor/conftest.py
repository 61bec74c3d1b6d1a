"""A coprocessor over a real key set, a real worker, a real store and a served HTTP interface, without a chain."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cipherkeep_attestation.statements import eip712
from cipherkeep_host import process
from cipherkeep_host.coprocessor import handles
from cipherkeep_host.coprocessor.requests import Compute, Inputs, compute_digest
from cipherkeep_host.coprocessor.server import Loaded, Published, Service
from cipherkeep_host.coprocessor.service import Coprocessor
from cipherkeep_host.coprocessor.signer import Signer
from cipherkeep_host.coprocessor.supervisor import Limits, Supervisor, worker_command
from cipherkeep_host.coprocessor.table import Table
from cipherkeep_host.store.blobs import Folder
from cipherkeep_host.store.blobs import Limits as StoreLimits
from cipherkeep_host.store.client import StoreClient, http_client
from cipherkeep_host.store.server import Service as StoreService
from cipherkeep_wire.transport import Address

import tfhers
from tests.simulators.coprocessor import TERMS, SimulatedUser, secp256k1

SEED = b"insecure test seed of this test!"
BITS = 512
KEY_ID = b"\x4b" * 32
CONTRACT = b"\xc0" * 20
SIGNER = Signer(secp256k1("coprocessor"))
ALICE, BOB = SimulatedUser("alice"), SimulatedUser("bob")


@dataclass(frozen=True)
class Keys:
    """A cached key set whose seed is public: files for the worker, objects for the test."""

    client: Any
    public: Any
    crs: Any
    public_file: Path
    server_file: Path
    crs_file: Path


def _make(folder: Path) -> None:
    keys = tfhers.KeySet.from_seed(SEED)
    (folder / "insecure_test_public_key.bin").write_bytes(keys.compact_public_key())
    (folder / "insecure_test_server_key.bin").write_bytes(keys.compressed_server_key())
    string = tfhers.Crs.generate(BITS, SEED)
    (folder / "insecure_test_crs.bin").write_bytes(string.to_bytes())
    (folder / "complete").touch()


@pytest.fixture(scope="session")
def keys() -> Keys:
    """Made once for each build of the bindings, which takes 15 seconds."""
    build = hashlib.sha256(Path(str(tfhers._tfhers.__file__)).read_bytes()).hexdigest()[:16]
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cipherkeep" / "testkeys"
    base.mkdir(parents=True, exist_ok=True)
    folder = base / f"coprocessor-{build}"
    with (base / "coprocessor.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for stale in base.glob("coprocessor-*"):
            if stale != folder:
                shutil.rmtree(stale, ignore_errors=True)
        if not (folder / "complete").exists():
            folder.mkdir(exist_ok=True)
            _make(folder)
    files = [folder / f"insecure_test_{name}.bin" for name in ("public_key", "server_key", "crs")]
    return Keys(
        tfhers.ClientKey.from_seed(SEED),
        tfhers.PublicKey.from_bytes(files[0].read_bytes()),
        tfhers.Crs.from_bytes(files[2].read_bytes()),
        *files,
    )


class Served:
    """A coprocessor as its clients see it. Everything but the worker runs in the test's loop."""

    def __init__(self, keys: Keys, folder: Path, worker: Supervisor) -> None:
        self.keys = keys
        self.folder = folder
        self.worker = worker
        self.stop = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    def _listen(self, name: str) -> tuple[socket.socket, Address]:
        address = Address("unix", str(self.folder / name))
        return process.bind(address), address

    async def __aenter__(self) -> Served:
        listener, address = self._listen("store.sock")
        self.blobs = Folder(self.folder / "blobs", StoreLimits())
        self.tasks.append(asyncio.create_task(process.serve_http(StoreService(self.blobs).app(), listener, self.stop)))
        self.store = StoreClient(address)
        self.table = Table(self.folder / "handles", key_id=KEY_ID)
        coprocessor = Coprocessor(
            key_id=KEY_ID, terms=TERMS, signer=SIGNER, table=self.table, store=self.store, worker=self.worker
        )
        nothing = Published(bytes(32), 1)
        self.service = Service(loaded=Loaded(coprocessor, nothing, nothing, nothing, BITS))
        listener, address = self._listen("coprocessor.sock")
        self.tasks.append(asyncio.create_task(process.serve_http(self.service.app(), listener, self.stop)))
        self.http = http_client(address, timeout=httpx.Timeout(120))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()
        await self.store.close()
        self.stop.set()
        await asyncio.gather(*self.tasks)
        self.table.close()
        self.blobs.close()

    def prove(self, *values: tuple[str, int], user: SimulatedUser = ALICE, contract: bytes = CONTRACT) -> bytes:
        metadata = handles.metadata(contract=contract, user=user.address, acl=TERMS.acl, chain_id=TERMS.host_chain_id)
        return bytes(self.keys.public.encrypt_with_proof(list(values), self.keys.crs, metadata))

    async def send(self, data: bytes, *, user: SimulatedUser = ALICE, contract: bytes = CONTRACT) -> httpx.Response:
        return await self.http.post("/inputs", content=Inputs(data, user.address, contract).encode())

    async def compute(self, operation: str, *operands: bytes, by: SimulatedUser = ALICE) -> httpx.Response:
        signature = eip712.sign(compute_digest(operation, operands, TERMS.bindings()), by.key)
        return await self.http.post("/compute", content=Compute(operation, operands, signature).encode())

    async def value(self, binding: dict[str, Any]) -> tuple[str, int]:
        """What the packed form in the store decrypts to."""
        packed = await self.store.get_bytes(bytes.fromhex(binding["digest"]), limit=1 << 16)
        return tuple(self.keys.client.decrypt_packed(packed))  # type: ignore[return-value]


def make_worker(keys: Keys) -> Supervisor:
    command = worker_command(public_key=keys.public_file, server_key=keys.server_file, crs=keys.crs_file)
    return Supervisor(command, limits=Limits(start=240, job=120))


@pytest.fixture
async def served(keys: Keys, folder: Path) -> AsyncIterator[Served]:
    """A coprocessor with a worker of its own."""
    worker = make_worker(keys)
    async with Served(keys, folder, worker) as made:
        yield made
    await worker.close()
