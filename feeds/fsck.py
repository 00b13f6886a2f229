"""Looks a store through for damage, on a connection that only reads, also beside a running node.

Fast: SQLite's own check, every feed by its numbers, its links and its tip, the counts, the sizes of the blobs' files.
Full: every id and signature as well, every view made anew aside and compared, every blob hashed. Damage is told as
values; nothing is mended here, and nothing is raised because of what stands in the file.
"""

import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from feeds.blob_files import BlobFiles, MissingFile
from feeds.errors import FeedsError
from feeds.formats.registry import format_of_feed
from feeds.indexer import View, make_aside
from feeds.log_rows import key8, last_position, message_id
from feeds.message import EMPTY, Message, Tip
from feeds.migrations import MESSAGE_KEY
from feeds.refs import BlobRef
from feeds.tips import Hole, TipRow, all_holes, all_tips

__all__ = ["ASIDE", "Damage", "Part", "Progress", "Reach", "Report", "check_views", "examine"]

ASIDE: Final = ".fsck-"
"""How folders of views that are made aside begin; they lie in that of the database."""
LISTED: Final = 1000
"""Damages that are told one by one; of the rest only the number."""
ERASING: Final = 4
"""The migration of feeds that brought the table of what was erased."""
BATCH: Final = 500
HEAD: Final = 512
"""Bytes at the beginning of a stored text in which every format names the message before."""

Progress: TypeAlias = Callable[[str, int, int], None]
"""Told what is looked at, how much of it is done, and how much there is."""


class Part(StrEnum):
    """What of a store is damaged."""

    DATABASE = "database"
    FEED = "feed"
    COUNTS = "counts"
    INDEX = "index"
    VIEW = "view"
    BLOB = "blob"


class Damage(NamedTuple):
    """One thing that is not as it must be."""

    part: Part
    subject: str
    """A feed's, view's or blob's id or name, or the name of a table."""
    detail: str
    sequence: int | None = None
    """The first message of the feed that is not good."""


class Report(NamedTuple):
    """What was looked at and what is damaged; views that are behind cannot be compared and are named in `behind`."""

    full: bool
    feeds: int
    messages: int
    blobs: int
    behind: list[str]
    damage: list[Damage]
    more: int
    """Damages beyond those listed."""


class Reach(NamedTuple):
    """How far views show the log."""

    behind: list[str]
    damage: list[Damage]


class _Found:
    """Collects damage, and counts."""

    def __init__(self) -> None:
        self.listed: list[Damage] = []
        self.more = 0
        self.messages = 0
        self.blobs = 0

    def add(self, part: Part, subject: str, detail: str, sequence: int | None = None) -> None:
        if len(self.listed) < LISTED:
            self.listed.append(Damage(part, subject, detail, sequence))
        else:
            self.more += 1


class _Row(NamedTuple):
    sequence: int
    position: int
    key: Any
    """32 bytes, and text UTF-8, unless they are damaged."""
    text: Any


def examine(
    path: Path,
    blobs: Path,
    views: Sequence[View],
    *,
    full: bool,
    hmac_key: bytes | None = None,
    progress: Progress = lambda _what, _done, _all: None,
) -> Report:
    """Look through the database at `path` and the folder of its blobs. Blocks for long; sees one moment of the store.

    Raises sqlite3.Error when the file cannot be opened at all.
    """
    found = _Found()
    tips: list[TipRow] = []
    holes: dict[str, Hole] = {}
    behind: list[str] = []
    with closing(sqlite3.connect(_read_only(path), uri=True, timeout=10, isolation_level=None)) as connection:
        connection.execute("PRAGMA query_only=ON")
        connection.execute("BEGIN")
        _guarded(found, Part.DATABASE, path.name, lambda: _check_pages(connection, found, full))
        _guarded(found, Part.DATABASE, "feed", lambda: tips.extend(all_tips(connection)))
        _guarded(found, Part.DATABASE, "erased", lambda: holes.update(_holes(connection)))
        for done, tip in enumerate(tips):
            progress("feeds", done, len(tips))
            _check_feed(connection, tip, holes.get(tip.ref), found, hmac_key if full else None, full)
        _guarded(found, Part.INDEX, "message", lambda: _check_tables(connection, found))
        _guarded(found, Part.VIEW, "view", lambda: behind.extend(_check_reach(connection, views, found)))
        _guarded(found, Part.BLOB, "blob", lambda: _check_blobs(connection, BlobFiles(blobs), found, full, progress))
    if full:
        whole = [view for view in views if view.name not in behind]
        _guarded(found, Part.VIEW, "view", lambda: _compare_views(path, whole, found, progress))
    return Report(full, len(tips), found.messages, found.blobs, behind, found.listed, found.more)


