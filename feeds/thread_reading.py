"""Threads and their messages, put together from the views: functions of a read connection, one hop each.

A thread is named by the id of its first message, which need not be here. Indexes go by hashes of ids; what is answered
was compared with the texts.
"""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

from feeds.canonical_json import parse
from feeds.conversation import Post, read_post
from feeds.errors import InvalidJson
from feeds.log import Entry, entries_at, entry_of
from feeds.message import JsonObject
from feeds.thread_order import Place, order
from feeds.views import threads, timeline
from feeds.views.placing import END, Spot, author_numbers

__all__ = [
    "THREAD_LIMIT",
    "Thread",
    "ThreadPage",
    "ThreadReply",
    "ThreadSummary",
    "Turn",
    "list_threads",
    "read_thread",
]

THREAD_LIMIT: Final = 10_000
"""Messages read of one thread."""
MISSING_CHECKED: Final = 1000
"""Ids outside a thread that are looked for in the log; further ones are taken to be missing."""
SCAN_LIMIT: Final = 20_000
"""Posts looked at for one page of threads."""


class ThreadSummary(NamedTuple):
    """A thread in a list: its first message if it is here, what was replied, the newest reply."""

    id: str
    first: Entry | None
    replies: int
    authors: list[str]
    """Of the first message and of replies, in order of their first one."""
    latest: Entry | None
    """None when nobody has replied."""
    time: int
    """Of the latest reply, or of the first message: the earlier of claimed and received, ms since 1970."""


class ThreadPage(NamedTuple):
    """Threads by latest reply, newest first, and the place from which the next page goes on."""

    threads: list[ThreadSummary]
    following: Spot | None


class ThreadReply(NamedTuple):
    """A message of a thread in its place."""

    entry: Entry
    missing: tuple[str, ...]
    """Messages that it answers and that are not here."""
    replies: int
    """Replies of the sub-thread that begins with this message."""


class Thread(NamedTuple):
    """A whole thread in causal order."""

    id: str
    parent: str | None
    """The thread that this one was carried off from."""
    turns: list[ThreadReply]
    missing: list[str]
    """Every message that is missing, the first one of the thread before others."""
    truncated: bool
    """It has more than THREAD_LIMIT messages and the newest are left out."""


class Turn(NamedTuple):
    """A message of a thread and how it names it."""

    entry: Entry
    post: Post
    timestamp: int | float


# --- one thread -------------------------------------------------------------------------------------------------------


def read_thread(connection: sqlite3.Connection, root: str) -> Thread | None:
    """The whole thread of a first message (canonical id); None when neither it nor any reply is here."""
    first = entry_of(connection, root)
    found = threads.members(connection, root, limit=THREAD_LIMIT + 1)
    turns = _turns(entries_at(connection, [member.position for member in found[:THREAD_LIMIT]]), root)
    opening = _turn(first) if first is not None else None
    parent = opening.post.root if opening is not None else _other_thread(root, turns)
    turns = _without_forks_away(turns, root)
    if first is None and not turns:
        return None
    return _assemble(connection, root, opening, turns, parent, truncated=len(found) > THREAD_LIMIT)


def _turns(entries: Sequence[Entry], root: str) -> list[Turn]:
    """Those that truly name the thread: an index entry is only a hash."""
    turns = {entry.id: _turn(entry) for entry in entries}
    return [turn for turn in turns.values() if root in (turn.post.root, turn.post.fork) and turn.entry.id != root]


def _turn(entry: Entry) -> Turn:
    value = _value(entry)
    content, timestamp = value.get("content"), value.get("timestamp")
    post = read_post(content) if isinstance(content, dict) else None
    claimed = timestamp if isinstance(timestamp, int | float) else 0
    return Turn(entry, post or Post(None, None, ()), claimed)


def _value(entry: Entry) -> JsonObject:
    try:
        value = parse(entry.text)
    except InvalidJson:
        return {}
    return value if isinstance(value, dict) else {}


def _without_forks_away(turns: list[Turn], root: str) -> list[Turn]:
    """Leave out what only names this thread as the one it forks away from: it is read in the thread it begins.

    Two habits are alive. Some write root = the thread they leave and fork = the message they carry off from, others
    root = that message and fork = the thread they leave. In both the sub-thread begins with a message of the thread.
    """
    inside = {turn.entry.id for turn in turns if turn.post.root == root}
    return [turn for turn in turns if turn.post.root == root or turn.post.root not in inside]


