"""The receive log: every message we hold, in the order it came, and the tip of every feed.

Rows are written by `append`, which runs inside the writer's transaction; what is kept in memory (tips, last position)
is changed by `committed`, in the event loop, after the commit. Texts go in and out as they are: nothing parses one.
"""

import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, Protocol

from feeds import claimed_times, log_rows, log_writing
from feeds.claimed_times import Claim
from feeds.database import Database
from feeds.log_rows import Entry, Extract, Fork, entries_at, entry_of, key8, message_id
from feeds.log_writing import Appended, ForkFound, Own, Recorded, Run
from feeds.message import Tip
from feeds.tips import FeedInfo, FeedState, Hole, TipRow, Tips, all_holes, all_tips

__all__ = [
    "Appended",
    "Entry",
    "Extract",
    "FeedInfo",
    "FeedState",
    "Fork",
    "ForkFound",
    "Hole",
    "Log",
    "Own",
    "Recorded",
    "Run",
    "TypeIndex",
    "entries_at",
    "entry_of",
    "key8",
    "message_id",
]

DEFAULT_MAX_BYTES: Final = 1 << 20
RECENT_LIMIT: Final = 100_000
CLAIMS_LIMIT: Final = 200_000
"""Messages claimed between two times that are looked at for one type."""
_INT64: Final = 1 << 63


class TypeIndex(Protocol):
    """Positions of the messages of one type, as the message_types view answers it."""

    def __call__(
        self,
        connection: sqlite3.Connection,
        type: str,
        *,
        after: int,
        limit: int,
        author: int | None,
        descending: bool,
        among: Collection[int] | None = None,
    ) -> list[int]:
        """among -- only these positions count, if given."""


