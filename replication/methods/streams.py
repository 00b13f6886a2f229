"""createLogStream, createFeedStream and messagesByType: the whole log, for the node's own user (protocol.md 19).

Each stream keeps its own cursor and reads the log in batches, so that a slow reader costs nothing and loses nothing.
Bounds (gt, gte, lt, lte) are times of receipt in milliseconds, as in the old sbot; for createFeedStream they are the
times that authors claim.
"""

import re
from collections.abc import Callable, Sequence

from feeds.claimed_times import FIRST, LAST, Claim
from feeds.live import Live
from feeds.log import Entry, Log
from feeds.mailbox import Mailbox, OpenedEntry
from feeds.message import JsonValue
from replication.errors import RemoteVisible
from replication.history import rendered
from replication.methods import options
from replication.methods.local import local
from replication.methods.options import Bounds, Shape
from replication.methods.services import MethodServices
from replication.rpc.methods import Caller, Kind, Method
from replication.rpc.streams import Sink

ENTRIES_AT_ONCE = 200
FETCHED_AT_ONCE = 100

# The claimed time comes before the content in every signed order, so its first appearance is the real one.
_TIMESTAMP = re.compile(rb'"timestamp":(-?[0-9][0-9.eE+-]*)')


def methods(services: MethodServices) -> list[Method]:
    """All for the node's own user."""
    log, live = services.log, services.live

    async def create_log_stream(_caller: Caller, args: list[JsonValue], out: Sink) -> None:
        """Every message in the order of receipt; with `private` those that we can read have their content in plain."""
        opts = options.options(args)
        mailbox = services.mailbox if options.flag(opts, "private", False) else None
        await _Reading(log, live, out, options.shape(opts), options.bounds(opts), None, mailbox).run()

    async def messages_by_type(_caller: Caller, args: list[JsonValue], out: Sink) -> None:
        """Every message of one type in the order of receipt."""
        opts = options.options(args, bare="type")
        kind = options.text(opts, "type")
        if not kind:
            raise RemoteVisible("option type: expected a message type")
        await _Reading(log, live, out, options.shape(opts), options.bounds(opts), kind).run()

    async def create_feed_stream(_caller: Caller, args: list[JsonValue], out: Sink) -> None:
        """Every message in the order of the times that their authors claim; later ones, if `live`, as they come."""
        opts = options.options(args)
        shape, bounds = options.shape(opts), options.bounds(opts)
        writer = _Writer(out, shape)
        end = log.position
        if shape.old:
            await _send_by_claimed_time(log, writer, end, bounds, descending=shape.reverse)
        if shape.live and not writer.finished:
            await _follow(log, live, writer, end, None, lambda entry: bounds.holds(claimed_time(entry)))

    return [
        local("createLogStream", Kind.SOURCE, create_log_stream),
        local("messagesByType", Kind.SOURCE, messages_by_type),
        local("createFeedStream", Kind.SOURCE, create_feed_stream),
    ]


class _Writer:
    """Sends entries in the shape that was asked for, and counts them."""

    def __init__(self, out: Sink, shape: Shape, mailbox: Mailbox | None = None) -> None:
        """mailbox -- if given, messages that it can open go out in plain."""
        self._out = out
        self._shape = shape
        self._mailbox = mailbox
        self.left = shape.limit

    @property
    def finished(self) -> bool:
        return self.left == 0

    def room(self, most: int = ENTRIES_AT_ONCE) -> int:
        """How many more are worth reading at once."""
        return most if self.left is None else min(most, self.left)

    async def send(self, entries: Sequence[Entry]) -> None:
        if self.left is not None:
            entries = entries[: self.left]
            self.left -= len(entries)
        if entries:
            opened = {} if self._mailbox is None else await self._mailbox.opened_of(entries)
            await self._out.send([self._rendered(entry, opened.get(entry.position)) for entry in entries])

    def _rendered(self, entry: Entry, opened: OpenedEntry | None) -> bytes:
        if opened is None or not self._shape.values:
            return rendered(entry, keys=self._shape.keys, values=self._shape.values)
        return opened.as_kvt() if self._shape.keys else opened.value()

    async def send_sync(self) -> None:
        """Tell a live reader, if it asked, that what follows is new."""
        if self._shape.sync:
            await self._out.send([b'{"sync":true}'])


