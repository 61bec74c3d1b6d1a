"""The only place that ties a process to its parent: `leash.py PARENT COMMAND…` becomes COMMAND, which the kernel kills
when PARENT ends, however it ends.

Run by path with `-I -S`, so that it starts fast and imports nothing of ours. The kernel looks at the thread that
started the process: start processes from a thread that lives as long as they should.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> int:  # noqa: RET503 - execv does not return
    """Become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        return 70
    if os.getppid() != parent:  # it ended before the leash was on
        return 71
    os.execv(command[0], command)  # noqa: S606 - the command is its parent's


if __name__ == "__main__":
    sys.exit(main())
