"""Private messages as their reader sees them: opened, in threads, searched. In memory only.

The store keeps which messages some key of ours opened (`feeds.openings`) and nothing of what they say; the mailbox
tries the keys, soon after a message came or when somebody asks, whichever is first. On the first question it opens what
is for us and remembers of each what lists and threads need; later questions read on from the last position. Contents
stay in a cache of bounded size and are opened again when they have left it. Opening is done in the database's reading
threads, beside the event loop.
"""

import asyncio
import math
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from feeds import openings
from feeds.conversation import normalise_channel, read_channels
from feeds.database import Database
from feeds.live import Live
from feeds.log import Entry
from feeds.message import JsonValue
from feeds.private.key_ring import KeyRing, Opened
from feeds.private.stored import boxed_content, opened_kvt, opened_value
from feeds.refs import is_feed, is_message
from feeds.search_words import Query
from feeds.thread_order import Place, order

__all__ = ["Letter", "Mailbox", "OpenedEntry", "PrivateThread", "Wanted"]

CACHE_BYTES: Final = 8 << 20
CHUNK: Final = 256
"""Messages opened in one hop: some 20 ms of a reading thread."""
PAUSE: Final = 0.2
"""Seconds after a commit before keys are tried unasked, so that a stream of commits is taken in few steps."""
_PER_ITEM: Final = 512
"""Bytes that a cached content takes besides its text, about."""
_SEARCHED: Final = ("text", "title", "subject", "name", "description", "summary", "channel")


class OpenedEntry(NamedTuple):
    """A message that we could open."""

    entry: Entry
    opened: Opened

    def as_kvt(self) -> bytes:
        """`{"key","value","timestamp","meta":{"private":true}}`, the content in plain."""
        return opened_kvt(self.entry.id, self.entry.text, self.entry.received, self.opened)

    @property
    def type(self) -> str | None:
        """Type of the content."""
        content = self.opened.content
        kind = content.get("type") if isinstance(content, dict) else None
        return kind if isinstance(kind, str) else None

    def value(self) -> bytes:
        """The value alone, the content in plain."""
        return opened_value(self.entry.text, self.opened)


