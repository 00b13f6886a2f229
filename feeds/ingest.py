"""The one door for writing: `add` for what peers and bundles deliver, `publish` for our own messages.

Deliveries wait in a bounded line. One task takes what is waiting as rounds and has them judged (`validators`); another
hands everything judged so far to the database's writer as one job. So a round is judged while those before it are still
being judged or committed, against the tips that its feeds will have by then. Whatever then turns out not to fit,
because a message was bad, a commit failed or somebody published in between, is judged again; in the writer's turn each
feed's tip is compared once more. So nothing is stored that does not continue the stored feed, and nothing is reported
before it is committed.
"""

import asyncio
import logging
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from feeds import admission
from feeds.admission import Item, Outcome, Task, Verdict
from feeds.content import links
from feeds.database import Database
from feeds.deliveries import AddReport, Deliveries, Peeked
from feeds.errors import StoreError
from feeds.formats.base import FeedFormat
from feeds.formats.registry import FORMATS
from feeds.indexer import MUCH, Effect, Indexer
from feeds.live import Live
from feeds.log import Appended, Entry, ForkFound, Log, Recorded, Run
from feeds.message import Draft, JsonObject, JsonValue, Tip
from feeds.publisher import Publisher, State
from feeds.validation import Rejection
from feeds.validators import Validators

__all__ = ["AddReport", "Ingest", "Peeked"]

LOG: Final = logging.getLogger(__name__)

ROUND_MESSAGES: Final = 2048
ROUND_BYTES: Final = 2 << 20
JUDGED_MESSAGES: Final = 8192
"""So many may wait for the writer before judging pauses."""
ROUNDS_AT_ONCE: Final = 2
"""Being judged: while the children work on one, the next already waits at their door."""
RETRIES: Final = 8


class _Retry(NamedTuple):
    author: str
    items: list[Item]
    attempt: int


class _Ahead(NamedTuple):
    """What a feed will be once a round that is on its way is committed."""

    round: int
    tip: Tip
    forked: bool


class _Out(NamedTuple):
    """A feed whose items are being judged."""

    round: int
    end: int | None
    """Its sequence if all of them are good; None when that cannot be foretold."""


