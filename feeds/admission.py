"""What of the texts that peers delivered may enter the log: the rules of ingest, without threads, processes, database.

A `Task` is what was delivered of one feed, perhaps by several peers, and the tip it is to continue. `judge` reads the
texts of many tasks, follows each chain, checks all signatures in one loop and returns a `Verdict` for each. Both are
plain tuples, lists, numbers and bytes, so that a task can be judged in another process. `Outcome` is the verdict about
a feed for those who asked; a long feed may have been cut in parts that were judged side by side.

Whoever delivers a bad text harms only that text: another peer's text for the same place is looked at next. Only a
message with its author's own signature can mark a feed as forked.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final, Literal, NamedTuple, TypeAlias

from feeds.content import FoundLink, links
from feeds.errors import InvalidMessage
from feeds.formats.base import FeedFormat
from feeds.formats.registry import format_named
from feeds.message import Message, Tip
from feeds.validation import Rejection, check_alone

__all__ = [
    "Contradiction",
    "Extractor",
    "Item",
    "Kind",
    "Outcome",
    "Task",
    "Verdict",
    "is_plain_run",
    "judge",
    "judge_contradictions",
    "share",
]

LOG: Final = logging.getLogger(__name__)

Kind: TypeAlias = Literal["invalid", "fork", "gap"]
Item: TypeAlias = tuple[int, int, int, bytes]
"""One delivered text: number of the delivery, the sequence it claims, its index in the delivery, the text.
Sorts in the order in which it is judged."""
Extractor: TypeAlias = Callable[[Message, Sequence[FoundLink]], object]
"""What a view keeps of a message with such links, as marshal can carry it; None for nothing. Never raises."""

_sequence_of: Final = itemgetter(1)
BAD_SIGNATURES_ALLOWED: Final = 3
"""From one delivery for one feed; what else it says about that feed is then not looked at."""
_BAD_SIGNATURE: Final = "signature is not the author's over this message"
_NOT_AS_CLAIMED: Final = "author and sequence are not those at the head of the text"
_FORK: Final = "its author signed another message for this place in the feed"


class Task(NamedTuple):
    """Texts of one feed, and the tip they are to continue."""

    format: str
    author: str
    sequence: int
    """Of the tip."""
    id: str | None
    """Of the tip."""
    assumed: bool
    """The tip's id is not known yet: take what the first message names as its previous one."""
    forked: bool
    items: list[Item]
    """Sorted."""


class Verdict(NamedTuple):
    """What became of a task's items, which are meant by their index: each is in exactly one of the lists."""

    base: str | None
    """Id of the tip that the accepted ones continue."""
    end: str | None
    """Id of the last accepted one."""
    taken: list[int]
    """The continuation of the feed, in order; the columns below go with it."""
    keys: list[bytes]
    timestamps: list[int | float]
    respelled: dict[int, bytes]
    """Texts that are stored in another spelling than they came in, by index into `taken`."""
    extracts: list[list[object]]
    """One list for each extractor; empty where there was none."""
    duplicates: list[int]
    known: list[int]
    """At or before the tip: to be compared with what is stored."""
    rejected: list[tuple[int, Kind, str, str | None]]
    """Item, kind, reason, message id where it is known."""
    fork: tuple[int, int, bytes | None, bytes] | None
    """Item, then the sequence and the text of the message held that it contradicts (None: the tip's), then its text."""


# --- judging ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Work:
    """A task being judged."""

    task: Task
    form: FeedFormat
    base: Tip
    assumed: bool
    accepted: list[Message] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    rejected: list[tuple[int, Kind, str, str | None]] = field(default_factory=list)
    doubtful: list[tuple[int, int, bytes | None]] = field(default_factory=list)
    """Item, and sequence and text of what is held that it contradicts; None: the tip's, which only the store has."""
    fork: tuple[int, int, bytes | None, bytes] | None = None
    verified: int = 0
    """So many of the accepted have a good signature."""
    read: dict[int, Message] = field(default_factory=dict)
    """Items that need not be read again. Filled only after a bad signature."""
    refused: dict[int, tuple[str, str | None]] = field(default_factory=dict)
    """Items with a bad signature: reason and id."""
    bad: dict[int, int] = field(default_factory=dict)
    """Bad signatures by delivery."""


