"""SIGTERM and SIGINT as an Event that is safe to wait on from any thread.

Refuses to set the Event inside a handler: the main thread may hold the Event's lock at that moment,
and would wait for itself. Invariant: the handler only puts into a SimpleQueue, which is reentrant.
"""

import queue
import signal
import threading


def stop_on_signals() -> threading.Event:
    """An Event that the next SIGTERM or SIGINT sets. Call it from the main thread."""
    stop, seen = threading.Event(), queue.SimpleQueue[None]()

    def wait() -> None:
        seen.get()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: seen.put(None))
    threading.Thread(target=wait, name="signals", daemon=True).start()
    return stop


def wait_for(stop: threading.Event) -> None:
    """Returns once `stop` is set. For the main thread: a signal's handler runs only while that
    moves, and the kernel may have given the signal to another one."""
    while not stop.wait(0.2):
        pass
