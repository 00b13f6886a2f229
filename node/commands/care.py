"""Care of the store: `sbot fsck`, `sbot du`, `sbot vacuum`."""

import asyncio
import sqlite3
import sys
from contextlib import closing

from api.client import ApiProblem, Client, NodeNotRunning
from feeds.errors import StoreError
from feeds.fsck import Damage, Part, Report
from feeds.migrations import MESSAGE_KEY
from node import arguments, config, keyfile
from node.commands.catalogue import Invocation
from node.commands.local import told
from node.config import Config
from node.directory import DataDirectory
from node.errors import KeyFileError, NodeError, UsageError
from node.lock import DirectoryLock
from node.output import Output, clean

LARGEST_FEEDS = 20
VACUUM_SECONDS = 3600.0


def fsck(invocation: Invocation) -> int:
    """Look the store through, also while the node runs; exit code 1 if something is damaged."""
    from feeds.fsck import examine  # with the views behind it, which few commands need
    from node.store import views

    found, settings, output = _read(invocation, "full", "repair")
    directory = _with_database(settings)
    repair = found.on("repair")
    lock = DirectoryLock.acquire(directory.lock) if repair else None
    try:
        full = found.on("full") or repair
        try:
            report = examine(
                directory.database,
                directory.blobs,
                views(),
                full=full,
                hmac_key=settings.hmac_key,
                progress=_tell if sys.stderr.isatty() else _silent,
            )
        except sqlite3.Error as error:
            raise NodeError(f"{directory.database} cannot be opened: {error}. {ADVICE[Part.DATABASE]}") from None
        finally:
            _end_line()
        mended = asyncio.run(_mend(directory, report, _own(directory))) if repair else []
    except StoreError as error:
        raise NodeError(f"Nothing could be mended: {error}.") from None
    finally:
        if lock is not None:
            lock.release()
    return _print_report(output, report, _own(directory), mended)


def du(invocation: Invocation) -> int:
    """Print what takes how much room."""
    from feeds.disk_usage import measure

    _, settings, output = _read(invocation)
    directory = _with_database(settings)
    try:
        with closing(_open(directory)) as connection:
            connection.execute("BEGIN")
            usage = measure(connection, feeds=LARGEST_FEEDS)
    except sqlite3.Error as error:
        raise NodeError(f"{directory.database} cannot be read: {error}; sbot fsck tells more.") from None
    shares = {
        name: None if listed is None else [share._asdict() for share in listed]
        for name, listed in (("feeds", usage.feeds), ("types", usage.types), ("tables", usage.tables))
    }
    if not output.pretty:
        output.json_value({**usage._asdict(), **shares})
        return 0
    output.fields((name.replace("_", " "), value) for name, value in usage._asdict().items() if name not in shares)
    for name in shares:
        rows = [
            (row["name"], "" if row["messages"] is None else row["messages"], row["bytes"])
            for row in shares[name] or ()
        ]
        output.line()
        output.table((name, "messages", "bytes"), rows)
    return 0


def vacuum(invocation: Invocation) -> int:
    """Write the database file anew without what was deleted, in the running node or, if there is none, right here."""
    _, settings, output = _read(invocation)
    directory = _with_database(settings)
    try:
        with Client.for_directory(settings.path, timeout=VACUUM_SECONDS) as node:
            freed = node.vacuum()
    except NodeNotRunning:
        lock = DirectoryLock.acquire(directory.lock)
        try:
            freed = asyncio.run(_vacuum(directory))
        except StoreError as error:
            raise NodeError(f"The file could not be written anew: {error}.") from None
        finally:
            lock.release()
    except ApiProblem as problem:
        raise told(problem, settings.path) from None
    if output.pretty:
        output.line(f"{freed} bytes were given back.")
    else:
        output.json_value({"freed_bytes": freed})
    return 0


ADVICE = {
    Part.DATABASE: "Restore a backup (sbot restore), or stop the node and start with the key alone in a new directory.",
    Part.FEED: "sbot fsck --repair drops this message and those after it; peers give them again.",
    Part.COUNTS: "sbot fsck --repair sets the sums of feeds right.",
    Part.INDEX: "sbot fsck --repair makes the index of ids anew; for other tables restore a backup.",
    Part.VIEW: "sbot fsck --repair makes the view anew, and sbot rebuild NAME does so in a running node.",
    Part.BLOB: "Remove it with sbot blobs rm, and ask for it again with sbot blobs want.",
}
OWN = (
    "This is our own feed, which is never changed here. Publish nothing more from this directory; restore a backup, "
    "or start with the key alone in a new one: it stays locked until peers have given the feed back."
)


