"""What the doctor looks at in the store while no node has it open: what a killed process left, and the views."""

import asyncio
import contextlib
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from feeds.blob_files import drafts_in
from feeds.fsck import ASIDE, check_views
from node.directory import DataDirectory
from node.file_checks import under_lock
from node.findings import Finding, failed, ok, skipped

__all__ = ["LARGE_WAL", "check_leftovers", "check_log_size", "check_views_of", "wal_bytes"]

LARGE_WAL: Final = 128 * 1024 * 1024
"""Bytes of the write-ahead log from which on something must have kept it from being folded into the database."""
ASIDE_SECONDS: Final = 3600.0
"""Age from which on the views that `sbot fsck` makes aside are nobody's: it runs beside a node, without the lock."""
NAMED: Final = 5


def check_leftovers(directory: DataDirectory, *, now: Callable[[], float] = time.time) -> Finding:
    """Files that a process left which was killed. They harm nothing; drafts of `secret`, `install` and `publishing` are
    not among them, because those three are never touched."""
    left = sorted(_leftovers(directory, now()))
    if not left:
        return ok("No killed process left anything.")

    def remove() -> str:
        gone = sorted(_leftovers(directory, now()))
        for path in gone:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        return f"removed {_named(directory, gone)}"

    return ok(f"Left by a process that was killed: {_named(directory, left)}.", mend=under_lock(directory, remove))


def _leftovers(directory: DataDirectory, now: float) -> Iterable[Path]:
    root = directory.root
    for path in (directory.ready, directory.socket, root / "ready.new", root / "manifest.new"):
        if path.is_socket() or path.is_file():
            yield path
    for pattern in (".http-token.*.new", ".config.toml.*.new", ".moved-in.json.new"):
        yield from root.glob(pattern)
    yield from drafts_in(directory.blobs)
    for folder in root.glob(f"{ASIDE}*"):
        with contextlib.suppress(OSError):
            newest = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
            if now - newest > ASIDE_SECONDS:
                yield folder
    with contextlib.suppress(OSError, ValueError):
        if not isinstance(json.loads(directory.manifest.read_bytes()), dict):
            yield directory.manifest
        return
    if directory.manifest.is_file():  # and cannot be read
        yield directory.manifest


def _named(directory: DataDirectory, paths: list[Path]) -> str:
    names = [str(path.relative_to(directory.root)) for path in paths[:NAMED]]
    return ", ".join([*names, *([f"{len(paths) - NAMED} more"] if len(paths) > NAMED else [])])


def wal_bytes(database: Path) -> int:
    """Size of the write-ahead log beside a database."""
    try:
        return database.with_name(f"{database.name}-wal").stat().st_size
    except OSError:
        return 0


def check_log_size(directory: DataDirectory, *, large: int = LARGE_WAL) -> Finding:
    """Whether the write-ahead log was folded into the database."""
    size = wal_bytes(directory.database)
    if not size:
        return ok("The database has no write-ahead log.")

    def fold() -> str:
        with contextlib.closing(sqlite3.connect(directory.database, timeout=10, isolation_level=None)) as connection:
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise sqlite3.OperationalError("another program reads the database")
        return f"folded {size} bytes of the write-ahead log into the database"

    said = f"The write-ahead log has {size} bytes that are not in the database file yet"
    mend = under_lock(directory, fold)
    if size > large:
        return failed(f"{said}.", "Start the node, which folds it in, or: sbot doctor --fix", mend=mend)
    return ok(f"{said}, as after a kill; the next start folds them in.", mend=mend)


def check_views_of(directory: DataDirectory) -> Finding:
    """Whether the views have their tables and end with the log."""
    from node.store import views  # with all of the store behind it

    if not directory.database.exists():
        return skipped("There are no views yet.")
    try:
        reach = check_views(directory.database, views())
    except sqlite3.Error as error:
        return skipped(f"The views cannot be read: {error}.", "sbot fsck tells more.")
    mend = under_lock(directory, lambda: asyncio.run(_make_anew(directory, {one.subject for one in reach.damage})))
    if reach.damage:
        told = "; ".join(f"{one.subject} {one.detail}" for one in reach.damage)
        return failed(f"Views are damaged: {told}.", "sbot doctor --fix or sbot rebuild makes them anew.", mend=mend)
    if reach.behind:
        told = ", ".join(reach.behind)
        return ok(f"These views are brought to the end of the log at the next start: {told}.", mend=mend)
    return ok("All views show the whole log.")


async def _make_anew(directory: DataDirectory, names: set[str]) -> str:
    from node.store import open_indexer

    async with open_indexer(directory.database) as indexer:
        behind = set(indexer.behind)
        if names:
            await indexer.rebuild(sorted(names))
        await indexer.catch_up()
    return f"brought up to the end of the log: {', '.join(sorted(names | behind))}"
