"""The proxy's process: `python -m cipherkeep_host.proxy --config FILE`; `config` says what the file holds.

Structured logs on stderr; `proxy is up` names the addresses. SIGTERM ends it in an orderly way with exit code 0.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from cipherkeep_host import process
from cipherkeep_host.proxy.config import Config, load
from cipherkeep_host.proxy.documents import Documents, Limits
from cipherkeep_host.proxy.relays import Relays


async def serve(config: Config, limits: Limits) -> None:
    """Relay and serve until SIGTERM."""
    stop = process.stop_on_signals()
    registry = CollectorRegistry()
    relays = Relays(config, registry)
    documents = Documents(config.handshake.connect, registry, limits)

    async def state() -> dict[str, object]:
        return {"ready": True, "open": {name: one.open_connections for name, one in relays.listeners.items()}}

    async with relays:
        app = Starlette(routes=[documents.route(), *process.health_routes(registry, state)])
        listener = process.bind(config.listen)
        port = listener.getsockname()[1] if config.listen.scheme == "tcp" else None
        ways = {name: str(one.address) for name, one in relays.listeners.items()}
        structlog.get_logger().info("proxy is up", listen=str(config.listen), port=port, ways=ways)
        await process.serve_http(app, listener, stop)


def main(arguments: list[str] | None = None) -> int:
    """Run the process; the exit code is 1 when it could not start."""
    process.die_with_parent()
    parser = argparse.ArgumentParser(prog="cipherkeep_host.proxy", description="Relay between host and enclave.")
    parser.add_argument("--config", type=Path, required=True, help="the configuration file (JSON)")
    given = parser.parse_args(arguments)
    return process.run("proxy", lambda: serve(load(given.config), Limits()))


if __name__ == "__main__":
    sys.exit(main())
