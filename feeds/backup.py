"""Backups of a node's folder while it runs, and folders made from them (docs/backup.md).

The database is copied by SQLite's own means, so that the copy is one moment of it whoever writes meanwhile, and is then
marked as a backup (rule 10 of publishing). Blobs never change under their names: those that a backup has are passed
over, others are linked where that goes, or copied. The files `install` and `publishing` are in no backup: they tell the
original from its copies. Everything here blocks and runs in worker threads.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from feeds.blob_files import BlobFiles
from feeds.database import APPLICATION_ID, store_error
from feeds.errors import StoreError
from feeds.install import mark_as_snapshot
from feeds.tips import read_tip

__all__ = ["DATABASE", "SETTINGS", "Backup", "BackupUnderWay", "Restored", "back_up", "read_backup", "restore"]

DATABASE: Final = "sbot.db"
SETTINGS: Final = "config.toml"
SECRET: Final = "secret"  # noqa: S105 - the name of a file
BLOBS: Final = "blobs"
MANIFEST: Final = "backup.json"
NEW: Final = ".new"
MARKER: Final = "backup.lock"
"""Held while a backup is written; that it is there shows that a folder is for a backup, before one is complete."""
TYPE: Final = "pysbot-backup"
VERSION: Final = 1
LARGEST_MANIFEST: Final = 64 * 1024
LARGEST_SETTINGS: Final = 1024 * 1024
AT_ONCE: Final = 1024 * 1024


class BackupUnderWay(StoreError):
    """Another process or thread writes into the same folder."""


class Backup(NamedTuple):
    """What `backup.json` says, and what was new in it."""

    feed: str
    created: int
    """ms since 1970."""
    sequence: int
    """Of the last message of `feed`."""
    database_bytes: int
    sha256: str
    """Of the database's copy, hexadecimal."""
    blobs: int
    blob_bytes: int
    key: bool
    """Whether the key is in it."""
    new_blobs: int = 0
    new_blob_bytes: int = 0

    def as_json(self) -> dict[str, Any]:
        """The manifest."""
        kept = {name: value for name, value in self._asdict().items() if not name.startswith("new_")}
        return {"type": TYPE, "version": VERSION, **kept}


class Restored(NamedTuple):
    """What was put into a folder."""

    backup: Backup
    blobs: int
    blobs_damaged: int
    """Blobs of which the backup has other bytes than their names say, or none; the node asks its peers for them."""


# ---- making one


def back_up(folder: Path, target: Path, feed: str, *, key: bytes | None, now: int) -> Backup:
    """Write a backup of a node's folder into `target`, or bring the one that is there up to date.

    key -- content of the key file, if the backup is to have it; one that an earlier backup wrote stays in any case.
    now -- ms since 1970. Raises StoreError, with the backup that was there before unharmed.
    """
    with _failures("the backup cannot be written"), _held(target):
        earlier = _manifest(target / MANIFEST)
        if earlier is not None and earlier.feed != feed:
            raise StoreError(f"{target} holds a backup of another feed, {earlier.feed}; choose another folder")
        draft = target / (DATABASE + NEW)
        sequence = _copy_database(folder / DATABASE, draft, feed)
        digest = _digest(draft)
        held, new = _copy_blobs(folder / BLOBS, target / BLOBS)
        with contextlib.suppress(FileNotFoundError):
            _write(target / SETTINGS, (folder / SETTINGS).read_bytes()[:LARGEST_SETTINGS])
        if key is not None:
            _write(target / SECRET, key)
        backup = Backup(
            feed,
            now,
            sequence,
            draft.stat().st_size,
            digest,
            *held,
            (target / SECRET).exists(),
            *new,
        )
        # Cut off between these two renames, the new manifest is still found under its draft's name.
        _draft(target / MANIFEST, json.dumps(backup.as_json(), indent=2).encode() + b"\n")
        draft.replace(target / DATABASE)
        (target / (MANIFEST + NEW)).replace(target / MANIFEST)
        _sync_folder(target)
        return backup


