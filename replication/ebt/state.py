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
limits    Values outside -1..2**31-1 and keys that are no feed ids are skipped; 100 of them are a breach. Feeds we
          neither want nor hold leave nothing behind; 5 000 a session get their -1.
========  ==========================================================================================================
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final, Literal, NamedTuple

from replication.ebt.notes import MAX_NOTE, NOT_REPLICATING, is_classic_feed, unwrap
from replication.ebt.tables import (
    BANNED,
    BLOCKED,
    FORCE,
    FORKED,
    HEARD,
    NOBODY,
    NOTE_QUEUED,
    PROVEN,
    RETRACTED,
    RETRIED,
    SEND_QUEUED,
    STALLED,
    TX,
    UNCONFIRMED,
    UNKNOWN,
    WANTED,
    FeedTable,
    PeerTable,
)

Verdict = Literal["invalid", "fork", "gap", "failed"]
"""Why ingest did not take messages: the peer's fault, a fork, out of step, or our own fault (disk)."""

_PATIENCE: Final = 10
"""How many stall timeouts a single feed may stand still at a source that delivers other feeds."""
_WATCHED: Final = 5000
"""How many feeds that are behind a tick looks at, at least."""


class SendNotes(NamedTuple):
    """Send one JSON frame of notes to ``peer``: feed id -> note value, at most ``notes_per_frame`` of them."""

    peer: str
    notes: dict[str, int]


class SendRange(NamedTuple):
    """Send the messages ``after`` < sequence <= ``upto`` of ``feed`` to ``peer``, in order."""

    peer: str
    feed: str
    after: int
    upto: int


class Ready(NamedTuple):
    """``outgoing(peer)`` has something; not repeated until that has returned an empty list."""

    peer: str


class Breach(NamedTuple):
    """The peer breaks the protocol: close its connection. ``reason`` is for our log and people."""

    peer: str
    reason: str


class PairStatus(NamedTuple):
    """One peer and one feed: its claim (None: never spoke of it, -1: does not replicate it), who sends to whom."""

    claim: int | None
    told: int | None
    sending: bool
    receiving: bool
    sent: int


class FeedStatus(NamedTuple):
    """One feed: our sequence, whether we want it, who supplies it and what each connected peer says."""

    feed: str
    sequence: int
    wanted: bool
    forked: bool
    source: str | None
    peers: dict[str, PairStatus]


