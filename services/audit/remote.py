"""Reads a served log over HTTP: a TileReader for whoever has no copy of the folder.

Believes nothing it reads; whoever uses it checks. Redirects are not followed and answers are
bounded, so a hostile server can refuse or delay, nothing else. Invariant: a missing tile is None,
any other failure raises, so an outage is never taken for a shorter log.
"""

import http.client
from typing import Final
from urllib.parse import urlsplit

from services.audit.tiles import CHECKPOINT, MAX_ENTRY

# The largest file there is: a full bundle of the longest entries.
_MOST_BYTES: Final = 256 * (MAX_ENTRY + 2)
_TIMEOUT_SECONDS: Final = 30.0


class RemoteUnreadable(OSError):
    """The server did not answer as a log does. That says nothing of the log: ask again."""


class RemoteReader:
    """TileReader over one connection. For one thread."""

    def __init__(self, url: str) -> None:
        """Raises ValueError unless `url` is http(s)://host[:port][/prefix]."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ValueError("a log's address is http(s)://host[:port][/prefix]")
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._connection = kind(parts.hostname, parts.port, timeout=_TIMEOUT_SECONDS)
        self._prefix = parts.path.rstrip("/")

    def read(self, path: str) -> bytes | None:
        try:
            return self._get(path)
        except (http.client.HTTPException, ConnectionError):
            # A server may close a connection that was idle; a new one tells whether it is there.
            self._connection.close()
        try:
            return self._get(path)
        except http.client.HTTPException as error:
            self._connection.close()
            raise RemoteUnreadable(f"{path}: {type(error).__name__}") from error

    def read_checkpoint(self) -> bytes | None:
        return self.read(CHECKPOINT)

    def close(self) -> None:
        """Gives the connection back."""
        self._connection.close()

    def _get(self, path: str) -> bytes | None:
        self._connection.request("GET", f"{self._prefix}/{path}")
        answer = self._connection.getresponse()
        body = answer.read(_MOST_BYTES + 1)
        if len(body) > _MOST_BYTES:
            self._connection.close()
            raise RemoteUnreadable(f"{path}: longer than any file of a log")
        if answer.length:  # reading a bounded amount does not notice that the body broke off
            raise http.client.IncompleteRead(body, answer.length)
        if answer.status == http.client.NOT_FOUND:
            return None
        if answer.status != http.client.OK:
            raise RemoteUnreadable(f"{path}: status {answer.status}")
        return body
