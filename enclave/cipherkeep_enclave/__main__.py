"""`python -m cipherkeep_enclave --nsm ADDRESS --vsock DIRECTORY`: the enclave's one process."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from cipherkeep_attestation.errors import EvidenceError
from cipherkeep_wire.transport import TransportError

from cipherkeep_enclave import boot, logs
from cipherkeep_enclave.nsm import NsmError


def main() -> int:
    """Boot and serve; 0 after SIGTERM, 1 when the enclave does not come up."""
    parser = argparse.ArgumentParser(prog="cipherkeep_enclave", description="The enclave of Cipherkeep.")
    parser.add_argument("--nsm", required=True, metavar="ADDRESS", help="nsm:///dev/nsm, or unix:///PATH when emulated")
    parser.add_argument("--vsock", required=True, metavar="DIR", help="vsock, or the folder of an emulated device")
    arguments = parser.parse_args()
    try:
        asyncio.run(boot.run(arguments.nsm, arguments.vsock))
    except (boot.BootError, NsmError, EvidenceError, TransportError) as error:
        logs.logger().error("boot.failed", reason=str(error))
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # A key generation that runs in a thread would keep the process for seconds; there is nothing it could still save.
    os._exit(status)
