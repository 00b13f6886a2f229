"""The receive log: every message we hold, in the order it came, and the tip of every feed.

Rows are written by `append`, which runs inside the writer's transaction; what is kept in memory (tips, last position)
is changed by `committed`, in the event loop, after the commit. Texts go in and out as they are: nothing parses one.
"""

import json
import sqlite3
import sys
from array import array
from binascii import b2a_base64
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count, repeat
from typing import Any, Final, Literal, NamedTuple, Protocol

from feeds.bulk_insert import BulkInsert
from feeds.database import Database
from feeds.errors import InvalidRef
from feeds.message import EMPTY, Tip
from feeds.migrations import MESSAGE_KEY
from feeds.refs import FeedRef, MessageRef

__all__ = [
    "Appended",
    "Entry",
    "Extract",
    "FeedInfo",
    "FeedState",
    "Fork",
    "ForkFound",
    "Log",
    "Own",
    "Recorded",
    "Run",
    "TypeIndex",
    "entries_at",
    "entry_of",
    "key8",
]

FeedState = Literal["open", "forked"]
STATES: Final[tuple[FeedState, ...]] = ("open", "forked")
DEFAULT_MAX_BYTES: Final = 1 << 20
RECENT_LIMIT: Final = 100_000
_INT64: Final = 1 << 63


class Entry(NamedTuple):
    """One message as the log holds it."""

    position: int
    """Receive order on this node, from 1."""
    id: str
    author: str
    sequence: int
    received: int
    """When we got it: ms since 1970 by our clock."""
    text: bytes
    """The signed object in its compact spelling."""

    def as_kvt(self) -> bytes:
        """`{"key","value","timestamp"}` as sbot gives it, made around the stored text without reading it."""
        return b'{"key":"%b","value":%b,"timestamp":%d}' % (self.id.encode("ascii"), self.text, self.received)


class FeedInfo(NamedTuple):
    """A feed we hold messages of; bytes counts stored texts."""

    id: str
    sequence: int
    messages: int
    bytes: int
    state: FeedState


class Fork(NamedTuple):
    """Proof that a feed has two branches: two messages signed by its author that cannot both be in one feed.

    first is the one we hold (at the sequence of second, or just before it when second names another predecessor).
    """

    author: str
    sequence: int
    first: bytes
    second: bytes
    found_at: int
    source: str


class Run(NamedTuple):
    """Checked messages of one feed that follow each other, in columns, and the tip they were checked against."""

    author: str
    base: Tip
    keys: Sequence[bytes]
    timestamps: Sequence[int | float]
    texts: Sequence[bytes]
    extracts: Sequence[Sequence[object]]
    """What each view keeps of each message: one list for each view, None for nothing."""


class ForkFound(NamedTuple):
    """A checked message that contradicts the text `first`, which we hold at `first_sequence` of the same feed."""

    author: str
    first_sequence: int
    first: bytes
    sequence: int
    second: bytes
    source: str


class Own(NamedTuple):
    """What the writer must know before it signs: a feed's tip, the claimed time of its last message, its state."""

    tip: Tip
    timestamp: int | float | None
    state: FeedState


class Extract(NamedTuple):
    """What a view keeps of a message, at the message's place in the log."""

    position: int
    author: str
    value: Any


class _TipRow(NamedTuple):
    number: int
    ref: str
    sequence: int
    key: bytes
    messages: int
    bytes: int
    state: int


class Appended(NamedTuple):
    """What one `append` did: runs written, new tip rows, and the runs left out because their feed had moved on."""

    before: int
    """Last position before it."""
    position: int
    """Last position after it."""
    runs: list[tuple[int, Run]]
    """What was written, with the position of its first message."""
    tips: list[_TipRow]
    stale: list[int]
    """Indexes of the runs that were not written; the true tip of their feed is among `tips`."""
    received: int


class Recorded(NamedTuple):
    """What one `record_forks` did: new tip rows, and which evidence does not fit the store."""

    tips: list[_TipRow]
    stale: list[int]
    """Indexes of the forks left out."""


