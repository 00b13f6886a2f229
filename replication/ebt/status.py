"""What the EBT machine knows, for people: one feed with all peers, or one peer with all feeds."""

from collections.abc import Iterable
from typing import NamedTuple

from replication.ebt.tables import BLOCKED, FORKED, TX, UNKNOWN, WANTED, FeedTable, PeerTable


class PairStatus(NamedTuple):
    """One peer and one feed.

    ``claim`` is what the peer says it has (None: never spoke of it, -1: does not replicate it), ``told`` what we last
    said; ``sending``: it asked us to send, ``receiving``: we asked it; ``sent`` is how far we sent it.
    """

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
    """One session. ``missing`` and ``owed`` count messages: those it claims beyond ours, those it still wants.

    ``received`` were let through to ingest, ``duplicates`` were held already, ``unrequested`` not asked for or out of
    step; ``invalid`` counts refusals of ingest, ``bad_entries`` unreadable entries of notes.
    """

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


class Lag(NamedTuple):
    """How far we are behind the most that any peer claims: number of feeds, and messages in all."""

    feeds: int
    messages: int


def lag(feeds: FeedTable, tables: Iterable[PeerTable]) -> Lag:
    """Sum over the wanted feeds that are not forked; quick also for many feeds and peers."""
    claims = [table.claims for table in tables]
    if not claims:
        return Lag(0, 0)
    best = map(max, feeds.local, *claims)
    missing = [
        most - local
        for most, local, flags in zip(best, feeds.local, feeds.flags, strict=True)
        if most > local and flags & (WANTED | FORKED) == WANTED
    ]
    return Lag(len(missing), sum(missing))


def of_feed(feeds: FeedTable, feed: str, source: str | None, tables: Iterable[PeerTable]) -> FeedStatus:
    """The status of one feed, also of one that was never heard of."""
    f = feeds.index.get(feed)
    if f is None:
        return FeedStatus(feed, 0, wanted=False, forked=False, source=None, peers={})
    flags = feeds.flags[f]
    peers = {
        table.id: PairStatus(
            claim=None if table.claims[f] == UNKNOWN else table.claims[f],
            told=None if table.told[f] == UNKNOWN else table.told[f] >> 1,
            sending=bool(table.flags[f] & TX),
            receiving=table.asked(f),
            sent=table.sent[f],
        )
        for table in tables
        if table.claims[f] != UNKNOWN or table.told[f] != UNKNOWN
    }
    return FeedStatus(feed, feeds.local[f], bool(flags & WANTED), bool(flags & FORKED), source, peers)


def of_peer(feeds: FeedTable, table: PeerTable) -> PeerStatus:
    """The figures of one session; looks at every feed."""
    missing = owed = 0
    for f, (local, claim, flags) in enumerate(zip(feeds.local, table.claims, table.flags, strict=True)):
        if not feeds.flags[f] & WANTED or flags & BLOCKED:
            continue
        missing += max(0, claim - local)
        if flags & TX:
            owed += max(0, local - table.sent[f])
    return PeerStatus(
        table.id,
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