@dataclass(frozen=True, slots=True)
class Letter:
    """What is remembered of each opened message: where it belongs, nothing of its text."""

    position: int
    id: str
    author: str
    claimed: float
    time: float
    """The claimed time, or when it was received if that is earlier: what the future brings is not believed."""
    type: str | None
    root: str
    """The thread; its own id when it starts one."""
    branches: tuple[str, ...]
    recipients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PrivateThread:
    """A conversation. `root` may be a message that we cannot read or do not have."""

    root: str
    letters: tuple[Letter, ...]
    """Causal order: each after those it answers, else by time."""
    tips: tuple[str, ...]
    """Messages that nothing in the thread answers."""
    recipients: tuple[str, ...]
    """Feeds that any of its messages was for, and their authors."""

    @property
    def latest(self) -> Letter:
        """The one received last."""
        return max(self.letters, key=lambda letter: letter.position)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A filter over private messages; None: any. Times are claimed ones in ms, inclusive."""

    author: str | None = None
    type: str | None = None
    root: str | None = None
    """Replies in this thread; not its root."""
    since: float | None = None
    until: float | None = None
    channel: str | None = None
    """Channel or hashtag, in any spelling."""
    mentions: str | None = None
    words: str | None = None
    """Words that must all occur in the texts of the content, in any case."""
    query: Query | None = None
    without: Collection[str] = ()
    """Authors that are left out."""

    def fits(self, letter: Letter) -> bool:
        """Whether what is remembered of a message fits."""
        return (
            (self.author is None or letter.author == self.author)
            and letter.author not in self.without
            and (self.type is None or letter.type == self.type)
            and (self.root is None or (letter.root == self.root and letter.id != self.root))
            and (self.since is None or letter.claimed >= self.since)
            and (self.until is None or letter.claimed <= self.until)
        )

    @property
    def reads(self) -> bool:
        """Whether the content itself must be looked at."""
        return any(rule is not None for rule in (self.channel, self.mentions, self.words, self.query))

    def fits_content(self, content: JsonValue) -> bool:
        """Whether a content fits."""
        if not isinstance(content, dict):
            return False
        if self.channel is not None and normalise_channel(self.channel) not in read_channels(content):
            return False
        if self.mentions is not None and self.mentions not in _links(content.get("mentions")):
            return False
        if self.query is not None and not self.query.stands_in(content):
            return False
        if self.words is None:
            return True
        texts = "\n".join(text for name in _SEARCHED if isinstance(text := content.get(name), str)).casefold()
        return all(word in texts for word in self.words.casefold().split())


class Mailbox:
    """Belongs to one event loop. Never asked by anything that answers remote peers."""

    def __init__(self, database: Database, ring: KeyRing, *, cache_bytes: int = CACHE_BYTES) -> None:
        self._database: Final = database
        self._ring: Final = ring
        self._room: Final = cache_bytes
        self._cached: Final[OrderedDict[int, Opened]] = OrderedDict()
        self._cached_bytes = 0
        self._letters: list[Letter] = []
        self._threads: dict[str, list[Letter]] = {}
        self._reached = 0
        self._reading: Final = asyncio.Lock()
        self._trying: Final = asyncio.Lock()

    # One message.

    def open(self, entry: Entry) -> OpenedEntry | None:
        """The message opened, None when it is not encrypted or not for us. About 60 microseconds, right here."""
        opened = self._cached.get(entry.position)
        if opened is None:
            content = boxed_content(entry.text)
            opened = None if content is None else self._ring.open(content)
            if opened is not None:
                self._keep(entry.position, opened)
        return None if opened is None else OpenedEntry(entry, opened)

    def open_released(self, entry: Entry, released: str) -> OpenedEntry | None:
        """The message opened with a key from an `?unbox=` link; None when that does not open it."""
        content = boxed_content(entry.text)
        opened = None if content is None else self._ring.open_released(content, released)
        return None if opened is None else OpenedEntry(entry, opened)

    def unbox(self, content: str) -> Opened | None:
        """What is in an encrypted content that need not be in the log."""
        return self._ring.open(content)

    # Lists.

    async def find(self, wanted: Wanted, *, after: int = 0, limit: int, descending: bool = False) -> list[OpenedEntry]:
        """Messages that fit, in receive order after a position; descending: newest first, before it (0: the end)."""
        await self._refresh()
        letters: Iterable[Letter] = reversed(self._letters) if descending else self._letters
        start, end = (0, after or math.inf) if descending else (after, math.inf)
        fitting = [letter.position for letter in letters if start < letter.position < end and wanted.fits(letter)]
        found: list[OpenedEntry] = []
        step = CHUNK if wanted.reads else min(CHUNK, limit)
        for at in range(0, len(fitting), step):
            for one in await self._at(fitting[at : at + step]):
                if not wanted.reads or wanted.fits_content(one.opened.content):
                    found.append(one)
                    if len(found) == limit:
                        return found
        return found

    async def threads(self) -> list[PrivateThread]:
        """All threads, the one that grew last first."""
        await self._refresh()
        newest = sorted(self._threads.items(), key=lambda item: item[1][-1].position, reverse=True)
        return [_thread(root, letters) for root, letters in newest]

    async def thread(self, root: str) -> PrivateThread | None:
        """The thread of a root; None when we can read nothing of it."""
        await self._refresh()
        letters = self._threads.get(root)
        return None if letters is None else _thread(root, letters)

    async def opened_of(self, entries: Sequence[Entry]) -> dict[int, OpenedEntry]:
        """Those of some messages that we can read, by position."""
        boxed = [entry.position for entry in entries if boxed_content(entry.text) is not None]
        if not boxed:
            return {}
        await self.catch_up()
        return {one.entry.position: one for one in await self._at(boxed)}

    async def read(self, letters: Sequence[Letter]) -> list[OpenedEntry]:
        """The messages behind letters, in the same order."""
        return await self._at([letter.position for letter in letters])

    async def follow(self, live: Live) -> None:
        """Try our keys on encrypted messages soon after they come, for ever. Raises StoreError."""
        while True:
            position = live.position
            await self.catch_up()
            await live.wait_beyond(position)
            await asyncio.sleep(PAUSE)

    async def catch_up(self) -> int:
        """Try our keys on every message that they were not tried on; how many they open. Raises StoreError."""
        count = 0
        async with self._trying:
            while True:
                tried = await self._database.read(lambda connection: openings.try_next(connection, self._ring, CHUNK))
                if tried is None:
                    return count
                await self._database.write(_recorder(tried))
                count += len(tried.opened)
                if tried.old and tried.opened:
                    await self.forget()

    # Memory.

    async def _refresh(self) -> None:
        """Open what came since the last question."""
        await self.catch_up()
        async with self._reading:
            while True:
                more = await self._database.read(_reader(self._ring, self._reached))
                for one in more.opened:
                    self._keep(one.entry.position, one.opened)
                    self._add(_letter(one))
                self._reached = more.reached
                if more.scanned < CHUNK:
                    return

    async def forget(self) -> None:
        """Read everything again with the next question: something was deleted here, or old messages can be read now."""
        async with self._reading:
            self._letters, self._threads, self._reached = [], {}, 0

    def _add(self, letter: Letter) -> None:
        self._letters.append(letter)
        self._threads.setdefault(letter.root, []).append(letter)

    async def _at(self, positions: Sequence[int]) -> list[OpenedEntry]:
        """Messages at positions, opened; what cannot be read any more is left out."""
        if not positions:
            return []
        cached = {at: opened for at in positions if (opened := self._cached.get(at)) is not None}
        ring = self._ring

        def read(connection: sqlite3.Connection) -> dict[int, OpenedEntry]:
            found = {}
            for at, entry in openings.opened_at(connection, positions).items():
                opened = cached.get(at) or _open(ring, entry)
                if opened is not None:
                    found[at] = OpenedEntry(entry, opened)
            return found

        found = await self._database.read(read)
        for at, one in found.items():
            self._keep(at, one.opened)
        return [found[at] for at in positions if at in found]

    def _keep(self, position: int, opened: Opened) -> None:
        if position in self._cached:
            self._cached.move_to_end(position)
            return
        self._cached[position] = opened
        self._cached_bytes += len(opened.text) + _PER_ITEM
        while self._cached_bytes > self._room:
            _, old = self._cached.popitem(last=False)
            self._cached_bytes -= len(old.text) + _PER_ITEM


class _More(NamedTuple):
    opened: list[OpenedEntry]
    scanned: int
    reached: int


def _recorder(tried: openings.Tried) -> Callable[[sqlite3.Connection], None]:
    return lambda connection: openings.record(connection, tried)


def _reader(ring: KeyRing, after: int) -> Callable[[sqlite3.Connection], _More]:
    def read(connection: sqlite3.Connection) -> _More:
        entries = openings.opened_after(connection, after, CHUNK)
        opened = [OpenedEntry(entry, found) for entry in entries if (found := _open(ring, entry)) is not None]
        return _More(opened, len(entries), entries[-1].position if entries else after)

    return read


def _open(ring: KeyRing, entry: Entry) -> Opened | None:
    content = boxed_content(entry.text)
    return None if content is None else ring.open(content)


# --- readings of what was opened: anybody may have written it ---------------------------------------------------------


def _letter(one: OpenedEntry) -> Letter:
    entry, content = one.entry, one.opened.content
    members = content if isinstance(content, dict) else {}
    root = members.get("root")
    claimed = _claimed_time(entry.text)
    return Letter(
        entry.position,
        entry.id,
        entry.author,
        claimed,
        min(claimed, float(entry.received)),
        one.type,
        root if isinstance(root, str) and is_message(root) else entry.id,
        tuple(link for link in _links(members.get("branch")) if is_message(link)),
        tuple(link for link in _links(members.get("recps")) if is_feed(link)),
    )


def _claimed_time(text: bytes) -> float:
    """The member before the content, so the first of its name; see `feeds.private.stored`."""
    begin = text.find(b'"timestamp":') + 12
    try:
        return float(text[begin : text.index(b",", begin)])
    except ValueError:
        return 0.0


def _links(value: JsonValue) -> tuple[str, ...]:
    """A link, an object {link}, or a list of them."""
    items = value if isinstance(value, list) else [value]
    links = (item.get("link") if isinstance(item, dict) else item for item in items)
    return tuple(link for link in links if isinstance(link, str))


def _thread(root: str, letters: Sequence[Letter]) -> PrivateThread:
    answered = {branch for letter in letters for branch in letter.branches if branch != letter.id}
    tips = tuple(letter.id for letter in letters if letter.id not in answered)
    if len(tips) > 1:  # the root is answered by every reply, also by one that names no branch
        tips = tuple(tip for tip in tips if tip != root)
    people = dict.fromkeys(feed for letter in letters for feed in (letter.author, *letter.recipients))
    return PrivateThread(root, tuple(_in_causal_order(root, letters)), tips, tuple(people))


def _in_causal_order(root: str, letters: Sequence[Letter]) -> list[Letter]:
    """The root, then by time, but each after the messages of the thread that it answers."""
    by_id = {letter.id: letter for letter in letters}
    places = [Place(letter.id, letter.branches, letter.time) for letter in letters]
    return [by_id[placed.id] for placed in order(places, root=root)]