@contextlib.contextmanager
def _held(target: Path) -> Iterator[None]:
    """Make the folder, or take one that is empty or was made for backups, and keep others out of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.mkdir(mode=0o700, exist_ok=True)
    names = {path.name for path in target.iterdir()}
    if names and MARKER not in names:
        raise StoreError(f"{target} is not empty and holds no backup; choose another folder")
    descriptor = os.open(target / MARKER, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupUnderWay(f"another backup into {target} is under way; wait until it is done") from None
        yield
    finally:
        os.close(descriptor)


def _copy_database(source: Path, draft: Path, feed: str) -> int:
    """One moment of the database as a file of its own, marked as a backup; gives the last sequence of `feed`."""
    if not source.is_file():
        raise StoreError(f"there is no database in {source.parent}; name the node's directory with --path")
    for ending in ("", "-journal", "-wal", "-shm"):  # what was left by one that was cut off
        draft.with_name(draft.name + ending).unlink(missing_ok=True)
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    uri = f"file:{quote(str(source.absolute()))}?mode=rw"
    try:
        with (
            contextlib.closing(sqlite3.connect(uri, uri=True, timeout=10.0, isolation_level=None)) as original,
            contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as copy,
        ):
            original.execute("PRAGMA query_only=ON")
            if original.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
                raise StoreError(f"{source} belongs to another program")
            original.backup(copy)  # in one step: a moment of a write-ahead log holds up nobody
            copy.execute("PRAGMA journal_mode=DELETE")
            if copy.execute("SELECT 1 FROM sqlite_schema WHERE name='own_store'").fetchone():
                mark_as_snapshot(copy)
            tip = read_tip(copy, feed)
    except sqlite3.Error as error:
        raise store_error(error) from error
    return 0 if tip is None else tip.sequence


class _Count(NamedTuple):
    blobs: int
    size: int


def _copy_blobs(source: Path, target: Path) -> tuple[_Count, _Count]:
    """Add what is new; gives what the backup then holds, and what of it is new. Nothing is taken out of a backup."""
    files = BlobFiles(target)
    files.prepare()
    known = set(files.keys())
    ours = BlobFiles(source).keys() if source.is_dir() else []
    fresh, size, touched = 0, 0, set()
    for key in ours:
        if key in known:
            continue
        path = target / _blob(key)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            size += _link(source / _blob(key), path, target / "tmp" / key.hex())
        except FileNotFoundError:
            continue  # evicted or deleted meanwhile
        fresh += 1
        touched.add(path.parent)
    for folder in touched:
        _sync_folder(folder)
    held = files.keys()
    return _Count(len(held), sum((target / _blob(key)).stat().st_size for key in held)), _Count(fresh, size)


def _blob(key: bytes) -> Path:
    name = key.hex()
    return Path("sha256", name[:2], name[2:])


def _link(source: Path, target: Path, draft: Path) -> int:
    """A second name for a file that never changes, or a copy where there cannot be one; gives its size."""
    try:
        os.link(source, target, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:  # another disk, or one without links
        _copy(source, draft)
        draft.replace(target)
    return target.stat().st_size


# ---- reading one


def read_backup(source: Path) -> Backup:
    """What a backup holds. Raises StoreError."""
    return _manifests(source)[0]


def _manifests(source: Path) -> list[Backup]:
    """The manifest, and the next one where a backup was cut off at its very end. Raises StoreError if there is none."""
    found: list[Backup] = []
    failure = StoreError(f"{source} holds no complete backup; name the folder that sbot backup wrote")
    for name in (MANIFEST + NEW, MANIFEST):
        try:
            manifest = _manifest(source / name)
        except StoreError as error:
            failure = error
            continue
        if manifest is not None:
            found.insert(0, manifest)
    if not found:
        raise failure
    return found


def restore(source: Path, folder: Path) -> Restored:
    """Make a node's folder from a backup. `folder` must be empty or absent; it gets no `install` and no `publishing`,
    so our feed starts locked. Raises StoreError; `folder` then has no database."""
    with _failures("the backup cannot be restored"):
        candidates = _manifests(source)
        if folder.is_dir() and any(folder.iterdir()):
            raise StoreError(f"{folder} is not empty, and nothing is written over; choose another one with --path")
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        draft = folder / (DATABASE + NEW)
        try:
            digest = _copy(source / DATABASE, draft)
            chosen = next((found for found in candidates if found.sha256 == digest), None)
            if chosen is None:
                raise StoreError(f"the database in {source} is damaged: it is not the one that was written there")
            listed = _listed(draft)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        good, damaged = _restore_blobs(source / BLOBS, folder / BLOBS, listed)
        for name in (SETTINGS, SECRET):
            with contextlib.suppress(FileNotFoundError):
                _copy(source / name, folder / (name + NEW))
                (folder / (name + NEW)).replace(folder / name)
        draft.replace(folder / DATABASE)  # last: without it nothing was restored
        _sync_folder(folder)
        return Restored(chosen, good, damaged)


def _listed(database: Path) -> list[bytes]:
    """The blobs that a database speaks of; and whether it can be read, and is marked as a backup, at all."""
    try:
        with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
            if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
                raise StoreError("the database in the backup belongs to another program")
            if connection.execute("SELECT 1 FROM sqlite_schema WHERE name='own_store'").fetchone():
                mark_as_snapshot(connection)
            if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name='blob'").fetchone():
                return []
            rows = connection.execute("SELECT key FROM blob").fetchall()
    except sqlite3.Error as error:
        raise store_error(error) from error
    return [bytes(key) for (key,) in rows if isinstance(key, bytes) and len(key) == 32]


def _restore_blobs(source: Path, target: Path, listed: list[bytes]) -> tuple[int, int]:
    """Copy each blob and look at its bytes; gives how many are good, and how many are not."""
    BlobFiles(target).prepare()
    good = 0
    for key in listed:
        path = target / _blob(key)
        draft = target / "tmp" / key.hex()
        original = source / _blob(key)
        if original.is_symlink() or not original.is_file():
            continue
        if _copy(original, draft) == key.hex():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            draft.replace(path)
            good += 1
        draft.unlink(missing_ok=True)
    return good, len(listed) - good


def _manifest(path: Path) -> Backup | None:
    """The manifest in a file; None when there is none. Raises StoreError for one of a later version or no manifest."""
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(LARGEST_MANIFEST))
        if value["type"] != TYPE or type(value["version"]) is not int:
            raise ValueError("another type")
        version = value["version"]
        fields = [value[name] for name in Backup._fields if not name.startswith("new_")] if version == VERSION else []
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise StoreError(f"{path} is damaged, or describes no backup") from None
    if version != VERSION:
        raise StoreError(f"the backup in {path.parent} was written by a later version of this program")
    kinds = (str, int, int, int, str, int, int, bool)
    if any(type(field) is not kind for field, kind in zip(fields, kinds, strict=True)):
        raise StoreError(f"{path} is damaged, or describes no backup")
    return Backup(*fields)


# ---- files


def _copy(source: Path, target: Path) -> str:
    """Copy a plain file, durably and private; gives the SHA-256 of what was copied, hexadecimal."""
    digest = hashlib.sha256()
    target.unlink(missing_ok=True)
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(reading, "rb") as original:
        if not stat.S_ISREG(os.fstat(reading).st_mode):
            raise StoreError(f"{source} is no plain file")
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(writing, "wb") as copy:
            while data := original.read(AT_ONCE):
                digest.update(data)
                copy.write(data)
            copy.flush()
            os.fsync(writing)
    return digest.hexdigest()


def _digest(path: Path) -> str:
    """SHA-256 of a file, which is put on the disk as well."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _draft(path: Path, data: bytes) -> Path:
    draft = path.with_name(path.name + NEW)
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    return draft


def _write(path: Path, data: bytes) -> None:
    _draft(path, data).replace(path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _failures(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise StoreError(f"{what}: {error.strerror or error}{place}; check the folder and its free space") from error