class TypeIndex(Protocol):
    """Positions of the messages of one type, as the message_types view answers it."""

    def __call__(
        self, connection: sqlite3.Connection, type: str, *, after: int, limit: int, author: int | None, descending: bool
    ) -> list[int]: ...


def key8(key: bytes) -> int:
    """The first eight bytes of an id as the signed integer that is indexed."""
    return int.from_bytes(key[:8], "little", signed=True)


def _keys8(keys: Sequence[bytes]) -> "array[int]":
    """`key8` of many ids."""
    words = array("q", b"".join(keys))
    if sys.byteorder == "big":
        words.byteswap()
    return words[::4]


def message_id(key: bytes, author: str) -> str:
    """Canonical id of a message from its 32 bytes and its author's feed id."""
    if author[0] == "@":
        return f"%{b2a_base64(key, newline=False).decode('ascii')}.sha256"
    return str(MessageRef(key, FeedRef.parse(author).format))


class _Tips:
    """Tips of all feeds in a few flat arrays, indexed by the feed's number: about 250 bytes a feed with its id."""

    def __init__(self) -> None:
        self.numbers: Final[dict[str, int]] = {}
        self.refs: Final[list[str]] = []
        self.sequences: Final = array("q")
        self.messages: Final = array("q")
        self.bytes: Final = array("q")
        self.states: Final = bytearray()
        self.keys: Final = bytearray()

    def put(self, row: _TipRow) -> None:
        number = row.number
        while len(self.refs) <= number:
            self.refs.append("")
            self.sequences.append(0)
            self.messages.append(0)
            self.bytes.append(0)
            self.states.append(0)
            self.keys.extend(bytes(32))
        if not self.refs[number]:
            self.refs[number] = row.ref
            self.numbers[row.ref] = number
        self.sequences[number] = row.sequence
        self.messages[number] = row.messages
        self.bytes[number] = row.bytes
        self.states[number] = row.state
        self.keys[32 * number : 32 * number + 32] = row.key

    def key(self, number: int) -> bytes:
        return bytes(self.keys[32 * number : 32 * number + 32])


