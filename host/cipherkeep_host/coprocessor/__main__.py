"""The coprocessor's process: `python -m cipherkeep_host.coprocessor --config FILE`. The fields stand in `config`.

`--make-key FILE` makes a signing key instead, prints its address, and ends. An existing file is never overwritten.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import structlog
from cipherkeep_attestation.statements import eip712

from cipherkeep_host import key_files, process
from cipherkeep_host.chain.client import ChainClient
from cipherkeep_host.chain.rpc import RpcClient
from cipherkeep_host.client.node import RpcNode
from cipherkeep_host.coprocessor import config
from cipherkeep_host.coprocessor.config import Config
from cipherkeep_host.coprocessor.loading import load
from cipherkeep_host.coprocessor.server import Service
from cipherkeep_host.coprocessor.signer import Signer, load_key_file
from cipherkeep_host.store.client import StoreClient

_log = structlog.get_logger()


async def serve(given: Config) -> None:
    """Run the coprocessor until SIGTERM."""
    stop = process.stop_on_signals()
    service = Service()
    key = load_key_file(given.signing_key)
    listener = process.bind(process.parse_address(given.listen))
    async with RpcClient(given.node) as rpc, StoreClient(given.store) as store:
        node = RpcNode(ChainClient(rpc, chain_id=given.configuration.root.chain_id))

        def say(what: str) -> None:
            service.waits_for = what
            _log.info("loading", what=what)

        async def run() -> None:
            loaded, table, worker = await load(given, node=node, store=store, signer=key, say=say)
            service.loaded = loaded
            _log.info("ready", key=loaded.coprocessor.key_id.hex(), address=eip712.checksum(key.address))
            try:
                await asyncio.Event().wait()
            finally:
                service.loaded = None
                await worker.close()
                table.close()

        serving = asyncio.create_task(process.serve_http(service.app(), listener, stop))
        running = asyncio.create_task(run())
        _log.info("serving", listen=given.listen, address=eip712.checksum(key.address))
        try:
            await asyncio.wait({serving, running}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.set()
            await asyncio.gather(serving, return_exceptions=True)  # before its worker goes: running calls may end
            running.cancel()
            outcome = (await asyncio.gather(running, return_exceptions=True))[0]
        if isinstance(outcome, Exception):
            raise outcome


def main(arguments: list[str] | None = None) -> int:
    """Run the process; the exit code is 1 when it could not start."""
    process.die_with_parent()
    parser = argparse.ArgumentParser(prog="cipherkeep_host.coprocessor", description="Take and compute ciphertexts.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", type=Path, help="JSON; see the documentation of the module `config`")
    what.add_argument("--make-key", type=Path, metavar="FILE", help="make a signing key, print its address, end")
    given = parser.parse_args(arguments)

    async def work() -> None:
        if given.make_key is not None:
            sys.stdout.write(eip712.checksum(Signer(key_files.make_secp256k1(given.make_key)).address) + "\n")
        else:
            await serve(config.load(given.config))

    return process.run("coprocessor", work)


if __name__ == "__main__":
    sys.exit(main())
