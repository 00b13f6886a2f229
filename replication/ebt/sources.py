"""Which peer supplies which feed: the one eager source a feed, and when that changes (rules in `ebt.state`).

A feed is *behind* when somebody claims more of it than we heard. Such feeds are watched until they have caught up or
the claim is withdrawn; all others cost nothing.
"""

from itertools import islice
from typing import Final

from replication.ebt.outbox import Outbox
from replication.ebt.tables import (
    BANNED,
    BLOCKED,
    FORKED,
    HEARD,
    NOBODY,
    PAUSED,
    PROVEN,
    RETRIED,
    STALLED,
    WANTED,
    FeedTable,
    PeerTable,
)

PATIENCE: Final = 10
"""How many stall timeouts a single feed may stand still at a source that delivers other feeds."""
_WATCHED: Final = 5000
"""How many feeds that are behind a tick looks at, at least."""


class Sources:
    """The slots of the connected peers and the role of source that each feed gives to one of them."""

    def __init__(self, feeds: FeedTable, outbox: Outbox, *, stall_timeout: float, graft_delay: float) -> None:
        self._feeds = feeds
        self._outbox = outbox
        self._stall = stall_timeout
        self._graft = graft_delay
        self._unheard = min(3 * graft_delay, stall_timeout)
        self._slots: list[PeerTable | None] = []
        self._behind: dict[int, None] = {}

    # ---- peers

    def free_slot(self) -> int:
        """A slot for a new peer."""
        if None not in self._slots:
            self._slots.append(None)
        return self._slots.index(None)

    def add(self, table: PeerTable) -> None:
        self._slots[table.slot] = table
        table.retry_after = self._stall * PATIENCE

    def remove(self, table: PeerTable, t: float) -> None:
        """The peer is gone: its feeds go to others at once, as far as somebody claims more of them."""
        self._slots[table.slot] = None
        source = self._feeds.source
        for f in [f for f, slot in enumerate(source) if slot == table.slot]:
            source[f] = NOBODY
            self.hand_over(f, table.slot, t)

    def present(self, table: PeerTable) -> bool:
        return self._slots[table.slot] is table

    # ---- the role

    def of(self, f: int) -> PeerTable | None:
        """The source of the feed."""
        slot = self._feeds.source[f]
        return None if slot == NOBODY else self._slots[slot]

    def assign(self, f: int, table: PeerTable | None, t: float) -> None:
        """Make ``table`` the source of the feed (None: nobody) and tell both whom it concerns."""
        old = self.of(f)
        if old is table:
            return
        self._feeds.source[f] = NOBODY if table is None else table.slot
        self._feeds.progress[f] = t
        if old is not None:
            self._outbox.tell(old, f)
        if table is not None:
            table.flags[f] &= ~RETRIED
            self._outbox.tell(table, f)

    def release(self, table: PeerTable, f: int, t: float) -> None:
        """The peer can no longer be the source of the feed; another takes over if it claims more."""
        if self._feeds.source[f] == table.slot:
            self.assign(f, None, t)
            self.hand_over(f, table.slot, t)

    def drop(self, f: int) -> None:
        """Take the role away without telling anybody, and watch the feed no more."""
        self._feeds.source[f] = NOBODY
        self._behind.pop(f, None)

    def invite(self, table: PeerTable, f: int, t: float) -> None:
        """Make the peer the source if the feed has none and may have one."""
        feeds = self._feeds
        if table.paused or feeds.flags[f] & (FORKED | PAUSED):
            return
        if feeds.source[f] == NOBODY and not table.flags[f] & BANNED:
            self.assign(f, table, t)

    def weigh(self, table: PeerTable, f: int, t: float) -> None:
        """The peer claims more than we heard: give it the role now, or leave that to ``tick``."""
        feeds = self._feeds
        if table.paused or feeds.flags[f] & (FORKED | PAUSED) or table.flags[f] & BANNED:
            return
        self.fall_behind(f, t)
        source = self.of(f)
        if source is None or (
            source.claims[f] <= feeds.heard[f]
            and source.flags[f] & (HEARD | PROVEN) == HEARD
            and not table.flags[f] & STALLED
        ):
            self.assign(f, table, t)

    def hand_over(self, f: int, slot: int, t: float) -> None:
        """Find a source for a feed that has none, among those that claim more than we heard."""
        fresh, stalled = self._candidates(f, slot)
        if fresh is not None or stalled is not None:
            self.fall_behind(f, t)
            self.assign(f, fresh or stalled, t)

    def fall_behind(self, f: int, t: float) -> None:
        """Watch the feed."""
        if f not in self._behind:
            self._behind[f] = None
            self._feeds.progress[f] = t

    def _candidates(self, f: int, slot: int) -> tuple[PeerTable | None, PeerTable | None]:
        """The next peers after ``slot``, in turn, that claim more than we heard: one in good standing, one not."""
        feeds = self._feeds
        if feeds.flags[f] & (WANTED | FORKED | PAUSED) != WANTED:
            return None, None
        heard, stalled = feeds.heard[f], None
        for table in self._slots[slot + 1 :] + self._slots[: slot + 1]:
            if (
                table is None
                or not table.open
                or table.paused
                or table.claims[f] <= heard
                or table.flags[f] & (BLOCKED | BANNED)
            ):
                continue
            if not table.flags[f] & STALLED:
                return table, stalled
            stalled = stalled or table
        return None, stalled

    # ---- time

    @property
    def watching(self) -> bool:
        return bool(self._behind)

    def tick(self, t: float) -> None:
        """Change sources that stand still; ask those again that have no substitute, ever more rarely."""
        due = {s.slot for s in self._slots if s is not None and t - s.retried_at >= s.retry_after}
        asked: dict[int, PeerTable] = {}
        # A liar can make every feed look behind: a large set is looked through over several ticks, each feed in turn.
        for f in list(islice(self._behind, max(_WATCHED, len(self._behind) // 8))):
            del self._behind[f]
            self._behind[f] = None
            source = self._watch(f, t)
            if source is not None and source.slot in due:
                source.flags[f] &= ~RETRIED
                self._outbox.ask_again(source, f)
                asked[source.slot] = source
        for table in asked.values():
            table.retried_at = t
            table.retry_after *= 2

    def _watch(self, f: int, t: float) -> PeerTable | None:
        """Change the source of a feed that is behind, if it is time to.

        Returns the source if it stands still and there is nobody to take its place.
        """
        idle = t - self._feeds.progress[f]
        source = self.of(f)
        if idle < self._graft or (source is not None and self._may_deliver(source, f, idle, t)):
            return None
        fresh, stalled = self._candidates(f, self._feeds.source[f])
        if fresh is None and stalled is None:
            del self._behind[f]
            return None
        patient = idle < self._stall * PATIENCE
        if source is None or source.claims[f] <= self._feeds.heard[f]:
            if source is None or fresh is not None or not patient:
                self.assign(f, fresh or stalled, t)
            return None
        source.flags[f] |= STALLED
        heir = next((table for table in (fresh, stalled) if table is not None and table is not source), None)
        if heir is None:
            return None if patient else source
        self.assign(f, heir, t)
        return None

    def _may_deliver(self, source: PeerTable, f: int, idle: float, t: float) -> bool:
        """Whether the source is to be left in peace with this feed for now."""
        if not source.flags[f] & (HEARD | PROVEN) and idle < self._unheard:
            return True  # its own notes may still be on their way
        if source.claims[f] <= self._feeds.heard[f]:
            return False
        busy = t - source.delivered_at < self._stall
        return idle < self._stall or (busy and idle < self._stall * PATIENCE)