def judge(tasks: Iterable[Task], hmac_key: bytes | None, extractors: Sequence[Extractor | None]) -> list[Verdict]:
    """Decide about every item of every task; blocks. Nothing that a text contains makes it raise.

    extractors -- None in the place of one that is not wanted this time.
    """
    works = [
        _Work(task, format_named(task.format), Tip(task.sequence, task.id), task.assumed) for task in map(_task, tasks)
    ]
    for work in works:
        _follow(work, hmac_key)
    _verify_together(works, hmac_key)
    for work in works:
        if work.doubtful:
            _judge_doubtful(work, hmac_key)
    return [_verdict(work, extractors) for work in works]


def _task(plain: Task) -> Task:
    return Task(*plain)  # marshal knows only plain tuples


def _follow(work: _Work, hmac_key: bytes | None) -> None:
    """Read the items and follow the chain from the tip; signatures are not checked yet."""
    forked, check_chain = work.task.forked, work.form.check_chain
    base, end = work.base.sequence, work.base
    for index, (_, sequence, _, text) in enumerate(work.task.items):
        if sequence <= base:
            work.known.append(index)
        elif sequence <= end.sequence:
            held = work.accepted[sequence - base - 1].text
            if held == text:
                work.duplicates.append(index)
            else:
                work.doubtful.append((index, sequence, held))
        elif forked:
            work.rejected.append((index, "fork", "this feed has two branches; nothing more is taken of it", None))
        elif sequence > end.sequence + 1:
            reason = f"sequence is {sequence}, the next one here is {end.sequence + 1}"
            work.rejected.append((index, "gap", reason, None))
        elif (message := _read(work, index, hmac_key)) is not None:
            if work.assumed and not work.accepted:
                work.base = end = Tip(base, message.previous)
            fault = check_chain(message, end)
            if fault is None:
                work.accepted.append(message)
                work.taken.append(index)
                end = Tip(sequence, message.id)
            elif fault.kind == "fork":
                held_end = work.accepted[-1].text if work.accepted else None
                work.doubtful.append((index, end.sequence, held_end))
            else:
                work.rejected.append((index, "invalid", fault.reason, message.id))


def _read(work: _Work, index: int, hmac_key: bytes | None) -> Message | None:
    """The message in an item, or None with the reason noted."""
    delivery, sequence, _, text = work.task.items[index]
    if work.bad:
        if index in work.refused:
            work.rejected.append((index, "invalid", *work.refused[index]))
            return None
        if work.bad.get(delivery, 0) >= BAD_SIGNATURES_ALLOWED:
            work.rejected.append((index, "gap", "it follows messages with bad signatures from the same peer", None))
            return None
        if index in work.read:
            return work.read[index]
    try:
        message = work.form.prepare(text, hmac_key)
    except InvalidMessage as error:
        work.rejected.append((index, "invalid", str(error), None))
        return None
    if message.sequence != sequence or message.author != work.task.author:
        work.rejected.append((index, "invalid", _NOT_AS_CLAIMED, message.id))
        return None
    return message


def _verify_together(works: Sequence[_Work], hmac_key: bytes | None) -> None:
    """One loop over all signatures of a format; only where one is bad, feed by feed."""
    by_format: dict[str, tuple[FeedFormat, list[Message]]] = {}
    for work in works:
        by_format.setdefault(work.form.name, (work.form, []))[1].extend(work.accepted)
    if any(form.first_bad_signature(messages, hmac_key) >= 0 for form, messages in by_format.values()):
        for work in works:
            _verify(work, hmac_key)


