"""The one door for writing: `add` for what peers and bundles deliver, `publish` for our own messages.

Deliveries wait in a bounded line. One task takes what is waiting as a round, has it judged in worker threads
(`admission`) and hands it to the database's writer; while that commits, the next round is already judged against the
tips that the feeds will then have. In the writer's turn each feed's tip is compared once more with the one the judging
started from: whatever does not fit, because a commit failed or somebody published in between, is judged again. So
nothing is stored that does not continue the stored feed, and nothing is reported before it is committed.
"""

import asyncio
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from feeds import admission
from feeds.admission import FeedWork, Item
from feeds.database import Database
from feeds.errors import InvalidMessage, StoreError
from feeds.formats.base import FeedFormat
from feeds.formats.registry import FORMATS
from feeds.indexer import Effect, Indexer
from feeds.live import Live
from feeds.log import Appended, Entry, ForkFound, Log, Recorded, Run
from feeds.message import Draft, JsonObject, Tip
from feeds.publisher import Publisher, State
from feeds.validation import Rejection

__all__ = ["AddReport", "Ingest"]

T = TypeVar("T")

ROUND_MESSAGES: Final = 2048
ROUND_BYTES: Final = 2 << 20
IN_FLIGHT_BYTES: Final = 16 << 20
SMALL_ROUND: Final = 32
"""Rounds up to this size are judged in one call: below it, cores gained cost more than they give."""
ROUNDS_AT_ONCE: Final = 2
RETRIES: Final = 8


class AddReport(NamedTuple):
    """What became of a delivery: added + duplicates + len(rejections) is the number of its texts."""

    added: int
    duplicates: int
    rejections: list[Rejection]
    """In order of their index in the delivery."""
    tips: dict[str, int]
    """Last sequence held of each feed of which something was added or already here."""


@dataclass(slots=True, eq=False)
class _Delivery:
    number: int
    texts: Sequence[bytes]
    source: str
    size: int
    done: "asyncio.Future[AddReport]"
    taken: int = 0
    unsettled: int = 0
    added: int = 0
    duplicates: int = 0
    rejections: list[Rejection] = field(default_factory=list)
    feeds: set[str] = field(default_factory=set)


class _Retry(NamedTuple):
    author: str
    items: list[Item]
    attempt: int


class _Ahead(NamedTuple):
    """What a feed will be once a round that is on its way is committed."""

    round: int
    tip: Tip
    forked: bool


@dataclass(slots=True, eq=False)
class _Round:
    number: int
    works: list[FeedWork]
    attempts: dict[str, int]


class _Written(NamedTuple):
    appended: Appended
    recorded: Recorded
    effects: list[Effect]