class Log:
    """Reads of the log, and the two halves of a write. Made by `open`."""

    def __init__(self, database: Database, type_index: TypeIndex | None) -> None:
        self._database: Final = database
        self._type_index: Final = type_index
        self._tips: Final = Tips()
        self._recent: Final[deque[tuple[int, dict[str, int]]]] = deque()
        self._recent_size = 0
        self._recent_from = 0
        self._position = 0
        self._holes: dict[str, Hole] = {}
        self._when_thinned: Final[list[Callable[[str], None]]] = []

    @classmethod
    async def open(cls, database: Database, *, type_index: TypeIndex | None = None) -> "Log":
        """Load the tips. type_index -- how `entries_after` finds a type (`message_types.positions`)."""
        log = cls(database, type_index)
        position, rows, log._holes = await database.read(
            lambda connection: (log_rows.last_position(connection), all_tips(connection), all_holes(connection))
        )
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
        return self._tips.sequence(feed)

    def tip(self, feed: str) -> Tip:
        """Last sequence and message id held of a feed."""
        return self._tips.tip(feed)

    def feed_state(self, feed: str) -> FeedState:
        """ "forked" once two branches of it were seen: nothing more is appended to it."""
        return self._tips.state(feed)

    def clock(self) -> dict[str, int]:
        """Last sequence of every feed held: the vector clock."""
        return self._tips.clock()

    def feeds(self) -> list[FeedInfo]:
        """Every feed held, in the order they were first seen."""
        return self._tips.infos()

    def feed(self, feed: str) -> FeedInfo | None:
        """One feed, None when nothing of it is held."""
        return self._tips.info(feed)

    def holes(self) -> dict[str, Hole]:
        """Feeds of which messages were erased here."""
        return dict(self._holes)

    def hole(self, feed: str) -> Hole | None:
        """Between which sequences texts of a feed were erased here; None where it is whole."""
        return self._holes.get(feed)

    def when_thinned(self, callback: Callable[[str], None]) -> None:
        """Call back, in the event loop, with each feed of which messages were erased or that begins anew."""
        self._when_thinned.append(callback)

    # Reads.

    async def get(self, message: str) -> Entry | None:
        """The message with this canonical id, None when it is not here or the text is no message id."""
        return self._database.peek(lambda connection: entry_of(connection, message))

    async def at(self, feed: str, sequence: int) -> Entry | None:
        """The message of a feed at a sequence."""
        number = self._tips.number(feed)
        if number is None:
            return None
        return self._database.peek(lambda connection: log_rows.entry_in_feed(connection, number, sequence))

    async def range(self, feed: str, after: int, limit: int, max_bytes: int = DEFAULT_MAX_BYTES) -> list[bytes]:
        """Texts of a feed from sequence after + 1 on; ends after `limit` texts or once `max_bytes` are reached.

        It ends too before a message that was erased here (`hole`), as nobody can check what follows without it.
        """
        (texts,) = await self.ranges([(feed, after, limit)], max_bytes)
        return texts

    async def ranges(
        self, requests: Sequence[tuple[str, int, int]], max_bytes: int = DEFAULT_MAX_BYTES
    ) -> list[list[bytes]]:
        """Texts for many (feed, after, limit) in one hop, a list for each request.

        Stops once `max_bytes` are reached, at least one text having been read; requests from there on get a shorter or
        empty list, so ask again for what is missing; if nothing comes at all, what is left of each begins with an
        erased one.
        """
        if all(self._tips.sequence(feed) <= after for feed, after, _ in requests):
            return [[] for _ in requests]
        wanted = [(self._tips.number(feed), after, limit) for feed, after, limit in requests]
        return await self._database.read(lambda connection: log_rows.read_ranges(connection, wanted, max_bytes))

    async def entries_after(
        self,
        position: int,
        limit: int,
        *,
        author: str | None = None,
        type: str | None = None,
        descending: bool = False,
        whole: bool = False,
    ) -> list[Entry]:
        """Messages in receive order after a position; descending: newest first, before a position (0: from the end).

        whole -- also what the user deleted here (not with `type`): for peers, who cannot do with holes in a feed.
        """
        number = None
        if author is not None:
            number = self._tips.number(author)
            if number is None:
                return []
        if descending and position <= 0:
            position = _INT64 - 1
        if type is None:
            return await self._database.read(
                lambda connection: log_rows.read_entries(connection, position, limit, number, descending, whole)
            )
        index = self._type_index
        if index is None:
            raise ValueError("this log was opened without an index of types")

        def by_type(connection: sqlite3.Connection) -> list[Entry]:
            found: list[Entry] = []
            at = position
            while (wanted := limit - len(found)) > 0:  # what is deleted makes room for more
                positions = index(connection, type, after=at, limit=wanted, author=number, descending=descending)
                found += entries_at(connection, positions)
                if len(positions) < wanted:
                    break
                at = positions[-1]
            return found

        return await self._database.read(by_type)

    async def in_claimed_order(
        self, start: Claim, far: float, limit: int, *, end: int, descending: bool = False
    ) -> tuple[list[Entry], Claim | None]:
        """Messages in the order of claimed times, after a place (descending: before it) as far as the time `far`.

        With them the place from which to go on, None at the end. end -- the last position that counts.
        """
        await self._index_claims()

        def read(connection: sqlite3.Connection) -> tuple[list[Entry], Claim | None]:
            claims = claimed_times.in_order(connection, start, far, end, limit, descending=descending)
            entries = entries_at(connection, [claim.position for claim in claims])
            return entries, claims[-1] if len(claims) == limit else None

        return await self._database.read(read)

    async def claimed_within(
        self,
        low: float,
        high: float,
        *,
        after: int,
        limit: int,
        author: str | None = None,
        type: str | None = None,
        descending: bool = False,
    ) -> tuple[list[Entry], int | None]:
        """Messages claimed between two times (both count) in receive order after a position (descending: before it).

        With them the position from which to go on, None at the end.
        """
        number = None if author is None else self._tips.number(author)
        index = self._type_index
        if author is not None and number is None:
            return [], None
        if type is not None and index is None:
            raise ValueError("this log was opened without an index of types")
        await self._index_claims()

        def read(connection: sqlite3.Connection) -> tuple[list[Entry], int | None]:
            most = limit if type is None else CLAIMS_LIMIT
            found = claimed_times.within(
                connection, low, high, after=after, limit=most + 1, author=number, descending=descending
            )
            following = found[most - 1] if len(found) > most else None
            chosen = found = found[:most]
            if type is not None and index is not None:
                chosen = index(
                    connection, type, after=after, limit=limit + 1, author=None, descending=descending, among=found
                )
                if len(chosen) > limit:
                    chosen = chosen[:limit]
                    following = chosen[-1]
            return entries_at(connection, chosen), following

        return await self._database.read(read)

    async def _index_claims(self) -> None:
        """Bring the index of claimed times to the end of the log."""
        while self._database.peek(claimed_times.lacking) > 0:
            await self._database.write(claimed_times.extend)

    async def appended_after(self, position: int, limit: int = 10_000) -> tuple[int, dict[str, int]]:
        """Which feeds grew after a position, and their sequence then; with the position this answer reaches to.

        Answered from memory for the recent past. limit -- about how many messages to look at; when the answer does not
        reach to `self.position`, ask again from where it ends.
        """
        if position >= self._position:
            return position, {}
        if position < self._recent_from:
            return await self._database.read(lambda connection: log_rows.read_growth(connection, position, limit))
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
            if sequences and (number := self._tips.number(feed)) is not None
        ]
        if not wanted:
            return {}
        return await self._database.read(
            lambda connection: {feed: log_rows.read_texts(connection, number, at) for feed, number, at in wanted}
        )

    async def forks(self) -> list[Fork]:
        """The evidence for every forked feed, oldest first."""
        return await self._database.read(log_rows.all_forks)

    async def id_at(self, feed: str, sequence: int) -> str | None:
        """The id of a feed's message at a sequence, None when it is not held."""
        number = self._tips.number(feed)
        if number is None:
            return None
        find = "SELECT key FROM message WHERE author=? AND sequence=?"
        row = self._database.peek(lambda connection: connection.execute(find, (number, sequence)).fetchone())
        return None if row is None else message_id(row[0], feed)

    async def next_held(self, feed: str, sequence: int) -> int | None:
        """The next sequence of a feed whose message was not erased here, None when there is none."""
        number = self._tips.number(feed)
        if number is None:
            return None
        return self._database.peek(lambda connection: log_rows.next_held(connection, number, sequence))

    async def fork(self, feed: str) -> Fork | None:
        """The evidence for one feed's fork."""
        number = self._tips.number(feed)
        if number is None or self._tips.state(feed) != "forked":
            return None
        return await self._database.read(lambda connection: log_rows.fork_of(connection, number, feed))

    # Writes: the first three are for a writer's job, in its thread; the last for the event loop after its commit.

    append = staticmethod(log_writing.append)
    record_forks = staticmethod(log_writing.record_forks)
    read_own = staticmethod(log_writing.read_own)

    def committed(self, position: int, tips: Iterable[TipRow]) -> None:
        """Take over what a committed job wrote."""
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

    def thinned(self, tips: Iterable[TipRow], holes: Mapping[str, Hole | None]) -> None:
        """Take over what a committed job erased. holes -- of feeds it touched; None: the feed begins anew."""
        for tip in tips:
            self._tips.put(tip)
        for feed, hole in holes.items():
            if hole is None:
                self._holes.pop(feed, None)
                for _, grown in self._recent:
                    grown.pop(feed, None)
            else:
                self._holes[feed] = hole
        for feed in holes:
            for callback in self._when_thinned:
                callback(feed)