def _verify(work: _Work, hmac_key: bytes | None) -> None:
    """Check one feed's signatures, taking the chain up again without each text that has a bad one."""
    while work.verified < len(work.accepted):
        bad = work.form.first_bad_signature(work.accepted[work.verified :], hmac_key)
        if bad < 0:
            return
        work.verified += bad
        index, message = work.taken[work.verified], work.accepted[work.verified]
        delivery = work.task.items[index][0]
        work.bad[delivery] = work.bad.get(delivery, 0) + 1
        work.read.update(zip(work.taken, work.accepted, strict=True))
        work.refused[index] = _BAD_SIGNATURE, message.id
        for settled in (work.accepted, work.taken, work.duplicates, work.known, work.doubtful, work.rejected):
            settled.clear()
        _follow(work, hmac_key)


def _judge_doubtful(work: _Work, hmac_key: bytes | None) -> None:
    """Decide about texts that differ from what is held at their place: the same message, a bad one, or a fork."""
    for index, held_at, held in work.doubtful:
        _, sequence, _, text = work.task.items[index]
        found = _contradicts(work.form, work.task.author, sequence, text, held, hmac_key)
        if found is None:
            work.duplicates.append(index)
            continue
        kind, reason, id_, second = found
        work.rejected.append((index, kind, reason, id_))
        if kind == "fork" and work.fork is None and not work.task.forked:
            work.fork = index, held_at, held, second


def _contradicts(
    form: FeedFormat, author: str, sequence: int, text: bytes, held: bytes | None, hmac_key: bytes | None
) -> tuple[Kind, str, str | None, bytes] | None:
    """What a text is that differs from the one held: None for the same message, else kind, reason, id, stored text."""
    try:
        message = check_alone(form, text, hmac_key)
    except InvalidMessage as error:
        return "invalid", str(error), None, b""
    if message.author != author or message.sequence != sequence:
        return "invalid", _NOT_AS_CLAIMED, message.id, b""
    return None if message.text == held else ("fork", _FORK, message.id, message.text)


def _verdict(work: _Work, extractors: Sequence[Extractor | None]) -> Verdict:
    accepted, items = work.accepted, work.task.items
    found = [links(message.content) for message in accepted] if extractors else []
    respelled = {
        at: message.text
        for at, (index, message) in enumerate(zip(work.taken, accepted, strict=True))
        if message.text != items[index][3]
    }
    return Verdict(
        work.base.id,
        accepted[-1].id if accepted else None,
        work.taken,
        [message.key for message in accepted],
        [message.timestamp for message in accepted],
        respelled,
        [[] if extract is None else _extracts(accepted, found, extract) for extract in extractors],
        work.duplicates,
        work.known,
        work.rejected,
        work.fork,
    )


def _extracts(messages: Sequence[Message], found: Sequence[list[FoundLink]], extract: Extractor) -> list[object]:
    try:
        return list(map(extract, messages, found))
    except Exception:  # an error in a view must not keep a message out of the log, nor every one after it
        LOG.exception("a view cannot read a message")
        return [_extract(message, within, extract) for message, within in zip(messages, found, strict=True)]


def _extract(message: Message, found: list[FoundLink], extract: Extractor) -> object:
    try:
        return extract(message, found)
    except Exception:
        return None


# --- sharing the work -------------------------------------------------------------------------------------------------


