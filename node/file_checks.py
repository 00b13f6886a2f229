"""What the doctor looks at without a running node: the data directory, the key file, the database, the disk."""

import contextlib
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from node import keyfile
from node.directory import DataDirectory
from node.errors import KeyFileError, NodeError
from node.lock import DirectoryLock

__all__ = [
    "Finding",
    "State",
    "check_database",
    "check_directory",
    "check_disk",
    "check_key",
    "check_lock",
    "failed",
    "ok",
    "skipped",
]

DATABASE_SECONDS: Final = 20.0
LOW_DISK: Final = 200 * 1024 * 1024
"""Bytes below which the node may soon fail to write."""
_STEPS: Final = 100_000
"""Instructions of SQLite between two looks at the clock."""


class State(StrEnum):
    """What came out of a check."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing the doctor looked at; `advice` says what to do."""

    state: State
    detail: str
    advice: str | None = None


def ok(detail: str) -> Finding:
    return Finding(State.OK, detail)


def failed(detail: str, advice: str) -> Finding:
    return Finding(State.FAILED, detail, advice)


def skipped(detail: str, advice: str | None = None) -> Finding:
    return Finding(State.SKIPPED, detail, advice)


def check_directory(directory: DataDirectory) -> Finding:
    """Whether it is there, ours, writable, and closed to others."""
    try:
        status = directory.root.stat()
    except OSError as error:
        return failed(
            f"{directory.root} cannot be opened: {error.strerror}.", "Start the node once, or name another --path."
        )
    if not os.access(directory.root, os.R_OK | os.W_OK | os.X_OK):
        return failed(f"{directory.root} may not be written to.", "Give it to the user who runs the node.")
    if status.st_uid != os.getuid():
        return failed(f"{directory.root} belongs to another user.", "Run the node as its owner, or use chown.")
    if stat.S_IMODE(status.st_mode) & 0o077:
        return failed(f"Other users can look into {directory.root}.", f"chmod 0700 {directory.root}")
    return ok(f"{directory.root} is private and writable.")


def check_lock(directory: DataDirectory, running: int | None = None) -> Finding:
    """Whether exactly one process can use the directory: `running`, the pid of the node, or none."""
    path = directory.lock
    if running is None:
        if not path.exists():
            return ok("No node uses the directory.")
        try:
            DirectoryLock.acquire(path).release()
        except NodeError as error:
            return failed(str(error), "If its node does not answer, end that process; never remove the file.")
        return ok("No node uses the directory.")
    try:
        held = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        held = error.strerror or "nothing"
    if held != str(running):
        return failed(
            f"The node is process {running}, but {path} says {held[:40]!r}.",
            "Somebody took the lock file away: a second node could start here and fork the feed. Restart this one.",
        )
    return ok(f"Process {running} holds the directory.")


def check_key(directory: DataDirectory, running: str | None = None) -> Finding:
    """Whether the key file can be read, is closed to others, and is the one that the node runs with."""
    path = directory.secret
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        identity = keyfile.identity(path)  # an encrypted key stays closed
    except FileNotFoundError:
        identity, mode = None, 0
    except (KeyFileError, OSError) as error:
        return failed(str(error), "Put the right key file back from your backup; nothing else can replace it.")
    if identity is None:
        return failed(
            f"There is no key file {path}.",
            "If this node had an identity, put its file `secret` back before you start it: a start makes a new one.",
        )
    if running is not None and identity != running:
        return failed(
            f"{path} holds {identity}, but the node runs as {running}.",
            "Stop the node and put the right file in place; one data directory is for one identity.",
        )
    if mode & 0o077:
        return failed(f"Other users can read {path}.", f"chmod 0400 {path}")
    return ok(f"The key of {identity}.")


def check_database(
    path: Path, *, seconds: float = DATABASE_SECONDS, now: Callable[[], float] = time.monotonic
) -> Finding:
    """SQLite's quick check, read-only and given up after some time."""
    if not path.exists():
        return skipped("There is no database yet.", "It is made at the first start.")
    ends = now() + seconds
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
        ) as database:
            database.set_progress_handler(lambda: now() > ends, _STEPS)
            rows = [str(row) for (row,) in database.execute("PRAGMA quick_check(3)")]
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            return skipped(f"The database is too large to be checked in {seconds:g} seconds.")
        return failed(f"{path} cannot be read: {error}.", "Look at the disk and at the rights of the file.")
    except sqlite3.DatabaseError as error:
        return failed(f"{path} is damaged: {error}.", _RESTORE)
    if rows != ["ok"]:
        return failed(f"{path} is damaged: {'; '.join(rows)[:300]}.", _RESTORE)
    return ok("The database is sound.")


_RESTORE: Final = (
    "Stop the node, keep a copy of the directory, and start with the key file alone in a new one: peers give the feeds "
    "back, ours too, which stays locked until they have (docs/publishing.md)."
)


def check_disk(directory: DataDirectory, *, low: int = LOW_DISK) -> Finding:
    """Whether there is room left."""
    try:
        free = shutil.disk_usage(directory.root).free
    except OSError as error:
        return skipped(f"The disk cannot be asked: {error.strerror}.")
    said = f"{free // (1024 * 1024)} MiB are free on the disk of {directory.root}"
    if free < low:
        return failed(f"Only {said}.", "Make room: with a full disk the node can store and publish nothing.")
    return ok(f"{said}.")
