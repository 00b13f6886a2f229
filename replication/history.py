"""History streams: one feed in sequence order, served and fetched (protocol.md section 8, OBSERVED.md 4.3).

The serving half answers `createHistoryStream` and `createUserStream` from the stored texts. The fetching half is what a
node does with a peer that has no EBT: one live stream for each wanted feed, all going through the same intake as EBT.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

from feeds.errors import InvalidMessage
from feeds.formats.base import FeedFormat
from feeds.log import Entry, Log
from feeds.message import JsonValue
from replication.errors import RemoteCallError
from replication.growth import Growth
from replication.intake import Intake
from replication.rpc.bodies import Body
from replication.rpc.connection import RpcConnection
from replication.rpc.streams import Sink

logger = logging.getLogger(__name__)

PIECE_BYTES: Final = 256 * 1024
PIECE_MESSAGES: Final = 500

# Fetching. A peer of our own kind takes a burst of 500 calls and then 100 a second; most others take any number.
OPEN_BURST: Final = 256
OPENED_PER_SECOND: Final = 80.0
MAX_OPEN: Final = 2000
REOPEN_SECONDS: Final = 30.0
REOPEN_SECONDS_MAX: Final = 900.0
AGAIN_SECONDS: Final = 5.0
EARLY_BYTES: Final = 1 << 20
"""How much may wait for its turn, in all streams from one peer together."""


# ---- serving


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """What one call asked for; `first` is the first sequence wanted (inclusive), `last` the last one."""

    feed: str
    first: int = 1
    last: int | None = None
    live: bool = False
    old: bool = True
    limit: int | None = None
    keys: bool = True
    values: bool = True
    reverse: bool = False


def rendered(entry: Entry, *, keys: bool, values: bool) -> bytes:
    """One message as a stream hands it out: {key, value, timestamp}, the bare id, or the bare value."""
    if not keys:
        return entry.text
    return entry.as_kvt() if values else b'"%b"' % entry.id.encode()


class HistorySender:
    """Answers one request. `turn` gives a place among the streams that are served to the peer at once; `allowed` is
    asked again before each piece, since a block may come while the stream lives. `skips_erased`: go on after messages
    that were erased here, which only somebody who verifies nothing can use; else the stream ends before them."""

    def __init__(
        self,
        log: Log,
        growth: Growth,
        request: HistoryRequest,
        out: Sink,
        *,
        turn: Callable[[], AbstractAsyncContextManager[object]],
        allowed: Callable[[], bool] = lambda: True,
        skips_erased: bool = False,
    ) -> None:
        self._skips_erased = skips_erased
        self._stuck = False
        self._log = log
        self._growth = growth
        self._request = request
        self._out = out
        self._turn = turn
        self._allowed = allowed
        self._left = request.limit

    async def run(self) -> None:
        """Returns when everything asked for was sent; a live stream runs until it is cancelled."""
        request = self._request
        if request.reverse:
            if request.old:
                async with self._turn():
                    await self._send_descending()
            return
        after = max(0, request.first - 1)
        if not request.old:
            after = max(after, self._log.sequence(request.feed))
        while True:
            if self._log.sequence(request.feed) > after:
                async with self._turn():
                    after = await self._send_ascending(after)
            if not request.live or self._stuck or self._finished(after) or not self._allowed():
                return
            await self._growth.beyond(request.feed, after)

    def _finished(self, after: int) -> bool:
        return self._left == 0 or (self._request.last is not None and after >= self._request.last)

    def _room(self, after: int) -> int:
        """How many messages the next piece may have."""
        room = PIECE_MESSAGES if self._left is None else min(PIECE_MESSAGES, self._left)
        return room if self._request.last is None else min(room, max(0, self._request.last - after))

    def _count(self, sent: int) -> None:
        if self._left is not None:
            self._left -= sent

    async def _send_ascending(self, after: int) -> int:
        """Send what is stored after a sequence; returns the last sequence sent."""
        while (room := self._room(after)) and self._allowed():
            bodies = await self._piece(after, room)
            if bodies:
                await self._out.send(bodies)
                self._count(len(bodies))
                after += len(bodies)
            elif (beyond := await self._beyond_erased(after)) is not None:
                after = beyond
            else:
                break
        return after

    async def _beyond_erased(self, after: int) -> int | None:
        """Where to go on when nothing comes after a sequence; None at the end, and at what was erased here."""
        latest = self._log.sequence(self._request.feed)
        if latest <= after:
            return None
        if not self._skips_erased:
            self._stuck = True
            return None
        held = await self._log.next_held(self._request.feed, after)
        beyond = latest if held is None else held - 1
        return beyond if beyond > after else None

    async def _piece(self, after: int, room: int) -> list[bytes]:
        request = self._request
        if not request.keys:
            return await self._log.range(request.feed, after, room, PIECE_BYTES)
        first = await self._log.at(request.feed, after + 1)
        if first is None:
            return []
        entries = await self._log.entries_after(first.position - 1, min(room, 200), author=request.feed, whole=True)
        return [
            rendered(entry, keys=True, values=request.values)
            for expected, entry in enumerate(entries, after + 1)
            if entry.sequence == expected  # what comes after one that was erased here is no part of this piece
        ]

    async def _send_descending(self) -> None:
        request = self._request
        position = 0
        upto = self._log.sequence(request.feed) if request.last is None else request.last
        while (room := PIECE_MESSAGES if self._left is None else min(PIECE_MESSAGES, self._left)) and self._allowed():
            entries = await self._log.entries_after(
                position, min(room, 200), author=request.feed, descending=True, whole=True
            )
            fitting = [entry for entry in entries if request.first <= entry.sequence <= upto]
            if fitting:
                await self._out.send([rendered(entry, keys=request.keys, values=request.values) for entry in fitting])
                self._count(len(fitting))
            if not entries or entries[-1].sequence <= max(1, request.first):
                return
            position = entries[-1].position


# ---- fetching


class HistoryFetcher:
    """Fetches every wanted feed from one peer by history streams, in the given order.

    The first `max_open` feeds have a live stream each; the rest, if there is any, is asked for in rounds by streams
    that end. `run` works until cancelled. `set_wanted` may be called at any time: new feeds get a stream, feeds that
    are gone lose theirs.
    """

    def __init__(
        self,
        connection: RpcConnection,
        log: Log,
        intake: Intake,
        *,
        feed_format: FeedFormat,
        on_foreign: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        """`on_foreign(feed)`: the stream of a feed brought something that is no message of it."""
        self._connection = connection
        self._log = log
        self._intake = intake
        self._format = feed_format
        self._on_foreign = on_foreign
        self._now = now
        self._max_open = MAX_OPEN
        self._wanted: dict[str, None] = {}
        self._banned: set[str] = set()
        self._again: set[str] = set()
        self._streams: dict[str, asyncio.Task[None]] = {}
        self._early_bytes = 0
        self._changed = asyncio.Event()
        self._tokens = float(OPEN_BURST)
        self._refilled = now()

    @property
    def feeds(self) -> list[str]:
        """Feeds with a live stream open or waiting to be opened again."""
        return list(self._streams)

    def set_wanted(self, feeds: Iterable[str]) -> None:
        """Fetch these feeds and no others, from now on."""
        self._wanted = dict.fromkeys(feeds)
        self._changed.set()

    def refused(self, feed: str, verdict: str) -> None:
        """The door refused messages of a feed from this peer: take no more of it, or ask again where we stand."""
        if verdict in ("invalid", "fork"):
            self._banned.add(feed)
        else:
            self._again.add(feed)
        self._changed.set()

    async def run(self) -> None:
        """Raises the errors of the connection."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._rounds())
            while True:
                self._changed.clear()
                await self._reconcile(group)
                await self._changed.wait()

    async def _reconcile(self, group: asyncio.TaskGroup) -> None:
        again, self._again = self._again, set()
        for feed in list(self._streams):
            if feed not in self._wanted or feed in self._banned or feed in again:
                self._streams.pop(feed).cancel()
        for feed in list(self._wanted):
            if feed in self._streams or feed in self._banned:
                continue
            if len(self._streams) >= self._max_open or feed not in self._wanted:
                return
            await self._pace()
            pause = AGAIN_SECONDS if feed in again else 0.0
            self._streams[feed] = group.create_task(self._follow(feed, pause))

    async def _pace(self) -> None:
        """Open streams no faster than peers of our own kind accept calls."""
        now = self._now()
        self._tokens = min(float(OPEN_BURST), self._tokens + (now - self._refilled) * OPENED_PER_SECOND)
        self._refilled = now
        self._tokens -= 1.0
        if self._tokens < 0.0:
            await asyncio.sleep(-self._tokens / OPENED_PER_SECOND)

    async def _follow(self, feed: str, pause: float) -> None:
        """One feed's live stream; opened again after a while when the peer ends it."""
        await asyncio.sleep(pause)
        pause = REOPEN_SECONDS
        while True:
            before = self._log.sequence(feed)
            await self._stream(feed, live=True)
            if self._log.sequence(feed) > before:
                pause = REOPEN_SECONDS
            await asyncio.sleep(pause)
            pause = min(pause * 2, REOPEN_SECONDS_MAX)

    async def _rounds(self) -> None:
        """The feeds beyond the live streams, one after the other, round after round."""
        while True:
            for feed in list(self._wanted)[self._max_open :]:
                if feed in self._wanted and feed not in self._banned and feed not in self._streams:
                    await self._pace()
                    await self._stream(feed, live=False)
            await asyncio.sleep(REOPEN_SECONDS)

    async def _stream(self, feed: str, *, live: bool) -> None:
        """One call, to its end; an error from the peer concerns this feed only."""
        options: dict[str, JsonValue] = {"id": feed, "seq": self._log.sequence(feed) + 1, "live": live, "keys": False}
        source = self._connection.source(("createHistoryStream",), [options])
        early = _Early(self._log.sequence(feed) + 1)
        patience: asyncio.TimerHandle | None = None
        try:
            while bodies := await source.read_batch():
                fresh = self._of_feed(feed, bodies)
                if fresh is None:
                    self._on_foreign(feed)
                    self.refused(feed, "invalid")
                    return
                self._early_bytes -= early.size
                ready = early.in_turn(fresh, self._log.sequence(feed))
                self._early_bytes += early.size
                await self._intake.put([(feed, sequence, text) for sequence, text in ready])
                if patience is not None:
                    patience.cancel()
                if early.size:
                    seconds = AGAIN_SECONDS if self._early_bytes <= EARLY_BYTES else 0.0
                    patience = asyncio.get_running_loop().call_later(seconds, self.refused, feed, "gap")
        except RemoteCallError as error:
            logger.debug("history of %s: %s", feed, error)
        finally:
            self._early_bytes -= early.size
            if patience is not None:
                patience.cancel()
            await source.cancel()

    def _of_feed(self, feed: str, bodies: Sequence[Body]) -> list[tuple[int, bytes]] | None:
        """The messages that are new to us, with their sequences; None when there is anything else among them."""
        held = self._log.sequence(feed)
        fresh: list[tuple[int, bytes]] = []
        for _, data in bodies:
            try:
                author, sequence = self._format.peek(data)
            except InvalidMessage:
                return None
            if author != feed:
                return None
            if sequence > held:
                fresh.append((sequence, data))
        return fresh


class _Early:
    """Messages of one feed that came before their turn.

    ssb-db2 sends a feed by claimed time, which is another order than the feed's wherever its author's clock went back.
    """

    def __init__(self, due: int) -> None:
        """`due` is the sequence that comes next."""
        self.size = 0
        self._due = due
        self._texts: dict[int, bytes] = {}

    def in_turn(self, fresh: Iterable[tuple[int, bytes]], held: int) -> list[tuple[int, bytes]]:
        """Take what came; return what continues the feed, in order. `held`: the last sequence the log has."""
        for sequence, text in fresh:
            if sequence >= self._due and sequence not in self._texts:
                self._texts[sequence] = text
                self.size += len(text)
        for sequence in [sequence for sequence in self._texts if sequence <= held]:
            self.size -= len(self._texts.pop(sequence))
        self._due = max(self._due, held + 1)
        ready: list[tuple[int, bytes]] = []
        while self._due in self._texts:
            text = self._texts.pop(self._due)
            ready.append((self._due, text))
            self.size -= len(text)
            self._due += 1
        return ready
