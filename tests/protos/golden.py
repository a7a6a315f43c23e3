"""The bytes of every sample as they are in logs today: `python -m tests.protos.golden NAME...`.

Invariant: a file of `golden/` is written once. Bytes that no longer fit are a broken promise to
every log that holds them, never a file to be made anew.
"""

import argparse
import sys
import textwrap
from pathlib import Path

from tests.protos.samples import SAMPLES

FOLDER = Path(__file__).with_name("golden")


def encoded(name: str) -> bytes:
    """The sample as the services of today would write it."""
    return SAMPLES[name].SerializeToString(deterministic=True)


def stored(name: str, folder: Path = FOLDER) -> bytes:
    """The bytes of a golden file."""
    return bytes.fromhex((folder / f"{name}.hex").read_text(encoding="ascii"))


def add(name: str, folder: Path = FOLDER) -> Path:
    """Writes the golden file of a sample that has none.

    Raises:
        FileExistsError: it has one, whatever is in it.
    """
    path = folder / f"{name}.hex"
    with path.open("x", encoding="ascii") as out:
        out.write("\n".join(textwrap.wrap(encoded(name).hex(), 64)) + "\n")
    return path


def main(argv: list[str] | None = None) -> int:
    """0: all were added. 1: one exists already; those before it were added."""
    parser = argparse.ArgumentParser(prog="python -m tests.protos.golden", description=__doc__)
    parser.add_argument("names", nargs="+", choices=sorted(SAMPLES), metavar="NAME")
    for name in parser.parse_args(argv).names:
        try:
            print(add(name))
        except FileExistsError:
            print(f"{name} has its bytes, and keeps them for ever", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
