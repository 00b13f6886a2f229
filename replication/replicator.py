"""What this node replicates, and with whom: the policy kept up to date, one exchange a connection, one EBT machine.

The social graph, the blocks and the requests made by hand decide (`replication.policy`); the machine and the history
streams carry it out. A block takes effect at once; everything else a moment later, so that a thousand contact messages
are one change.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from feeds.blobs import BlobTotals
from feeds.database import Database
from feeds.early_posts import EarlyPosts
from feeds.errors import StoreError
from feeds.formats.base import FeedFormat
from feeds.ingest import Ingest, Peeked
from feeds.live import Live
from feeds.log import Log
from feeds.views.social_graph import SocialGraph
from replication import policy as policies
from replication import progress
from replication.budget import Budgets, Spending
from replication.early_fetch import EarlyFetch, WantBlobs
from replication.early_posts import EARLY_HOPS
from replication.ebt.driver import EbtDriver, OwnFeed
from replication.ebt.remembered import RememberedClocks
from replication.ebt.state import EbtState
from replication.exchange import Exchange
from replication.growth import Growth
from replication.limits import DEFAULT_LIMITS, Limits
from replication.near_first import NearFirst
from replication.policy import Explanation, Policy
from replication.preview import Means, More, preview
from replication.progress import Rate
from replication.rpc.connection import RpcConnection
from replication.why import Failure

logger = logging.getLogger(__name__)

SETTLE_SECONDS: Final = 0.05
SETTLE_SHARE: Final = 10
"""After working out the policy, wait this many times as long as it took before doing it again."""
FURTHER_HOPS: Final = 3
"""How far beyond the hops that are replicated an explanation looks for a way."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where time comes from: seconds of a monotonic clock, seconds since the epoch, and a number in [0, 1)."""

    now: Callable[[], float]
    wall: Callable[[], float]
    random: Callable[[], float]


