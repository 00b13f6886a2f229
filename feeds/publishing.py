"""Our own feed kept from forking: the verdict at the start, what peers show of it, and the way out of a lock.

`publisher_state` decides. Here are its files and tables, the clock, and the news: `shows` and `left` are called by
replication for each peer, `run` looks once a second. Signing is `publisher`'s, which is only told to stop or go on.
"""

import asyncio
import logging
import secrets
import sqlite3
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final

from feeds import install as installs
from feeds.database import Database
from feeds.errors import FeedsError, ForkedFeed, SequenceMismatch, StoreError
from feeds.install import Event, StoreState
from feeds.log import Log
from feeds.message import EMPTY
from feeds.publisher import Publisher, State
from feeds.publisher_state import WAY_OUT, Evidence, Lock, Progress, Reason, Unlocking, judge
from feeds.publishing_mark import MARK, MarkKeeper, read_mark

__all__ = ["Publishing", "begin_install"]

LOG: Final = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
PEERS_SHOWN: Final = 100


def begin_install(folder: Path, feed: str) -> None:
    """Note, before its key is on the disk, that a feed is made here: it may be published from the start.

    An installation that is here and in its place goes on. Raises OSError.
    """
    here, place = installs.read_install(folder), installs.place_of(folder)
    if here is None or place is None or not here.place.is_same(place):
        here = installs.new_install(folder, secrets.token_hex(16))
    MarkKeeper(folder, feed).begin(here.epoch, EMPTY)


