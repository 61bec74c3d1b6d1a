"""The only place that opens a client for the appliance that runs here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import coincurve
from cipherkeep_attestation.receipts.judging import Trust
from cipherkeep_attestation.statements import eip712
from cipherkeep_attestation.statements.configuration import Configuration

from cipherkeep_host import key_files
from cipherkeep_host.appliance import lock
from cipherkeep_host.appliance.plan import Environment, Paths, default_state
from cipherkeep_host.chain.client import ChainClient
from cipherkeep_host.chain.rpc import RpcClient
from cipherkeep_host.client.library import Client
from cipherkeep_host.client.node import RpcNode
from cipherkeep_host.errors import HostError
from cipherkeep_host.process import parse_address
from cipherkeep_host.store.client import StoreClient

MAX_AGE = timedelta(minutes=10)  # of the header that an answer is proven under


@dataclass(frozen=True, slots=True)
class Session:
    """A client, and what it was opened from."""

    environment: Environment
    configuration: Configuration
    client: Client
    node: RpcNode
    chain: ChainClient
    trust: Trust


def environment_of(state: Path | None) -> Environment:
    """The running appliance's environment. `HostError("appliance.not_running")`."""
    paths = paths_of(state)
    if lock.holder(paths.lock) is None:  # one that was killed leaves its environment behind
        raise HostError("appliance.not_running", str(paths.state))
    return Environment.read(paths.environment)


def paths_of(state: Path | None) -> Paths:
    """Where the appliance of this state folder lives; `run` is the supervisor's own business."""
    return Paths((state or default_state()).absolute(), Path("/"))


def configuration_of(environment: Environment) -> Configuration:
    """The measured configuration that the enclave was started with."""
    return Configuration.decode(Path(environment.configuration).read_bytes())


@asynccontextmanager
async def open_session(state: Path | None) -> AsyncIterator[Session]:
    """A session with the appliance whose state folder this is (the default one with None)."""
    environment = environment_of(state)
    configuration = configuration_of(environment)
    trust = Trust(configuration.root, configuration.instance, configuration.genesis, MAX_AGE)
    async with RpcClient(environment.node) as rpc, StoreClient(parse_address(environment.store)) as store:
        key = key_files.load_ed25519(Path(environment.keys) / "client.key")
        chain = ChainClient(rpc, chain_id=environment.chain_id, key=key)
        node = RpcNode(chain)
        async with Client(
            node=node, trust=trust, store=store, coprocessor=parse_address(environment.coprocessor), sender=chain
        ) as client:
            yield Session(environment, configuration, client, node, chain, trust)


def user_key(environment: Environment, path: Path | None) -> coincurve.PrivateKey:
    """A user's secp256k1 key from a file; without one, the appliance's own test user, made when first needed."""
    if path is None:
        return key_files.ensure_secp256k1(Path(environment.keys) / "user.key")
    try:
        return key_files.load_secp256k1(path)
    except HostError as error:
        raise HostError("cli.user_key", error.detail) from None


def address_of(key: coincurve.PrivateKey) -> bytes:
    """A user's address."""
    return eip712.address_of(key.public_key.format(compressed=False))
