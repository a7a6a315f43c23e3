"""Ties a program's life to its parent's, then becomes that program.

Run as a script: `python leash.py PARENT_PID PROGRAM ARGS...`. The kernel kills the program when
the *thread* that started it ends (prctl(2), PR_SET_PDEATHSIG), so it must be started from a
thread that lives as long as the parent: see `process.py`, the only user. A `preexec_fn` would do
the same but is unsafe in a process with threads. On systems without prctl it only execs.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(argv: list[str]) -> None:
    """Replaces this process by the program; never returns."""
    parent, program = int(argv[1]), argv[2:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
            sys.exit(f"leash: prctl failed: {os.strerror(ctypes.get_errno())}")
        if os.getppid() != parent:  # the parent died before the leash was on: nobody will tell us
            sys.exit("leash: the parent is gone")
    os.execvp(program[0], program)


if __name__ == "__main__":
    main(sys.argv)
