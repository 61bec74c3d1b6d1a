"""What the enclave's tests share: the emulators it needs, and one cached key set that stands for every key."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cipherkeep_attestation.statements.material import PUBLIC_KEY, SERVER_KEY
from cipherkeep_enclave.engine import keys as engine

import tfhers
from tests.enclave.harness import World
from tests.host.emulated.processes import KmsClient, kms_process, new_state, short_folder

_SOURCE = Path(__file__).parents[2] / "tfhers" / "tests" / "insecure_keys.py"


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """A state folder with an emulated root."""
    with new_state() as made:
        yield made


@pytest.fixture(scope="module")
def service(state: Path) -> Iterator[KmsClient]:
    """A running emulated KMS."""
    with short_folder() as place, kms_process(state, place) as (client, _):
        yield client


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path leaves room for the names of unix sockets."""
    with short_folder() as made:
        yield made


@pytest.fixture(scope="session")
def insecure_keys() -> Any:
    """The bindings' cached key set."""
    name = "insecure_keys"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, _SOURCE)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name].load_keys()


@pytest.fixture
def cached_engine(insecure_keys: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every seed is the cached key set's: generation costs milliseconds. Returns the key set."""
    seed = sys.modules["insecure_keys"].SEED

    def material(_seed: object, _parameters: str) -> Iterator[tuple[str, bytes]]:
        yield PUBLIC_KEY, tfhers.ClientKey.from_seed(seed).compact_public_key()
        yield SERVER_KEY, b"a server key, shortened"

    monkeypatch.setattr(engine, "seed", lambda secret, *, salt, info: tfhers.Seed.from_bytes(seed))
    monkeypatch.setattr(engine, "public_material", material)
    return insecure_keys


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """An enclave that is up to the opening of its vault, and no further."""
    made = World(tmp_path)
    yield made
    made.keeper.close()
