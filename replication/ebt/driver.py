"""Runs the EBT machine for all peers of the node (protocol.md section 9).

One machine knows all feeds and peers; this file gives it the commit notices, the clock and the sessions, and hands its
effects to the sessions they are for. What peers said they have is saved on disconnect, every few seconds while it
changes, and at the end.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final, Protocol

from feeds.errors import FeedsError
from feeds.formats.base import FeedFormat
from feeds.log import Log
from replication.ebt.remembered import RememberedClocks
from replication.ebt.session import Breached, Doubtful, Replaced, Session
from replication.ebt.state import Breach, EbtState, Ready
from replication.errors import RemoteCallError
from replication.growth import Growth
from replication.intake import Intake
from replication.rpc.streams import Duplex

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.5
SAVE_SECONDS: Final = 10.0
DOUBT_SECONDS: Final = 2.0
"""How long a session lasts that took the place of another one. Deployed peers take the end of the older one, when it
comes late, for the end of the newer, of which they then know nothing any more and say nothing either."""
RECONNECTED: Final = "reconnected to peer"


class Ending(Enum):
    """How a session ended, for the replicator to decide what comes next."""

    UNSUPPORTED = "the peer has no EBT"
    ENDED = "the peer ended the stream"
    REPLACED = "the peer has a newer session"
    DOUBTFUL = "the session took the place of another one and is begun anew"


class OwnFeed(Protocol):
    """Who must hear what peers show of our own feed (`feeds.publishing`)."""

    def asks(self, peer: str) -> bool:
        """Whether the peer is to be asked for the feed in its next session, whatever is remembered of it."""

    def shows(self, peer: str, sequence: int) -> None:
        """A connected peer has the feed up to a sequence, as it says; -1: it does not replicate it."""

    def left(self, peer: str) -> None:
        """The session with the peer has ended."""


class EbtDriver:
    """EBT for the classic feeds of one node. `run` must be running while sessions are."""

    def __init__(
        self,
        state: EbtState,
        *,
        log: Log,
        growth: Growth,
        remembered: RememberedClocks,
        feed_format: FeedFormat,
        may_serve: Callable[[str, str], bool],
        now: Callable[[], float],
        own: tuple[str, OwnFeed] | None = None,
    ) -> None:
        """`may_serve(feed, peer)`: whether messages of the feed may be sent to the peer at this moment.

        `own`: our feed, and who watches over it. Each peer is then asked for it at least once, whatever is remembered:
        a store that is older than it knows would remember what was true when it was copied.
        """
        self.state = state
        self._log = log
        self._growth = growth
        self._remembered = remembered
        self._format = feed_format
        self._may_serve = may_serve
        self._now = now
        self._own = own
        self._sessions: dict[str, Session] = {}
        self._unsaved: dict[str, dict[str, int]] = {}

    # ---- sessions

    async def serve(self, peer: str, duplex: Duplex, intake: Intake, *, client: bool) -> Ending:
        """Run one session to its end. `client`: we opened the stream, so the peer speaks first.

        Raises Breached when the peer broke the rules, RemoteCallError when it ended a working session with an error,
        and the errors of the connection.
        """
        remembered = self._unsaved.get(peer)
        if remembered is None:
            remembered = await self._remembered.load(peer)
        if self._own is not None and self._own[1].asks(peer):
            remembered = {feed: claim for feed, claim in remembered.items() if feed != self._own[0]}
        session = Session(
            peer,
            duplex,
            state=self.state,
            log=self._log,
            intake=intake,
            feed_format=self._format,
            allowed=lambda feed: self._may_serve(feed, peer),
            pump=self.pump,
            spoke=lambda: self._spoke(peer),
            now=self._now,
        )
        older = self._sessions.get(peer)
        if older is not None:
            older.stop(Replaced())
            session.doubted_at = self._now() + DOUBT_SECONDS
        number = self.state.connect(peer, remembered, client=client, now=self._now())
        self._sessions[peer] = session
        self.pump()
        try:
            await session.run()
        except Replaced:
            await duplex.end(RECONNECTED)
            return Ending.REPLACED
        except Doubtful:
            await duplex.end()
            return Ending.DOUBTFUL
        except RemoteCallError as error:
            if not session.heard:
                logger.debug("%s has no EBT: %s", peer, error)
                return Ending.UNSUPPORTED
            if error.message == RECONNECTED:
                return Ending.REPLACED
            raise
        finally:
            self._ended(session, number)
        await duplex.end()
        return Ending.ENDED if session.heard else Ending.UNSUPPORTED

    def _ended(self, session: Session, number: int) -> None:
        clock = self.state.disconnect(session.peer, self._now(), number)
        if self._sessions.get(session.peer) is session:
            del self._sessions[session.peer]
            self._unsaved[session.peer] = clock
            if self._own is not None:
                self._own[1].left(session.peer)
        session.over.set()
        self.pump()

    def _spoke(self, peer: str) -> None:
        """Tell who watches over our own feed what the peer shows of it."""
        if self._own is not None and (sequence := self.state.shown(peer, self._own[0])) is not None:
            self._own[1].shows(peer, sequence)

    def has_session(self, peer: str) -> bool:
        """Whether an EBT stream with the peer is open."""
        return peer in self._sessions

    def covers(self, peer: str, feed: str) -> bool:
        """Whether a feed goes to the peer by EBT, as far as the peer wants it."""
        pair = self.state.feed_status(feed).peers.get(peer) if self.has_session(peer) else None
        return pair is not None and pair.claim is not None and pair.claim >= 0

    async def without_session(self, peer: str) -> None:
        """Wait until no EBT stream with the peer is open."""
        while (session := self._sessions.get(peer)) is not None:
            await session.over.wait()

    # ---- events for the machine

    def want(self, feed: str, wanted: bool) -> None:
        """Start or stop replicating a feed; effective in running sessions at once (after `pump`)."""
        self.state.want(feed, wanted, self._now())

    def block(self, feed: str, peer: str, blocked: bool) -> None:
        """Keep a feed from a peer, or no longer."""
        self.state.block(feed, peer, blocked, self._now())

    def rejected(self, peer: str, feed: str, verdict: str) -> None:
        """The door refused messages of a feed that came from the peer."""
        match verdict:
            case "invalid" | "fork" | "gap" | "failed":
                self.state.rejected(peer, feed, verdict, self._now())
            case _:
                raise ValueError(verdict)

    def grown(self, feeds: Mapping[str, int]) -> None:
        """The log grew."""
        now = self._now()
        for feed, sequence in feeds.items():
            self.state.appended(feed, sequence, now)
        self.pump()

    def pump(self) -> None:
        """Hand the machine's effects to the sessions."""
        for effect in self.state.effects():
            session = self._sessions.get(effect.peer)
            if session is None:
                continue
            match effect:
                case Ready():
                    session.wake()
                case Breach(_, reason):
                    session.stop(Breached(reason))

    # ---- time

    async def run(self) -> None:
        """Tick and save until cancelled."""
        unsubscribe = self._growth.subscribe(self.grown)
        save_at = self._now() + SAVE_SECONDS
        try:
            while True:
                await asyncio.sleep(TICK_SECONDS)
                now = self._now()
                if self.state.busy:
                    self.state.tick(now)
                    self.pump()
                for session in self._sessions.values():
                    if session.doubted_at is not None and now >= session.doubted_at:
                        session.stop(Doubtful())
                if now >= save_at:
                    save_at = now + SAVE_SECONDS
                    await self.save()
                elif self._unsaved:
                    await self._write({})
        finally:
            unsubscribe()

    async def save(self) -> None:
        """Write the clocks that changed since the last time. A failing disk is logged: only traffic depends on it."""
        clocks: dict[str, dict[str, int]] = {}
        for peer, session in self._sessions.items():
            if session.active:
                session.active = False
                clocks[peer] = self.state.clock_of(peer)
        await self._write(clocks)

    async def _write(self, clocks: dict[str, dict[str, int]]) -> None:
        """Write these clocks and those of ended sessions, which stay at hand until they are on the disk."""
        ended = dict(self._unsaved)
        try:
            await self._remembered.save({**ended, **clocks})
        except FeedsError as error:
            logger.warning("what peers have could not be saved: %s", error)
        for peer, clock in ended.items():
            if self._unsaved.get(peer) is clock:
                del self._unsaved[peer]
