"""What a child of the supervisor does to end with it, whatever kills the supervisor.

The supervisor holds the writing end of the child's standard input and never writes. When it is
gone the kernel closes that end, and the child begins its ordinary drain.
"""

import os
import signal
import sys
import threading


def end_with_supervisor() -> None:
    """Sends this process SIGTERM once standard input ends. Only for supervised children."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="supervisor", daemon=True).start()