class Log:
    """Reads of the log, and the two halves of a write. Made by `open`."""

    def __init__(self, database: Database, type_index: TypeIndex | None) -> None:
        self._database: Final = database
        self._type_index: Final = type_index
        self._tips: Final = _Tips()
        self._recent: Final[deque[tuple[int, dict[str, int]]]] = deque()
        self._recent_size = 0
        self._recent_from = 0
        self._position = 0

    @classmethod
    async def open(cls, database: Database, *, type_index: TypeIndex | None = None) -> "Log":
        """Load the tips. type_index -- how `entries_after` finds a type (`message_types.positions`)."""
        log = cls(database, type_index)
        position, rows = await database.read(lambda connection: (_last_position(connection), _all_tips(connection)))
        for row in rows:
            log._tips.put(row)
        log._position = log._recent_from = position
        return log

    # What is known without asking the database.

    @property
    def position(self) -> int:
        """Last committed position; 0 for an empty log."""
        return self._position

    def sequence(self, feed: str) -> int:
        """Last sequence held of a feed, 0 when there is none."""
        number = self._tips.numbers.get(feed)
        return 0 if number is None else self._tips.sequences[number]

    def tip(self, feed: str) -> Tip:
        """Last sequence and message id held of a feed."""
        number = self._tips.numbers.get(feed)
        if number is None or not self._tips.sequences[number]:
            return EMPTY
        return Tip(self._tips.sequences[number], message_id(self._tips.key(number), feed))

    def feed_state(self, feed: str) -> FeedState:
        """ "forked" once two branches of it were seen: nothing more is appended to it."""
        number = self._tips.numbers.get(feed)
        return "open" if number is None else STATES[self._tips.states[number]]

    def clock(self) -> dict[str, int]:
        """Last sequence of every feed held: the vector clock."""
        return {ref: sequence for ref, sequence in zip(self._tips.refs, self._tips.sequences, strict=True) if sequence}

    def feeds(self) -> list[FeedInfo]:
        """Every feed held, in the order they were first seen."""
        tips = self._tips
        columns = zip(tips.refs, tips.sequences, tips.messages, tips.bytes, tips.states, strict=True)
        return [FeedInfo(ref, at, count, size, STATES[state]) for ref, at, count, size, state in columns if at]

    def feed(self, feed: str) -> FeedInfo | None:
        """One feed, None when nothing of it is held."""
        number = self._tips.numbers.get(feed)
        if number is None or not self._tips.sequences[number]:
            return None
        tips = self._tips
        state = STATES[tips.states[number]]
        return FeedInfo(feed, tips.sequences[number], tips.messages[number], tips.bytes[number], state)

    # Reads.

    async def get(self, message: str) -> Entry | None:
        """The message with this canonical id, None when it is not here or the text is no message id."""
        return self._database.peek(lambda connection: entry_of(connection, message))

    async def at(self, feed: str, sequence: int) -> Entry | None:
        """The message of a feed at a sequence."""
        number = self._tips.numbers.get(feed)
        if number is None or not 0 < sequence <= self._tips.sequences[number]:
            return None
        rows = self._database.peek(
            lambda connection: connection.execute(
                f"{_ENTRY} WHERE m.author=? AND m.sequence=?", (number, sequence)
            ).fetchall()
        )
        return next(_entries(rows), None)

    async def range(self, feed: str, after: int, limit: int, max_bytes: int = DEFAULT_MAX_BYTES) -> list[bytes]:
        """Texts of a feed from sequence after + 1 on; ends after `limit` texts or once `max_bytes` are reached."""
        (texts,) = await self.ranges([(feed, after, limit)], max_bytes)
        return texts

    async def ranges(
        self, requests: Sequence[tuple[str, int, int]], max_bytes: int = DEFAULT_MAX_BYTES
    ) -> list[list[bytes]]:
        """Texts for many (feed, after, limit) in one hop, a list for each request.

        Stops once `max_bytes` are reached, at least one text having been read; requests from there on get a shorter or
        empty list, so ask again for what is missing.
        """
        wanted = [
            (number, after, limit) for feed, after, limit in requests for number in (self._tips.numbers.get(feed, -1),)
        ]
        if all(number < 0 or self._tips.sequences[number] <= after for number, after, _ in wanted):
            return [[] for _ in wanted]
        return await self._database.read(lambda connection: _read_ranges(connection, wanted, max_bytes))

    async def entries_after(
        self,
        position: int,
        limit: int,
        *,
        author: str | None = None,
        type: str | None = None,
        descending: bool = False,
    ) -> list[Entry]:
        """Messages in receive order after a position; descending: newest first, before a position (0: from the end)."""
        number = None
        if author is not None:
            number = self._tips.numbers.get(author)
            if number is None:
                return []
        if descending and position <= 0:
            position = _INT64 - 1
        if type is None:
            return await self._database.read(
                lambda connection: _read_entries(connection, position, limit, number, descending)
            )
        index = self._type_index
        if index is None:
            raise ValueError("this log was opened without an index of types")

        def by_type(connection: sqlite3.Connection) -> list[Entry]:
            positions = index(connection, type, after=position, limit=limit, author=number, descending=descending)
            return entries_at(connection, positions)

        return await self._database.read(by_type)

    async def appended_after(self, position: int, limit: int = 10_000) -> tuple[int, dict[str, int]]:
        """Which feeds grew after a position, and their sequence then; with the position this answer reaches to.

        Answered from memory for the recent past. limit -- about how many messages to look at; when the answer does not
        reach to `self.position`, ask again from where it ends.
        """
        if position >= self._position:
            return position, {}
        if position < self._recent_from:
            return await self._database.read(lambda connection: _read_growth(connection, position, limit))
        grown: dict[str, int] = {}
        for end, tips in self._recent:
            if end <= position:
                continue
            grown.update(tips)
            if end - position >= limit:
                return end, grown
        return self._position, grown

    async def texts_at(self, places: Mapping[str, Collection[int]]) -> dict[str, dict[int, bytes]]:
        """Stored texts at many sequences of many feeds, in one hop; what is not held is left out."""
        wanted = [
            (feed, number, sequences)
            for feed, sequences in places.items()
            if sequences and (number := self._tips.numbers.get(feed)) is not None
        ]
        if not wanted:
            return {}
        return await self._database.read(
            lambda connection: {feed: _read_texts(connection, number, at) for feed, number, at in wanted}
        )

    async def forks(self) -> list[Fork]:
        """The evidence for every forked feed, oldest first."""
        rows = await self._database.read(
            lambda connection: connection.execute(
                "SELECT f.ref, k.sequence, k.first, k.second, k.found_at, k.source FROM fork k "
                "JOIN feed f ON f.id=k.author ORDER BY k.found_at, k.author"
            ).fetchall()
        )
        return [Fork(*row) for row in rows]

    # Writes.

    @staticmethod
    def append(connection: sqlite3.Connection, runs: Iterable[Run], received: int) -> Appended:
        """Write runs of messages; part of a writer's job, in its thread. received -- ms since 1970.

        A run is left out, and named in `stale`, unless its base is still the feed's tip and the feed is open.
        """
        before = position = _last_position(connection)
        rows: list[tuple[object, ...]] = []
        written: list[tuple[int, Run]] = []
        grown: dict[str, _TipRow] = {}
        tips: list[_TipRow] = []
        stale: list[int] = []
        for index, run in enumerate(runs):
            tip = grown.get(run.author) or _read_tip(connection, run.author) or _new_feed(connection, run.author)
            if tip.state or not _stands_at(tip, run.base):
                stale.append(index)
                tips.append(tip)
                continue
            written.append((position + 1, run))
            rows += _rows(tip, position + 1, run, received)
            added = len(run.keys)
            position += added
            tip = tip._replace(
                sequence=tip.sequence + added,
                key=run.keys[-1],
                messages=tip.messages + added,
                bytes=tip.bytes + sum(map(len, run.texts)),
            )
            grown[run.author] = tip
        _INSERT_MESSAGES(connection, rows)
        keys = [key for _, run in written for key in run.keys]
        MESSAGE_KEY.insert(connection, zip(_keys8(keys), count(before + 1), strict=False))
        MESSAGE_KEY.settle(connection, before, position)
        connection.executemany(
            "UPDATE feed SET sequence=?, key=?, messages=?, bytes=? WHERE id=?",
            [(tip.sequence, tip.key, tip.messages, tip.bytes, tip.number) for tip in grown.values()],
        )
        return Appended(before, position, written, [*tips, *grown.values()], stale, received)

    @staticmethod
    def record_forks(connection: sqlite3.Connection, forks: Iterable[ForkFound], found_at: int) -> Recorded:
        """Mark feeds as forked and keep the first evidence for each; part of a writer's job. found_at -- ms since 1970.

        Evidence against a message that the store does not hold is left out, its feed named in `stale`.
        """
        tips: list[_TipRow] = []
        stale: list[int] = []
        for index, (author, at, first, sequence, second, source) in enumerate(forks):
            tip = _read_tip(connection, author)
            if tip is None or _text_at(connection, tip.number, at) != first:
                stale.append(index)
                continue
            if not tip.state:
                connection.execute(
                    "INSERT INTO fork VALUES(?,?,?,?,?,?)", (tip.number, sequence, first, second, found_at, source)
                )
                connection.execute("UPDATE feed SET state=1 WHERE id=?", (tip.number,))
            tips.append(tip._replace(state=1))
        return Recorded(tips, stale)

    @staticmethod
    def read_own(connection: sqlite3.Connection, feed: str) -> Own:
        """Where a feed stands inside this transaction; part of a writer's job."""
        row = _read_tip(connection, feed)
        if row is None or not row.sequence:
            return Own(EMPTY, None, "open" if row is None else STATES[row.state])
        (timestamp,) = connection.execute(
            "SELECT timestamp FROM message WHERE author=? AND sequence=?", (row.number, row.sequence)
        ).fetchone()
        return Own(Tip(row.sequence, message_id(row.key, feed)), timestamp, STATES[row.state])

    def committed(self, position: int, tips: Iterable[_TipRow]) -> None:
        """Take over what a committed job wrote; in the event loop."""
        grown = {}
        for tip in tips:
            if tip.sequence > self.sequence(tip.ref):
                grown[tip.ref] = tip.sequence
            self._tips.put(tip)
        if position > self._position:
            self._position = position
            self._recent.append((position, grown))
            self._recent_size += len(grown) + 1
            while self._recent_size > RECENT_LIMIT:
                self._recent_from, old = self._recent.popleft()
                self._recent_size -= len(old) + 1


