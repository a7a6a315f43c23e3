"""Keeps root keys: derives from them, destroys them, never hands one out.

`FileKeyRing` is for local use: one file per key. A KMS stands behind the same port elsewhere.
Refuses to bring a destroyed key back, and to show key bytes in any repr or error.

Invariant: a key's file only ever goes from absent to key (link) and from either to tombstone
(link, rename); nothing leads back. So processes agree on the key, and on its end, without a lock.
"""

import argparse
import hmac
import os
import re
import secrets
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from services.runtime.clock import Clock, SystemClock
from services.runtime.errors import DataLoss, NotFound
from services.runtime.sm import Suite
from services.runtime.wholefile import sync_folder

_NAME: Final = re.compile(r"[a-z0-9_-][a-z0-9._-]*(?:/[a-z0-9_-][a-z0-9._-]*)*", re.ASCII)
_NAME_MAX: Final = 200  # with ".key" and a temporary suffix inside the 255 octets of a file name
_TOMBSTONE: Final = b"destroyed".ljust(32, b"\n")  # as long as a key: written over it in place
_FRESH_SECONDS: Final = 1.0  # how long after `destroy` another process may still derive
_CACHED: Final = 4096  # two buckets and a tag key of a thousand tenants; beyond, start again


class KeyDestroyed(NotFound):
    """The key is gone for ever, and with it whatever was sealed under it."""


class KeyRing(Protocol):
    """Holds root keys of 32 octets by name. Safe to share between threads and processes.

    Names are `/`-separated segments of `[a-z0-9._-]`, at most 200 characters.
    """

    def derive(self, name: str, context: bytes) -> bytes:
        """HMAC-SHA-256(key `name`, context), 32 octets. Creates the key durably on first use.

        The context is a constant label such as `seal/v1`, never data: rings may cache by it.

        Raises:
            KeyDestroyed: at the latest one second after `destroy` returned, in every process.
        """

    def destroy(self, name: str) -> None:
        """Ends the key, durably and for ever, whether it existed or not. Repeating it is harmless.

        If it fails half-way the key may live or be destroyed: repeat it.
        """

    def suite(self, tenant: str) -> Suite:
        """What is sealed and tagged with for the tenant. The ring knows, since all who share its
        keys must agree; it never changes once the tenant has a tag key."""


class MemoryKeyRing:
    """A ring that forgets everything with the process: for tests and benchmarks."""

    def __init__(self) -> None:
        self._keys: dict[str, bytes | None] = {}
        self.suites: dict[str, Suite] = {}

    def derive(self, name: str, context: bytes) -> bytes:
        key = self._keys.setdefault(_valid(name), secrets.token_bytes(32))
        if key is None:
            raise _destroyed(name)
        return hmac.digest(key, context, "sha256")

    def destroy(self, name: str) -> None:
        self._keys[_valid(name)] = None

    def suite(self, tenant: str) -> Suite:
        return self.suites.get(tenant, "aes")


class FileKeyRing:
    """One file (mode 0600) of 32 random octets per key. Protected by the file system alone.

    An erased file system block may survive in snapshots, backups and flash: see
    docs/design/sealing.md. Derived keys are cached for a second, then read again.
    """

    def __init__(self, folder: Path | str, clock: Clock | None = None) -> None:
        self._folder = Path(folder)
        self._monotonic = (clock or SystemClock()).monotonic
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._derived: dict[tuple[str, bytes], tuple[bytes, float]] = {}
        self._durable: set[str] = set()
        self._suites: dict[str, tuple[Suite, float]] = {}

    def __repr__(self) -> str:
        return f"FileKeyRing({str(self._folder)!r})"

    def derive(self, name: str, context: bytes) -> bytes:
        hit = self._derived.get((name, context))
        if hit is not None and self._monotonic() < hit[1]:
            return hit[0]
        fresh_until = self._monotonic() + _FRESH_SECONDS  # counted from before the read
        derived = hmac.digest(self._root(_valid(name)), context, "sha256")
        if len(self._derived) >= _CACHED:
            self._derived.clear()
        self._derived[name, context] = derived, fresh_until
        return derived

    def destroy(self, name: str) -> None:
        path = self._path(_valid(name))
        tombstone = self._written(path, _TOMBSTONE)
        try:
            if not _linked(tombstone, path):
                # Something is there from now on. Its inode is held open, so that after the rename
                # the key's octets are written over even where a creator died between link and
                # unlink and left a second name for them.
                with open(path, "r+b", buffering=0) as old:
                    os.replace(tombstone, path)
                    sync_folder(self._folder)
                    old.write(_TOMBSTONE)
                    os.fsync(old.fileno())
        finally:
            tombstone.unlink(missing_ok=True)
        sync_folder(self._folder)
        for key in [key for key in list(self._derived) if key[0] == name]:
            self._derived.pop(key, None)

    def suite(self, tenant: str) -> Suite:
        hit = self._suites.get(tenant)
        if hit is None or self._monotonic() >= hit[1]:
            until = self._monotonic() + _FRESH_SECONDS
            found: Suite = "sm" if self._marker(tenant).exists() else "aes"
            hit = self._suites[tenant] = found, until
        return hit[0]

    def choose(self, tenant: str, suite: Suite) -> None:
        """Chooses a tenant's suite, before anything is tagged for it. Raises ValueError: it is too
        late for another one."""
        marker = self._marker(tenant)
        if suite == ("sm" if marker.exists() else "aes"):
            return
        if self._path(f"tags/{tenant}").exists():
            raise ValueError("the tenant has tags of another suite")
        if suite == "sm":
            os.replace(self._written(marker, b"sm\n"), marker)
        else:
            marker.unlink()
        sync_folder(self._folder)

    def _marker(self, tenant: str) -> Path:
        return self._folder / f"{_valid(tenant)}.sm"

    def _root(self, name: str) -> bytes:
        path = self._path(name)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            new = self._written(path, secrets.token_bytes(32))
            try:
                _linked(new, path)  # if it is not ours, another process was first: use theirs
            finally:
                new.unlink(missing_ok=True)
            content = path.read_bytes()
        if content == _TOMBSTONE:
            raise _destroyed(name)
        if len(content) != 32:
            raise DataLoss("KEY_FILE_BROKEN", "a key file is not 32 octets long", key=name)
        if name not in self._durable:  # its maker may have died before its own fsync
            sync_folder(self._folder)
            self._durable.add(name)
        return content

    def _path(self, name: str) -> Path:
        return self._folder / (name.replace("/", "+") + ".key")

    def _written(self, path: Path, content: bytes) -> Path:
        return _written(path.with_name(f".{secrets.token_hex(8)}.new"), content, 0o600)