def _other_thread(root: str, turns: Sequence[Turn]) -> str | None:
    """The thread besides this one that its replies name, as a fork or as what they forked from."""
    others = (name for turn in turns for name in (turn.post.root, turn.post.fork))
    return next((name for name in others if name not in (None, root)), None)


def _assemble(
    connection: sqlite3.Connection,
    root: str,
    opening: Turn | None,
    turns: Sequence[Turn],
    parent: str | None,
    *,
    truncated: bool,
) -> Thread:
    everyone = {turn.entry.id: turn for turn in ([] if opening is None else [opening]) + list(turns)}
    places = [
        Place(id, () if id == root else (*turn.post.branches, root), turn.timestamp) for id, turn in everyone.items()
    ]
    placed = order(places, root=root)
    named = dict.fromkeys(([] if opening is not None else [root]) + [id for place in placed for id in place.missing])
    missing = dict.fromkeys(_not_here(connection, list(named)))
    replies = [
        ThreadReply(
            everyone[id].entry,
            tuple(name for name in lacking if name in missing),
            0 if id == root else threads.count_replies(connection, id),
        )
        for id, lacking in placed
    ]
    return Thread(root, parent, replies, list(missing), truncated)


def _not_here(connection: sqlite3.Connection, ids: Sequence[str]) -> list[str]:
    """Those that the log does not hold: an answer may be to a message of another thread."""
    return [id for at, id in enumerate(ids) if at >= MISSING_CHECKED or entry_of(connection, id) is None]


# --- the list of threads ----------------------------------------------------------------------------------------------


def list_threads(
    connection: sqlite3.Connection,
    start: Spot | None,
    limit: int,
    *,
    last_position: int,
    without: Collection[str] = (),
) -> ThreadPage:
    """Threads by their latest reply (or first message while there is none), newest first.

    start -- go on before this place. last_position -- the end of the log when the first page was read: what comes in
    later changes no page. without -- feeds whose threads and replies are left out.
    A page may hold fewer than `limit` and still go on.
    """
    hidden = set(author_numbers(connection, list(without)))
    chosen: list[timeline.Row] = []
    seen: set[int] = set()
    following = None
    for looked_at, row in enumerate(timeline.rows_before(connection, start or END, last_position), 1):
        if row.author not in hidden and row.thread not in seen and _is_latest(connection, row, last_position, hidden):
            seen.add(row.thread)
            chosen.append(row)
        if len(chosen) > limit:
            chosen.pop()
            following = Spot(chosen[-1].time, chosen[-1].position)
            break
        if looked_at == SCAN_LIMIT:
            following = Spot(row.time, row.position)
            break
    return ThreadPage(list(_summaries(connection, chosen, last_position, without, hidden)), following)


def _is_latest(connection: sqlite3.Connection, row: timeline.Row, last_position: int, hidden: Collection[int]) -> bool:
    """Whether a thread stands at this place of the list: at its latest reply, at its first message without any."""
    spot = Spot(row.time, row.position) if row.reply else Spot(-1, 0)
    return not threads.has_later_reply(connection, row.thread, spot, last_position=last_position, without=hidden)


def _summaries(
    connection: sqlite3.Connection,
    rows: Sequence[timeline.Row],
    last_position: int,
    without: Collection[str],
    hidden: Collection[int],
) -> Iterator[ThreadSummary]:
    entries = {entry.position: entry for entry in entries_at(connection, [row.position for row in rows])}
    feeds = dict(connection.execute("SELECT id, ref FROM feed").fetchall()) if rows else {}
    for row in rows:
        newest = entries.get(row.position)
        if newest is None:
            continue
        post = _turn(newest).post
        id = post.root or post.fork or newest.id
        first = entry_of(connection, id) if row.reply else newest
        if first is not None and first.author in without:
            continue
        replies = threads.summary(connection, row.thread, last_position=last_position, without=hidden)
        authors = dict.fromkeys(([] if first is None else [first.author]) + [feeds[at] for at in replies.authors])
        latest = newest if row.reply else None
        yield ThreadSummary(id, first, replies.replies, list(authors), latest, row.time)
