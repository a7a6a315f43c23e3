"""Opens the index that the settings name. PostgreSQL's client is loaded only where it is used."""

from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from services.audit.index import SqliteIndex
from services.audit.ports import EventIndex


class OpenIndex(EventIndex, Protocol):
    """An index of this process's own."""

    def close(self) -> None:
        """Nobody may be using it."""
        ...


def open_index(path: Path | None, url: SecretStr | None) -> OpenIndex:
    """The one that is given; errors as its class has them."""
    if url is not None:
        from services.audit.postgresindex import PostgresIndex

        return PostgresIndex(url.get_secret_value())
    if path is None:
        raise ValueError("an index has a path or an address")
    return SqliteIndex(path)
