"""Where every feed stands: its row in table `feed`, and the same in memory, small enough for hundreds of thousands."""

import sqlite3
from array import array
from typing import Final, Literal, NamedTuple

from feeds.log_rows import message_id
from feeds.message import EMPTY, Tip

__all__ = [
    "STATES",
    "FeedInfo",
    "FeedState",
    "Hole",
    "TipRow",
    "Tips",
    "all_holes",
    "all_tips",
    "new_feed",
    "read_tip",
]

FeedState = Literal["open", "forked"]
STATES: Final[tuple[FeedState, ...]] = ("open", "forked")
"""By the number that table `feed` holds."""
_COLUMNS: Final = "id, ref, sequence, key, messages, bytes, state"


class FeedInfo(NamedTuple):
    """A feed we hold messages of; bytes counts stored texts."""

    id: str
    sequence: int
    messages: int
    bytes: int
    state: FeedState


class Hole(NamedTuple):
    """Between which sequences of a feed texts were erased here; both are erased, what is between them need not be."""

    first: int
    last: int


class TipRow(NamedTuple):
    """A row of table `feed`: the feed's number in this database, its id, and where it ends."""

    number: int
    ref: str
    sequence: int
    key: bytes
    """The 32 bytes of its last message's id; zeros when there is none."""
    messages: int
    bytes: int
    state: int


class Tips:
    """The table in memory, in a few flat arrays indexed by the feed's number: about 250 bytes a feed with its id."""

    def __init__(self) -> None:
        self._numbers: Final[dict[str, int]] = {}
        self._refs: Final[list[str]] = []
        self._sequences: Final = array("q")
        self._messages: Final = array("q")
        self._bytes: Final = array("q")
        self._states: Final = bytearray()
        self._keys: Final = bytearray()

    def put(self, row: TipRow) -> None:
        """Take over a row."""
        number = row.number
        while len(self._refs) <= number:
            self._refs.append("")
            for column in (self._sequences, self._messages, self._bytes):
                column.append(0)
            self._states.append(0)
            self._keys.extend(bytes(32))
        if not self._refs[number]:
            self._refs[number] = row.ref
            self._numbers[row.ref] = number
        self._sequences[number] = row.sequence
        self._messages[number] = row.messages
        self._bytes[number] = row.bytes
        self._states[number] = row.state
        self._keys[32 * number : 32 * number + 32] = row.key

    def number(self, feed: str) -> int | None:
        """The feed's number in the tables, None for one that was never seen."""
        return self._numbers.get(feed)

    def sequence(self, feed: str) -> int:
        """Last sequence held, 0 when there is none."""
        number = self._numbers.get(feed)
        return 0 if number is None else self._sequences[number]

    def tip(self, feed: str) -> Tip:
        """Last sequence and message id held."""
        number = self._numbers.get(feed)
        if number is None or not self._sequences[number]:
            return EMPTY
        return Tip(self._sequences[number], message_id(bytes(self._keys[32 * number : 32 * number + 32]), feed))

    def state(self, feed: str) -> FeedState:
        """Whether two branches of it are known."""
        number = self._numbers.get(feed)
        return "open" if number is None else STATES[self._states[number]]

    def clock(self) -> dict[str, int]:
        """Last sequence of every feed held."""
        return {ref: sequence for ref, sequence in zip(self._refs, self._sequences, strict=True) if sequence}

    def info(self, feed: str) -> FeedInfo | None:
        """One feed, None when nothing of it is held."""
        number = self._numbers.get(feed)
        if number is None or not self._sequences[number]:
            return None
        sizes = self._messages[number], self._bytes[number]
        return FeedInfo(feed, self._sequences[number], *sizes, STATES[self._states[number]])

    def infos(self) -> list[FeedInfo]:
        """Every feed held, in the order they were first seen."""
        columns = zip(self._refs, self._sequences, self._messages, self._bytes, self._states, strict=True)
        return [FeedInfo(ref, at, count, size, STATES[state]) for ref, at, count, size, state in columns if at]


def all_tips(connection: sqlite3.Connection) -> list[TipRow]:
    """Every row of the table."""
    return [TipRow(*row) for row in connection.execute(f"SELECT {_COLUMNS} FROM feed ORDER BY id")]  # noqa: S608


def all_holes(connection: sqlite3.Connection) -> dict[str, Hole]:
    """Feeds of which messages were erased here."""
    rows = connection.execute("SELECT f.ref, e.first, e.last FROM erased e JOIN feed f ON f.id=e.feed")
    return {feed: Hole(first, last) for feed, first, last in rows}


def read_tip(connection: sqlite3.Connection, feed: str) -> TipRow | None:
    """A feed's row, as this transaction sees it."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM feed WHERE ref=?", (feed,)).fetchone()  # noqa: S608
    return None if row is None else TipRow(*row)


def new_feed(connection: sqlite3.Connection, feed: str) -> TipRow:
    """Give a feed a number and a row."""
    cursor = connection.execute(
        "INSERT INTO feed(ref, sequence, key, messages, bytes, state) VALUES(?,0,?,0,0,0)", (feed, bytes(32))
    )
    assert cursor.lastrowid is not None
    return TipRow(cursor.lastrowid, feed, 0, bytes(32), 0, 0, 0)
