"""Replaces a file in one durable step, for processes that keep one small file.

Refuses nothing. Invariant: a reader sees the old content or the new one, whole; once `replace_file`
returned, losing power does not undo it.
"""

import os
from pathlib import Path


def replace_file(
    path: Path, content: bytes, *, staging: Path | None = None, mode: int = 0o644
) -> None:
    """Writes `content` as `path`; `staging` is the temporary name, on the same file system, if the
    folder of `path` should show no other file."""
    new = staging or path.with_name(path.name + ".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    # A crash before this line leaves the temporary file, which the next call writes over.
    new.replace(path)
    sync_folder(path.parent)


def sync_folder(path: str | Path) -> None:
    """Makes what was renamed or made in the folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