class PeerStatus(NamedTuple):
    """One session. ``missing`` and ``owed`` count messages: those it claims beyond ours, those it still wants."""

    peer: str
    client: bool
    open: bool
    missing: int
    owed: int
    received: int
    sent: int
    duplicates: int
    unrequested: int
    invalid: int
    bad_entries: int


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
        bad_entries: int = 100,
    ) -> None:
        self._stall = stall_timeout
        self._graft = graft_delay
        self._unheard = min(3 * graft_delay, stall_timeout)
        self._confirm = confirm_delay
        self._frame = notes_per_frame
        self._range = messages_per_range
        self._refusals = refusals
        self._bad_entries = bad_entries
        self._feeds = FeedTable()
        self._peers: dict[str, PeerTable] = {}
        self._slots: list[PeerTable | None] = []
        self._blocks: dict[str, set[str]] = {}
        self._behind: dict[int, None] = {}
        self._pending: dict[int, PeerTable] = {}
        self._effects: list[Ready | Breach] = []
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
        for peer in self._peers.values():
            if lower and peer.open and peer.told[f] > NOT_REPLICATING:
                peer.sent[f] = min(peer.sent[f], max(peer.claims[f], 0))
                self._tell(peer, f)

    def want(self, feed: str, wanted: bool, now: float) -> None:
        """Start or stop replicating ``feed`` with whoever is, or will be, connected."""
        t = self._time(now)
        f = self._intern(feed)
        feeds = self._feeds
        if bool(feeds.flags[f] & WANTED) is wanted:
            return
        if not wanted:
            feeds.flags[f] &= ~WANTED
            feeds.source[f] = NOBODY
            self._behind.pop(f, None)
            for peer in self._peers.values():
                if peer.open and (peer.told[f] != UNKNOWN or peer.flags[f] & NOTE_QUEUED):
                    self._tell(peer, f)
            return
        feeds.flags[f] |= WANTED
        for peer in self._peers.values():
            if peer.open:
                self._mention(peer, f, t)

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
        if not blocked:
            if table.open and self._feeds.flags[f] & WANTED:
                self._mention(table, f, t)
            return
        table.flags[f] &= ~TX
        self._release(table, f, t)
        if table.open and (table.told[f] != UNKNOWN or table.flags[f] & NOTE_QUEUED):
            self._tell(table, f)

    def fork(self, feed: str, now: float) -> None:
        """``feed`` is known to be forked: ask nobody for more of it."""
        t = self._time(now)
        f = self._intern(feed)
        feeds = self._feeds
        feeds.flags[f] |= FORKED
        feeds.heard[f] = feeds.local[f]
        self._behind.pop(f, None)
        self._pending.pop(f, None)
        self._assign(f, None, t)

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
        slot = self._free_slot()
        feeds = self._feeds
        table = PeerTable(
            peer, slot, client=client, session=self._sessions, feeds=len(feeds.ids), refusals=self._refusals
        )
        table.retry_after = self._stall * _PATIENCE
        self._slots[slot] = table
        self._peers[peer] = table
        for feed, claim in remembered.items():
            f = feeds.index.get(feed)
            if f is not None and NOT_REPLICATING <= claim <= MAX_NOTE >> 1:
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

        Feeds are left out that we do not replicate with the peer, since it was told so and will not mention them.
        """
        t = self._time(now)
        table = self._peers.get(peer)
        if table is None or (session is not None and table.session != session):
            return {}
        clock = self.clock_of(peer)
        del self._peers[peer]
        self._slots[table.slot] = None
        source = self._feeds.source
        for f in [f for f, slot in enumerate(source) if slot == table.slot]:
            source[f] = NOBODY
            self._hand_over(f, table.slot, t)
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
            elif number != NOT_REPLICATING and table.refusals.add(feed):
                self._signal(table)
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
        f = self._feeds.index.get(feed)
        if f is None:
            table.unrequested += last - first + 1
            return 0
        if table.claims[f] < last <= MAX_NOTE >> 1:
            table.claims[f] = last
            table.sent[f] = max(table.sent[f], last)
        if (
            table.told[f] < 0
            or table.flags[f] & (BLOCKED | BANNED)
            or self._feeds.flags[f] & (WANTED | FORKED) != WANTED
        ):
            table.unrequested += last - first + 1
            return 0
        heard = self._feeds.heard
        known = heard[f]
        if last <= known:
            self._duplicate(table, f, last - first + 1)
            return 0
        if first > known + 1 or last > MAX_NOTE >> 1:
            self._gap(table, f, last - first + 1)
            return 0
        t = self._time(now)
        heard[f] = last
        self._pending[f] = table
        self._feeds.progress[f] = table.delivered_at = t
        table.duplicates += max(0, known + 1 - first)
        table.received += last - known
        flags = table.flags[f]
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
        source = self._source(f)
        if source is not None:
            source.flags[f] &= ~RETRIED
            source.retry_after = self._stall * _PATIENCE
            if settled and (source.told[f] < 0 or source.told[f] & 1 or source.flags[f] & FORCE):
                self._tell(source, f)  # was put off until the messages in hand were added
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
            if self._feeds.source[f] == table.slot:
                self._assign(f, None, t)
        self._not_added(f, t)

    # ---- time

    @property
    def busy(self) -> bool:
        """Whether ``tick`` has anything to watch; if not, it need not be called."""
        return bool(self._behind or self._pending or any(table.unconfirmed for table in self._peers.values()))

    def tick(self, now: float) -> None:
        """Look for stalled sources and quiet peers. To be called about twice a second while ``busy``."""
        t = self._time(now)
        for f, table in list(self._pending.items()):
            gone = self._slots[table.slot] is not table
            if t - self._feeds.progress[f] >= self._stall * (1 if gone else _PATIENCE):
                self._not_added(f, t)
        retry = {table.slot for table in self._peers.values() if t - table.retried_at >= table.retry_after}
        retried: set[int] = set()
        # A liar can make every feed look behind: a large set is looked through over several ticks, each feed in turn.
        for f in list(islice(self._behind, max(_WATCHED, len(self._behind) // 8))):
            del self._behind[f]
            self._behind[f] = None
            source = self._watch(f, t)
            if source is not None and source.slot in retry:
                source.flags[f] &= ~RETRIED
                self._ask_again(source, f)
                retried.add(source.slot)
        for table in self._peers.values():
            if table.slot in retried:
                table.retried_at = t
                table.retry_after *= 2
        for table in self._peers.values():
            if len(table.unconfirmed) and t - table.delivered_at >= self._confirm:
                self._confirm_all(table)

    # ---- what is to be done

    def effects(self) -> list[Ready | Breach]:
        """What came up since the last call."""
        effects, self._effects = self._effects, []
        return effects

    def outgoing(self, peer: str, messages: int = 1000) -> list[SendNotes | SendRange]:
        """What to write to ``peer`` next: at most one frame of notes, then ranges of at most ``messages`` messages.

        To be called when the stream can take more, until it returns an empty list. Feeds take turns.
        """
        table = self._peers.get(peer)
        if table is None:
            return []
        out: list[SendNotes | SendRange] = []
        notes = self._next_notes(table)
        if notes or table.first_due:
            table.first_due = False
            out.append(SendNotes(peer, notes))
        if not len(table.notes):
            # A reference peer that gets a feed's messages before our first note on it loses count of that feed.
            out.extend(self._next_ranges(table, messages))
        if not out:
            table.signalled = False
        return out

    # ---- for people

    def feed_status(self, feed: str) -> FeedStatus:
        """All that is known of one feed (also of one we have never heard of)."""
        f = self._feeds.index.get(feed)
        if f is None:
            return FeedStatus(feed, 0, wanted=False, forked=False, source=None, peers={})
        flags, source = self._feeds.flags[f], self._source(f)
        peers = {
            table.id: PairStatus(
                claim=None if table.claims[f] == UNKNOWN else table.claims[f],
                told=None if table.told[f] == UNKNOWN else table.told[f] >> 1,
                sending=bool(table.flags[f] & TX),
                receiving=table.told[f] >= 0 and not table.told[f] & 1,
                sent=table.sent[f],
            )
            for table in self._peers.values()
            if table.claims[f] != UNKNOWN or table.told[f] != UNKNOWN
        }
        return FeedStatus(
            feed,
            self._feeds.local[f],
            wanted=bool(flags & WANTED),
            forked=bool(flags & FORKED),
            source=None if source is None else source.id,
            peers=peers,
        )

    def peer_status(self, peer: str) -> PeerStatus | None:
        """Figures of one session; None if there is none. Looks at every feed."""
        table = self._peers.get(peer)
        if table is None:
            return None
        missing = owed = 0
        for f, (local, claim, flags) in enumerate(zip(self._feeds.local, table.claims, table.flags, strict=True)):
            if not self._feeds.flags[f] & WANTED or flags & BLOCKED:
                continue
            missing += max(0, claim - local)
            if flags & TX:
                owed += max(0, local - table.sent[f])
        return PeerStatus(
            peer,
            table.client,
            table.open,
            missing,
            owed,
            table.received,
            table.sent_messages,
            table.duplicates,
            table.unrequested,
            table.invalid,
            table.bad_entries,
        )

    def known_feeds(self) -> int:
        """How many feeds take up memory: those wanted, held, or wanted earlier."""
        return len(self._feeds.ids)

    def peers(self) -> list[str]:
        """Peers with a session."""
        return list(self._peers)

    # ---- inside: notes and messages of one feed

    def _note(self, table: PeerTable, f: int, number: int, t: float) -> None:
        """One entry of the peer's notes, for a feed we know; ``number`` is a valid note value."""
        feeds = self._feeds
        flags = table.flags[f] | HEARD
        claim = table.claims[f] = number >> 1
        if not feeds.flags[f] & WANTED or flags & BLOCKED:
            table.flags[f] = flags & ~TX
            if claim >= 0:
                self._tell(table, f)
            return
        if claim < 0:
            table.flags[f] = flags & ~TX
            table.told[f] = UNKNOWN  # whatever we said is void: if the peer comes back, it is answered anew
            self._release(table, f, t)
            return
        local = feeds.local[f]
        table.sent[f] = claim
        if number & 1:
            table.flags[f] = flags & ~TX
        else:
            table.flags[f] = flags | TX
            if local > claim:
                self._queue_send(table, f)
        told = table.told[f]
        if claim > feeds.heard[f]:
            self._weigh(table, f, t)
        elif told < 0 and feeds.source[f] == NOBODY and not feeds.flags[f] & FORKED and not flags & BANNED:
            self._assign(f, table, t)
        if told < 0 or (number & 1 and local > claim and told >> 1 < local):
            self._tell(table, f)

    def _weigh(self, table: PeerTable, f: int, t: float) -> None:
        """The peer claims more than we heard: give it the role of source now, or leave it to ``tick``."""
        feeds = self._feeds
        if feeds.flags[f] & FORKED or table.flags[f] & BANNED:
            return
        self._fall_behind(f, t)
        source = self._source(f)
        if source is None or (
            source is not table
            and source.claims[f] <= feeds.heard[f]
            and source.flags[f] & (HEARD | PROVEN) == HEARD
            and not table.flags[f] & STALLED
        ):
            self._assign(f, table, t)

    def _duplicate(self, table: PeerTable, f: int, count: int) -> None:
        """Messages that we hold already: the peer need not push this feed unless it has more to offer."""
        table.duplicates += count
        if self._feeds.source[f] == table.slot and table.claims[f] <= self._feeds.heard[f]:
            self._feeds.source[f] = NOBODY
            self._tell(table, f)

    def _gap(self, table: PeerTable, f: int, count: int) -> None:
        """Messages that do not follow on what we heard: something between us was lost."""
        table.unrequested += count
        if self._feeds.source[f] == table.slot:
            self._ask_again(table, f)

    def _offer(self, table: PeerTable, f: int, sequence: int, t: float) -> None:
        """The log grew: send, or tell, or leave it."""
        flags, claim = table.flags[f], table.claims[f]
        if flags & BLOCKED:
            return
        if flags & TX:
            if table.sent[f] < sequence:
                self._queue_send(table, f)
            return
        told = table.told[f]
        if claim == NOT_REPLICATING or claim >= sequence or told >> 1 >= sequence:
            return
        if told == UNKNOWN and self._feeds.source[f] == NOBODY:
            self._assign(f, table, t)
        elif told < 0 or flags & HEARD:
            if told >= 0 and self._feeds.source[f] == table.slot:
                self._feeds.source[f] = NOBODY  # it lags: asking it again would make it start over
            self._tell(table, f)

    # ---- inside: the role of source

    def _mention(self, table: PeerTable, f: int, t: float) -> None:
        """Tell a peer of a wanted feed, asking it to send unless somebody else is asked already."""
        feeds = self._feeds
        if table.flags[f] & BLOCKED or (table.claims[f] == NOT_REPLICATING and table.told[f] == UNKNOWN):
            return
        self._tell(table, f)
        if table.claims[f] > feeds.heard[f]:
            self._weigh(table, f, t)
        elif feeds.source[f] == NOBODY and not feeds.flags[f] & FORKED and not table.flags[f] & BANNED:
            self._assign(f, table, t)

    def _source(self, f: int) -> PeerTable | None:
        slot = self._feeds.source[f]
        return None if slot == NOBODY else self._slots[slot]

    def _assign(self, f: int, table: PeerTable | None, t: float) -> None:
        """Make ``table`` the source of the feed (None: nobody) and tell both whom it concerns."""
        feeds = self._feeds
        old = self._source(f)
        if old is table:
            return
        feeds.source[f] = NOBODY if table is None else table.slot
        feeds.progress[f] = t
        if old is not None:
            self._tell(old, f)
        if table is not None:
            table.flags[f] &= ~RETRIED
            self._tell(table, f)

    def _release(self, table: PeerTable, f: int, t: float) -> None:
        """The peer can no longer be the source of the feed."""
        if self._feeds.source[f] == table.slot:
            self._assign(f, None, t)
            self._hand_over(f, table.slot, t)

    def _hand_over(self, f: int, slot: int, t: float) -> None:
        """Find a source for a feed that has none, if somebody claims more than we heard."""
        fresh, stalled = self._candidates(f, slot)
        if fresh is not None or stalled is not None:
            self._fall_behind(f, t)
            self._assign(f, fresh or stalled, t)

    def _candidates(self, f: int, slot: int) -> tuple[PeerTable | None, PeerTable | None]:
        """The next peers after ``slot``, in turn, that claim more than we heard: one in good standing, one not."""
        feeds = self._feeds
        if not feeds.flags[f] & WANTED or feeds.flags[f] & FORKED:
            return None, None
        heard, stalled = feeds.heard[f], None
        for table in self._slots[slot + 1 :] + self._slots[: slot + 1]:
            if table is None or not table.open or table.claims[f] <= heard or table.flags[f] & (BLOCKED | BANNED):
                continue
            if not table.flags[f] & STALLED:
                return table, stalled
            stalled = stalled or table
        return None, stalled

    def _fall_behind(self, f: int, t: float) -> None:
        if f not in self._behind:
            self._behind[f] = None
            self._feeds.progress[f] = t

    def _watch(self, f: int, t: float) -> PeerTable | None:
        """One feed of which somebody claims more: change its source if it is time to.

        Returns the source if it stands still and there is nobody to take its place.
        """
        feeds = self._feeds
        idle = t - feeds.progress[f]
        if idle < self._graft:
            return None
        source = self._source(f)
        if source is not None and not source.flags[f] & (HEARD | PROVEN) and idle < self._unheard:
            return None  # its own notes may still be on their way
        offering = source is not None and source.claims[f] > feeds.heard[f]
        patient = idle < self._stall * _PATIENCE
        if source is not None and offering and (idle < self._stall or (patient and self._delivers(source, t))):
            return None
        fresh, stalled = self._candidates(f, feeds.source[f])
        if fresh is None and stalled is None:
            del self._behind[f]
            return None
        if source is None:
            self._assign(f, fresh or stalled, t)
        elif not offering:
            if fresh is not None or not patient:
                self._assign(f, fresh or stalled, t)
        else:
            source.flags[f] |= STALLED
            if fresh is source or (fresh is None and stalled is source):
                return None if patient else source
            self._assign(f, fresh or stalled, t)
        return None

    def _delivers(self, table: PeerTable, t: float) -> bool:
        return t - table.delivered_at < self._stall

    def _not_added(self, f: int, t: float) -> None:
        """Messages let through were not added, or no verdict came: act as if they had never arrived."""
        feeds = self._feeds
        feeds.heard[f] = feeds.local[f]
        self._pending.pop(f, None)
        source = self._source(f)
        if source is None:
            self._hand_over(f, NOBODY, t)
        else:
            self._ask_again(source, f)
            self._fall_behind(f, t)

    # ---- inside: queues

    def _ask_again(self, table: PeerTable, f: int) -> None:
        """Repeat our note for the feed, so that the peer starts over after what we have; once until it grows."""
        if not table.flags[f] & RETRIED or table.told[f] < 0 or table.told[f] & 1:
            table.flags[f] |= RETRIED | FORCE
            self._tell(table, f)

    def _tell(self, table: PeerTable, f: int) -> None:
        if table.open and not table.flags[f] & NOTE_QUEUED:
            table.flags[f] |= NOTE_QUEUED
            table.notes.push(f)
            self._signal(table)

    def _queue_send(self, table: PeerTable, f: int) -> None:
        if not table.flags[f] & SEND_QUEUED:
            table.flags[f] |= SEND_QUEUED
            table.sends.push(f)
            self._signal(table)

    def _signal(self, table: PeerTable) -> None:
        if not table.signalled:
            table.signalled = True
            self._effects.append(Ready(table.id))

    def _bad(self, table: PeerTable, count: int) -> None:
        before = table.bad_entries
        table.bad_entries += count
        if before < self._bad_entries <= table.bad_entries:
            self._effects.append(Breach(table.id, f"{table.bad_entries} bad entries in EBT notes"))

    def _confirm_all(self, table: PeerTable) -> None:
        """Tell the peer how much of what it delivered we hold; what is still in ingest waits for the next time."""
        for _ in range(len(table.unconfirmed)):
            f = table.unconfirmed.pop()
            if f in self._pending:
                table.unconfirmed.push(f)
                continue
            table.flags[f] &= ~UNCONFIRMED
            self._tell(table, f)

    def _next_notes(self, table: PeerTable) -> dict[str, int]:
        feeds, told, flags = self._feeds, table.told, table.flags
        notes: dict[str, int] = {}
        while len(notes) < self._frame and len(table.notes):
            f = table.notes.pop()
            forced = flags[f] & FORCE
            flags[f] &= ~NOTE_QUEUED
            if not feeds.flags[f] & WANTED or flags[f] & BLOCKED:
                value = NOT_REPLICATING
                if told[f] == UNKNOWN and not flags[f] & HEARD:
                    continue
            elif told[f] == UNKNOWN and table.claims[f] == NOT_REPLICATING:
                continue
            elif feeds.source[f] != table.slot:
                value = feeds.local[f] << 1 | 1
            elif f in self._pending and (forced or told[f] < 0 or told[f] & 1):
                continue  # asked for once the messages in hand are added: before, they would come again
            else:
                value = feeds.local[f] << 1
            flags[f] &= ~FORCE
            if value != told[f] or forced:
                told[f] = value
                if value == NOT_REPLICATING:
                    flags[f] |= RETRACTED
                notes[feeds.ids[f]] = value
        waiting = table.refusals.waiting
        while waiting and len(notes) < self._frame:
            notes[waiting.pop()] = NOT_REPLICATING
        return notes

    def _next_ranges(self, table: PeerTable, messages: int) -> Iterator[SendRange]:
        feeds, sent, flags = self._feeds, table.sent, table.flags
        while messages > 0 and len(table.sends):
            f = table.sends.pop()
            flags[f] &= ~SEND_QUEUED
            after, local = sent[f], feeds.local[f]
            if not flags[f] & TX or flags[f] & BLOCKED or not feeds.flags[f] & WANTED or after >= local:
                continue
            share = min(messages, self._range) if len(table.sends) else messages
            upto = sent[f] = min(local, after + share)
            messages -= upto - after
            table.sent_messages += upto - after
            if upto < local:
                flags[f] |= SEND_QUEUED
                table.sends.push(f)
            yield SendRange(table.id, feeds.ids[f], after, upto)

    # ---- inside: tables and time

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
        self._signal(table)

    def _free_slot(self) -> int:
        for slot, table in enumerate(self._slots):
            if table is None:
                return slot
        self._slots.append(None)
        return len(self._slots) - 1

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
