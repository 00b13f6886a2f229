"""Which installation a database belongs to: the epoch, in the database and in the file `install` beside it.

The file says where it was written: machine, file system, its own number and time of birth. A copied folder, a restored
machine or a cloned disk shows by that. Tables here: the epoch, and what became of our feed's lock (`publishing_event`).
"""

import ctypes
import hashlib
import json
import os
import sqlite3
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from feeds.database import Component, Migration
from feeds.publisher_state import Install, Lock, Origin, Place, Reason

__all__ = ["INSTALL", "PUBLISHING", "Event", "StoreState", "mark_as_snapshot", "new_install", "origin", "place_of"]
__all__ += ["read_events", "read_install", "read_state", "replace_file", "set_aside", "write_epoch", "write_event"]

INSTALL: Final = "install"
"""Name of the file, in the folder of the database."""
LARGEST: Final = 16 * 1024
SET_ASIDE_MAX: Final = 1000
MACHINE_FILES: Final = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"), Path("/etc/hostid"))

PUBLISHING: Final = Component(
    "publishing",
    (
        Migration(
            1,
            (
                # one row: the epoch of the installation that may publish from here; snapshot 1: this is a backup
                "CREATE TABLE own_store(id INTEGER PRIMARY KEY CHECK (id=1), epoch TEXT NOT NULL, "
                "snapshot INTEGER NOT NULL)",
                # at in ms since 1970; kind: locked, unlocked, forced, agreed; sequence: where our feed stood
                "CREATE TABLE publishing_event(id INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, "
                "reason TEXT, sequence INTEGER NOT NULL, peer TEXT, claim INTEGER, detail TEXT NOT NULL)",
                # peers whose bare word on our feed no longer locks it
                "CREATE TABLE publishing_set_aside(peer TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID",
            ),
        ),
    ),
)


class Event(NamedTuple):
    """Something that became of the lock."""

    at: int
    kind: str
    reason: str | None
    sequence: int
    peer: str | None
    claim: int | None
    detail: str


class StoreState(NamedTuple):
    """What the database says of itself."""

    epoch: str | None
    snapshot: bool
    locked: Lock | None
    set_aside: frozenset[str]


# ---- the database


def read_state(connection: sqlite3.Connection) -> StoreState:
    """Epoch, lock and the peers set aside."""
    row = connection.execute("SELECT epoch, snapshot FROM own_store").fetchone()
    epoch, snapshot = (None, 0) if row is None else row
    last = connection.execute(
        "SELECT at, kind, reason, peer, claim FROM publishing_event ORDER BY id DESC LIMIT 1"
    ).fetchone()
    locked = None
    if last is not None and last[1] == "locked":
        with suppress(ValueError):  # a reason of a later version
            locked = Lock(Reason(last[2]), last[0], last[3], last[4])
    peers = frozenset(peer for (peer,) in connection.execute("SELECT peer FROM publishing_set_aside"))
    return StoreState(epoch, bool(snapshot), locked, peers)


def write_epoch(connection: sqlite3.Connection, epoch: str) -> None:
    """Bind the database to an installation; it is no backup from then on."""
    connection.execute("INSERT OR REPLACE INTO own_store VALUES(1,?,0)", (epoch,))


def mark_as_snapshot(connection: sqlite3.Connection) -> None:
    """Mark the copy of a database as a backup: opened as a live store, it is locked. Never done to the original."""
    (epoch,) = connection.execute("SELECT coalesce((SELECT epoch FROM own_store), '')").fetchone()
    connection.execute("INSERT OR REPLACE INTO own_store VALUES(1,?,1)", (epoch,))


def write_event(connection: sqlite3.Connection, event: Event) -> None:
    """Keep what became of the lock."""
    connection.execute(
        "INSERT INTO publishing_event(at, kind, reason, sequence, peer, claim, detail) VALUES(?,?,?,?,?,?,?)", event
    )


