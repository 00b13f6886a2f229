"""What the doctor looks at without a running node: the data directory, the key file, the database, the disk."""

import contextlib
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from node import keyfile
from node.directory import DataDirectory
from node.errors import KeyFileError, NodeError
from node.findings import Finding, Mend, failed, in_thread, ok, skipped
from node.lock import DirectoryLock

__all__ = [
    "check_database",
    "check_directory",
    "check_disk",
    "check_key",
    "check_lock",
    "check_settings",
    "check_token",
    "under_lock",
]

DATABASE_SECONDS: Final = 20.0
SHORTEST_TOKEN: Final = 16
LOW_DISK: Final = 200 * 1024 * 1024
"""Bytes below which the node may soon fail to write."""
_STEPS: Final = 100_000
"""Instructions of SQLite between two looks at the clock."""


def check_directory(directory: DataDirectory) -> Finding:
    """Whether it is there, ours, writable, and closed to others."""
    try:
        status = directory.root.stat()
    except OSError as error:
        return failed(
            f"{directory.root} cannot be opened: {error.strerror}.", "Start the node once, or name another --path."
        )
    if status.st_uid != os.getuid():
        return failed(f"{directory.root} belongs to another user.", "Run the node as its owner, or use chown.")
    mode = stat.S_IMODE(status.st_mode)
    private = _changed_mode(directory.root, 0o700)
    if mode & 0o700 != 0o700 or not os.access(directory.root, os.R_OK | os.W_OK | os.X_OK):
        return failed(f"{directory.root} may not be written to.", f"chmod 0700 {directory.root}", mend=private)
    if mode & 0o077:
        return failed(f"Other users can look into {directory.root}.", f"chmod 0700 {directory.root}", mend=private)
    for path in (directory.database, directory.blobs):
        with contextlib.suppress(OSError):
            status, needed = path.stat(), 0o700 if path.is_dir() else 0o600
            if status.st_uid == os.getuid() and status.st_mode & needed != needed:
                mend = _changed_mode(path, stat.S_IMODE(status.st_mode) | needed)
                return failed(f"{path} may not be written to.", f"chmod u+rw {path}", mend=mend)
    return ok(f"{directory.root} is private and writable.")


def check_lock(directory: DataDirectory, running: int | None = None) -> Finding:
    """Whether exactly one process can use the directory: `running`, the pid of the node, or none."""
    path = directory.lock
    if running is None:
        if not path.exists():
            return ok("No node uses the directory.")
        try:
            left = path.read_text(encoding="ascii", errors="replace").strip()[:20]
            DirectoryLock.acquire(path).release()  # which empties it
        except (OSError, NodeError) as error:
            return failed(str(error), "If its node does not answer, end that process; never remove the file.")
        return ok(f"No node uses the directory{f'; process {left}, which did, was killed' if left else ''}.")
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
        found = keyfile.read(path, tighten=False)  # an encrypted key stays closed
        identity = None if found is None else found.id
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
        mend = _changed_mode(path, mode & 0o700)
        return failed(f"Other users can read {path}.", f"chmod 0400 {path}", mend=mend)
    return ok(f"The key of {identity}.")


def check_token(directory: DataDirectory) -> Finding:
    """Whether the token of the HTTP API is closed to others."""
    path = directory.token
    try:
        mode, size = stat.S_IMODE(path.stat().st_mode), len(path.read_bytes().strip())
    except FileNotFoundError:
        return skipped("There is no token for the HTTP API yet.", "It is made at the first start.")
    except OSError as error:
        return failed(f"{path} cannot be read: {error.strerror}.", "Remove it; the next start makes another one.")
    if size < SHORTEST_TOKEN:
        advice = "Remove it; the next start makes another one, which programs that have the old one must be told."
        return failed(f"{path} holds no token.", advice, mend=under_lock(directory, lambda: _new_token(directory)))
    if mode & 0o077:
        mend = _changed_mode(path, mode & 0o700)
        return failed(f"Other users can read {path}.", f"chmod 0600 {path}, or remove it for a new one.", mend=mend)
    return ok("The token of the HTTP API is private.")


def check_settings(file: Path) -> Finding:
    """Whether the commented settings file is there. What stands in it was read before any check."""
    if file.exists():
        return ok(f"The settings are in {file}.")

    def write() -> str:
        DataDirectory(file.parent).write_settings(file)
        return f"wrote {file}, all of it commented out"

    return ok("There is no settings file, so everything is at its default.", mend=in_thread(write))


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


def under_lock(directory: DataDirectory, mend: Callable[[], str]) -> Mend:
    """What may only be done while no node has the directory. Raises NodeError if one has it."""

    def run() -> str:
        lock = DirectoryLock.acquire(directory.lock)
        try:
            return mend()
        finally:
            lock.release()

    return in_thread(run)


def _changed_mode(path: Path, mode: int) -> Mend:
    def change() -> str:
        path.chmod(mode)
        return f"chmod {mode:04o} {path}"

    return in_thread(change)


def _new_token(directory: DataDirectory) -> str:
    directory.token.unlink(missing_ok=True)
    directory.http_token()
    return "made a new token for the HTTP API"
