"""`python -m tools.demo`: one real round on this machine, told for a newcomer.

Exits with 0 only if everything was as it must be, with 130 after Ctrl-C, with 1 and a plain sentence otherwise.
`KEEP=1` leaves the appliance up.
"""

import os
import signal
import sys


def _nothing_begun(*_: object) -> None:
    os.write(2, b"Stopped, and nothing is left running.\n")
    os._exit(130)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _nothing_begun)  # what is imported below takes a second or two
    from tools.demo.running import main

    sys.exit(main(keep=os.environ.get("KEEP", "0") not in ("", "0")))