def read_events(connection: sqlite3.Connection, limit: int = 100) -> list[Event]:
    """What became of the lock, the latest first."""
    columns = "at, kind, reason, sequence, peer, claim, detail"
    rows = connection.execute(f"SELECT {columns} FROM publishing_event ORDER BY id DESC LIMIT ?", (limit,))  # noqa: S608
    return [Event(*row) for row in rows]


def set_aside(connection: sqlite3.Connection, peers: list[str], at: int) -> None:
    """Let the bare word of these peers count no more. What they deliver still does."""
    connection.executemany("INSERT OR REPLACE INTO publishing_set_aside VALUES(?,?)", [(peer, at) for peer in peers])
    connection.execute(
        "DELETE FROM publishing_set_aside WHERE peer NOT IN "
        "(SELECT peer FROM publishing_set_aside ORDER BY at DESC LIMIT ?)",
        (SET_ASIDE_MAX,),
    )


# ---- the file


def new_install(folder: Path, epoch: str) -> Install:
    """Write the file anew, for this folder on this machine. Raises OSError."""
    places: list[Place] = []

    def text(descriptor: int) -> bytes:
        place = _place(descriptor, folder)
        places.append(place)
        return json.dumps({"about": ABOUT, "epoch": epoch, "place": place}).encode()

    replace_file(folder / INSTALL, text)
    return Install(epoch, places[0])


ABOUT: Final = "This file tells the original of a data directory from its copies. Do not copy, change or restore it."


def read_install(folder: Path) -> Install | None:
    """The file's content; None when it is missing or no such file."""
    try:
        with (folder / INSTALL).open("rb") as file:
            value = json.loads(file.read(LARGEST))
        machine, device, filesystem, (inode, born) = value["place"]
        numbers = (device, inode, filesystem or 0, born or 0)
        if not all(type(number) is int for number in numbers) or not isinstance(machine, str | None):
            return None
        return Install(str(value["epoch"]), Place(machine, device, filesystem, Origin(inode, born)))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def place_of(folder: Path) -> Place | None:
    """Where the file is now; None when it is missing."""
    try:
        descriptor = os.open(folder / INSTALL, os.O_RDONLY)
    except OSError:
        return None
    try:
        return _place(descriptor, folder)
    finally:
        os.close(descriptor)


def _place(descriptor: int, folder: Path) -> Place:
    filesystem = os.statvfs(folder).f_fsid or None
    return Place(_machine(), os.fstat(descriptor).st_dev, filesystem, origin(descriptor))


def _machine() -> str | None:
    """A hash of this machine's id, since the id itself is nobody's business."""
    for path in MACHINE_FILES:
        with suppress(OSError):
            if text := path.read_bytes()[:256].strip():
                return hashlib.sha256(b"pysbot install\n" + text).hexdigest()[:32]
    return None


# ---- files that know themselves


def replace_file(path: Path, text: Callable[[int], bytes]) -> None:
    """Replace a file whole and durable (0600): `text(descriptor)` gives the content for the new, still empty file."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text(descriptor))
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def origin(descriptor: int) -> Origin:
    """Number and birth of an open file."""
    status = os.fstat(descriptor)
    birth = getattr(status, "st_birthtime", None)
    born = _born(descriptor) if birth is None else round(birth * 1e6) * 1000
    return Origin(status.st_ino, born)


_AT_EMPTY_PATH: Final = 0x1000
_STATX_BTIME: Final = 0x800
_BIRTH_OFFSET: Final = 0x50


def _born(descriptor: int) -> int | None:
    """The time of birth in ns since 1970, which Linux tells by `statx` only; None where it does not."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        statx = ctypes.CDLL(None, use_errno=True).statx
    except (OSError, AttributeError):
        return None
    buffer = ctypes.create_string_buffer(256)
    if statx(descriptor, b"", _AT_EMPTY_PATH, _STATX_BTIME, buffer) != 0:
        return None
    (known,) = struct.unpack_from("I", buffer.raw, 0)
    if not known & _STATX_BTIME:
        return None
    seconds, nanoseconds = struct.unpack_from("qI", buffer.raw, _BIRTH_OFFSET)
    return int(seconds * 1_000_000_000 + nanoseconds)
