"""The only place that runs in an enclave's process before the enclave does: it takes away what no enclave has.

    python -I -S jail.py PARENT REPORT PROGRAM ARGUMENT…

The process will die with PARENT, can gain no privileges, and gets a network namespace without interfaces where the
kernel permits it; whether it did is written as one byte (1 or 0) to the descriptor REPORT. Then it becomes PROGRAM.
Only the standard library is imported: this file runs before the measured image is on the path.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h
CLONE_NEWUSER = 0x10000000  # linux/sched.h
CLONE_NEWNET = 0x40000000  # linux/sched.h


def isolate(libc: ctypes.CDLL) -> bool:
    """Leave the host's network: as root directly, as another user by way of a user namespace of one's own."""
    if libc.unshare(CLONE_NEWNET) == 0:
        return True
    # Some kernels grant the user namespace and then no use of it, and there is no way back: a child tries first.
    child = os.fork()
    if child == 0:
        os._exit(0 if _own_namespace(libc) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and _own_namespace(libc)


def _own_namespace(libc: ctypes.CDLL) -> bool:
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        return False
    try:
        # Without a mapping of its own id the process could not create a file.
        for name, content in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
            try:
                os.write(descriptor, content.encode())
            finally:
                os.close(descriptor)
    except OSError:
        return False
    return True


def main(arguments: list[str]) -> None:
    """Prepare this process and become the program."""
    parent, report, program = int(arguments[0]), int(arguments[1]), arguments[2:]
    isolated = False
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            raise SystemExit("the launcher is gone")
        isolated = isolate(libc)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.write(report, b"1" if isolated else b"0")
    os.close(report)
    os.execv(program[0], program)  # noqa: S606 (no shell is wanted)


if __name__ == "__main__":
    main(sys.argv[1:])