class Ingest:
    """The door. Belongs to one event loop; ended by `close`, before the database is."""

    def __init__(
        self,
        database: Database,
        *,
        log: Log,
        indexer: Indexer,
        live: Live,
        publisher: Publisher,
        hmac_key: bytes | None = None,
        formats: Sequence[FeedFormat] = FORMATS,
        workers: int | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """workers -- threads that validate (default: one a core); now -- seconds since 1970."""
        self._database: Final = database
        self._log: Final = log
        self._indexer: Final = indexer
        self._live: Final = live
        self._publisher: Final = publisher
        self._hmac_key: Final = hmac_key
        self._formats: Final = formats
        self._now: Final = now
        self._workers: Final = workers or os.cpu_count() or 1
        self._pool: Final = ThreadPoolExecutor(self._workers, thread_name_prefix="validate")

        self._deliveries: Final[dict[int, _Delivery]] = {}
        self._line: Final[deque[_Delivery]] = deque()
        self._retries: Final[deque[_Retry]] = deque()
        self._ahead: Final[dict[str, _Ahead]] = {}
        self._numbers = 0
        self._in_flight = 0
        self._entrance: Final = asyncio.Lock()
        self._room: Final = asyncio.Event()
        self._work: Final = asyncio.Event()
        self._pipeline: Final = asyncio.Semaphore(ROUNDS_AT_ONCE)
        self._commits: Final[set[asyncio.Task[None]]] = set()
        self._closing = False
        self._task: Final = asyncio.create_task(self._serve(), name="ingest")

    # The public face.

    async def add(self, texts: Sequence[bytes], *, source: str) -> AddReport:
        """Take delivered messages of any feeds in any order; returns once what is valid is committed.

        texts -- each one message as it came, feeds in any mixture. source -- who delivered it, kept with the evidence
        of a fork. Waits while too many bytes are on their way. Bad texts are no errors: they are in the report.
        Raises StoreError when the store fails; what of the delivery was committed before stays.
        When the caller is cancelled, what was not begun of its delivery is dropped.
        """
        size = sum(map(len, texts))
        async with self._entrance:
            while self._in_flight and self._in_flight + size > IN_FLIGHT_BYTES and not self._closing:
                self._room.clear()
                await self._room.wait()
            if self._closing:
                raise StoreError("the store is closing")
            self._numbers += 1
            done: asyncio.Future[AddReport] = asyncio.get_running_loop().create_future()
            delivery = _Delivery(self._numbers, texts, source, size, done)
            self._in_flight += size
        if not texts:
            return AddReport(0, 0, [], {})
        self._deliveries[delivery.number] = delivery
        self._line.append(delivery)
        self._work.set()
        return await done

    async def publish(
        self,
        content: JsonObject | str,
        *,
        if_sequence: int | None = None,
        also: Callable[[sqlite3.Connection, Entry], None] | None = None,
    ) -> Entry:
        """Append a message to our own feed; returns once it is on the disk for good.

        if_sequence -- publish only if this is the sequence our feed stands at. also -- writes more in the transaction
        that holds the message; what it raises undoes the message and is raised here. Raises InvalidMessage (TooLarge
        with size and limit), FeedLocked, ForkedFeed, SequenceMismatch, StoreError.
        """
        if self._closing:
            raise StoreError("the store is closing")

        def job(connection: sqlite3.Connection) -> _Written:
            written = self._publish(connection, content, if_sequence)
            if also is not None:
                also(connection, _only_entry(written.appended))
            return written

        written = await self._database.write(job, durable=True, after_commit=self._committed)
        return _only_entry(written.appended)

    def dry_run(self, content: JsonObject | str) -> Draft:
        """The message that `publish` would sign now, unsigned, with its size. Raises InvalidMessage, TooLarge."""
        return self._publisher.draft(content, self._log.tip(self._publisher.id), now=self._now() * 1000)

    @property
    def own_state(self) -> State:
        """Whether our own feed may be written to."""
        return self._publisher.state(self._log.feed_state(self._publisher.id) == "forked")

    async def close(self) -> None:
        """Finish every delivery that was let in, then end the worker threads."""
        self._closing = True
        self._room.set()
        self._work.set()
        await asyncio.wait([self._task])
        while self._commits:
            await asyncio.wait(self._commits)
        self._pool.shutdown()

    # Rounds.

    async def _serve(self) -> None:
        while True:
            while not (self._line or self._retries):
                if self._closing and not self._commits:
                    return
                self._work.clear()
                await self._work.wait()
            await self._pipeline.acquire()
            round_ = self._take_round()
            try:
                await self._judge(round_)
            except Exception as error:
                self._fail(round_, error)
                self._pipeline.release()
                continue
            task = asyncio.create_task(self._finish(round_), name="ingest commit")
            self._commits.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._commits.discard(task)
        self._pipeline.release()
        self._work.set()

    def _take_round(self) -> _Round:
        """What is waiting, first come first served, up to the size of a round."""
        self._numbers += 1
        items: dict[str, list[Item]] = {}
        attempts: dict[str, int] = {}
        room, bytes_left = ROUND_MESSAGES, ROUND_BYTES
        while self._retries and room > 0:
            author, again, attempt = self._retries.popleft()
            items.setdefault(author, []).extend(again)
            attempts[author] = max(attempt, attempts.get(author, 0))
            room -= len(again)
        while self._line and room > 0 and bytes_left > 0:
            delivery = self._line[0]
            if delivery.done.done():  # cancelled, or failed by an earlier round: nobody waits for the rest
                delivery.taken = len(delivery.texts)
            while delivery.taken < len(delivery.texts) and room > 0 and bytes_left > 0:
                text = delivery.texts[delivery.taken]
                self._sort_in(delivery, delivery.taken, text, items)
                delivery.taken += 1
                room -= 1
                bytes_left -= len(text)
            if delivery.taken == len(delivery.texts):
                self._line.popleft()
                self._settle(delivery)
        works = [self._work_for(author, of_feed) for author, of_feed in items.items()]
        return _Round(self._numbers, works, attempts)

    def _sort_in(self, delivery: _Delivery, index: int, text: bytes, items: dict[str, list[Item]]) -> None:
        reason = "no known feed format"
        for form in self._formats:
            try:
                author, sequence = form.peek(text)
            except InvalidMessage as error:
                reason = str(error)
                continue
            items.setdefault(author, []).append(Item(delivery.number, index, sequence, text))
            delivery.unsettled += 1
            return
        delivery.rejections.append(Rejection(index, None, None, None, "invalid", reason))

    def _work_for(self, author: str, items: list[Item]) -> FeedWork:
        ahead = self._ahead.get(author)
        if ahead is None:
            tip, forked = self._log.tip(author), self._log.feed_state(author) == "forked"
        else:
            tip, forked = ahead.tip, ahead.forked
        form = next(form for form in self._formats if form.owns(author))
        return FeedWork(author, form, tip, forked, admission.order_items(items))

    # Judging.

    async def _judge(self, round_: _Round) -> None:
        """Decide about every item of a round, in worker threads, and note what its feeds will be."""
        works = round_.works
        small = sum(len(work.items) for work in works) <= SMALL_ROUND
        await self._in_pool(_prepare_all, works, self._hmac_key, small)
        if not small:
            parts = admission.slices(works, self._workers)
            good = await asyncio.gather(*(self._in_pool(admission.check_slice, part, self._hmac_key) for part in parts))
            if all(good):
                for work in works:
                    work.verified = len(work.accepted)
            else:
                await self._in_pool(_verify_all, works, self._hmac_key)
        known = {work.author: {item.sequence for item in work.known} for work in works if work.known}
        if known:
            await self._compare_known(round_, known)
        if any(work.doubtful for work in works):
            await self._judge_doubtful(works)
        for work in works:
            if work.accepted or work.fork:
                self._ahead[work.author] = _Ahead(round_.number, work.end, work.forked or work.fork is not None)

    async def _compare_known(self, round_: _Round, known: dict[str, set[int]]) -> None:
        """Tell duplicates from contradictions by the stored texts: one query a round."""
        if any(self._log.sequence(author) < max(sequences) for author, sequences in known.items()):
            while self._commits:  # some are on their way into the log
                await asyncio.wait(self._commits)
        stored = await self._log.texts_at(known)
        for work in list(round_.works):
            if work.known and not work.settle_known(stored.get(work.author, {})):
                round_.works.remove(work)  # they never arrived there: the base was wrong
                self._again(round_, work)

    async def _judge_doubtful(self, works: Sequence[FeedWork]) -> None:
        await self._in_pool(_judge_all, works, self._hmac_key)
        for work in works:
            fork = work.fork
            if fork is not None and fork.first is None:  # it contradicts the base, whose text only the store has
                while self._commits:
                    await asyncio.wait(self._commits)
                stored = await self._log.texts_at({work.author: {fork.first_sequence}})
                first = stored.get(work.author, {}).get(fork.first_sequence, b"")
                work.fork = fork._replace(first=first)

    async def _in_pool(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    # Writing.

    async def _finish(self, round_: _Round) -> None:
        """Commit a judged round and report; judge again what no longer fits the store."""
        runs = [Run(work.author, work.base, work.accepted) for work in round_.works if work.accepted]
        forks = [
            ForkFound(fork.first_sequence, fork.first or b"", fork.second, self._source(fork.delivery))
            for work in round_.works
            if (fork := work.fork) is not None
        ]
        stale: set[str] = set()
        if runs or forks:
            try:
                written = await self._database.write(
                    lambda connection: self._append(connection, runs, forks), after_commit=self._committed
                )
            except Exception as error:
                self._forget_ahead(round_, everything=True)
                self._fail(round_, error)
                return
            stale.update(written.appended.stale, written.recorded.stale)
        self._forget_ahead(round_, everything=False)
        for author in stale:
            self._ahead.pop(author, None)
        for work in round_.works:
            if work.author in stale:
                self._again(round_, work)
            else:
                self._report(work)

    def _append(self, connection: sqlite3.Connection, runs: list[Run], forks: list[ForkFound]) -> _Written:
        received = int(self._now() * 1000)
        appended = self._log.append(connection, runs, received)
        recorded = self._log.record_forks(connection, forks, received)
        return _Written(appended, recorded, self._indexer.apply(connection, appended))

    def _publish(self, connection: sqlite3.Connection, content: JsonObject | str, if_sequence: int | None) -> _Written:
        now = self._now() * 1000
        own = self._log.read_own(connection, self._publisher.id)
        self._publisher.check(own.state == "forked")
        message = self._publisher.sign(content, own.tip, own.timestamp, now=now, if_sequence=if_sequence)
        run = Run(message.author, own.tip, [message])
        appended = self._log.append(connection, [run], int(now))
        return _Written(appended, Recorded([], []), self._indexer.apply(connection, appended))

    def _committed(self, written: _Written) -> None:
        """Memory follows the store, then everyone is told: in the event loop, right after the commit."""
        appended = written.appended
        self._log.committed(appended.position, [*appended.tips, *written.recorded.tips])
        self._indexer.committed(appended, written.effects)
        self._live.notify(appended.position)

    def _forget_ahead(self, round_: _Round, *, everything: bool) -> None:
        """Drop what was foreseen for a round's feeds, unless a later round foresees more and this one went well."""
        for work in round_.works:
            ahead = self._ahead.get(work.author)
            if ahead is not None and (everything or ahead.round == round_.number):
                del self._ahead[work.author]

    def _again(self, round_: _Round, work: FeedWork) -> None:
        """Put a feed's items back in line, to be judged against its true tip."""
        attempt = round_.attempts.get(work.author, 0) + 1
        if attempt <= RETRIES:
            self._retries.append(_Retry(work.author, work.items, attempt))
            self._work.set()
            return
        for item in work.items:
            self._reject(item, Rejection(item.place, None, work.author, item.sequence, "gap", "the feed kept moving"))

    # Reporting.

    def _source(self, number: int) -> str:
        return self._deliveries[number].source

    def _report(self, work: FeedWork) -> None:
        for item in work.taken:
            delivery = self._deliveries[item.delivery]
            delivery.added += 1
            delivery.feeds.add(work.author)
            self._settled(delivery)
        for item in work.duplicates:
            delivery = self._deliveries[item.delivery]
            delivery.duplicates += 1
            delivery.feeds.add(work.author)
            self._settled(delivery)
        for item, rejection in work.rejected:
            self._reject(item, rejection)

    def _reject(self, item: Item, rejection: Rejection) -> None:
        delivery = self._deliveries[item.delivery]
        delivery.rejections.append(rejection)
        self._settled(delivery)

    def _settled(self, delivery: _Delivery) -> None:
        delivery.unsettled -= 1
        self._settle(delivery)

    def _settle(self, delivery: _Delivery) -> None:
        """Answer the caller once the last text is accounted for."""
        if delivery.unsettled or delivery.taken < len(delivery.texts):
            return
        if not delivery.done.done():
            tips = {feed: self._log.sequence(feed) for feed in delivery.feeds}
            rejections = sorted(delivery.rejections, key=lambda rejection: rejection.index)
            delivery.done.set_result(AddReport(delivery.added, delivery.duplicates, rejections, tips))
        self._drop(delivery)

    def _fail(self, round_: _Round, error: Exception) -> None:
        """Tell every caller of a round that the store (or the program) failed; their other items still run."""
        for work in round_.works:
            for item in work.items:
                delivery = self._deliveries[item.delivery]
                if not delivery.done.done():
                    delivery.done.set_exception(error)
                self._settled(delivery)

    def _drop(self, delivery: _Delivery) -> None:
        del self._deliveries[delivery.number]
        self._in_flight -= delivery.size
        self._room.set()


def _only_entry(appended: Appended) -> Entry:
    """What was appended, where that was one message."""
    ((position, message),) = appended.rows
    return Entry(position, message.id, message.author, message.sequence, appended.received, message.text)


def _prepare_all(works: Sequence[FeedWork], hmac_key: bytes | None, and_verify: bool) -> None:
    for work in works:
        admission.prepare(work, hmac_key)
    if and_verify:
        _verify_all(works, hmac_key)


def _verify_all(works: Sequence[FeedWork], hmac_key: bytes | None) -> None:
    for work in works:
        admission.verify(work, hmac_key)


def _judge_all(works: Iterable[FeedWork], hmac_key: bytes | None) -> None:
    for work in works:
        admission.judge_doubtful(work, hmac_key)
