"""The application's process: `python -m cipherkeep_host.chain --home DIR --socket PATH --health ADDRESS`.

It keeps its state in `DIR/state.db`. Exit status: 0 after SIGTERM or SIGINT, 2 for a state that it must not run on,
3 when it halted because a handler was defective.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import structlog
from starlette.applications import Starlette

from cipherkeep_host import contracts, process
from cipherkeep_host.chain.abci import Server
from cipherkeep_host.chain.application import Application
from cipherkeep_host.chain.state import State
from cipherkeep_host.contracts.interface import Contract
from cipherkeep_host.errors import HostError

STATE = "state.db"
REFUSED, HALTED = 2, 3  # exit statuses

log = structlog.get_logger("cipherkeep.chain")


async def serve(home: Path, socket: Path, address: str, kinds: Mapping[str, type[Contract]]) -> int:
    """Serve until a signal or a halt; the exit status."""
    stop = process.stop_on_signals()
    state = State(home / STATE)
    application = Application(state, kinds)
    server = Server(socket, application)

    async def health() -> dict[str, object]:
        return {"ready": not server.halted.done(), "height": state.height, "nodes": len(server.connections)}

    listener = process.bind(process.parse_address(address))
    await server.start()
    server.halted.add_done_callback(lambda _: stop.set())
    log.info("chain.serving", height=state.height, app_hash=state.root().hex())
    pages = Starlette(routes=process.health_routes(application.metrics.registry, health))
    await process.serve_http(pages, listener, stop)
    await server.close()
    state.close()
    if server.halted.done():
        return HALTED
    log.info("chain.stopped", height=state.height)
    return 0


def main(arguments: list[str] | None = None, kinds: Mapping[str, type[Contract]] | None = None) -> int:
    """Run the process; `kinds` are this release's own unless given."""
    parser = argparse.ArgumentParser(prog="python -m cipherkeep_host.chain", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the folder of the application's state")
    parser.add_argument("--socket", type=Path, required=True, help="the unix socket that the node connects to")
    parser.add_argument("--health", required=True, help="unix:///path or tcp://127.0.0.1:PORT for /healthz, /metrics")
    options = parser.parse_args(arguments)
    process.configure_logs("chain")
    try:
        known = contracts.kinds() if kinds is None else kinds
        return asyncio.run(serve(options.home, options.socket, options.health, known))
    except HostError as error:
        log.error("chain.refused", code=error.code, detail=error.detail, sentence=error.sentence, hint=error.hint)
        return REFUSED


if __name__ == "__main__":
    sys.exit(main())
