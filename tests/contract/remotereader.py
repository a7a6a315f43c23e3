"""A ViewReader in a process of its own, as in production: LMDB opens a file once per process."""

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from services.router.store import ViewReader


class PlainTagger:
    """Tags that both processes make alike without sharing a key ring."""

    def party(self, tenant: str, e164: str) -> bytes:
        return f"{tenant}{e164}".encode()[:16].ljust(16)


class RemoteReader:
    """Calls go to the child by name; `open` gives it a fresh reader."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._child = context.Process(target=_serve, args=(there,), daemon=True)
        self._child.start()

    def call(self, method: str, *arguments: Any) -> Any:
        """What the reader answers."""
        self._here.send((method, arguments))
        worked, answer = self._here.recv()
        assert worked, answer
        return answer

    def open(self, folder: Path) -> None:
        """Begins to read the folder."""
        self.call("open", folder)

    def stop(self) -> None:
        """Ends the child."""
        self._here.close()
        self._child.join(5)
        self._child.close()


def _serve(pipe: Connection) -> None:
    reader: ViewReader | None = None
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return
        try:
            if method == "open":
                if reader is not None:
                    reader.close()
                reader = ViewReader(arguments[0], PlainTagger())
                pipe.send((True, None))
            else:
                found = getattr(reader, method)
                pipe.send((True, found(*arguments) if callable(found) else found))
        except Exception as error:
            pipe.send((False, f"{type(error).__name__}: {error}"))
