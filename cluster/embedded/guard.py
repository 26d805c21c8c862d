"""Launcher of every child: `guard.py PARENT_PID COMMAND...` becomes COMMAND, which gets SIGTERM when its parent dies.

A killed `up` would otherwise leave Redis, FerretDB and Ray behind. The request to the kernel has to come from the
child itself and survives exec; done here, the parent needs no preexec_fn, which is unsafe beside threads.

Run with `python -I -S`, it costs about 15 ms. Imports nothing of ours.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we asked, so no signal will come
        sys.exit(f"guard: process {parent} has ended; {command[0]} is not started")
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"guard: cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