def _read(invocation: Invocation, *switches: str) -> tuple[arguments.Strict, Config, Output]:
    found = arguments.strict(
        invocation.argv, valued=("path", "config"), switches=("json", *switches), command=invocation.spelled
    )
    if found.words:
        raise UsageError(f"usage: sbot {invocation.spelled} {invocation.command.usage}".rstrip())
    flags = {name: found.values.get(name) for name in ("path", "config")}
    return found, config.load(flags, invocation.environ), Output.standard(as_json=found.on("json"))


def _with_database(settings: Config) -> DataDirectory:
    directory = DataDirectory(settings.path)
    if not directory.database.exists():
        raise NodeError(f"There is no database in {settings.path}; name its directory with --path.")
    return directory


def _open(directory: DataDirectory) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{directory.database.absolute().as_uri()}?mode=ro", uri=True, timeout=10, isolation_level=None
    )


def _own(directory: DataDirectory) -> str | None:
    try:
        return keyfile.identity(directory.secret)
    except (KeyFileError, OSError):
        return None


_AFTER = (
    "UPDATE pub_cursor SET position=min(position, ?1)",
    "UPDATE webhook SET cursor=min(cursor, ?1)",
    "DELETE FROM peer_clock WHERE ?1>=0",
)
"""What others of our tables remember of the log; peers are then told anew what we have."""


async def _mend(directory: DataDirectory, report: Report, own: str | None) -> list[Damage]:
    """Drop damaged tails of others' feeds and make damaged views anew; what that mended.

    Nothing is touched while the file itself or our own feed is damaged, or where it is not known which feed is ours.
    """
    if own is None or any(entry.part is Part.DATABASE or entry.subject == own for entry in report.damage):
        return []
    from feeds.database import Database
    from feeds.mending import drop_tails
    from node.store import COMPONENTS, open_indexer

    tails = {entry.subject: entry.sequence for entry in report.damage if entry.part is Part.FEED and entry.sequence}
    whole = {
        entry.subject: 1 << 62 for entry in report.damage if entry.part is Part.COUNTS and entry.subject.startswith("@")
    }
    index = any(entry.subject == MESSAGE_KEY.name for entry in report.damage)

    def drop(connection: sqlite3.Connection) -> None:
        end = drop_tails(connection, {**whole, **tails}, own)
        for statement in _AFTER:
            connection.execute(statement, (end,))

    if tails or whole or index:
        database = await Database.open(directory.database, COMPONENTS)
        try:
            await database.write(drop, durable=True)
        finally:
            await database.close()
    views = {entry.subject for entry in report.damage if entry.part is Part.VIEW}
    if tails or views:
        async with open_indexer(directory.database) as indexer:
            await indexer.rebuild([name for name in indexer.names if tails or name in views])
            await indexer.catch_up()
    return [
        entry for entry in report.damage if entry.subject in tails.keys() | whole.keys() | views | {MESSAGE_KEY.name}
    ]


async def _vacuum(directory: DataDirectory) -> int:
    from feeds.database import Database
    from node.store import COMPONENTS

    database = await Database.open(directory.database, COMPONENTS)
    try:
        return await database.vacuum()
    finally:
        await database.close()


def _print_report(output: Output, report: Report, own: str | None, mended: list[Damage]) -> int:
    left = [damage for damage in report.damage if damage not in mended]
    damage = [
        {
            **entry._asdict(),
            "own": entry.subject == own,
            "mended": entry not in left,
            "advice": None if entry not in left else _advice(entry, own),
        }
        for entry in report.damage
    ]
    sound = not left and not report.more
    if not output.pretty:
        output.json_value({"ok": sound, **report._asdict(), "damage": damage})
        return 0 if sound else 1
    for entry in damage:
        output.line(
            clean(
                f"{'mended ' if entry['mended'] else 'DAMAGED'}  {entry['part']} {entry['subject']}: {entry['detail']}"
            )
        )
        if entry["advice"]:
            output.line(clean(f"         {entry['advice']}"))
    if report.more:
        output.line(f"and {report.more} more.")
    if report.behind:
        output.line(f"Not compared, since they do not show the whole log yet: {', '.join(report.behind)}.")
    looked = f"{report.messages} messages of {report.feeds} feeds, {report.blobs} blobs"
    output.line(
        f"{looked}: {'sound' if sound else 'damaged'}{'' if report.full else ' (fast look; --full sees more)'}."
    )
    return 0 if sound else 1


def _advice(damage: Damage, own: str | None) -> str:
    return OWN if damage.subject == own else ADVICE[damage.part]


def _silent(_what: str, _done: int, _all: int) -> None:
    pass


def _tell(what: str, done: int, every: int) -> None:
    """How far it is, for who looks on."""
    if done % 100 == 0 or what == "views":
        sys.stderr.write(f"\r{what}: {done} of {every} \x1b[K")
        sys.stderr.flush()


def _end_line() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