def _valid(name: str) -> str:
    if len(name) > _NAME_MAX or _NAME.fullmatch(name) is None:
        raise ValueError("a key's name is segments of [a-z0-9._-], 200 characters at most")
    return name


def _destroyed(name: str) -> KeyDestroyed:
    return KeyDestroyed("KEY_DESTROYED", "the key was destroyed", key=name)


def _written(path: Path, content: bytes, mode: int) -> Path:
    """A new file with the content, on disk (its name not yet)."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(file, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(file)
    return path


def _linked(source: Path, target: Path) -> bool:
    """Gives the file the name, unless the name is taken."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    return True


class EvidenceKeys:
    """The X25519 pair of the evidence copies, as PEM files in a folder.

    Services get the public file only; the private one belongs to whoever approves an unmask.
    """

    PRIVATE: Final = "evidence-private.pem"
    PUBLIC: Final = "evidence-public.pem"

    @classmethod
    def generate(cls, folder: Path | str) -> bytes:
        """Makes the pair unless the folder has one; the public key, 32 octets. Repeatable."""
        place = Path(folder)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        pem = X25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        cls._publish(place / cls.PRIVATE, pem, 0o600)
        # Always made from the private file: a crash here is mended by the next call.
        public = X25519PrivateKey.from_private_bytes(cls.load_private(place)).public_key()
        pem = public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        cls._publish(place / cls.PUBLIC, pem, 0o644)
        return public.public_bytes_raw()

    @classmethod
    def load_public(cls, place: Path | str) -> bytes:
        """The public key, 32 octets, from its file or the folder that holds it."""
        key = serialization.load_pem_public_key(cls._read(Path(place), cls.PUBLIC))
        if not isinstance(key, X25519PublicKey):
            raise ValueError("the evidence public key is not an X25519 key")
        return key.public_bytes_raw()

    @classmethod
    def load_private(cls, place: Path | str) -> bytes:
        """The private key, 32 octets, from its file or the folder that holds it."""
        key = serialization.load_pem_private_key(cls._read(Path(place), cls.PRIVATE), None)
        if not isinstance(key, X25519PrivateKey):
            raise ValueError("the evidence private key is not an X25519 key")
        return key.private_bytes_raw()

    @staticmethod
    def _read(place: Path, name: str) -> bytes:
        return (place / name if place.is_dir() else place).read_bytes()

    @staticmethod
    def _publish(path: Path, content: bytes, mode: int) -> None:
        new = _written(path.with_name(f".{secrets.token_hex(8)}.new"), content, mode)
        try:
            _linked(new, path)
        finally:
            new.unlink(missing_ok=True)
        sync_folder(path.parent)


def main(arguments: list[str] | None = None) -> None:
    """`init FOLDER`: makes the evidence key pair for local use, or keeps the one that is there.
    `suite FOLDER TENANT aes|sm`: see FileKeyRing.choose."""
    parser = argparse.ArgumentParser(prog="python -m services.runtime.keyring")
    commands = parser.add_subparsers(dest="command", required=True)
    init = commands.add_parser("init", help="make the evidence key pair unless it exists")
    init.add_argument("folder", type=Path)
    choose = commands.add_parser("suite", help="choose the suite of a tenant that is new")
    choose.add_argument("folder", type=Path, help="the key ring's")
    choose.add_argument("tenant")
    choose.add_argument("suite", choices=["aes", "sm"])
    given = parser.parse_args(arguments)
    folder: Path = given.folder
    if given.command == "suite":
        return FileKeyRing(folder).choose(given.tenant, given.suite)
    EvidenceKeys.generate(folder)
    print(f"evidence public key: {folder / EvidenceKeys.PUBLIC}")


if __name__ == "__main__":
    main()
