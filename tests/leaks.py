"""Looks for real numbers in clear, in every file of a cluster and every key of its store.

Refuses to look inside compressed or encrypted bytes: nothing here compresses, and encryption is the
point. Invariant: a disguise is long enough that chance finds it nowhere.
"""

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import redis

# Kafka's indexes hold offsets and times alone, in 10 MB of mostly nothing each.
_NO_RECORDS = {".index", ".timeindex", ".txnindex"}


def disguises(number: str) -> set[bytes]:
    """The number's 11 national digits as they may stand in bytes: they are inside every longer
    form, except where a prefix shifts base64 (covered by its three alignments)."""
    national = number.removeprefix("+86")
    text = national.encode()
    swapped = national + "f"  # TBCD, as signalling writes digits
    return {
        text,
        text.hex().encode(),
        national.encode("utf-16-le"),
        national.encode("utf-16-be"),
        *_base64(text),
        *_base64(national.encode("utf-16-le")),
        bytes.fromhex("0" + national),
        bytes.fromhex("".join(b + a for a, b in zip(swapped[::2], swapped[1::2], strict=True))),
    }


def _base64(data: bytes) -> Iterator[bytes]:
    """What a base64 text holds wherever the data begins in it: the characters of its own bits."""
    for shift in range(3):
        encoded = base64.b64encode(bytes(shift) + data)
        yield encoded[-(-shift * 8 // 6) : (shift + len(data)) * 8 // 6]


def found_in_files(folder: Path, numbers: Iterable[str]) -> list[str]:
    """The files, with the number's place among `numbers`, that hold one in some disguise."""
    wanted = [(place, form) for place, n in enumerate(numbers) for form in disguises(n)]
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in _NO_RECORDS:
            data = path.read_bytes()
            found += [f"{path.name}: number {place}" for place, form in wanted if form in data]
    return found


def found_in_store(url: str, numbers: Iterable[str]) -> list[str]:
    """The same for keys and values of Valkey: as the commands give them, and as DUMP does."""
    wanted = [(place, form) for place, n in enumerate(numbers) for form in disguises(n)]
    found = []
    with redis.Redis.from_url(url) as store:
        for key in store.scan_iter(count=1000):
            dump: Any = store.dump(key)
            data = key + b"\n" + (dump or b"") + b"\n" + repr(_value(store, key)).encode()
            found += [f"{key!r}: number {place}" for place, form in wanted if form in data]
    return found


def _value(store: "redis.Redis", key: bytes) -> Any:
    kind: Any = store.type(key)
    match kind:
        case b"hash":
            return store.hgetall(key)
        case b"zset":
            return store.zrange(key, 0, -1)
        case b"set":
            return store.smembers(key)
        case b"list":
            return store.lrange(key, 0, -1)
        case b"stream":
            return store.xrange(key)
    return store.get(key)