@dataclass(slots=True, eq=False)
class _Round:
    number: int
    items: dict[str, list[Item]]
    """By author."""
    attempts: dict[str, int]
    """How often a feed's items were judged before."""
    count: int
    verdicts: "asyncio.Future[list[tuple[Task, Verdict]]]" = field(init=False)
    outcomes: list[Outcome] = field(default_factory=list)


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
        processes: bool | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """now -- seconds since 1970; workers, processes -- as `Validators` explains them."""
        self._database: Final = database
        self._log: Final = log
        self._indexer: Final = indexer
        self._live: Final = live
        self._publisher: Final = publisher
        self._hmac_key: Final = hmac_key
        self._formats: Final = formats
        self._now: Final = now
        self._validators: Final = Validators(
            indexer.extractors, hmac_key, spared=indexer.lagging, much=MUCH, workers=workers, processes=processes
        )

        self._work: Final = asyncio.Event()
        self._deliveries: Final = Deliveries(formats, log.sequence, self._work.set)
        self._retries: Final[deque[_Retry]] = deque()
        self._judged: Final[list[_Round]] = []
        self._out: Final[dict[str, _Out]] = {}
        self._ahead: Final[dict[str, _Ahead]] = {}
        self._rounds = 0
        self._committing = False
        self._closing = False
        self._to_commit: Final = asyncio.Event()
        self._landed: Final = asyncio.Event()
        self._judge_task: Final = asyncio.create_task(self._serve(), name="ingest judging")
        self._commit_task: Final = asyncio.create_task(self._commit_all(), name="ingest committing")
        for task in (self._judge_task, self._commit_task):
            task.add_done_callback(self._ended)

    # The public face.

    async def add(self, texts: Sequence[bytes], *, source: str) -> AddReport:
        """Take delivered messages of any feeds; returns once what is valid is committed.

        texts -- each one message as it came, feeds in any mixture. source -- who delivered it, kept with the evidence
        of a fork. Waits while too many bytes are on their way. Bad texts are no errors: they are in the report.
        Raises StoreError when the store fails; what of the delivery was committed before stays.
        When the caller is cancelled, what was not begun of its delivery is dropped.
        """
        return await (await self._deliveries.enter(texts, source))

    async def add_peeked(self, peeked: Sequence[Peeked], *, source: str) -> AddReport:
        """As `add`, for texts whose heads were read on the way here, so that nobody has to do it again."""
        texts = [text for _, _, text in peeked]
        return await (await self._deliveries.enter(texts, source, peeked=peeked))

    async def publish(
        self,
        content: JsonObject | str,
        *,
        recps: Sequence[JsonValue] | None = None,
        if_sequence: int | None = None,
        also: Callable[[sqlite3.Connection, Entry], None] | None = None,
    ) -> Entry:
        """Append a message to our own feed; returns once it is on the disk for good.

        recps -- encrypt the content for these feeds and us; so is a content that names `recps` itself. if_sequence --
        publish only if this is the sequence our feed stands at. also -- writes more in the transaction
        that holds the message; what it raises undoes the message and is raised here. Raises InvalidMessage (TooLarge
        with size and limit), FeedLocked, ForkedFeed, SequenceMismatch, StoreError.
        """
        if self._closing:
            raise StoreError("the store is closing")
        sealed = self._publisher.sealed(content, recps)

        def job(connection: sqlite3.Connection) -> tuple[_Written, Entry]:
            written, entry = self._publish(connection, sealed, if_sequence)
            if also is not None:
                also(connection, entry)
            return written, entry

        _, entry = await self._database.write(
            job, durable=True, guard=self._publisher.mark, after_commit=lambda done: self._committed(done[0])
        )
        return entry

    def dry_run(self, content: JsonObject | str, *, recps: Sequence[JsonValue] | None = None) -> Draft:
        """The message that `publish` would sign now, unsigned, with its size. Raises InvalidMessage, TooLarge."""
        sealed = self._publisher.sealed(content, recps)
        return self._publisher.draft(sealed, self._log.tip(self._publisher.id), now=self._now() * 1000)

    @property
    def own_state(self) -> State:
        """Whether our own feed may be written to."""
        return self._publisher.state(self._log.feed_state(self._publisher.id) == "forked")

    @property
    def counts(self) -> Counter[str]:
        """What became of texts that were delivered since the start: `added`, `duplicate`, and kinds of rejections."""
        return self._deliveries.counts

    @property
    def arriving(self) -> int:
        """Texts on their way through the door."""
        return self._deliveries.arriving

    async def close(self) -> None:
        """Finish every delivery that was let in, then end the workers. May be called twice."""
        self._closing = True
        self._deliveries.close()
        self._work.set()
        await asyncio.wait([self._judge_task])
        self._to_commit.set()
        await asyncio.wait([self._commit_task])
        await self._validators.close()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """Let nobody wait for a task that an error of this program ended."""
        if task.cancelled() or task.exception() is None:
            return
        LOG.critical("%s ended by an error", task.get_name(), exc_info=task.exception())
        self._closing = True
        self._judge_task.cancel()
        self._commit_task.cancel()
        self._deliveries.fail_all(StoreError("the store stopped by an error of its own"))

    # Rounds.

    async def _serve(self) -> None:
        """Judge round after round. The next ones are sent to the validators before the first is back."""
        sent: deque[_Round] = deque()
        while True:
            while len(sent) < ROUNDS_AT_ONCE and (self._deliveries.waiting or self._retries or not sent):
                round_ = self._take_round() if sent else await self._next_round()
                if round_ is None:
                    return
                if not self._send(round_):
                    break
                sent.append(round_)
            if not sent:
                continue
            round_ = sent.popleft()
            try:
                await self._receive(round_)
            except Exception as error:
                self._deliveries.fail(_all_items(round_.items.values()), error)
                continue
            self._judged.append(round_)
            self._to_commit.set()
            while sum(judged.count for judged in self._judged) > JUDGED_MESSAGES:
                await self._landing()

    async def _next_round(self) -> _Round | None:
        """What is waiting, as soon as something is; None at the end."""
        while not (self._deliveries.waiting or self._retries):
            if self._closing and not self._judged and not self._committing:
                return None
            self._work.clear()
            await self._work.wait()
        return self._take_round()

    def _take_round(self) -> _Round:
        """What is waiting, first come first served, up to the size of a round."""
        items: dict[str, list[Item]] = {}
        attempts: dict[str, int] = {}
        room = ROUND_MESSAGES
        while self._retries and room > 0:
            author, again, attempt = self._retries.popleft()
            items.setdefault(author, []).extend(again)
            attempts[author] = max(attempt, attempts.get(author, 0))
            room -= len(again)
        self._deliveries.take(items, room, ROUND_BYTES)
        self._rounds += 1
        return _Round(self._rounds, items, attempts, sum(map(len, items.values())))

    # Judging.

    def _send(self, round_: _Round) -> bool:
        """Let a round's items be judged; False when there was nothing to send."""
        tasks = []
        for author, items in list(round_.items.items()):
            items.sort()
            task = self._task(author, items)
            if task is None:
                del round_.items[author]
                self._retries.append(_Retry(author, items, round_.attempts.get(author, 0)))
                continue
            tasks.append(task)
            end = items[-1][1] if admission.is_plain_run(items, task.sequence) else None
            self._out[author] = _Out(round_.number, end)
        if tasks:
            round_.verdicts = asyncio.ensure_future(self._validators.judge(tasks))
        return bool(tasks)

    def _task(self, author: str, items: list[Item]) -> Task | None:
        """What to judge of a feed, from the tip it will have; None when that must wait for another round's verdict."""
        out = self._out.get(author)
        if out is None:
            begin = self._begin(author)
            return Task(begin.form.name, author, begin.end.sequence, begin.end.id, False, begin.forked, items)
        if out.end is None or not admission.is_plain_run(items, out.end):
            return None
        return Task(self._form(author).name, author, out.end, None, True, False, items)

    async def _receive(self, round_: _Round) -> None:
        """Wait for the verdicts on a round, settle what they leave open, and note what its feeds will be."""
        try:
            verdicts = await round_.verdicts
        finally:
            for author in round_.items:
                if self._out[author].round == round_.number:
                    del self._out[author]
        outcomes = {author: self._begin(author) for author in round_.items}
        for task, verdict in verdicts:
            if not outcomes[task.author].join(task, verdict):
                self._again(round_, task.author, task.items)
        known = [outcome for outcome in outcomes.values() if outcome.known]
        if known:
            for author in await self._compare_known(round_, known):
                del outcomes[author]
        for outcome in outcomes.values():
            if outcome.fork is not None and outcome.fork.held is None:
                await self._find_held(outcome)
        round_.outcomes = list(outcomes.values())
        for author, outcome in outcomes.items():
            if outcome.taken or outcome.fork:
                forked = outcome.forked or outcome.fork is not None
                self._ahead[author] = _Ahead(round_.number, outcome.end, forked)

    def _begin(self, author: str) -> Outcome:
        """An empty outcome that starts from where the feed is, or will be once what is on its way has landed."""
        form, ahead = self._form(author), self._ahead.get(author)
        if ahead is not None:
            return Outcome(author, form, ahead.tip, ahead.forked, ahead.tip)
        tip = self._log.tip(author)
        return Outcome(author, form, tip, self._log.feed_state(author) == "forked", tip)

    def _form(self, author: str) -> FeedFormat:
        return next(form for form in self._formats if form.owns(author))

    async def _compare_known(self, round_: _Round, outcomes: Sequence[Outcome]) -> list[str]:
        """Tell duplicates from contradictions by the stored texts, with one query; returns feeds to be judged again."""
        places = {outcome.author: {item[1] for item in outcome.known} for outcome in outcomes}
        if any(self._log.sequence(author) < max(sequences) for author, sequences in places.items()):
            await self._all_landed()  # some are on their way into the log
        stored = await self._log.texts_at(places)
        again = []
        for outcome in outcomes:
            found = outcome.compare(stored.get(outcome.author, {}))
            if found is None:  # they never arrived there: the base was wrong
                again.append(outcome.author)
                self._again(round_, outcome.author, outcome.items)
            elif found:
                await self._validators.run(admission.judge_contradictions, outcome, found, self._hmac_key)
        return again

    async def _find_held(self, outcome: Outcome) -> None:
        """A fork contradicts the base, whose text only the store has."""
        fork = outcome.fork
        assert fork is not None
        if self._log.sequence(outcome.author) < fork.held_at:
            await self._all_landed()
        stored = (await self._log.texts_at({outcome.author: {fork.held_at}})).get(outcome.author, {})
        held = stored.get(fork.held_at)
        # Of a message that was erased here nothing is left to prove a fork with; the other is refused all the same.
        outcome.fork = None if held == b"" else fork._replace(held=held or b"")

    async def _all_landed(self) -> None:
        while self._judged or self._committing:
            await self._landing()

    async def _landing(self) -> None:
        """Wait until the next commit has come to an end."""
        self._landed.clear()
        await self._landed.wait()

    # Writing.

    async def _commit_all(self) -> None:
        """Commit whatever is judged, all that has gathered as one job; report; again."""
        while self._judged or not self._judge_task.done():
            if not self._judged:
                self._to_commit.clear()
                await self._to_commit.wait()
                continue
            rounds = self._judged[:]
            self._judged.clear()
            self._committing = True
            try:
                await self._commit(rounds)
            except Exception as error:
                for round_ in rounds:
                    self._forget_ahead(round_, everything=True)
                    self._deliveries.fail(_all_items(outcome.items for outcome in round_.outcomes), error)
            self._committing = False
            self._landed.set()
            self._work.set()

    async def _commit(self, rounds: Sequence[_Round]) -> None:
        outcomes = [(round_, outcome) for round_ in rounds for outcome in round_.outcomes]
        writing = [outcome for _, outcome in outcomes if outcome.taken]
        forking = [outcome for _, outcome in outcomes if outcome.fork is not None]
        stale: set[Outcome] = set()
        if writing or forking:
            runs = [Run(o.author, o.base, o.keys, o.timestamps, o.texts, o.extracts) for o in writing]
            forks = [self._fork_found(outcome) for outcome in forking]
            written = await self._database.write(
                lambda connection: self._append(connection, runs, forks), after_commit=self._committed
            )
            stale.update(writing[index] for index in written.appended.stale)
            stale.update(forking[index] for index in written.recorded.stale)
        for round_ in rounds:
            self._forget_ahead(round_, everything=False)
        for round_, outcome in outcomes:
            if outcome in stale:
                self._ahead.pop(outcome.author, None)
                self._again(round_, outcome.author, outcome.items)
            else:
                self._deliveries.report(outcome)

    def _fork_found(self, outcome: Outcome) -> ForkFound:
        fork = outcome.fork
        assert fork is not None
        source = self._deliveries.source(fork.delivery)
        return ForkFound(outcome.author, fork.held_at, fork.held or b"", fork.sequence, fork.second, source)

    def _append(self, connection: sqlite3.Connection, runs: list[Run], forks: list[ForkFound]) -> _Written:
        received = int(self._now() * 1000)
        appended = self._log.append(connection, runs, received)
        if any(run.author == self._publisher.id for _, run in appended.runs):
            self._publisher.delivered(received)
        recorded = self._log.record_forks(connection, forks, received)
        return _Written(appended, recorded, self._indexer.apply(connection, appended))

    def _publish(
        self, connection: sqlite3.Connection, content: JsonObject | str, if_sequence: int | None
    ) -> tuple[_Written, Entry]:
        now = self._now() * 1000
        own = self._log.read_own(connection, self._publisher.id)
        self._publisher.check(own.state == "forked")
        message = self._publisher.sign(content, own.tip, own.timestamp, now=now, if_sequence=if_sequence)
        found = links(message.content)
        extracts = [[extract(message, found)] for extract in self._indexer.extractors]
        run = Run(message.author, own.tip, [message.key], [message.timestamp], [message.text], extracts)
        appended = self._log.append(connection, [run], int(now))
        written = _Written(appended, Recorded([], []), self._indexer.apply(connection, appended))
        entry = Entry(appended.position, message.id, message.author, message.sequence, int(now), message.text)
        return written, entry

    def _committed(self, written: _Written) -> None:
        """Memory follows the store, then everyone is told: in the event loop, right after the commit."""
        appended = written.appended
        self._log.committed(appended.position, [*appended.tips, *written.recorded.tips])
        self._indexer.committed(appended, written.effects)
        self._live.notify(appended.position)

    def _forget_ahead(self, round_: _Round, *, everything: bool) -> None:
        """Drop what was foreseen for a round's feeds, unless a later round foresees more and this one went well."""
        for outcome in round_.outcomes:
            ahead = self._ahead.get(outcome.author)
            if ahead is not None and (everything or ahead.round == round_.number):
                del self._ahead[outcome.author]

    def _again(self, round_: _Round, author: str, items: list[Item]) -> None:
        """Put some of a feed's items back in line, to be judged against its true tip."""
        moved = set(map(id, items))
        round_.items[author] = [item for item in round_.items[author] if id(item) not in moved]
        attempt = round_.attempts.get(author, 0) + 1
        if attempt <= RETRIES:
            self._retries.append(_Retry(author, items, attempt))
            self._work.set()
            return
        for item in items:
            self._deliveries.reject(
                item, Rejection(item[2], None, author, item[1], "gap", "the feed kept moving meanwhile")
            )


def _all_items(of_feeds: Iterable[list[Item]]) -> Iterator[Item]:
    return (item for items in of_feeds for item in items)
