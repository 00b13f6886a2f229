"""Replication over one connection: EBT where the peer has it, else history streams (protocol.md sections 8 and 9).

The client of the handshake opens `ebt.replicate` at once. Where that is refused, or where a client asks for history
streams first, we fetch by history streams; EBT that opens later takes over. Where a client opens neither for a few
seconds, we open EBT from our side: when two dials crossed, its stream on the connection that is left may have been
ended by one on the other, and deployed nodes open none a second time (ssb-db2 would get nothing from us any more).
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from feeds.errors import FeedsError
from feeds.formats.base import FeedFormat
from feeds.ingest import AddReport, Ingest, Peeked
from feeds.log import Log
from feeds.message import JsonObject
from replication.ebt.driver import EbtDriver, Ending
from replication.ebt.session import Breached
from replication.errors import RemoteCallError
from replication.history import HistoryFetcher
from replication.intake import Intake
from replication.rpc.connection import RpcConnection
from replication.rpc.streams import Duplex

logger = logging.getLogger(__name__)

EBT_FRAME_MAX: Final = 4 * 1024 * 1024
EBT_WAIT_SECONDS: Final = 3.0
LOOK_SECONDS: Final = 1.0
REPLACED_SECONDS: Final = 0.1
"""After a newer session took over: if that one is gone too by then (two dials crossed), this side opens another."""
DOUBTFUL_SECONDS: Final = 0.5
"""For the peer to be done with a session before the next one begins."""
REOPEN_SECONDS: Final = 2.0
REOPEN_SECONDS_MAX: Final = 120.0
INVALID_FEEDS_MAX: Final = 16
EBT_OPTIONS: Final[JsonObject] = {"version": 3, "format": "classic"}


class Exchange:
    """One peer's connection. `run` works until cancelled, which the hub does when the connection ends.

    `wanted` gives the feeds to fetch from this peer, nearest first; `random` a number in [0, 1).
    """

    def __init__(
        self,
        connection: RpcConnection,
        peer: str,
        *,
        ebt: EbtDriver,
        log: Log,
        ingest: Ingest,
        feed_format: FeedFormat,
        wanted: Callable[[], Sequence[str]],
        close: Callable[[str], None],
        now: Callable[[], float],
        random: Callable[[], float],
        on_texts: Callable[[Sequence[Peeked]], None],
        on_rejected: Callable[[str, str], None],
    ) -> None:
        """`on_texts` hears of messages that came, `on_rejected(feed, reason)` of each that was refused."""
        self.peer = peer
        self._connection = connection
        self._ebt = ebt
        self._log = log
        self._format = feed_format
        self._wanted = wanted
        self._close = close
        self._now = now
        self._random = random
        self._on_texts = on_texts
        self._on_rejected = on_rejected
        self._intake = Intake(ingest, peer, self._reported, self._failed)
        self._fetcher: HistoryFetcher | None = None
        self._sessions = 0
        self._fall_back = False
        self._changed = asyncio.Event()
        self._invalid: set[str] = set()

    @property
    def protocol(self) -> str | None:
        """How feeds come from this peer at present: "ebt", "history" or None."""
        if self._sessions:
            return "ebt"
        return None if self._fetcher is None else "history"

    async def run(self) -> None:
        """Raises the errors of the connection (in a group)."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._intake.run())
                if self._connection.is_client:
                    group.create_task(self._open_ebt())
                await self._watch(group)
        finally:
            self._lost(self._intake.unreported())

    # ---- what the peer does

    async def serve_ebt(self, duplex: Duplex) -> None:
        """The peer opened ebt.replicate on us."""
        await self._session(duplex, client=False)

    def history_called(self) -> None:
        """The peer asked us for a history stream, so it may have no EBT, unless that runs already."""
        if not self._connection.is_client and not self._fall_back and not self._sessions:
            self._fall_back = True
            self._changed.set()

    def wanted_changed(self) -> None:
        """Other feeds are wanted than before."""
        if self._fetcher is not None:
            self._fetcher.set_wanted(self._wanted())

    # ---- EBT

    async def _session(self, duplex: Duplex, *, client: bool) -> Ending:
        self._sessions += 1
        self._changed.set()
        try:
            return await self._ebt.serve(self.peer, duplex, self._intake, client=client)
        except Breached as error:
            self._close(str(error))
            return Ending.REPLACED
        finally:
            self._sessions -= 1
            self._changed.set()

    async def _open_ebt(self) -> None:
        """As the client: one session after the other, until the peer turns out to have none."""
        pause = REOPEN_SECONDS
        while True:
            began = self._now()
            ending = Ending.ENDED
            try:
                ending = await self._session(self._connection.duplex(("ebt", "replicate"), [EBT_OPTIONS]), client=True)
            except RemoteCallError as error:
                logger.info("EBT with %s ended: %s", self.peer, error)
            if ending is Ending.UNSUPPORTED:
                self._fall_back = True
                self._changed.set()
                return
            if ending is Ending.REPLACED:
                await asyncio.sleep(REPLACED_SECONDS * (1 + self._random()))
            elif ending is Ending.DOUBTFUL:
                await asyncio.sleep(DOUBTFUL_SECONDS)
            else:
                pause = REOPEN_SECONDS if self._now() - began > 60.0 else min(pause * 2, REOPEN_SECONDS_MAX)
                await asyncio.sleep(pause * (0.5 + self._random()))
            await self._ebt.without_session(self.peer)

    # ---- history streams

    async def _watch(self, group: asyncio.TaskGroup) -> None:
        """Fetch by history streams while there is no EBT with this peer."""
        fetching: asyncio.Task[None] | None = None
        opening = self._connection.is_client
        alone_since = self._now()
        while True:
            if self._sessions or self._ebt.has_session(self.peer):
                alone_since = self._now()
                if fetching is not None:
                    fetching.cancel()
                    fetching = None
            elif fetching is None and (self._fall_back or self._now() - alone_since >= EBT_WAIT_SECONDS):
                if opening or self._fall_back:
                    fetching = group.create_task(self._fetch())
                else:
                    opening, alone_since = True, self._now()
                    group.create_task(self._open_ebt())
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._changed.wait()

    async def _fetch(self) -> None:
        fetcher = HistoryFetcher(
            self._connection,
            self._log,
            self._intake,
            feed_format=self._format,
            on_foreign=self._blame,
            now=self._now,
        )
        fetcher.set_wanted(self._wanted())
        self._fetcher = fetcher
        try:
            await fetcher.run()
        finally:
            self._fetcher = None

    # ---- verdicts

    def delivered_invalid(self, feed: str, reason: str) -> None:
        """What the peer gave beside its streams of feeds is invalid."""
        logger.info("message of %s from %s refused: %s", feed, self.peer, reason)
        self._on_rejected(feed, reason)
        self._blame(feed)

    def _reported(self, batch: Sequence[Peeked], report: AddReport) -> None:
        self._on_texts(batch)
        for rejection in report.rejections:
            feed = rejection.author
            logger.info("message from %s refused (%s): %s", self.peer, rejection.kind, rejection.reason)
            if feed is not None:
                self._on_rejected(feed, rejection.reason)
                self._ebt.rejected(self.peer, feed, rejection.kind)
                if self._fetcher is not None:
                    self._fetcher.refused(feed, rejection.kind)
            if rejection.kind == "invalid":
                self._blame(feed or "")
        if report.rejections:
            self._ebt.pump()

    def _blame(self, feed: str) -> None:
        """The peer delivered something invalid; doing so for many feeds ends the connection."""
        self._invalid.add(feed)
        if len(self._invalid) >= INVALID_FEEDS_MAX:
            self._close(f"it delivered invalid messages of {len(self._invalid)} feeds")

    def _failed(self, batch: Sequence[Peeked], error: FeedsError) -> None:
        """Our own fault: the messages will be asked for again."""
        logger.warning("%d messages from %s could not be stored: %s", len(batch), self.peer, error)
        self._lost(batch)

    def _lost(self, texts: Sequence[Peeked]) -> None:
        """Messages that were let through and will not be stored, by no fault of the peer."""
        for feed in {author for author, _, _ in texts}:
            self._ebt.rejected(self.peer, feed, "failed")
            if self._fetcher is not None:
                self._fetcher.refused(feed, "failed")
        self._ebt.pump()
