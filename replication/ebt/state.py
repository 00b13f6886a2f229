"""Epidemic broadcast trees: who sends which feed to whom. Pure: events in, effects out, time as an argument.

Theory
------
Every feed floods over a tree. A node asks exactly one peer to push the feed (its *source*, receive bit on) and tells
all others what it has with the receive bit off, so each message travels once over each edge of the tree and a note of
some 60 bytes over the rest of the graph. If the source falls silent or leaves, one of the others takes its place.
Between sessions each side remembers what the other last claimed and does not mention feeds in which nothing changed.

For a peer P and a feed F there are four numbers and a few bits (``replication.ebt.tables``): ``claim``, what P says it
has; ``told``, the last note we sent; ``sent``, up to where messages were handed out for P; TX, P wants messages.
Notes are not queued, only the numbers of the feeds they concern: the value is what is true when the frame is built.

Rules (protocol section 9 unless said)
--------------------------------------
========  ==========================================================================================================
connect   The server speaks first, even if only ``{}``; the client is silent until it has heard the server.
mention   On opening, each wanted feed whose sequence differs from the remembered claim, unless that claim was -1.
          The receive bit is on if the feed has no source yet; the peer then is its source.
note -1   P does not replicate F: nothing is sent, P loses the role of source. No answer.
note s    The claim is believed, even if lower than before (P may have lost data). Low bit 0 sets TX and sends from
          s+1; with low bit 1 nothing is sent, and P is told our sequence if it is higher and not told yet.
unwanted  A note for an unwanted or blocked feed is answered with -1, once a session.
ahead     P claims more than we heard: P becomes the source if there is none, or if the source says it has no more and
          never delivered in this session. A source that does deliver gets ``graft_delay`` seconds to bring it, one
          that has not spoken yet three times as long.
message   Dropped if not asked for. If already held and P has no more to offer, P is told to stop (receive bit off).
          After a gap the feed is asked for again, once. The rest goes to ingest.
append    Goes to every peer with TX that lacks it. Peers that do not want messages get a note, once they are known
          to lack it and nothing they were told says so.
stall     A source that claims more but delivered nothing for ``stall_timeout`` (of this feed for ten times as long)
          loses the role to the next peer that claims more.
confirm   After a second of quiet, feeds that P delivered are told back to P, so that both sides remember the same
          and the next session starts with nothing to say (ours; the reference leaves this to the next session).
verdicts  Invalid blames the peer: it is not asked for this feed again (safety.md). A forked feed is asked for from
          nobody and served up to what we hold (section 7).
erased    Where messages were erased here, P is told that we have what comes before the first of them, and is asked for
          nothing, until it claims the last of them: what follows is of no use without them.
pause     A paused feed, and a paused peer, is asked for nothing (receive bit off); what was under way is taken.
limits    Values outside -1..2**31-1 and keys that are no feed ids are skipped; 100 of them are a breach. Feeds we
          neither want nor hold leave nothing behind the session; 5 000 a session get their -1.
========  ==========================================================================================================
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from replication.ebt import status
from replication.ebt.effects import Breach, Ready, SendNotes, SendRange
from replication.ebt.notes import MAX_NOTE, MAX_SEQUENCE, NOT_REPLICATING, is_classic_feed, unwrap
from replication.ebt.outbox import Outbox
from replication.ebt.sources import PATIENCE, Sources
from replication.ebt.status import FeedStatus, Lag, PairStatus, PeerStatus
from replication.ebt.tables import (
    BANNED,
    BLOCKED,
    FORCE,
    FORKED,
    HEARD,
    NOBODY,
    NOTE_QUEUED,
    PAUSED,
    PROVEN,
    RETRACTED,
    RETRIED,
    STALLED,
    TX,
    UNCONFIRMED,
    UNKNOWN,
    WANTED,
    FeedTable,
    PeerTable,
)

__all__ = [
    "Breach",
    "EbtState",
    "FeedStatus",
    "Lag",
    "PairStatus",
    "PeerStatus",
    "Ready",
    "SendNotes",
    "SendRange",
    "Verdict",
]

Verdict = Literal["invalid", "fork", "gap", "failed"]
"""Why ingest did not take messages: the peer's fault, a fork, out of step, or our own fault (disk)."""


