"""Blobs between this node and its peers: carries out what `replication.blob_wants` decides (protocol.md section 10).

`run` must be running while connections are; `attend` runs beside each connection and hears the peer's notes,
`serve_wants` tells it ours. What is wanted lives in `feeds.blobs` and so survives a restart; what peers want does not.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from feeds.blob_ranks import LOOKED_FOR
from feeds.blobs import BlobChange, Blobs
from feeds.database import Database
from feeds.errors import FeedsError, InvalidJson, StoreError
from feeds.live import Live
from feeds.log import Log
from feeds.views.blob_references import references_to
from replication.blob_notes import parse_notes
from replication.blob_search import BlobSearch
from replication.blob_transfer import TransferFailed, fetch
from replication.blob_wants import Blame, BlobWants, Fault, Fetch, Get, Notes, Pushed, Stop
from replication.budget import Spending
from replication.errors import RemoteCallError, RemoteVisible
from replication.limits import DEFAULT_LIMITS, Limits
from replication.policy import Policy
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Caller
from replication.rpc.streams import Sink, Source

__all__ = ["BlobExchange"]

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 60.0
NOTES_A_FRAME: Final = 500
"""About 32 KB, which every peer takes."""
WRONG_NOTES_MAX: Final = 100
STREAMS_A_PEER: Final = 4
OPENED_AT_ONCE: Final = 8
OPENING_SECONDS: Final = 1.0
"""Who opens createWants again and again waits so long each time."""
WANTS_LOADED: Final = 1000
NAMED_SHOWN: Final = 10

Close = Callable[[str], None]


@dataclass(slots=True)
class _Link:
    """A connected peer: its connections, the newest last, with how each is closed."""

    connections: list[tuple[RpcConnection, Close]] = field(default_factory=list)
    streams: list[asyncio.Event] = field(default_factory=list)
    """For each createWants stream of the peer whether to look for news; only the newest, the last, is told any."""

    opened: int = 0
    """Streams opened so far: to begin one costs us something."""

    def wake(self) -> None:
        if self.streams:
            self.streams[-1].set()


class BlobExchange:
    """All of one node's exchange of blobs. `now` gives seconds of a steady clock."""

    def __init__(
        self,
        blobs: Blobs,
        *,
        database: Database,
        log: Log,
        live: Live,
        policy: Callable[[], Policy],
        now: Callable[[], float],
        limits: Limits = DEFAULT_LIMITS,
        fetch: Fetch = Fetch.ALL,
        spending: Spending | None = None,
        on_spent: Callable[[str, int], None] = lambda _peer, _size: None,
    ) -> None:
        """`spending` may hold gets back; `on_spent(peer, size)` hears of each blob that came."""
        self._blobs = blobs
        self._database = database
        self._policy = policy
        self._search = BlobSearch(blobs, database=database, log=log, live=live, policy=policy)
        self._now = now
        self._limits = limits
        self._fetch = fetch
        self._spending = spending
        self._on_spent = on_spent
        self._machine = BlobWants(limits, max_size=blobs.limits.max_size, fetch=fetch)
        self._links: dict[str, _Link] = {}
        self._gets: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = False

    # ---- life

    async def run(self) -> None:
        """Load what is wanted, then follow the store, the log and the clock until cancelled."""
        stop_observing = self._blobs.observe(self._changed)
        self._running = True
        try:
            await self._load()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tick(), name="blob wants")
                if self._fetch is Fetch.ALL:
                    group.create_task(self._follow_log(), name="blobs named by messages")
        finally:
            self._running = False
            stop_observing()
            left = [*self._gets.values(), *self._tasks]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _load(self) -> None:
        number = 0
        while wants := await self._blobs.wants(number, WANTS_LOADED):
            number = wants[-1].number
            for want in wants:
                self._want(want.id, want.rank)
        for blob in await self._blobs.pushes():
            self._machine.push(blob)
        self._pump()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            due = self._machine.next_tick()
            if due is not None and due <= self._now():
                self._machine.tick(self._now())
                self._pump()

    async def _follow_log(self) -> None:
        while True:
            try:
                await self._search.run()
            except* StoreError as group:
                logger.error("messages could not be searched for blobs: %s", group.exceptions[0])
                await asyncio.sleep(RETRY_SECONDS)

    # ---- the store

    def _want(self, blob: str, rank: int) -> None:
        if self._fetch is Fetch.ALL or rank == 0 or rank == LOOKED_FOR:
            self._machine.want(blob, rank, self._now())

    def _changed(self, change: BlobChange) -> None:
        match change.kind:
            case "held":
                self._machine.held(change.blob, change.size, self._now())
            case "removed":
                self._machine.removed(change.blob)
            case "wanted":
                self._want(change.blob, change.rank)
            case "unwanted":
                self._machine.unwant(change.blob, self._now())
            case "pushed":
                self._machine.push(change.blob)
        self._pump()

    # ---- one connection

    async def attend(self, connection: RpcConnection, peer: str, close: Close) -> None:
        """Hear what a peer wants and has, until cancelled; `close(reason)` ends the connection."""
        link = self._links.setdefault(peer, _Link())
        link.connections.append((connection, close))
        self._machine.connect(peer, self._now())
        try:
            source = connection.source("blobs.createWants", [], max_json=self._limits.blob_wants_frame)
            try:
                await self._listen(peer, source)
            except RemoteCallError as error:
                logger.info("%s does not say which blobs it wants: %s", peer, error)
            await connection.closed.wait()
        finally:
            link.connections.remove((connection, close))
            if not link.connections:
                del self._links[peer]
                self._machine.disconnect(peer, self._now())
            else:
                self._machine.tick(self._now())
            self._pump()

    async def _listen(self, peer: str, source: Source) -> None:
        wrong = 0
        ahead = 0.0
        at = self._now()
        while batch := await source.read_batch():
            for body in batch:
                try:
                    notes, bad = parse_notes(body.value())
                except InvalidJson:
                    notes, bad = {}, 1
                wrong += bad
                if wrong > WRONG_NOTES_MAX:
                    logger.info("%s sends wants that are none; not listening to it any more", peer)
                    await source.cancel()
                    return
                now = self._now()
                ahead, at = max(0.0, ahead - (now - at) * self._limits.blob_notes_per_second) + len(notes) + 1, now
                if ahead > self._limits.blob_notes_burst:
                    self._machine.breaches["blob_notes_per_second"] += 1
                    await asyncio.sleep((ahead - self._limits.blob_notes_burst) / self._limits.blob_notes_per_second)
                await self._notes(peer, notes)

    async def _notes(self, peer: str, notes: dict[str, int]) -> None:
        wanted = [blob for blob, note in notes.items() if note < 0]
        held = await self._blobs.sizes(wanted) if wanted else {}
        if peer in self._links:
            self._machine.notes_received(peer, notes, held, self._now())
            self._pump()

    async def asked(self, caller: Caller, blobs: list[str]) -> None:
        """A remote asked whether we have blobs: from one that does not listen to our notes that is a want."""
        link = self._links.get(caller.id or "")
        if link is not None and not link.streams and caller.id is not None:
            await self._notes(caller.id, dict.fromkeys(blobs, -1))

    async def serve_wants(self, caller: Caller, out: Sink) -> None:
        """Tell a peer what we want and have, from the first item on, which is {} if there is nothing."""
        peer = caller.id
        if peer is None or caller.local:
            raise RemoteVisible("blobs.createWants is for other nodes")
        link, news = await self._link(peer), asyncio.Event()
        if len(link.streams) >= STREAMS_A_PEER:
            raise RemoteVisible(f"blobs.createWants is open {STREAMS_A_PEER} times already")
        link.streams.append(news)
        link.opened += 1
        try:
            if link.opened > OPENED_AT_ONCE:
                await asyncio.sleep(OPENING_SECONDS)
            if self._links.get(peer) is not link:
                return
            self._machine.opened(peer)
            self._pump()
            await out.send([_encode(self._machine.take_notes(peer, NOTES_A_FRAME))])
            while True:
                news.clear()
                while link.streams[-1] is news and (notes := self._machine.take_notes(peer, NOTES_A_FRAME)):
                    await out.send([_encode(notes)])
                await news.wait()
        finally:
            newest = link.streams[-1] is news
            link.streams.remove(news)
            if newest and self._links.get(peer) is link:
                if link.streams:  # of another connection with the same peer
                    self._machine.opened(peer)
                else:
                    self._machine.closed(peer)
                self._pump()

    async def _link(self, peer: str) -> _Link:
        """The peer's link; it may have been quicker than our side of the connection."""
        for _ in range(500):
            if (link := self._links.get(peer)) is not None:
                return link
            await asyncio.sleep(0.01)
        raise RemoteVisible("no blobs are exchanged over this connection")

    # ---- effects

    def _pump(self) -> None:
        for effect in self._machine.effects():
            match effect:
                case Get():
                    self._begin(effect)
                case Stop():
                    if (task := self._gets.get(effect.number)) is not None:
                        task.cancel()
                case Notes(peer):
                    if (link := self._links.get(peer)) is not None:
                        link.wake()
                case Pushed(blob):
                    self._spawn(partial(self._pushed, blob))
                case Blame(peer, reason):
                    for _, close in self._links[peer].connections if peer in self._links else ():
                        close(reason)

    def _begin(self, get: Get) -> None:
        link = self._links.get(get.peer)
        if link is None or not link.connections or not self._running:
            self._machine.failed(get.number, Fault.LOST, "the connection ended", self._now())
            return
        if self._spending is not None and self._spending.total_spent:
            self._machine.failed(get.number, Fault.LOCAL, "the budget of today is used up", self._now())
            return
        if self._spending is not None and self._spending.peer_spent(get.peer):
            self._machine.failed(get.number, Fault.REFUSED, "its budget of today is used up", self._now())
            return
        task = asyncio.create_task(self._get(get, link.connections[-1][0]), name=f"blob {get.blob}")
        self._gets[get.number] = task
        task.add_done_callback(lambda _task: self._gets.pop(get.number, None))

    async def _get(self, get: Get, connection: RpcConnection) -> None:
        logger.debug("getting %s from %s", get.blob, get.peer)
        try:
            await fetch(connection, self._blobs, get.blob, size=get.size, stall=self._limits.stall_timeout)
        except TransferFailed as error:
            logger.info("%s did not come from %s: %s", get.blob, get.peer, error.reason)
            self._machine.failed(get.number, error.fault, error.reason, self._now())
        except Exception:
            logger.exception("getting %s from %s failed", get.blob, get.peer)
            self._machine.failed(get.number, Fault.LOCAL, "internal error", self._now())
        else:
            self._machine.got(get.number, self._now())
        finally:  # the news that the blob is here may end this task before anything else does
            with suppress(FeedsError):
                self._on_spent(get.peer, self._blobs.size(get.blob) or 0)
        self._pump()

    async def _pushed(self, blob: str) -> None:
        with suppress(FeedsError):  # it is announced again after the next start
            await self._blobs.pushed(blob)

    def _spawn(self, work: Callable[[], Any]) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- for people

    @property
    def breaches(self) -> Counter[str]:
        """How often which limit held a peer back."""
        return self._machine.breaches

    def status(self) -> dict[str, Any]:
        """Totals, gets under way, pushes, and a line for each peer; plain JSON values."""
        return self._machine.status()

    def blob_status(self, blob: str) -> dict[str, Any]:
        """Who wants a blob (a canonical id), who has it, what is done about it and what went wrong; JSON values.

        `named_in` are the newest messages that name it, and whether their feeds are replicated.
        """
        info, want, wanted = self._blobs.info(blob), self._blobs.wanted(blob), self._policy().wanted
        named = self._database.peek(lambda connection: references_to(connection, blob, limit=NAMED_SHOWN))
        return {
            "blob": blob,
            "held": info is not None,
            "size": None if info is None else info.size,
            "wanted": want is not None,
            "asked": want is not None and want.asked,
            "since": None if want is None else want.since,
            "named_in": [
                {"message": entry.id, "author": entry.author, "replicated": entry.author in wanted}
                for entry in dict.fromkeys(reference.entry for reference in named)
            ],
            "fetch": str(self._fetch),
            **self._machine.blob_status(blob, self._now()),
        }


def _encode(notes: dict[str, int]) -> bytes:
    return json.dumps(notes, separators=(",", ":")).encode()
