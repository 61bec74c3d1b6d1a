"""One appliance for all tests of this folder, and values that node-tfhe encrypted once for all of them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coincurve
import pytest
import pytest_asyncio
from cipherkeep_attestation.statements.binding import Ciphertext
from cipherkeep_host.cli.session import Session
from cipherkeep_host.cli.values import CONTRACT

from tests.e2e.appliance import running, strangers
from tests.e2e.appliance.running import Running

NAMES = {"u64": "uint64", "bool": "bool", "u160": "uint160"}  # node-tfhe's names of types, and ours


@dataclass(frozen=True, slots=True)
class Inputs:
    """Values of one user, encrypted and proven by node-tfhe in one list, and bound by the coprocessor."""

    key_id: bytes
    user: coincurve.PrivateKey
    address: str  # of the user, by eth-account
    values: tuple[tuple[str, int], ...]  # (our name of the type, value)
    bound: tuple[Ciphertext, ...]
    data: bytes  # the list

    @property
    def owner(self) -> bytes:
        """The user's address."""
        return bytes.fromhex(self.address[2:])

    @property
    def handles(self) -> list[bytes]:
        """In the list's order."""
        return [item.handle for item in self.bound]


@pytest.fixture(scope="session")
def appliance() -> Iterator[Running]:
    """A whole party with its chain; when the tests are over, nothing of it is left."""
    state = Path(tempfile.mkdtemp(prefix="ck-", dir="/tmp"))
    try:
        found = running.start(state / "s", "--commit-ms", "0")
        try:
            yield found
        finally:
            found.stop()
    except BaseException:
        for log in sorted(state.glob("s/logs/*.log")):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}")
        raise
    finally:
        shutil.rmtree(state, ignore_errors=True)


@pytest_asyncio.fixture
async def session(appliance: Running) -> AsyncIterator[Session]:
    """A client of the appliance, which carries requests."""
    await appliance.up()
    async with appliance.session() as opened:
        yield opened


@pytest.fixture(scope="session")
def inputs(appliance: Running) -> Inputs:
    """A uint64, a bool, the user's address and another uint64. Made once: proving takes half a minute."""
    return _apart(_inputs(appliance))


async def _inputs(appliance: Running) -> Inputs:
    user = coincurve.PrivateKey()
    address = strangers.address(user.secret)
    owner = bytes.fromhex(address[2:])
    amount = secrets.randbelow(1 << 62) + 1
    values = [("u64", amount), ("bool", 1), ("u160", int(address, 16)), ("u64", amount + 5)]
    async with appliance.session() as opened:
        key = (await opened.client.keys())[0]
        terms = key.terms
        # Put together here by hand, as today's clients do: contract, user, access control contract, chain.
        metadata = CONTRACT + owner + terms.acl + terms.host_chain_id.to_bytes(32, "big")
        crs = await opened.client.reference_string()
        public_key = await opened.client.public_key(key.id)
        string = appliance.blob(crs).read_bytes()
        assert hashlib.sha256(string).digest() == crs
        with tempfile.TemporaryDirectory(prefix="ck-") as folder:
            data = await asyncio.to_thread(
                lambda: strangers.encrypt(
                    Path(folder), public_key=public_key, crs=string, metadata=metadata, values=values
                )
            )
        named = [(NAMES[name], value) for name, value in values]
        bound = await opened.client.bind(
            key.id, data, [name for name, _ in named], user=owner, contract_address=CONTRACT
        )
    return Inputs(key.id, user, address, tuple(named), tuple(bound), data)


def _apart(work: Coroutine[Any, Any, Inputs]) -> Inputs:
    """Run it in a thread of its own: fixtures of the session have no event loop."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