class Publishing:
    """Made by `open`; `run` must be running for a lock to be taken off by itself."""

    def __init__(
        self,
        folder: Path,
        database: Database,
        log: Log,
        publisher: Publisher,
        mark: MarkKeeper,
        *,
        state: StoreState,
        now: Callable[[], float],
        wall: Callable[[], float],
        own_pubs: Collection[str],
    ) -> None:
        self._folder: Final = folder
        self._database: Final = database
        self._log: Final = log
        self._publisher: Final = publisher
        self._mark: Final = mark
        self._now: Final = now
        self._wall: Final = wall
        self._own_pubs: Final = frozenset(own_pubs)
        self._set_aside = state.set_aside
        self._recorded: Lock | None = state.locked
        self._shown: Final[dict[str, int]] = {}
        """What each peer said last that it has of our feed."""
        self._connected: Final[set[str]] = set()
        self._heard: Final[set[str]] = set()
        self._unlocking: Unlocking | None = None
        self._floor = EMPTY
        """What this installation surely published, by the mark that was found."""
        self._news: Final = asyncio.Event()

    @classmethod
    async def open(
        cls,
        folder: Path,
        database: Database,
        log: Log,
        publisher: Publisher,
        mark: MarkKeeper,
        *,
        now: Callable[[], float],
        wall: Callable[[], float],
        own_pubs: Collection[str] = (),
    ) -> "Publishing":
        """Judge whether our feed may be written to, before anybody can. now, wall -- seconds. Raises StoreError."""
        state = await database.read(installs.read_state)
        made = cls(folder, database, log, publisher, mark, state=state, now=now, wall=wall, own_pubs=own_pubs)
        await made._begin(state)
        return made

    async def _begin(self, state: StoreState) -> None:
        me = self._publisher.id
        tip, mark, mark_file, unreadable = self._log.tip(me), None, None, False
        try:
            mark, mark_file = read_mark(self._folder)
        except ValueError:
            unreadable = True
        found = installs.read_install(self._folder)
        evidence = Evidence(
            feed=me,
            tip=tip,
            mark=mark,
            mark_unreadable=unreadable,
            mark_file=mark_file,
            install=found,
            place=installs.place_of(self._folder),
            store_epoch=state.epoch,
            snapshot=state.snapshot,
            locked=state.locked,
        )
        if mark is not None and mark.feed == me:
            self._floor = mark.done
        lock = judge(evidence, now=self._wall_ms())
        if lock is not None:
            self._publisher.close(lock)
            await self._record()
            return
        assert found is not None
        assert mark is not None
        epoch = found.epoch
        if state.epoch is None or state.locked is not None:
            event = self._event("agreed", state.locked, "")

            def bind(connection: sqlite3.Connection) -> None:
                installs.write_epoch(connection, epoch)
                if state.locked is not None:
                    installs.write_event(connection, event)

            await self._database.write(bind, durable=True)
            self._recorded = None
        try:
            self._mark.settle(mark, tip)
        except OSError as error:
            raise StoreError(f"the file {MARK} beside the database cannot be written: {error.strerror}") from error

    # ---- what peers show

    def remember(self, claims: Mapping[str, int]) -> None:
        """What peers said of our feed when they were last seen; before `run`."""
        for peer, sequence in claims.items():
            self._shown.setdefault(peer, sequence)
            self._compare(peer, sequence)

    def asks(self, peer: str) -> bool:
        """Whether a peer must tell how much of our feed it has: once in the life of the process, and while locked."""
        return peer not in self._heard or self._publisher.lock is not None

    def shows(self, peer: str, sequence: int) -> None:
        """A connected peer told how much of our feed it has; -1: it does not replicate it."""
        if peer == self._publisher.id:
            return
        self._shown[peer] = sequence
        self._heard.add(peer)
        self._connected.add(peer)
        self._compare(peer, sequence)
        if self._publisher.lock is not None:
            self._way_out().shows(peer, sequence, self._now())

    def left(self, peer: str) -> None:
        """The connection with a peer has ended."""
        self._connected.discard(peer)
        if self._unlocking is not None:
            self._unlocking.left(peer, self._now())

    def _compare(self, peer: str, sequence: int) -> None:
        """Rule 7: a peer that shows more of our feed than we hold locks it at once."""
        if sequence <= self._held or peer in self._set_aside or self._publisher.lock is not None:
            return
        self._publisher.close(Lock(Reason.SHOWN, self._wall_ms(), peer, sequence))
        self._news.set()

    def reported(self, sequence: int) -> int:
        """How many distinct peers said that they have our message with this sequence."""
        return sum(1 for has in self._shown.values() if has >= sequence > 0)

    # ---- time

    async def run(self) -> None:
        """Look once a second, until cancelled."""
        while True:
            self._news.clear()
            try:
                await self._look()
            except FeedsError as error:
                LOG.warning("the state of our feed could not be written down: %s", error)
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _look(self) -> None:
        lock = self._publisher.lock
        if lock is None or self._forked:
            return
        await self._record()
        progress = self._progress()
        if progress.open and await self._is_our_branch():
            await self._unlock(self._held, "unlocked", f"{len(progress.agreeing)} peers agree")

    async def _is_our_branch(self) -> bool:
        """Whether the store holds the message of the mark; another one in its place is the beginning of a fork."""
        if not self._floor.sequence:
            return True
        return await self._log.id_at(self._publisher.id, self._floor.sequence) == self._floor.id

    def _progress(self) -> Progress:
        way_out = self._way_out()
        way_out.grew(self._held, self._now())
        return way_out.progress(self._now())

    def _way_out(self) -> Unlocking:
        """The machine of the present lock."""
        lock = self._publisher.lock
        assert lock is not None
        if self._unlocking is None:
            now = self._now()
            self._unlocking = Unlocking(
                held=self._held,
                now=now,
                own_pubs=self._own_pubs,
                set_aside=self._set_aside,
                floor=self._floor.sequence,
                gone_for=max(0.0, self._wall() - lock.since / 1000),
            )
            for peer, sequence in self._shown.items():
                if peer in self._connected:
                    self._unlocking.shows(peer, sequence, now)
                else:
                    self._unlocking.remembers(peer, sequence)
        return self._unlocking

    async def _record(self) -> None:
        """Keep a new lock over a restart, and say so once."""
        lock = self._publisher.lock
        if lock is None or lock == self._recorded:
            return
        event = self._event("locked", lock, lock.text)
        await self._database.write(lambda connection: installs.write_event(connection, event), durable=True)
        self._recorded = lock
        LOG.warning("our feed is locked: %s. %s", lock.text, WAY_OUT)

    # ---- the way out

    async def unlock(self, sequence: int) -> None:
        """Take the lock off by hand. sequence -- of the last message of our feed, as whoever asks has checked it.

        Raises SequenceMismatch when it is another one, ForkedFeed, StoreError. An open feed is left as it is.
        """
        if self._forked:
            raise ForkedFeed("two branches of this feed are known, so it cannot be opened any more")
        if sequence != self._held:
            raise SequenceMismatch(sequence, self._held)
        if self._publisher.lock is not None:
            await self._unlock(sequence, "forced", "by hand")

    async def _unlock(self, sequence: int, kind: str, detail: str) -> None:
        lock = self._publisher.lock
        doubted = self._way_out().claims()
        event = self._event(kind, lock, detail)
        before = self._set_aside, self._floor
        self._set_aside, self._floor, self._unlocking = self._set_aside.union(doubted), EMPTY, None
        try:
            await self._database.write(
                lambda connection: self._open_again(connection, sequence, event, doubted), durable=True
            )
        except BaseException:
            self._set_aside, self._floor = before
            if lock is not None:
                self._publisher.close(lock)
            raise
        self._recorded = self._unlocking = None
        LOG.warning("our feed is open again (%s); it was locked: %s", detail, "" if lock is None else lock.text)

    def _open_again(self, connection: sqlite3.Connection, sequence: int, event: Event, doubted: list[str]) -> None:
        """A job of the writer: a new epoch in database and files. Cut off anywhere, the feed stays locked."""
        own = self._log.read_own(connection, self._publisher.id)
        if own.state == "forked":
            raise ForkedFeed("two branches of this feed are known, so it cannot be opened any more")
        if own.tip.sequence != sequence:
            raise SequenceMismatch(sequence, own.tip.sequence)
        epoch = secrets.token_hex(16)
        installs.write_epoch(connection, epoch)
        installs.write_event(connection, event)
        installs.set_aside(connection, doubted, event.at)
        try:
            installs.new_install(self._folder, epoch)
            self._mark.begin(epoch, own.tip)
        except OSError as error:
            raise StoreError(f"the files beside the database cannot be written: {error.strerror}") from error
        self._publisher.open()

    # ---- for people

    def status(self) -> dict[str, Any]:
        """State, reason and what is missing; plain JSON values."""
        lock = self._publisher.lock
        found: dict[str, Any] = {
            "state": str(self._publisher.state(self._forked)),
            "sequence": self._held,
            "reported_by": self.reported(self._held),
            "reason": None,
            "unlock": None,
        }
        if self._forked:
            return found | {"reason": {"code": "forked", "text": "two branches of this feed are known"}}
        if lock is None:
            return found
        found["reason"] = {
            "code": str(lock.reason),
            "text": lock.text,
            "since": lock.since,
            "peer": lock.peer,
            "sequence": lock.sequence,
        }
        return found | {"unlock": _as_json(self._progress(), self._held)}

    async def history(self, limit: int = 100) -> list[dict[str, Any]]:
        """What became of the lock, the latest first; plain JSON values."""
        events = await self._database.read(lambda connection: installs.read_events(connection, limit))
        return [event._asdict() for event in events]

    # ---- inside

    @property
    def _held(self) -> int:
        return self._log.sequence(self._publisher.id)

    @property
    def _forked(self) -> bool:
        return self._publisher.state(self._log.feed_state(self._publisher.id) == "forked") is State.FORKED

    def _event(self, kind: str, lock: Lock | None, detail: str) -> Event:
        at = lock.since if lock is not None and kind == "locked" else self._wall_ms()
        if lock is None:
            return Event(at, kind, None, self._held, None, None, detail)
        return Event(at, kind, str(lock.reason), self._held, lock.peer, lock.sequence, detail)

    def _wall_ms(self) -> int:
        return int(self._wall() * 1000)


def _as_json(progress: Progress, held: int) -> dict[str, Any]:
    missing = []
    if len(progress.agreeing) < progress.needed:
        count = progress.needed - len(progress.agreeing)
        missing.append(f"{count} more {'peer' if count == 1 else 'peers'} that say what they have of this feed")
    if progress.agreeing and not progress.complete:
        missing.append("a peer that has as much of this feed as this node")
    if progress.floor > held:
        missing.append(f"the messages up to {progress.floor} that were published from here")
    missing += [
        f"the messages up to {peer.sequence} that {peer.peer} says it has" for peer in progress.ahead[:PEERS_SHOWN]
    ]
    if not missing and progress.quiet:
        missing.append(f"{progress.quiet:g} seconds of quiet")
    if not missing:
        missing.append("the message that was published last: the one here in its place is another")
    return {
        "missing": missing,
        "peers_needed": progress.needed,
        "agreeing": list(progress.agreeing[:PEERS_SHOWN]),
        "complete": list(progress.complete[:PEERS_SHOWN]),
        "ahead": [peer._asdict() for peer in progress.ahead[:PEERS_SHOWN]],
        "quiet_seconds": progress.quiet,
        "way_out": WAY_OUT,
    }