_ENTRY: Final = (
    "SELECT m.position, m.key, f.ref, m.sequence, m.received, m.text FROM message m JOIN feed f ON f.id=m.author"
)

_ENTRIES_AT: Final = f"{_ENTRY} WHERE m.position IN (SELECT value FROM json_each(?))"  # noqa: S608
_ENTRY_BY_KEY: Final = f"{_ENTRY} JOIN {MESSAGE_KEY.either} k ON k.position=m.position WHERE k.key8=? AND m.key=?"


def _entries(rows: Iterable[tuple[int, bytes, str, int, int, bytes]]) -> Iterator[Entry]:
    for position, key, author, sequence, received, text in rows:
        yield Entry(position, message_id(key, author), author, sequence, received, text)


def entries_at(connection: sqlite3.Connection, positions: Sequence[int]) -> list[Entry]:
    """Messages at some positions, in the order of the positions; those that are not there are left out."""
    rows = connection.execute(_ENTRIES_AT, (json.dumps(list(positions)),))
    found = {entry.position: entry for entry in _entries(rows)}
    return [found[position] for position in positions if position in found]


def entry_of(connection: sqlite3.Connection, message: str) -> Entry | None:
    """The message with this canonical id, None when it is not here or the text is no message id."""
    try:
        key = MessageRef.parse(message).data
    except InvalidRef:
        return None
    rows = connection.execute(_ENTRY_BY_KEY, (key8(key), key)).fetchall()
    return next((entry for entry in _entries(rows) if entry.id == message), None)