def share(tasks: Iterable[Task], count: int) -> list[list[Task]]:
    """Deal tasks out to `count` workers, about as many items to each; a feed that is one plain run may be cut."""
    tasks = list(tasks)
    size = max(-(-sum(len(task.items) for task in tasks) // count), 1)
    dealt: list[list[Task]] = [[]]
    room = size
    for task in tasks:
        plain = not task.forked and is_plain_run(task.items, task.sequence)
        while task.items:
            if room <= 0 and len(dealt) < count:
                dealt.append([])
                room = size
            cut = room if plain and 0 < room < len(task.items) and len(dealt) < count else len(task.items)
            dealt[-1].append(task._replace(items=task.items[:cut]))
            room -= cut
            rest = task.items[cut:]
            task = task._replace(sequence=task.sequence + cut, id=None, assumed=True, items=rest)
    return [part for part in dealt if part]


def is_plain_run(items: Sequence[Item], sequence: int) -> bool:
    """Whether items follow a sequence and each other, as nearly all that is delivered does."""
    if not items or items[0][1] != sequence + 1 or items[-1][1] != sequence + len(items):
        return False
    return list(map(_sequence_of, items)) == list(range(sequence + 1, sequence + len(items) + 1))


# --- outcomes ---------------------------------------------------------------------------------------------------------


class Contradiction(NamedTuple):
    """A text that differs from the one held at its place."""

    item: Item
    held: bytes


class FoundFork(NamedTuple):
    """Two messages, both with the author's signature, that cannot be in one feed."""

    held_at: int
    held: bytes | None
    """Text held at that sequence; None: it is the base's, which only the store has."""
    second: bytes
    sequence: int
    """Of the second."""
    delivery: int


@dataclass(slots=True, eq=False)
class Outcome:
    """What became of everything that was delivered of one feed in a round."""

    author: str
    form: FeedFormat
    base: Tip
    forked: bool
    end: Tip
    """The tip once everything taken is stored."""
    items: list[Item] = field(default_factory=list)
    taken: list[Item] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    timestamps: list[int | float] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)
    extracts: list[list[object]] = field(default_factory=list)
    duplicates: list[Item] = field(default_factory=list)
    known: list[Item] = field(default_factory=list)
    rejected: list[tuple[Item, Rejection]] = field(default_factory=list)
    fork: FoundFork | None = None

    def join(self, task: Task, verdict: Verdict) -> bool:
        """Add the verdict about the next part of the feed; False when it was judged from another tip than there is."""
        if self.fork is not None or task.forked != self.forked or task.sequence != self.end.sequence:
            return False
        if (verdict.base if task.assumed else task.id) != self.end.id:
            return False
        if task.assumed and not verdict.taken:
            return False
        self.items += task.items
        taken = task.items if len(verdict.taken) == len(task.items) else [task.items[index] for index in verdict.taken]
        texts = [text for _, _, _, text in taken]
        for at, text in verdict.respelled.items():
            texts[at] = text
        self.taken += taken
        self.keys += verdict.keys
        self.timestamps += verdict.timestamps
        self.texts += texts
        if self.extracts:
            for column, more in zip(self.extracts, verdict.extracts, strict=True):
                column += more
        else:
            self.extracts = verdict.extracts
        self.duplicates += [task.items[index] for index in verdict.duplicates]
        self.known += [task.items[index] for index in verdict.known]
        for index, kind, reason, id_ in verdict.rejected:
            self.reject(task.items[index], kind, reason, id_)
        if verdict.taken:
            self.end = Tip(self.end.sequence + len(verdict.taken), verdict.end)
        if verdict.fork is not None:
            index, held_at, held, second = verdict.fork
            delivery, sequence, _, _ = task.items[index]
            self.fork = FoundFork(held_at, held, second, sequence, delivery)
        return True

    def reject(self, item: Item, kind: Kind, reason: str, id: str | None = None) -> None:
        """Note why an item is not taken."""
        self.rejected.append((item, Rejection(item[2], id, self.author, item[1], kind, reason)))

    def compare(self, stored: Mapping[int, bytes]) -> list[Contradiction] | None:
        """Tell duplicates among `known` by the stored texts; returns what differs, None when a text is not there.

        A stored text that is empty was erased; whatever comes for its place counts as known.
        """
        contradictions = []
        for item in self.known:
            held = stored.get(item[1])
            if held is None:
                return None
            if held in (item[3], b""):  # of one that was erased here nobody knows more than its id, which may stay so
                self.duplicates.append(item)
            else:
                contradictions.append(Contradiction(item, held))
        self.known.clear()
        return contradictions


def judge_contradictions(outcome: Outcome, found: Iterable[Contradiction], hmac_key: bytes | None) -> None:
    """Decide about texts that differ from stored ones; blocks."""
    for item, held in found:
        verdict = _contradicts(outcome.form, outcome.author, item[1], item[3], held, hmac_key)
        if verdict is None:
            outcome.duplicates.append(item)
            continue
        kind, reason, id_, second = verdict
        outcome.reject(item, kind, reason, id_)
        earliest = outcome.fork is None or item[1] < outcome.fork.sequence
        if kind == "fork" and earliest and not outcome.forked:
            outcome.fork = FoundFork(item[1], held, second, item[1], item[0])