class EbtState:
    """The machine for one node, one feed format and all its peers.

    Driving it::

        ebt.set_clock(feed, sequence), ebt.want(feed, True, now)      # from the log and the policy, at the start
        session = ebt.connect(peer, remembered, client=..., now=now)  # stream open
        ebt.notes_received(peer, value, now)                          # frame of notes
        start = ebt.received_run(peer, feed, first, last, now)        # messages: ingest those from start on, 0: none
        ebt.appended(feed, sequence, now)                             # the log grew, from any source
        ebt.rejected(peer, feed, "invalid", now)                      # ingest refused
        for effect in ebt.effects(): ...                              # after each event: Ready wakes a writer
        while batch := ebt.outgoing(peer): ...                        # the writer: write, wait for the stream, repeat
        remembered = ebt.disconnect(peer, now, session)               # stream ended

    Every message that ``received_run`` lets through must come back as ``appended`` or ``rejected``.

    Methods take ``now`` in seconds of any clock; jumps backwards are ignored, and between two calls at most twice the
    stall timeout passes. No method raises for what a peer sent; unknown peers are ignored (their session has ended).
    """

    def __init__(
        self,
        *,
        stall_timeout: float = 3.0,
        graft_delay: float = 0.5,
        confirm_delay: float = 1.0,
        notes_per_frame: int = 1000,
        messages_per_range: int = 250,
        refusals: int = 5000,
        heard_of: int = 10_000,
        bad_entries: int = 100,
    ) -> None:
        self._stall = stall_timeout
        self._confirm = confirm_delay
        self._refusals = refusals
        self._bad_entries = bad_entries
        self._feeds = FeedTable()
        self._peers: dict[str, PeerTable] = {}
        self._outbox = Outbox(self._feeds, notes_per_frame=notes_per_frame, messages_per_range=messages_per_range)
        self._sources = Sources(self._feeds, self._outbox, stall_timeout=stall_timeout, graft_delay=graft_delay)
        self._blocks: dict[str, set[str]] = {}
        self._heard_of_most = heard_of
        self._paused: frozenset[str] = frozenset()
        self._pending: dict[int, PeerTable] = {}
        """Feeds of which messages are in ingest, and who delivered the last of them."""
        self.breaches: Counter[str] = Counter()
        """How often which limit (of `replication.limits`) held a peer back."""
        self._sessions = 0
        self._now = 0.0
        self._offset: float | None = None

    # ---- our side: what we hold and want

    def set_clock(self, feed: str, sequence: int) -> None:
        """What the log holds of ``feed`` (at the start, or after it was found damaged and cut back)."""
        f = self._intern(feed)
        feeds = self._feeds
        lower = sequence < feeds.local[f]
        feeds.local[f] = feeds.heard[f] = sequence
        self._pending.pop(f, None)
        for table in self._peers.values():
            if lower and table.open and table.told[f] > NOT_REPLICATING:
                table.sent[f] = min(table.sent[f], sequence)
                self._outbox.tell(table, f)

    def set_hole(self, feed: str, hole: tuple[int, int] | None) -> None:
        """Between which sequences of ``feed`` messages were erased here (both were); None: it is whole."""
        f = self._intern(feed)
        if hole is None:
            self._feeds.holes.pop(f, None)
        else:
            self._feeds.holes[f] = hole
        for table in self._peers.values():
            if table.open and table.told[f] > NOT_REPLICATING:
                self._outbox.tell(table, f)

    def want(self, feed: str, wanted: bool, now: float) -> None:
        """Start or stop replicating ``feed`` with whoever is, or will be, connected."""
        t = self._time(now)
        f = self._intern(feed)
        feeds = self._feeds
        if bool(feeds.flags[f] & WANTED) is wanted:
            return
        if wanted:
            feeds.flags[f] |= WANTED
            for table in self._peers.values():
                if table.open:
                    self._mention(table, f, t)
        else:
            feeds.flags[f] &= ~WANTED
            self._sources.drop(f)
            for table in self._peers.values():
                self._retract(table, f)

    def block(self, feed: str, peer: str, blocked: bool, now: float) -> None:
        """Keep ``feed`` and ``peer`` apart, or no longer (the feed's owner blocks the peer, or we do)."""
        t = self._time(now)
        apart = self._blocks.setdefault(peer, set())
        (apart.add if blocked else apart.discard)(feed)
        if not apart:
            del self._blocks[peer]
        table = self._peers.get(peer)
        f = self._feeds.index.get(feed)
        if table is None or f is None or bool(table.flags[f] & BLOCKED) is blocked:
            return
        table.flags[f] ^= BLOCKED
        if blocked:
            self._sources.release(table, f, t)
            self._retract(table, f)
        elif table.open and self._feeds.flags[f] & WANTED:
            self._mention(table, f, t)

    def fork(self, feed: str, now: float) -> None:
        """``feed`` is known to be forked: ask nobody for more of it."""
        t = self._time(now)
        f = self._intern(feed)
        feeds = self._feeds
        feeds.flags[f] |= FORKED
        feeds.heard[f] = feeds.local[f]
        self._pending.pop(f, None)
        self._sources.assign(f, None, t)

    def pause(self, feed: str, paused: bool, now: float) -> None:
        """Ask nobody for more of ``feed`` for the time being, or ask again; it is served all the same."""
        t = self._time(now)
        f = self._intern(feed)
        feeds = self._feeds
        if bool(feeds.flags[f] & PAUSED) is paused:
            return
        feeds.flags[f] ^= PAUSED
        if paused:
            self._sources.assign(f, None, t)
        elif feeds.flags[f] & WANTED:
            for table in self._peers.values():
                if table.open:
                    self._mention(table, f, t)

    def pause_peers(self, peers: frozenset[str], now: float) -> None:
        """Ask exactly these peers for nothing for the time being, connected or not; they are served all the same."""
        t = self._time(now)
        changed = [table for table in self._peers.values() if (table.id in peers) is not table.paused]
        self._paused = peers
        feeds = self._feeds
        for table in changed:
            table.paused = table.id in peers
            for f, flags in enumerate(feeds.flags):
                if table.paused:
                    self._sources.release(table, f, t)
                elif table.open and flags & WANTED:
                    self._mention(table, f, t)

    # ---- sessions

    def connect(self, peer: str, remembered: Mapping[str, int], *, client: bool, now: float) -> int:
        """A stream with ``peer`` has begun; ``client`` if we opened it. The session number is for ``disconnect``.

        ``remembered`` is what ``disconnect`` gave last time. A session with the same peer that still runs is replaced
        and its memory used instead; the caller ends its stream with the error ``reconnected to peer``.
        """
        t = self._time(now)
        if peer in self._peers:
            remembered = self.disconnect(peer, now)
        self._sessions += 1
        feeds = self._feeds
        table = PeerTable(
            peer,
            self._sources.free_slot(),
            client=client,
            session=self._sessions,
            feeds=len(feeds.ids),
            refusals=self._refusals,
        )
        table.paused = peer in self._paused
        self._sources.add(table)
        self._peers[peer] = table
        for feed, claim in remembered.items():
            f = feeds.index.get(feed)
            if f is not None and NOT_REPLICATING <= claim <= MAX_SEQUENCE:
                table.claims[f] = claim
        for feed in self._blocks.get(peer, ()):
            f = feeds.index.get(feed)
            if f is not None:
                table.flags[f] |= BLOCKED
        if not client:
            self._open(table, t)
        return table.session

    def disconnect(self, peer: str, now: float, session: int | None = None) -> dict[str, int]:
        """The stream with ``peer`` has ended; the result is the clock to remember for it ({} for an old session).

        Feeds are left out that the peer was told we do not replicate: it will not mention them by itself.
        """
        t = self._time(now)
        table = self._peers.get(peer)
        if table is None or (session is not None and table.session != session):
            return {}
        clock = self.clock_of(peer)
        del self._peers[peer]
        self._sources.remove(table, t)
        return clock

    def clock_of(self, peer: str) -> dict[str, int]:
        """What ``peer`` claims at this moment, in the form in which ``disconnect`` gives it."""
        table = self._peers.get(peer)
        if table is None:
            return {}
        ids, wanted, flags = self._feeds.ids, self._feeds.flags, table.flags
        return {
            ids[f]: claim
            for f, claim in enumerate(table.claims)
            if claim != UNKNOWN and wanted[f] & WANTED and not flags[f] & (BLOCKED | RETRACTED)
        }

    # ---- what arrives

    def notes_received(self, peer: str, value: object, now: float) -> None:
        """A frame that is not a message: ``value`` is its decoded JSON, of any type."""
        table = self._peers.get(peer)
        if table is None:
            return
        t = self._time(now)
        if not table.open:
            self._open(table, t)
        notes = unwrap(value)
        if notes is None:
            self._bad(table, 1)
            return
        index = self._feeds.index
        bad = 0
        for feed, number in notes.items():
            if type(number) is not int or not NOT_REPLICATING <= number <= MAX_NOTE:
                bad += not (isinstance(feed, str) and feed.startswith("ssb:"))
                continue
            f = index.get(feed)  # type: ignore[call-overload]
            if f is not None:
                self._note(table, f, number, t)
            elif not isinstance(feed, str) or not is_classic_feed(feed):
                bad += not (isinstance(feed, str) and feed.startswith("ssb:"))
            elif number != NOT_REPLICATING:
                if len(table.heard_of) < self._heard_of_most // len(self._peers) or feed in table.heard_of:
                    table.heard_of[feed] = number >> 1
                if table.refusals.add(feed):
                    self._outbox.signal(table)
                elif table.refusals.full:
                    self.breaches["ebt_feeds_remembered"] += 1
        if bad:
            self._bad(table, bad)

    def received(self, peer: str, feed: str, sequence: int, now: float) -> bool:
        """A message arrived (author and sequence peeked, nothing verified): whether to hand it to ingest."""
        return self.received_run(peer, feed, sequence, sequence, now) != 0

    def received_run(self, peer: str, feed: str, first: int, last: int, now: float) -> int:
        """The consecutive messages ``first``..``last`` of one feed arrived from ``peer``.

        Returns the sequence from which on they are to be handed to ingest, 0 if none is. The verdict comes back by
        ``appended`` or ``rejected``.
        """
        table = self._peers.get(peer)
        if table is None:
            return 0
        feeds = self._feeds
        f = feeds.index.get(feed)
        if f is None or not 0 < first <= last <= MAX_SEQUENCE:
            table.unrequested += max(1, last - first + 1)
            return 0
        if table.claims[f] < last:
            table.claims[f] = last
            table.sent[f] = max(table.sent[f], last)
        flags = table.flags[f]
        if table.told[f] < 0 or flags & (BLOCKED | BANNED) or feeds.flags[f] & (WANTED | FORKED) != WANTED:
            table.unrequested += last - first + 1
            return 0
        known = feeds.heard[f]
        if last <= known:
            self._duplicate(table, f, last - first + 1)
            return 0
        if first > known + 1:
            self._gap(table, f, last - first + 1)
            return 0
        feeds.heard[f] = last
        feeds.progress[f] = table.delivered_at = self._time(now)
        self._pending[f] = table
        table.duplicates += known + 1 - first
        table.received += last - known
        if not flags & UNCONFIRMED:
            table.unconfirmed.push(f)
        table.flags[f] = (flags | PROVEN | UNCONFIRMED) & ~STALLED
        return known + 1

    # ---- verdicts of ingest

    def appended(self, feed: str, sequence: int, now: float) -> None:
        """The log now holds ``feed`` up to ``sequence``, wherever the messages came from."""
        t = self._time(now)
        f = self._intern(feed)
        feeds = self._feeds
        if sequence <= feeds.local[f]:
            return
        feeds.local[f] = sequence
        feeds.progress[f] = t
        settled = feeds.heard[f] <= sequence
        if settled:
            feeds.heard[f] = sequence
            self._pending.pop(f, None)
        source = self._sources.of(f)
        if source is not None:
            source.flags[f] &= ~RETRIED
            source.retry_after = self._stall * PATIENCE
            if settled and (source.flags[f] & FORCE or not source.asked(f)):
                self._outbox.tell(source, f)  # was put off until the messages in hand were added
        if feeds.flags[f] & WANTED:
            for table in self._peers.values():
                if table.open:
                    self._offer(table, f, sequence, t)

    def rejected(self, peer: str, feed: str, verdict: Verdict, now: float) -> None:
        """Ingest did not take messages of ``feed`` that came from ``peer`` (any text, if it is not a peer)."""
        t = self._time(now)
        f = self._feeds.index.get(feed)
        if f is None:
            return
        if verdict == "fork":
            self.fork(feed, now)
            return
        table = self._peers.get(peer)
        if table is not None and verdict == "invalid":
            table.invalid += 1
            table.flags[f] |= BANNED
            if self._sources.of(f) is table:
                self._sources.assign(f, None, t)
        if self._feeds.heard[f] > self._feeds.local[f] or self._sources.of(f) is None:
            self._not_added(f, t)

    # ---- time

    @property
    def busy(self) -> bool:
        """Whether ``tick`` has anything to watch; if not, it need not be called."""
        unconfirmed = any(len(table.unconfirmed) for table in self._peers.values())
        return self._sources.watching or bool(self._pending) or unconfirmed

    def tick(self, now: float) -> None:
        """Look for stalled sources and quiet peers. To be called about twice a second while ``busy``."""
        t = self._time(now)
        for f, table in list(self._pending.items()):
            patience = PATIENCE if self._sources.present(table) else 1
            if t - self._feeds.progress[f] >= self._stall * patience:
                self._not_added(f, t)
        for table in set(self._pending.values()):
            table.delivered_at = t  # while its messages are in ingest, it is we who are slow
        self._sources.tick(t)
        for table in self._peers.values():
            if len(table.unconfirmed) and t - table.delivered_at >= self._confirm:
                self._outbox.confirm(table)

    # ---- what is to be done

    def effects(self) -> list[Ready | Breach]:
        """What came up since the last call."""
        return self._outbox.effects()

    def outgoing(self, peer: str, messages: int = 1000) -> list[SendNotes | SendRange]:
        """What to write to ``peer`` next: at most one frame of notes, then ranges of at most ``messages`` messages.

        To be called when the stream can take more, until it returns an empty list. Feeds take turns.
        """
        table = self._peers.get(peer)
        return [] if table is None else self._outbox.take(table, messages)

    # ---- for people

    def feed_status(self, feed: str) -> FeedStatus:
        """All that is known of one feed (also of one we have never heard of)."""
        f = self._feeds.index.get(feed)
        source = None if f is None else self._sources.of(f)
        return status.of_feed(self._feeds, feed, None if source is None else source.id, self._peers.values())

    def shown(self, peer: str, feed: str) -> int | None:
        """What ``peer`` showed in this session that it has of ``feed``: -1 for nothing, None if it did not say."""
        table, f = self._peers.get(peer), self._feeds.index.get(feed)
        if table is None or f is None or not table.flags[f] & (HEARD | PROVEN):
            return None
        return table.claims[f]

    def offered(self, feed: str) -> int | None:
        """The most that a connected peer said it has of a feed, wanted or not; None if none spoke of it."""
        f = self._feeds.index.get(feed)
        claims = [] if f is None else [table.claims[f] for table in self._peers.values() if table.claims[f] >= 0]
        claims += [table.heard_of[feed] for table in self._peers.values() if feed in table.heard_of]
        return max(claims, default=None)

    def ahead(self, peer: str, feeds: Iterable[str]) -> Iterator[tuple[str, int, int]]:
        """Which of some feeds ``peer`` may be asked for and claims more of: the feed, what we hold, what it claims."""
        table, known = self._peers.get(peer), self._feeds
        if table is None:
            return
        for feed in feeds:
            f = known.index.get(feed)
            if f is None or known.flags[f] & FORKED or table.flags[f] & (BLOCKED | BANNED):
                continue
            claim = table.claims[f]
            if claim == UNKNOWN:
                claim = table.heard_of.get(feed, UNKNOWN)  # it spoke of the feed before we wanted it
            if claim > known.local[f]:
                yield feed, known.local[f], claim

    def mentioned(self, peer: str) -> int:
        """How many feeds ``peer`` replicates, as far as it said."""
        table = self._peers.get(peer)
        if table is None:
            return 0
        return sum(1 for claim in table.claims if claim >= 0) + len(table.heard_of)

    def missing(self, feeds: Iterable[str]) -> int:
        """How many messages of these feeds connected peers claim beyond ours; forked ones do not count."""
        table = self._feeds
        missing = 0
        for feed in feeds:
            f = table.index.get(feed)
            if f is not None and not table.flags[f] & FORKED:
                most = max((peer.claims[f] for peer in self._peers.values() if not peer.flags[f] & BANNED), default=0)
                missing += max(0, most - table.local[f])
        return missing

    def peer_status(self, peer: str) -> PeerStatus | None:
        """Figures of one session; None if there is none. Looks at every feed."""
        table = self._peers.get(peer)
        return None if table is None else status.of_peer(self._feeds, table)

    def lag(self) -> Lag:
        """How many feeds, and messages, connected peers claim beyond ours."""
        return status.lag(self._feeds, self._peers.values())

    def known_feeds(self) -> int:
        """How many feeds take up memory: those wanted, held, or wanted earlier."""
        return len(self._feeds.ids)

    def peers(self) -> list[str]:
        """Peers with a session."""
        return list(self._peers)

    # ---- inside

    def _note(self, table: PeerTable, f: int, number: int, t: float) -> None:
        """One entry of the peer's notes, for a feed we know; ``number`` is a valid note value."""
        feeds = self._feeds
        flags = (table.flags[f] | HEARD) & ~TX
        claim = table.claims[f] = number >> 1
        table.flags[f] = flags
        if feeds.flags[f] & WANTED == 0 or flags & BLOCKED:
            if claim >= 0:
                self._outbox.tell(table, f)
            return
        if claim < 0:
            table.told[f] = UNKNOWN  # whatever we said is void: if the peer comes back, it is answered anew
            self._sources.release(table, f, t)
            return
        local, told = feeds.local[f], table.told[f]
        table.sent[f] = claim
        if not number & 1:
            table.flags[f] = flags | TX
            if local > claim:
                self._outbox.send(table, f)
        if claim > feeds.heard[f]:
            self._sources.weigh(table, f, t)
        elif told < 0:
            self._sources.invite(table, f, t)
        if told < 0 or (number & 1 and local > claim and told >> 1 < local) or f in feeds.holes:
            self._outbox.tell(table, f)

    def _duplicate(self, table: PeerTable, f: int, count: int) -> None:
        """Messages that we hold already: the peer need not push this feed unless it has more to offer."""
        table.duplicates += count
        if self._feeds.source[f] == table.slot and table.claims[f] <= self._feeds.heard[f]:
            self._feeds.source[f] = NOBODY
            self._outbox.tell(table, f)

    def _gap(self, table: PeerTable, f: int, count: int) -> None:
        """Messages that do not follow on what we heard: something between us was lost."""
        table.unrequested += count
        if self._feeds.source[f] == table.slot:
            self._outbox.ask_again(table, f)

    def _offer(self, table: PeerTable, f: int, sequence: int, t: float) -> None:
        """The log grew: send, or tell, or leave it."""
        flags, told = table.flags[f], table.told[f]
        if flags & BLOCKED:
            return
        if flags & TX:
            if table.sent[f] < sequence:
                self._outbox.send(table, f)
            return
        claim = table.claims[f]
        if claim == NOT_REPLICATING or claim >= sequence or told >> 1 >= sequence:
            return
        if told < 0:
            self._sources.invite(table, f, t)
            self._outbox.tell(table, f)
        elif flags & HEARD:
            if self._feeds.source[f] == table.slot:
                self._feeds.source[f] = NOBODY  # it lags: asking it again would make it start over
            self._outbox.tell(table, f)

    def _mention(self, table: PeerTable, f: int, t: float) -> None:
        """Tell a peer of a wanted feed, asking it to send unless somebody else is asked already."""
        claim = table.claims[f]
        if table.flags[f] & BLOCKED or (claim == NOT_REPLICATING and table.told[f] == UNKNOWN):
            return
        self._outbox.tell(table, f)
        if claim > self._feeds.heard[f]:
            self._sources.weigh(table, f, t)
        else:
            self._sources.invite(table, f, t)

    def _retract(self, table: PeerTable, f: int) -> None:
        """Tell a peer that we no longer replicate the feed with it, if it was ever mentioned."""
        table.flags[f] &= ~TX
        if table.told[f] != UNKNOWN or table.flags[f] & NOTE_QUEUED:
            self._outbox.tell(table, f)

    def _not_added(self, f: int, t: float) -> None:
        """Messages let through were not added, or no verdict came: act as if they had never arrived."""
        feeds = self._feeds
        feeds.heard[f] = feeds.local[f]
        self._pending.pop(f, None)
        source = self._sources.of(f)
        if source is None:
            self._sources.hand_over(f, NOBODY, t)
        else:
            self._outbox.ask_again(source, f)
            self._sources.fall_behind(f, t)

    def _bad(self, table: PeerTable, count: int) -> None:
        before = table.bad_entries
        table.bad_entries += count
        if before < self._bad_entries <= table.bad_entries:
            self.breaches["ebt_bad_entries"] += 1
            self._outbox.breach(table, f"{table.bad_entries} bad entries in EBT notes")

    def _intern(self, feed: str) -> int:
        feeds = self._feeds
        f = feeds.index.get(feed)
        if f is None:
            f = feeds.intern(feed)
            for table in self._peers.values():
                table.grow()
                if feed in self._blocks.get(table.id, ()):
                    table.flags[f] |= BLOCKED
        return f

    def _open(self, table: PeerTable, t: float) -> None:
        """From now on we may speak: mention every wanted feed in which our sequence is not what is remembered."""
        table.open = table.first_due = True
        feeds, claims = self._feeds, table.claims
        for f, (flags, local) in enumerate(zip(feeds.flags, feeds.local, strict=True)):
            if flags & WANTED and claims[f] != local:
                self._mention(table, f, t)
        self._outbox.signal(table)

    def _time(self, now: float) -> float:
        """Our own time: never backwards, and no more than two stall timeouts between two calls."""
        if self._offset is None:
            self._offset = -now
        passed = now + self._offset - self._now
        if passed < 0.0:
            self._offset -= passed
        elif passed > 2 * self._stall:
            self._offset -= passed - 2 * self._stall
            self._now += 2 * self._stall
        else:
            self._now += passed
        return self._now
