"""The data directory of an old sbot (`~/.ssb`), opened for reading only: whose it is, and whether somebody uses it."""

import fcntl
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from feeds.foreign.known_peers import LARGEST_FILE, KnownPeer, known_peers
from feeds.foreign.logs import Damage, flume_lines, message_lines
from feeds.keys import Keypair
from node import keyfile
from node.errors import NodeError

__all__ = ["OldDirectory", "OldLog"]

PIECE: Final = 256 * 1024
LEVEL_LOCKS: Final = ("flume/*/LOCK", "db2/*/LOCK", "db2/*/*/LOCK", "db/LOCK")
"""LevelDB keeps them locked while it is open."""


@dataclass(frozen=True, slots=True)
class OldLog:
    """One of the logs that are there."""

    path: Path
    format: str
    """ "flume" or "ssb-db2"."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size

    def lines(self) -> Iterator[bytes | Damage]:
        """The messages as JSON texts. Raises NodeError when the disk does not give them."""
        read = flume_lines if self.format == "flume" else message_lines
        return read(_pieces(self.path))


class OldDirectory:
    """Nothing in it is ever written, locked or made."""

    def __init__(self, root: Path) -> None:
        """Raises NodeError unless there is a directory."""
        self.root: Final = root
        if not root.is_dir():
            raise NodeError(f"There is no directory {root} to move in from.")
        if (root / "sbot.db").exists():
            raise NodeError(f"{root} is the directory of a pysbot already; use it with --path, or sbot backup.")

    def keypair(self) -> Keypair:
        """Whose directory it is. Raises NodeError, KeyFileError."""
        found = keyfile.read(self.root / "secret", tighten=False)
        if not isinstance(found, Keypair):
            raise NodeError(f"There is no key file {self.root / 'secret'}, so this is no directory of an sbot.")
        return found

    def logs(self) -> list[OldLog]:
        """The logs that are there, the older format first."""
        found = [
            OldLog(self.root / "flume" / "log.offset", "flume"),
            OldLog(self.root / "db2" / "log.bipf", "ssb-db2"),
        ]
        return [log for log in found if log.path.is_file()]

    def blobs(self) -> Iterator[tuple[bytes, Path]]:
        """SHA-256 and file of each blob. The hash is only what the name says."""
        for folder in sorted((self.root / "blobs" / "sha256").glob("[0-9a-f][0-9a-f]")):
            for path in sorted(folder.glob("*")):
                try:
                    digest = bytes.fromhex(folder.name + path.name)
                except ValueError:
                    continue
                if len(digest) == 32 and path.is_file():
                    yield digest, path

    def peers(self) -> list[KnownPeer]:
        """Addresses that it knew."""
        found: list[KnownPeer] = []
        for name in ("conn.json", "gossip.json"):
            if not (self.root / name).is_file():
                continue
            try:
                with (self.root / name).open("rb") as file:
                    data = file.read(LARGEST_FILE + 1)
            except OSError:
                continue
            if len(data) <= LARGEST_FILE:
                found += known_peers(data)
        return found

    def used_by(self) -> str | None:
        """What shows that an sbot runs in it, None if nothing does."""
        if _answers(self.root / "socket"):
            return "it answers at its socket"
        holder = _process_with_files_in(self.root)
        if holder is not None:
            return f"process {holder} has files in it open"
        for pattern in LEVEL_LOCKS:
            for path in self.root.glob(pattern):
                if _locked(path):
                    return f"{path} is locked"
        return None


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece
    except OSError as error:
        raise NodeError(f"{path} cannot be read: {error.strerror}.") from None


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _process_with_files_in(root: Path) -> int | None:
    """A process of ours, by what Linux shows of its open files, that has one of the logs or indexes open."""
    inside = tuple(f"{root.resolve() / name}/" for name in ("flume", "db2", "db", "ebt"))
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            links = list((process / "fd").iterdir())
        except OSError:
            continue  # of another user, or gone
        for link in links:
            try:
                if os.readlink(link).startswith(inside):
                    return int(process.name)
            except OSError:
                continue
    return None


def _locked(path: Path) -> bool:
    """Whether another process holds the lock; a lock for reading changes nothing in the file."""
    try:
        with path.open("rb") as file:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        return isinstance(error, PermissionError)
    return False
