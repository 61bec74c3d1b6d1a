"""The connector's process: `python -m cipherkeep_host.connector --config FILE`. The fields stand in `config`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from cipherkeep_attestation.eif import configuration_pcr
from cipherkeep_attestation.handshake import Initiator, Terms, judge_with
from cipherkeep_attestation.nitro.verify import Measurements, TrustRoot
from cipherkeep_wire.channel import AttestedChannel, TlsIdentity, open_channel
from starlette.applications import Starlette

from cipherkeep_host import key_files, process
from cipherkeep_host.chain.client import ChainClient
from cipherkeep_host.chain.rpc import RpcClient
from cipherkeep_host.client.node import RpcNode
from cipherkeep_host.connector import config
from cipherkeep_host.connector.config import Config
from cipherkeep_host.connector.connector import Connector, Surroundings
from cipherkeep_host.emulated.tpm import HostAttestor
from cipherkeep_host.store.client import StoreClient

_DOCUMENT_AGE = timedelta(minutes=5)
_log = structlog.get_logger()


def _now() -> datetime:
    return datetime.now(UTC)


class Opener:
    """Opens attached channels to one enclave under the policy that the configuration names."""

    def __init__(self, given: Config) -> None:
        measured = given.configuration
        self._given = given
        self._attestor = HostAttestor(given.host_attestor)
        self._terms = Terms(measured.root.chain_id, measured.digest(), measured.party)
        pcrs = {**given.pcrs, 16: configuration_pcr(measured.digest())}
        self._judge = judge_with(
            root=TrustRoot(measured.enclave_root, "configured"),
            kind="enclave",
            measurements=(Measurements(pcrs),),
            max_age=_DOCUMENT_AGE,
        )

    def _initiator(self, identity: TlsIdentity) -> Initiator:
        return Initiator(
            certificate=identity.certificate_der, attest=self._attestor.attest, judge=self._judge, terms=self._terms
        )

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[AttestedChannel]:
        """A channel that renews itself, for the length of the context."""
        channel = await open_channel(
            handshake_address=self._given.handshake,
            grpc_address=self._given.grpc,
            initiator_factory=self._initiator,
            clock=_now,
            on_renewal_failure=lambda code: _log.warning("channel not renewed", code=code),
        )
        async with channel:
            _log.info("channel open", module=channel.peer.module_id, expires=channel.expires.isoformat())
            yield channel


async def serve(given: Config) -> None:
    """Run the connector until SIGTERM."""
    stop = process.stop_on_signals()
    listener = process.bind(process.parse_address(given.listen))
    measured = given.configuration
    async with RpcClient(given.node) as rpc, StoreClient(given.store) as store:
        client = ChainClient(rpc, chain_id=measured.root.chain_id, key=key_files.load_ed25519(given.sender_key))
        connector = Connector(
            Surroundings(
                node=RpcNode(client),
                sender=client,
                store=store,
                connect=Opener(given).open,
                instance=measured.instance,
                party=measured.party,
                root=measured.root,
                state=given.state,
            )
        )

        async def health() -> dict[str, object]:
            return connector.health()

        app = Starlette(routes=list(process.health_routes(connector.metrics.registry, health)))
        serving = asyncio.create_task(process.serve_http(app, listener, stop))
        running = asyncio.create_task(connector.run())
        _log.info("serving", listen=given.listen, party=measured.party, instance=measured.instance)
        try:
            await asyncio.wait({serving, running}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            running.cancel()
            stop.set()
            outcome = (await asyncio.gather(running, serving, return_exceptions=True))[0]
        if not isinstance(outcome, asyncio.CancelledError):
            raise outcome


def main(arguments: list[str] | None = None) -> int:
    """Run the process; the exit code is 1 when it could not start."""
    process.die_with_parent()
    parser = argparse.ArgumentParser(prog="cipherkeep_host.connector", description="Carry requests to an enclave.")
    parser.add_argument("--config", type=Path, required=True, help="JSON; see the documentation of the module `config`")
    given = parser.parse_args(arguments)
    return process.run("connector", lambda: serve(config.load(given.config)))


if __name__ == "__main__":
    sys.exit(main())
