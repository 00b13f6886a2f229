"""Compact state of the EBT machine: one row a feed, one row a (peer, feed), in arrays over small feed numbers.

A node may follow 100 000 feeds and talk to dozens of peers. Dictionaries would cost some 500 bytes a pair; these
arrays cost 14 bytes for each feed of each peer and about 30 beside the feed's id. Protocol section 9 gives the
meaning of the columns; the rules that move them are in ``replication.ebt.state``.
"""

from array import array
from typing import Final
from zlib import crc32

UNKNOWN: Final = -2
"""In ``claims``: the peer never spoke of the feed. In ``told``: we never spoke of it in this session."""
NOBODY: Final = -1
"""In ``source``: no peer is asked to send this feed."""

# Bits of FeedTable.flags.
WANTED: Final = 1
FORKED: Final = 2  # served up to what we hold, asked for from nobody
PAUSED: Final = 4  # the same for the time being

# Bits of PeerTable.flags. Plain integers, not an IntFlag: they are read several times for each message.
TX: Final = 1  # the peer's last note asks us to send
NOTE_QUEUED: Final = 2
SEND_QUEUED: Final = 4
HEARD: Final = 8  # the peer has sent a note on the feed in this session
BLOCKED: Final = 16  # the feed's owner and the peer are kept apart: nothing is exchanged, each side answers -1
BANNED: Final = 32  # the peer delivered something invalid for the feed: it is not asked for it again
STALLED: Final = 64  # the peer lost the role of source by standing still; cleared by its next useful message
PROVEN: Final = 128  # the peer delivered a useful message of the feed in this session
UNCONFIRMED: Final = 256  # the peer delivered messages that no note of ours has confirmed yet
FORCE: Final = 512  # send the queued note even if it repeats the last one
RETRACTED: Final = 2048  # told -1 in this session; a later note may get lost, so the claim is not remembered
RETRIED: Final = 1024  # asked again because of a gap; not once more until the feed has grown


class FeedTable:
    """Feeds that are, or were, wanted or held, numbered in order of appearance."""

    __slots__ = ("flags", "heard", "holes", "ids", "index", "local", "progress", "source")

    def __init__(self) -> None:
        self.index: dict[str, int] = {}
        self.ids: list[str] = []
        self.local = array("i")
        """Sequence that is committed in the log."""
        self.heard = array("i")
        """Sequence up to which messages were handed to ingest; at least ``local``."""
        self.source = array("i")
        """Slot of the one peer that is asked to send (receive bit on), or NOBODY."""
        self.flags = bytearray()
        self.holes: dict[int, tuple[int, int]] = {}
        """First and last sequence that was erased here, for the few feeds of which some are."""
        self.progress = array("d")
        """When the feed last moved, changed its source or fell behind; seconds of the caller's clock."""

    def intern(self, feed: str) -> int:
        """The feed's number, given now if it is new."""
        number = self.index.get(feed)
        if number is None:
            number = self.index[feed] = len(self.ids)
            self.ids.append(feed)
            self.local.append(0)
            self.heard.append(0)
            self.source.append(NOBODY)
            self.flags.append(0)
            self.progress.append(0.0)
        return number

    def reach(self, number: int, claim: int) -> int:
        """How far we can serve a feed to somebody who claims so much of it: not over what was erased here."""
        hole = self.holes.get(number)
        return self.local[number] if hole is None or claim >= hole[1] else hole[0] - 1


class Refusals:
    """Feeds unknown to us that a peer offered: each is answered -1 once, and none is remembered.

    A bitmap of their checksums stands for the set of those answered. Two feeds that share a bit cost the second one
    its answer in this session, which costs the peer one needless note at the next.
    """

    __slots__ = ("_answered", "budget", "waiting")

    _BITS: Final = 1 << 16

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.waiting: list[str] = []
        self._answered: bytearray | None = None

    @property
    def full(self) -> bool:
        """Whether no more are answered in this session."""
        return self.budget <= 0

    def add(self, feed: str) -> bool:
        """Note down that ``feed`` is to be answered; false if it was before or the budget is used up."""
        if self.budget <= 0:
            return False
        if self._answered is None:
            self._answered = bytearray(self._BITS >> 3)
        bit = crc32(feed.encode()) & (self._BITS - 1)
        if self._answered[bit >> 3] >> (bit & 7) & 1:
            return False
        self._answered[bit >> 3] |= 1 << (bit & 7)
        self.budget -= 1
        self.waiting.append(feed)
        return True


class Queue:
    """A first-in first-out queue of feed numbers at four bytes each."""

    __slots__ = ("_head", "_items")

    def __init__(self) -> None:
        self._items = array("i")
        self._head = 0

    def __len__(self) -> int:
        return len(self._items) - self._head

    def push(self, number: int) -> None:
        self._items.append(number)

    def pop(self) -> int:
        """The oldest number; IndexError when empty."""
        number = self._items[self._head]
        self._head += 1
        if self._head == len(self._items):
            self._items = array("i")
            self._head = 0
        elif self._head >= 4096 and self._head * 2 >= len(self._items):
            del self._items[: self._head]
            self._head = 0
        return number


class PeerTable:
    """What one connected peer said, what it was told, and what is queued for it."""

    __slots__ = (
        "bad_entries",
        "claims",
        "client",
        "delivered_at",
        "duplicates",
        "first_due",
        "flags",
        "heard_of",
        "id",
        "invalid",
        "notes",
        "open",
        "paused",
        "received",
        "refusals",
        "retried_at",
        "retry_after",
        "sends",
        "sent",
        "sent_messages",
        "session",
        "signalled",
        "slot",
        "told",
        "unconfirmed",
        "unrequested",
    )

    def __init__(self, peer: str, slot: int, *, client: bool, session: int, feeds: int, refusals: int) -> None:
        self.id = peer
        self.slot = slot
        self.client = client
        """We are the client of the secret handshake, so the peer speaks first."""
        self.session = session
        self.open = False
        """We may speak: at once as the server, after the peer's first notes as the client."""
        self.first_due = False
        """The first frame of notes is still to be sent, even if it is empty."""
        self.paused = False
        """The peer is asked for nothing for the time being."""
        self.signalled = False
        self.claims = array("i", [UNKNOWN]) * feeds
        self.told = array("i", [UNKNOWN]) * feeds
        self.sent = array("i", [0]) * feeds
        self.flags = array("H", [0]) * feeds
        self.notes = Queue()
        self.sends = Queue()
        self.unconfirmed = Queue()
        self.refusals = Refusals(refusals)
        self.heard_of: dict[str, int] = {}
        """What it says it has of feeds that are unknown here, as far as there is room: to tell people."""
        self.delivered_at = float("-inf")
        self.retried_at = float("-inf")
        self.retry_after = 0.0
        self.bad_entries = 0
        self.duplicates = 0
        self.unrequested = 0
        self.invalid = 0
        self.received = 0
        self.sent_messages = 0

    def asked(self, f: int) -> bool:
        """Whether the last note we sent asks the peer for messages of the feed."""
        return self.told[f] >= 0 and not self.told[f] & 1

    def grow(self) -> None:
        """Make room for one more feed."""
        self.claims.append(UNKNOWN)
        self.told.append(UNKNOWN)
        self.sent.append(0)
        self.flags.append(0)