def _last_position(connection: sqlite3.Connection) -> int:
    (position,) = connection.execute("SELECT max(position) FROM message").fetchone()
    return position or 0


def _all_tips(connection: sqlite3.Connection) -> list[_TipRow]:
    rows = connection.execute("SELECT id, ref, sequence, key, messages, bytes, state FROM feed ORDER BY id")
    return [_TipRow(*row) for row in rows]


def _read_tip(connection: sqlite3.Connection, feed: str) -> _TipRow | None:
    row = connection.execute(
        "SELECT id, ref, sequence, key, messages, bytes, state FROM feed WHERE ref=?", (feed,)
    ).fetchone()
    return None if row is None else _TipRow(*row)


def _text_at(connection: sqlite3.Connection, author: int, sequence: int) -> bytes | None:
    row = connection.execute("SELECT text FROM message WHERE author=? AND sequence=?", (author, sequence)).fetchone()
    return None if row is None else bytes(row[0])


def _new_feed(connection: sqlite3.Connection, feed: str) -> _TipRow:
    cursor = connection.execute(
        "INSERT INTO feed(ref, sequence, key, messages, bytes, state) VALUES(?,0,?,0,0,0)", (feed, bytes(32))
    )
    assert cursor.lastrowid is not None
    return _TipRow(cursor.lastrowid, feed, 0, bytes(32), 0, 0, 0)