class Replicator:
    """Made by `open`; `run` must be running while connections are."""

    def __init__(
        self,
        me: str,
        *,
        database: Database,
        log: Log,
        ingest: Ingest,
        live: Live,
        graph: SocialGraph,
        feed_format: FeedFormat,
        clocks: Clocks,
        max_hops: int,
        requests: Mapping[str, bool],
        limits: Limits,
        own: OwnFeed | None = None,
        budgets: Budgets | None = None,
        early: EarlyPosts | None = None,
        want_blobs: WantBlobs | None = None,
    ) -> None:
        self.me = me
        self.growth = Growth(log, live)
        self._database = database
        self._log = log
        self._ingest = ingest
        self._graph = graph
        self._format = feed_format
        self._clocks = clocks
        self._max_hops = max_hops
        self._requests = dict(requests)
        self._limits = limits
        self._policy = policies.nothing(me)
        self._nearest: list[str] | None = None
        self._count_near = 0
        self._exchanges: dict[RpcConnection, Exchange] = {}
        self._failures: dict[str, Failure] = {}
        self._refused: list[Callable[[Collection[str]], None]] = []
        self._graph_changed = asyncio.Event()
        self.spending = Spending(budgets or Budgets(), clocks.wall(), keys=limits.budget_keys)
        self._paused: frozenset[str] = frozenset()
        self._near_first = NearFirst()
        self._rate = Rate(clocks.now(), log.position)
        self.ebt = EbtDriver(
            EbtState(
                notes_per_frame=limits.ebt_feeds_per_note,
                refusals=limits.ebt_feeds_remembered,
                heard_of=limits.ebt_feeds_heard_of,
                bad_entries=limits.ebt_bad_entries,
            ),
            log=log,
            growth=self.growth,
            remembered=RememberedClocks(database, clocks.wall),
            feed_format=feed_format,
            may_serve=self.may_serve,
            now=clocks.now,
            own=None if own is None else (me, own),
        )
        self._early = None if early is None else self._early_fetch(early, want_blobs)

    def _early_fetch(self, early: EarlyPosts, want_blobs: WantBlobs | None) -> EarlyFetch:
        return EarlyFetch(
            early,
            state=self.ebt.state,
            near=self._near_from,
            wanted=lambda feed: feed in self._policy.wanted and feed != self.me,
            hop_of=self.hop_of,
            on_texts=lambda peer, feed, texts: self._spend(peer, [(feed, 0, text) for text in texts]),
            want_blobs=want_blobs,
        )

    @classmethod
    async def open(
        cls,
        me: str,
        *,
        database: Database,
        log: Log,
        ingest: Ingest,
        live: Live,
        graph: SocialGraph,
        feed_format: FeedFormat,
        clocks: Clocks,
        max_hops: int = policies.DEFAULT_HOPS,
        limits: Limits = DEFAULT_LIMITS,
        own: OwnFeed | None = None,
        budgets: Budgets | None = None,
        early: EarlyPosts | None = None,
        want_blobs: WantBlobs | None = None,
    ) -> "Replicator":
        """Load the requests made by hand and work out the first policy.

        own -- who watches over our own feed; early -- where posts are held that come before their history, with
        `want_blobs` for what they show; None: they are not asked for.
        """
        requests = await database.read(
            lambda connection: dict(connection.execute("SELECT feed, replicate FROM feed_request"))
        )
        replicator = cls(
            me,
            database=database,
            log=log,
            ingest=ingest,
            live=live,
            graph=graph,
            feed_format=feed_format,
            clocks=clocks,
            max_hops=max_hops,
            requests={feed: bool(replicate) for feed, replicate in requests.items()},
            limits=limits,
            own=own,
            budgets=budgets,
            early=early,
            want_blobs=want_blobs,
        )
        await replicator._load_spending()
        replicator._begin()
        return replicator

    def _begin(self) -> None:
        self._apply()
        state, now = self.ebt.state, self._clocks.now()
        for info in self._log.feeds():
            state.set_clock(info.id, info.sequence)
            if info.state == "forked":
                state.fork(info.id, now)
        for feed, hole in self._log.holes().items():
            state.set_hole(feed, hole)
        self._log.when_thinned(self._thinned)
        self._apply_budget()

    def _thinned(self, feed: str) -> None:
        """Messages of a feed were erased here, or it begins anew."""
        state, sequence, now = self.ebt.state, self._log.sequence(feed), self._clocks.now()
        before = state.feed_status(feed)
        state.set_hole(feed, self._log.hole(feed))
        if sequence < before.sequence:
            state.want(feed, False, now)
            state.set_clock(feed, sequence)
            state.want(feed, before.wanted, now)
        self.ebt.pump()

    # ---- life

    async def run(self) -> None:
        """Follow the log and the social graph until cancelled."""
        unsubscribe = self._graph.subscribe(self._graph_moved)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.growth.run(), name="log growth")
                group.create_task(self.ebt.run(), name="EBT")
                group.create_task(self._follow_graph(), name="policy")
                group.create_task(self._measure(), name="rate")
                if self._early is not None:
                    group.create_task(self._early.run(), name="early posts")
        finally:
            unsubscribe()

    async def remembered(self, feed: str) -> dict[str, int]:
        """What each peer was last known to have of a feed, also of those that are not connected."""
        return await RememberedClocks(self._database, self._clocks.wall).of_feed(feed)

    async def close(self) -> None:
        """Save what peers have; to be called when no connection is left."""
        await self.ebt.save()
        await self._save_spending()

    async def exchange(self, connection: RpcConnection, peer: str, close: Callable[[str], None]) -> None:
        """Replicate with one peer over one connection, until cancelled. `close(reason)` ends the connection."""
        exchange = Exchange(
            connection,
            peer,
            ebt=self.ebt,
            log=self._log,
            ingest=self._ingest,
            feed_format=self._format,
            wanted=lambda: self._wanted_from(peer),
            close=close,
            now=self._clocks.now,
            random=self._clocks.random,
            on_texts=lambda texts: self._spend(peer, texts),
            on_rejected=lambda feed, reason: self._note_failure(feed, Failure(reason, peer, self._wall_ms())),
        )
        self._exchanges[connection] = exchange
        beside = None
        if self._early is not None:
            beside = asyncio.create_task(self._early.attend(connection, peer, exchange.delivered_invalid))
        try:
            await exchange.run()
        finally:
            del self._exchanges[connection]
            if beside is not None:
                beside.cancel()

    def exchange_of(self, connection: RpcConnection) -> Exchange | None:
        """The exchange over a connection; None for a local caller."""
        return self._exchanges.get(connection)

    # ---- policy

    @property
    def policy(self) -> Policy:
        """What is decided at present."""
        return self._policy

    @property
    def requests(self) -> Mapping[str, bool]:
        """Feeds asked for (or refused) by hand."""
        return self._requests

    def allows_peer(self, peer: str) -> bool:
        """Whether a connection with the peer is wanted: false for those we block."""
        return not self._graph.is_blocking(self.me, peer)

    def may_serve(self, feed: str, peer: str) -> bool:
        """Whether messages of the feed may be sent to the peer: neither the owner nor we block it."""
        graph = self._graph
        return not (
            graph.is_blocking(self.me, peer) or graph.is_blocking(self.me, feed) or graph.is_blocking(feed, peer)
        )

    def on_refused(self, callback: Callable[[Collection[str]], None]) -> None:
        """Call back with peers that we block from now on, so that their connections are ended."""
        self._refused.append(callback)

    async def request(self, feed: str, wanted: bool) -> None:
        """Ask for a feed by hand, or refuse it, whatever the social graph says; kept over a restart."""
        await self.request_all({feed: wanted})

    async def request_all(self, feeds: Mapping[str, bool]) -> None:
        """`request` for many feeds at once."""
        now = int(self._clocks.wall() * 1000)
        asked = dict(feeds)
        rows = [(feed, int(wanted), now) for feed, wanted in asked.items()]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR REPLACE INTO feed_request VALUES (?,?,?)", rows)

        await self._database.write(write)
        self._requests.update(asked)
        self._apply()

    async def unrequest(self, feed: str) -> None:
        """Take a request back: the social graph decides again."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM feed_request WHERE feed=?", (feed,))

        await self._database.write(write)
        self._requests.pop(feed, None)
        self._apply()

    def _graph_moved(self) -> None:
        known = self._policy.blocks.get(self.me, frozenset())
        if known.symmetric_difference(self._graph.blocks(self.me)) - {self.me}:
            self._apply()
        else:
            self._graph_changed.set()

    async def _follow_graph(self) -> None:
        pause = SETTLE_SECONDS
        while True:
            await self._graph_changed.wait()
            await asyncio.sleep(pause)
            self._graph_changed.clear()
            began = self._clocks.now()
            self._apply()
            pause = max(SETTLE_SECONDS, SETTLE_SHARE * (self._clocks.now() - began))

    def _apply(self) -> None:
        """Work out the policy anew and carry out what changed."""
        old = self._policy
        hops = self._graph.hops(self.me, self._max_hops)
        asked = set(hops) | {feed for feed, wanted in self._requests.items() if wanted} | {self.me}
        new = self._policy = policies.evaluate(
            self.me,
            hops=hops,
            blocks={feed: blocks for feed in asked if (blocks := self._graph.blocks(feed))},
            requests=self._requests,
            max_hops=self._max_hops,
        )
        change = policies.compare(old, new)
        if not change:
            return
        for feed in change.wanted:
            self.ebt.want(feed, True)
        for feed in change.unwanted:
            self.ebt.want(feed, False)
        for feed, peer in change.blocked:
            self.ebt.block(feed, peer, True)
        for feed, peer in change.unblocked:
            self.ebt.block(feed, peer, False)
        self.ebt.pump()
        if change.wanted or change.unwanted:
            self._nearest = None
        self._apply_budget()
        for exchange in self._exchanges.values():
            exchange.wanted_changed()
        if change.refused_peers:
            for callback in self._refused:
                callback(change.refused_peers)

    @property
    def wanted(self) -> Sequence[str]:
        """Every wanted feed, the nearest first."""
        if self._nearest is None:
            self._nearest = policies.compare(policies.nothing(self.me), self._policy).wanted
            self._count_near = sum(1 for feed in self._nearest if self.hop_of(feed) <= 1)
        return self._nearest

    def _wanted_from(self, peer: str) -> list[str]:
        if self.spending.peer_spent(peer):
            return []
        return [feed for feed in self.wanted if feed not in self._paused and self.may_serve(feed, peer)]

    def _near_from(self, peer: str) -> Iterator[str]:
        """Feeds of others whose newest posts may be asked of a peer before their history, nearest first."""
        if self.spending.peer_spent(peer):
            return
        for feed in self.wanted:
            hop = self.hop_of(feed)
            if hop > EARLY_HOPS:
                return
            if hop and feed not in self._paused:
                yield feed

    # ---- budgets

    async def _load_spending(self) -> None:
        def read(connection: sqlite3.Connection) -> dict[str, int]:
            return dict(connection.execute("SELECT key, bytes FROM budget_day WHERE day=?", (self.spending.day,)))

        self.spending.load(await self._database.read(read))

    async def _save_spending(self) -> None:
        day, changed = self.spending.day, self.spending.take_changes()
        if not changed:
            return

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM budget_day WHERE day<?", (day,))
            rows = [(day, key, size) for key, size in changed.items()]
            connection.executemany("INSERT OR REPLACE INTO budget_day VALUES (?,?,?)", rows)

        try:
            await self._database.write(write)
        except StoreError as error:
            logger.warning("what was fetched today could not be saved: %s", error)

    def hop_of(self, feed: str) -> int:
        """The distance by which a wanted feed counts: what is asked for by hand as if we followed it."""
        if feed == self.me:
            return 0
        return 1 if feed in self._policy.requests else max(1, self._policy.hops.get(feed, 1))

    def waits_for_near(self, feed: str) -> bool:
        """Whether a feed is not asked for at present because nearer ones come first."""
        return self._near_first.waiting and feed in self._policy.wanted and self.hop_of(feed) > 1

    def _spend(self, peer: str, texts: Sequence[Peeked]) -> None:
        """Messages came from a peer."""
        if not self.spending.budgets:
            return
        hops: dict[int, int] = {}
        if self.spending.budgets.hops:
            for author, _, text in texts:
                hop = self.hop_of(author)
                hops[hop] = hops.get(hop, 0) + len(text)
        self.spent(peer, sum(len(text) for _, _, text in texts), hops)

    def spent(self, peer: str, size: int, hops: Mapping[int, int] | None = None) -> None:
        """So many bytes came from a peer; what a budget holds back from now on is asked for no more."""
        if self.spending.budgets and self.spending.spend(peer, size, hops):
            logger.info("a budget of today is used up after %d bytes from %s", size, peer)
            self._apply_budget()

    def _apply_budget(self) -> None:
        """Pause and resume feeds and peers as the budgets of today say, and as near feeds go first."""
        spending, state, now = self.spending, self.ebt.state, self._clocks.now()
        if not (spending.budgets or self._near_first.waiting or self._paused):
            return
        nearest = 1 if self._near_first.waiting else policies.FURTHEST
        held = {feed for feed in self._policy.wanted if (hop := self.hop_of(feed)) > nearest or spending.hop_spent(hop)}
        before, self._paused = self._paused, frozenset(held)
        for feed in self._paused - before:
            state.pause(feed, True, now)
        for feed in sorted(before - self._paused, key=self.hop_of):
            state.pause(feed, False, now)
        state.pause_peers(frozenset(spending.status()["spent"]["peers"]), now)
        self.ebt.pump()
        for exchange in self._exchanges.values():
            exchange.wanted_changed()

    # ---- for people

    def _wall_ms(self) -> int:
        return int(self._clocks.wall() * 1000)

    def _note_failure(self, feed: str, failure: Failure) -> None:
        self._failures.pop(feed, None)
        if len(self._failures) >= self._limits.feed_failures:
            del self._failures[next(iter(self._failures))]
        self._failures[feed] = failure

    def failure(self, feed: str) -> Failure | None:
        """The last message of the feed that was refused, since the start."""
        return self._failures.get(feed)

    @property
    def online(self) -> bool:
        """Whether there is a peer to replicate with."""
        return bool(self._exchanges)

    def explain(self, feed: str) -> Explanation:
        """Why the feed is, or is not, replicated; the way to it is also found a little beyond our hops."""
        policy = self._policy
        if feed not in policy.hops:
            further = self._graph.hops(self.me, self._max_hops + FURTHER_HOPS)
            if further.get(feed, -1) > 0:
                policy = replace(policy, hops=further)
        return policy.explain(feed, self._graph.followers)

    async def _measure(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._rate.measure(self._clocks.now(), self._log.position)
            waited = self._near_first.waiting
            near = islice(self.wanted, self._count_near)
            if self.spending.begin_day(self._clocks.wall()) | (
                self._near_first.look(self._clocks.now(), self.ebt.state.missing(near)) is not waited
            ):
                self._apply_budget()
            await self._save_spending()

    def status(self) -> dict[str, Any]:
        """`summary`, and a line for each peer."""
        return self.summary() | {"peers": progress.peers(self.ebt.state, self._exchanges.values())}

    def summary(self) -> dict[str, Any]:
        """Totals wanted, held and missing; plain JSON values."""
        found = progress.summary(self._log, self.ebt.state, self._policy, self.wanted, connected=self.online)
        found["budget"] = self.spending.status() if self.spending.budgets else None
        messages = found["messages"]
        messages["per_second"] = round(self._rate.per_second, 1)
        messages["seconds_left"] = self._rate.left(messages["missing"]) if messages["missing"] else 0
        return found

    def preview(self, hops: int, blobs: BlobTotals) -> dict[str, Any]:
        """What would be fetched with another number of hops; plain JSON values."""
        policy = self._policy
        distances = self._graph.hops(self.me, hops)
        wanted = policies.evaluate(
            self.me, hops=distances, blocks=policy.blocks, requests=self._requests, max_hops=hops
        ).wanted
        more = {
            feed: More(distances.get(feed, 1), self._offered(feed), self._log.sequence(feed))
            for feed in wanted - policy.wanted
        }
        held = [info for info in self._log.feeds() if info.sequence]
        means = Means(
            len(held),
            sum(info.sequence for info in held),
            sum(info.bytes for info in held),
            blobs.blobs + blobs.wants,
            blobs.blobs,
            blobs.bytes,
        )
        return preview(hops, self._max_hops, more, len(policy.wanted - wanted), means)

    def _offered(self, feed: str) -> int | None:
        return self.ebt.state.offered(feed) or self._log.sequence(feed) or None

    def feed_status(self, feed: str) -> dict[str, Any]:
        """What we have of one feed, what each peer says it has, and what is being waited for; plain JSON values."""
        return progress.feed(feed, self._log, self.ebt.state, self._policy, self._requests, connected=self.online)
