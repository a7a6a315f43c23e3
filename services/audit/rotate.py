"""Changes the key that signs a log: `python -m services.audit.rotate LOG_DIR begin|finish|revoke`.

The sequencer must be stopped for the moment that this takes. `begin`: a new key signs beside the
old; give its vkey to auditors and witnesses, and wait until they have it. `finish`: the new one
alone signs. `revoke`: others may have the key, so a new one alone signs at once, and nobody should
believe the old one's checkpoints beyond the last. Each step is a leaf. See docs/auditors.md.

Invariant: the new key is on disk before anything is signed with it; a step that was interrupted is
finished by the next start of the sequencer.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from services.audit.checkpoint import BadKey
from services.audit.entry import event_id_of, key_event, same_event
from services.audit.logfolder import KEY, LogFolder, read_keys
from services.audit.logkeys import LogKeys
from services.audit.ports import LogLocked
from services.audit.tilestore import FolderStore

STEPS: Final[dict[str, Callable[[LogKeys], LogKeys]]] = {
    "begin": LogKeys.with_new,
    "finish": LogKeys.without_old,
    "revoke": LogKeys.revoked,
}


def rotate(root: Path, step: str) -> tuple[str, ...]:
    """Takes a step; the vkeys that sign from now on.

    Raises:
        LogLocked: the sequencer runs.
        BadKey: it is not time for this step.
        anything else: see `LogFolder.open`.
    """
    store = FolderStore(root / "log", root / "private")
    try:
        origin = _origin(store)
        keys = STEPS[step](read_keys(store, origin))
        store.write_private(KEY, keys.render().encode())
    finally:
        store.close()
    # A crash here: the sequencer finds the new keys, and does what follows.
    LogFolder.open(root, origin, event_id_of, same_event, key_event).close()
    return keys.vkeys


def _origin(store: FolderStore) -> str:
    note = store.read_checkpoint()
    if note is None:
        raise BadKey("there is no log yet")
    return note.partition(b"\n")[0].decode()


def main(arguments: list[str] | None = None) -> int:
    """0 done, 1 not now, 2 usage."""
    parser = argparse.ArgumentParser("python -m services.audit.rotate", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("log_dir", type=Path, metavar="LOG_DIR", help="AUDIT_LOG_DIR")
    parser.add_argument("step", choices=STEPS)
    given = parser.parse_args(arguments)
    if not (given.log_dir / "private" / KEY).is_file():
        parser.error(f"there is no log in {given.log_dir}")
    try:
        vkeys = rotate(given.log_dir, given.step)
    except LogLocked:
        print("stop the sequencer first", file=sys.stderr)
        return 1
    except BadKey as error:
        print(error, file=sys.stderr)
        return 1
    for vkey in vkeys:
        print(vkey)
    return 0


if __name__ == "__main__":
    sys.exit(main())