class _Reading:
    """One stream in the order of receipt."""

    def __init__(
        self,
        log: Log,
        live: Live,
        out: Sink,
        shape: Shape,
        bounds: Bounds,
        kind: str | None,
        mailbox: Mailbox | None = None,
    ) -> None:
        self._log = log
        self._live = live
        self._shape = shape
        self._bounds = bounds
        self._kind = kind
        self._writer = _Writer(out, shape, mailbox)

    async def run(self) -> None:
        end = self._log.position
        if self._shape.old:
            await (self._old_descending() if self._shape.reverse else self._old_ascending(end))
        if self._shape.live and not self._writer.finished:
            await self._writer.send_sync()
            await _follow(
                self._log, self._live, self._writer, end, self._kind, lambda entry: self._bounds.holds(entry.received)
            )

    async def _old_ascending(self, end: int) -> None:
        lowest = self._bounds.lowest
        position = 0 if lowest is None else await first_received(self._log, lowest) - 1
        while position < end and not self._writer.finished:
            entries = await self._log.entries_after(position, ENTRIES_AT_ONCE, type=self._kind)
            fitting = [entry for entry in entries if entry.position <= end and self._bounds.holds(entry.received)]
            await self._writer.send(fitting)
            if len(entries) < ENTRIES_AT_ONCE or self._bounds.beyond(entries[-1].received):
                return
            position = entries[-1].position

    async def _old_descending(self) -> None:
        position = 0
        while not self._writer.finished:
            entries = await self._log.entries_after(position, ENTRIES_AT_ONCE, type=self._kind, descending=True)
            await self._writer.send([entry for entry in entries if self._bounds.holds(entry.received)])
            if len(entries) < ENTRIES_AT_ONCE or self._bounds.below(entries[-1].received):
                return
            position = entries[-1].position


async def _follow(
    log: Log, live: Live, writer: _Writer, position: int, kind: str | None, fits: Callable[[Entry], bool]
) -> None:
    """Send what is stored after a position, as it comes, until enough was sent."""
    while not writer.finished:
        await live.wait_beyond(position)
        end = log.position
        entries = await log.entries_after(position, ENTRIES_AT_ONCE, type=kind)
        await writer.send([entry for entry in entries if fits(entry)])
        full = len(entries) == ENTRIES_AT_ONCE
        position = entries[-1].position if full else max([end, *(entry.position for entry in entries[-1:])])


async def first_received(log: Log, time: float) -> int:
    """Position of the first message received at `time` (ms) or later, by halving; the clock seldom goes back."""
    low, high = 1, log.position + 1
    while low < high:
        middle = (low + high) // 2
        found = await log.entries_after(middle - 1, 1)
        if found and found[0].received < time:
            low = found[0].position + 1
        else:
            high = middle
    return low


def claimed_time(entry: Entry) -> float:
    """The time that a message's author claims, in ms."""
    found = _TIMESTAMP.search(entry.text)
    return float(found[1]) if found else 0.0


async def _send_by_claimed_time(log: Log, writer: _Writer, end: int, bounds: Bounds, *, descending: bool) -> None:
    """Everything up to position `end` in the order of the claimed times, until the writer has had enough."""
    start: Claim | None
    start, far = _ends(bounds, descending=descending)
    while start is not None and not writer.finished:
        limit = writer.room(FETCHED_AT_ONCE)
        entries, start = await log.in_claimed_order(start, far, limit, end=end, descending=descending)
        await writer.send([entry for entry in entries if bounds.holds(claimed_time(entry))])


def _ends(bounds: Bounds, *, descending: bool) -> tuple[Claim, float]:
    """The place after which a range begins, and the time where it ends; what lies just beyond that may be in it too."""
    if descending:
        first = [LAST]
        first += [] if bounds.lt is None else [Claim(bounds.lt, 0)]
        first += [] if bounds.lte is None else [Claim(bounds.lte, LAST.position)]
        return min(first), FIRST.time if bounds.lowest is None else bounds.lowest
    first = [FIRST]
    first += [] if bounds.gt is None else [Claim(bounds.gt, LAST.position)]
    first += [] if bounds.gte is None else [Claim(bounds.gte, 0)]
    return max(first), min((end for end in (bounds.lt, bounds.lte) if end is not None), default=LAST.time)
