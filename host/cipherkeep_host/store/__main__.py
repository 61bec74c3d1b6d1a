"""The store's process: `python -m cipherkeep_host.store --dir DIR --listen ADDRESS`.

ADDRESS is unix:///PATH or tcp://127.0.0.1:PORT. One line of JSON on stderr says that it serves.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import structlog

from cipherkeep_host import process
from cipherkeep_host.store.blobs import Folder, Limits
from cipherkeep_host.store.server import Service


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cipherkeep_host.store", description="Serve blobs by their digest.")
    parser.add_argument("--dir", type=Path, required=True, help="the folder; made when missing")
    parser.add_argument("--listen", required=True, help="unix:///PATH or tcp://127.0.0.1:PORT")
    parser.add_argument("--quota", type=int, default=Limits().quota, help="bytes of all blobs together")
    parser.add_argument("--blob", type=int, default=Limits().blob, help="bytes of one blob")
    return parser.parse_args(arguments)


async def serve(directory: Path, listen: str, limits: Limits) -> None:
    """Serve the folder until SIGTERM."""
    stop = process.stop_on_signals()
    folder = Folder(directory, limits)
    try:
        listener = process.bind(process.parse_address(listen))
        structlog.get_logger().info("serving", listen=listen, blobs=folder.count, bytes=folder.used, swept=folder.swept)
        await process.serve_http(Service(folder).app(), listener, stop)
    finally:
        folder.close()


def main(arguments: list[str] | None = None) -> int:
    """Run the process; the exit code is 1 when it could not start."""
    process.die_with_parent()
    given = _arguments(arguments)
    limits = Limits(blob=given.blob, quota=given.quota)
    return process.run("store", lambda: serve(given.dir, given.listen, limits))


if __name__ == "__main__":
    sys.exit(main())