def _stands_at(row: _TipRow, tip: Tip) -> bool:
    if row.sequence != tip.sequence:
        return False
    return not row.sequence or message_id(row.key, row.ref) == tip.id


_INSERT_MESSAGES: Final = BulkInsert("INSERT INTO message", 7)


def _rows(tip: _TipRow, position: int, run: Run, received: int) -> Iterator[tuple[object, ...]]:
    """Rows of table message."""
    return zip(
        count(position),
        repeat(tip.number),
        count(tip.sequence + 1),
        run.keys,
        repeat(received),
        _numbers(run.timestamps),
        run.texts,
        strict=False,  # the endless ones end with the others
    )


def _numbers(timestamps: Sequence[int | float]) -> Sequence[int | float]:
    """Claimed times as SQLite can hold them."""
    if min(timestamps) >= -_INT64 and max(timestamps) < _INT64:
        return timestamps
    return [float(timestamp) for timestamp in timestamps]


def _read_ranges(
    connection: sqlite3.Connection, wanted: Sequence[tuple[int, int, int]], max_bytes: int
) -> list[list[bytes]]:
    answers: list[list[bytes]] = []
    left = max_bytes
    for number, after, limit in wanted:
        texts: list[bytes] = []
        answers.append(texts)
        if left <= 0 or number < 0:
            continue
        for (text,) in connection.execute(
            "SELECT text FROM message WHERE author=? AND sequence>? ORDER BY sequence LIMIT ?", (number, after, limit)
        ):
            texts.append(text)
            left -= len(text)
            if left <= 0:
                break
    return answers


def _read_texts(connection: sqlite3.Connection, author: int, sequences: Collection[int]) -> dict[int, bytes]:
    low, high = min(sequences), max(sequences)
    if high - low < 2 * len(sequences):
        rows = connection.execute(
            "SELECT sequence, text FROM message WHERE author=? AND sequence BETWEEN ? AND ?", (author, low, high)
        )
        return dict(rows.fetchall())
    found = ((sequence, _text_at(connection, author, sequence)) for sequence in sequences)
    return {sequence: text for sequence, text in found if text is not None}


def _read_entries(
    connection: sqlite3.Connection, position: int, limit: int, author: int | None, descending: bool
) -> list[Entry]:
    compare, order = ("<", "DESC") if descending else (">", "ASC")
    if author is None:
        rows = connection.execute(
            f"{_ENTRY} WHERE m.position{compare}? ORDER BY m.position {order} LIMIT ?", (position, limit)
        )
    else:
        sequence = _sequence_at(connection, author, position if descending else position + 1)
        rows = connection.execute(
            f"{_ENTRY} WHERE m.author=? AND m.sequence{compare}? ORDER BY m.sequence {order} LIMIT ?",
            (author, sequence if descending else sequence - 1, limit),
        )
    return list(_entries(rows))


def _sequence_at(connection: sqlite3.Connection, author: int, position: int) -> int:
    """First sequence of a feed received at `position` or later: a feed's messages come in order, so bisect."""
    low, high = connection.execute(
        "SELECT min(sequence), max(sequence) + 1 FROM message WHERE author=?", (author,)
    ).fetchone()
    if low is None:
        return 0
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(
            "SELECT position FROM message WHERE author=? AND sequence=?", (author, middle)
        ).fetchone()
        if row is not None and row[0] >= position:
            high = middle
        else:
            low = middle + 1
    return int(low)


def _read_growth(connection: sqlite3.Connection, position: int, limit: int) -> tuple[int, dict[str, int]]:
    last = connection.execute(
        "SELECT max(position) FROM (SELECT position FROM message WHERE position>? ORDER BY position LIMIT ?)",
        (position, limit),
    ).fetchone()[0]
    if last is None:
        return position, {}
    rows = connection.execute(
        "SELECT f.ref, max(m.sequence) FROM message m JOIN feed f ON f.id=m.author "
        "WHERE m.position>? AND m.position<=? GROUP BY m.author",
        (position, last),
    )
    return last, dict(rows.fetchall())