def check_views(path: Path, views: Sequence[View]) -> Reach:
    """Whether the views of a database have their tables and end with the log: a quick look. Raises sqlite3.Error."""
    found = _Found()
    with closing(sqlite3.connect(_read_only(path), uri=True, timeout=10, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        behind = _check_reach(connection, views, found)
    damaged = {damage.subject for damage in found.listed}
    return Reach([name for name in behind if name not in damaged], found.listed)


def _holes(connection: sqlite3.Connection) -> dict[str, Hole]:
    """What was erased; nothing in a database of an earlier version that no node has opened since."""
    (version,) = connection.execute("SELECT max(number) FROM migration WHERE component='feeds'").fetchone()
    return all_holes(connection) if version is None or version >= ERASING else {}


def _read_only(path: Path) -> str:
    return f"{path.absolute().as_uri()}?mode=ro"


def _guarded(found: _Found, part: Part, subject: str, look: Callable[[], None]) -> None:
    """What SQLite or the disk cannot read is damage too."""
    try:
        look()
    except (sqlite3.Error, FeedsError, OSError) as error:
        found.add(part, subject, f"cannot be read: {error}")


def _check_pages(connection: sqlite3.Connection, found: _Found, full: bool) -> None:
    for (text,) in connection.execute("PRAGMA integrity_check(100)" if full else "PRAGMA quick_check(100)"):
        if text != "ok" and "readonly" not in text:  # the search index wants to write before it says anything
            found.add(Part.DATABASE, "pages", str(text)[:300])


def _check_feed(
    connection: sqlite3.Connection,
    tip: TipRow,
    hole: Hole | None,
    found: _Found,
    hmac_key: bytes | None,
    full: bool,
) -> None:
    """Name the first message that is not good, or else what the feed's row says wrongly."""
    expected = 1
    previous = EMPTY
    size = erased = 0
    key = bytes(32)
    try:
        for batch in _batches(connection, tip.number):
            found.messages += len(batch)
            good, why = _links(tip.ref, batch, expected, previous, hole)
            if full:
                good, why = _whole(connection, tip.ref, batch[:good], previous, hmac_key) or (good, why)
            if good:
                key = batch[good - 1].key
                expected += good
                previous = Tip(expected - 1, message_id(key, tip.ref))
                size += sum(len(row.text) for row in batch[:good])
                erased += sum(not row.text for row in batch[:good])
            if why is not None:
                return found.add(Part.FEED, tip.ref, why, expected)
    except (sqlite3.Error, FeedsError) as error:
        return found.add(Part.FEED, tip.ref, f"message {expected} or one after it cannot be read: {error}", expected)
    if tip.sequence > expected - 1:
        return found.add(Part.FEED, tip.ref, f"ends at {expected - 1} and should reach {tip.sequence}", expected)
    held = (expected - 1, key, expected - 1 - erased, size)
    if held != (tip.sequence, bytes(tip.key), tip.messages, tip.bytes):
        found.add(Part.COUNTS, tip.ref, "its row in the table of feeds does not fit its messages")
    return None


def _batches(connection: sqlite3.Connection, number: int) -> Iterator[list[_Row]]:
    rows = connection.execute(
        # a row before the first message that stands for none keeps a position (feeds.erasing)
        "SELECT sequence, position, key, text FROM message WHERE author=? AND (sequence>0 OR length(text)>0) "
        "ORDER BY sequence",
        (number,),
    )
    while batch := rows.fetchmany(BATCH):
        yield [_Row(*row) for row in batch]


def _links(feed: str, batch: Sequence[_Row], expected: int, previous: Tip, hole: Hole | None) -> tuple[int, str | None]:
    """How many of the rows follow each other, and what is wrong with the next. Of an erased one its id is believed."""
    form = format_of_feed(feed)
    before = previous.id
    for index, row in enumerate(batch):
        if row.sequence != expected + index:
            return index, f"message {expected + index} is missing"
        if not isinstance(row.text, bytes) or not isinstance(row.key, bytes) or len(row.key) != 32:
            return index, f"message {row.sequence} is not stored as it should be"
        if not row.text and hole is not None and hole.first <= row.sequence <= hole.last:
            before = message_id(row.key, feed)
            continue
        try:
            claimed = form.peek(row.text)
        except FeedsError as error:
            return index, f"message {row.sequence} cannot be read: {error}"
        if claimed != (feed, row.sequence):
            return index, f"message {row.sequence} says that it is {claimed[1]} of {claimed[0]}"
        if before is not None and b'"%b"' % before.encode() not in row.text[:HEAD]:
            return index, f"message {row.sequence} does not name the message before it"
        before = message_id(row.key, feed)
    return len(batch), None


def _whole(
    connection: sqlite3.Connection, feed: str, batch: Sequence[_Row], previous: Tip, hmac_key: bytes | None
) -> tuple[int, str] | None:
    """The first row whose id, chain, signature or entry in the index of ids is wrong."""
    form = format_of_feed(feed)
    messages: list[Message] = []
    places: list[int] = []
    wrong: tuple[int, str] | None = None
    for index, row in enumerate(batch):
        if not row.text:
            previous = Tip(row.sequence, message_id(row.key, feed))
            if _indexed(connection, row):
                continue
            wrong = index, f"message {row.sequence} is not found by its id"
            break
        try:
            message = form.prepare(row.text, hmac_key)
        except FeedsError as error:
            wrong = index, f"message {row.sequence} is not valid: {error}"
            break
        fault = form.check_chain(message, previous)
        if message.key != row.key or message.text != row.text:
            wrong = index, f"message {row.sequence} is not the one that its id names"
        elif fault is not None:
            wrong = index, f"message {row.sequence} does not follow the one before it: {fault.reason}"
        elif not _indexed(connection, row):
            wrong = index, f"message {row.sequence} is not found by its id"
        if wrong is not None:
            break
        messages.append(message)
        places.append(index)
        previous = Tip(message.sequence, message.id)
    bad = form.first_bad_signature(messages, hmac_key)
    return wrong if bad < 0 else (places[bad], f"message {messages[bad].sequence} has a wrong signature")


def _indexed(connection: sqlite3.Connection, row: _Row) -> bool:
    look = f"SELECT 1 FROM {MESSAGE_KEY.either} WHERE key8=? AND position=?"  # noqa: S608 - a constant
    return connection.execute(look, (key8(row.key), row.position)).fetchone() is not None


def _check_tables(connection: sqlite3.Connection, found: _Found) -> None:
    (lost,) = connection.execute("SELECT count(*) FROM message WHERE author NOT IN (SELECT id FROM feed)").fetchone()
    if lost:
        found.add(Part.INDEX, "message", f"{lost} messages belong to no feed")
    (messages,) = connection.execute("SELECT count(*) FROM message").fetchone()
    (entries,) = connection.execute(f"SELECT count(*) FROM {MESSAGE_KEY.either}").fetchone()  # noqa: S608 - a constant
    if messages != entries:
        found.add(Part.INDEX, MESSAGE_KEY.name, f"{entries} entries for {messages} messages")


def _check_reach(connection: sqlite3.Connection, views: Sequence[View], found: _Found) -> list[str]:
    """Views that do not show the whole log, which is no damage: they are brought up while the node runs."""
    end = last_position(connection)
    known = {
        name: (version, at) for name, version, at in connection.execute("SELECT name, version, position FROM view")
    }
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type='table'")}
    behind = []
    for view in views:
        version, at = known.get(view.name, (0, 0))
        lacking = [table for table in view.tables if table not in tables]
        if version != view.version or (at < end and not lacking):
            behind.append(view.name)
        elif at > end:
            found.add(Part.VIEW, view.name, f"reaches to position {at}, and the log ends at {end}")
        elif lacking:
            found.add(Part.VIEW, view.name, f"lacks the table {lacking[0]}")
            behind.append(view.name)
    return behind


def _compare_views(path: Path, views: Sequence[View], found: _Found, progress: Progress) -> None:
    """Make the views in a file of their own, with the log attached for reading, and compare table by table."""
    with tempfile.TemporaryDirectory(prefix=ASIDE, dir=path.parent) as folder:
        aside = Path(folder) / "views.db"
        with closing(sqlite3.connect(aside, uri=True, timeout=10, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=OFF")
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("ATTACH ? AS log", (_read_only(path),))
            connection.execute("BEGIN")
            make_aside(connection, views, lambda done, end: progress("views", done, end))
            reached = dict(connection.execute("SELECT name, position FROM log.view"))
            end = last_position(connection)
            for view in views:
                if reached.get(view.name) == end:
                    _guarded(found, Part.VIEW, view.name, lambda view=view: _compare(connection, view, found))  # type: ignore[misc]
            connection.execute("ROLLBACK")


def _compare(connection: sqlite3.Connection, view: View, found: _Found) -> None:
    for name, shown in _shown(connection, view):
        made, held = shown("main"), shown("log")
        sides = (
            connection.execute(f"SELECT count(*) FROM (SELECT * FROM ({one}) EXCEPT SELECT * FROM ({other}))")  # noqa: S608
            for one, other in ((made, held), (held, made))
        )
        lacks, extra = (int(side.fetchone()[0]) for side in sides)
        if lacks or extra:
            found.add(Part.VIEW, view.name, f"its table {name} lacks {lacks} rows and has {extra} that are wrong")


def _shown(connection: sqlite3.Connection, view: View) -> Iterator[tuple[str, Callable[[str], str]]]:
    """Each table of a view and how its rows are read: two tiers count as one, and a search shows its words."""
    for table in view.tables:
        recent = f"{table}_recent"
        if recent in view.tables:
            yield table, lambda s, t=table, r=recent: f"SELECT * FROM {s}.{t} UNION ALL SELECT * FROM {s}.{r}"  # type: ignore[misc]  # noqa: S608
        elif table.removesuffix("_recent") != table and table.removesuffix("_recent") in view.tables:
            continue
        elif any(statement.startswith(f"CREATE VIRTUAL TABLE {table} ") for statement in view.schema):
            for schema in ("main", "log"):
                words = f"fts5vocab('{schema}', '{table}', 'instance')"
                connection.execute(f"CREATE VIRTUAL TABLE temp.{schema}_{table}_words USING {words}")
            yield table, lambda s, t=table: f"SELECT term, doc FROM temp.{s}_{t}_words"  # type: ignore[misc]  # noqa: S608
        else:
            yield table, lambda s, t=table: f"SELECT * FROM {s}.{t}"  # type: ignore[misc]  # noqa: S608


def _check_blobs(
    connection: sqlite3.Connection, files: BlobFiles, found: _Found, full: bool, progress: Progress
) -> None:
    (count, size) = connection.execute("SELECT count(*), coalesce(sum(size), 0) FROM blob").fetchone()
    if connection.execute("SELECT blobs, bytes FROM blob_total").fetchone() != (count, size):
        found.add(Part.COUNTS, "blob_total", "does not fit the table of blobs")
    for key, size in connection.execute("SELECT key, size FROM blob ORDER BY number"):
        progress("blobs", found.blobs, count)
        found.blobs += 1
        if not isinstance(key, bytes) or len(key) != 32:
            found.add(Part.BLOB, "blob", "a row names no blob")
            continue
        try:
            if not files.holds(key, size):
                found.add(Part.BLOB, str(BlobRef(key)), f"its file is missing or has not {size} bytes")
            elif full and files.measure(key)[0] != key:
                found.add(Part.BLOB, str(BlobRef(key)), "its file does not hold what its name says")
        except (MissingFile, FeedsError) as error:
            found.add(Part.BLOB, str(BlobRef(key)), str(error))
