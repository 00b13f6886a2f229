"""What of the texts that peers delivered may enter the log: the rules of ingest, without its threads and database.

Texts of one feed, delivered by several peers at once, form one `FeedWork`. `prepare` reads them and follows the chain,
`verify` checks the signatures of what was accepted (any number of feeds in one loop), `judge_doubtful` decides about
texts that contradict what is held. All block; callers run them in worker threads, whole batches at a time.

Whoever delivers a bad text harms only that text: another peer's text for the same place is looked at next. Only a
message with its author's own signature can mark a feed as forked.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from feeds.errors import InvalidMessage
from feeds.formats.base import FeedFormat
from feeds.message import Message, Tip
from feeds.validation import Rejection, check_alone

__all__ = [
    "FeedWork",
    "FoundFork",
    "Item",
    "SignatureSlice",
    "check_slice",
    "judge_doubtful",
    "order_items",
    "prepare",
    "slices",
    "verify",
]

BAD_SIGNATURES_ALLOWED: Final = 3
"""From one delivery for one feed; what else it says about that feed is then not looked at."""
_BAD_SIGNATURE: Final = "signature is not the author's over this message"


class Item(NamedTuple):
    """One delivered text, and the sequence it claims."""

    delivery: int
    place: int
    """Index in the delivery."""
    sequence: int
    text: bytes


class _Doubtful(NamedTuple):
    item: Item
    first: bytes | None
    """Text we hold that this one contradicts; None: the base's, which only the store has."""
    first_sequence: int


class FoundFork(NamedTuple):
    """Two messages, both with the author's signature, that cannot be in one feed; first is the one held."""

    first_sequence: int
    first: bytes | None
    second: Message
    delivery: int


@dataclass(slots=True, eq=False)
class FeedWork:
    """Texts of one feed on their way into the log, and what became of each: every item ends in exactly one list."""

    author: str
    form: FeedFormat
    base: Tip
    forked: bool
    items: list[Item]

    accepted: list[Message] = field(default_factory=list)
    """The continuation of base, in order."""
    taken: list[Item] = field(default_factory=list)
    """The item of each accepted message."""
    duplicates: list[Item] = field(default_factory=list)
    known: list[Item] = field(default_factory=list)
    """At or before base: to be compared with the stored text by `settle_known`."""
    doubtful: list[_Doubtful] = field(default_factory=list)
    rejected: list[tuple[Item, Rejection]] = field(default_factory=list)
    fork: FoundFork | None = None

    verified: int = 0
    """So many accepted messages have a good signature."""
    _read: dict[tuple[int, int], Message | Rejection] = field(default_factory=dict)
    _bad: dict[int, int] = field(default_factory=dict)

    @property
    def end(self) -> Tip:
        """The tip once everything accepted is stored."""
        return Tip(self.accepted[-1].sequence, self.accepted[-1].id) if self.accepted else self.base

    def reject(self, item: Item, kind: Literal["invalid", "fork", "gap"], reason: str, id: str | None = None) -> None:
        """Note why an item is not taken."""
        self.rejected.append((item, Rejection(item.place, id, self.author, item.sequence, kind, reason)))

    def settle_known(self, stored: Mapping[int, bytes]) -> bool:
        """Compare what is at or before base with the stored texts by sequence; False when one is not there."""
        for item in self.known:
            text = stored.get(item.sequence)
            if text is None:
                return False
            if text == item.text:
                self.duplicates.append(item)
            else:
                self.doubtful.append(_Doubtful(item, text, item.sequence))
        self.known.clear()
        return True


def prepare(work: FeedWork, hmac_key: bytes | None = None) -> None:
    """Read the items and follow the chain from base; signatures are not checked yet. Never raises for a bad text."""
    base, end = work.base.sequence, work.base
    for item in work.items:
        if item.sequence <= base:
            work.known.append(item)
        elif item.sequence <= end.sequence:
            _compare(work, item, work.accepted[item.sequence - base - 1])
        elif work.forked:
            work.reject(item, "fork", "this feed has two branches; nothing more is taken of it")
        elif item.sequence > end.sequence + 1:
            work.reject(item, "gap", f"sequence is {item.sequence}, the next one here is {end.sequence + 1}")
        elif (message := _read(work, item, hmac_key)) is not None:
            fault = work.form.check_chain(message, end)
            if fault is None:
                work.accepted.append(message)
                work.taken.append(item)
                end = Tip(message.sequence, message.id)
            elif fault.kind == "fork":
                work.doubtful.append(_Doubtful(item, work.accepted[-1].text if work.accepted else None, end.sequence))
            else:
                work.reject(item, "gap" if fault.kind == "gap" else "invalid", fault.reason, message.id)


def _compare(work: FeedWork, item: Item, held: Message) -> None:
    if item.text == held.text:
        work.duplicates.append(item)
    else:
        work.doubtful.append(_Doubtful(item, held.text, item.sequence))


def _read(work: FeedWork, item: Item, hmac_key: bytes | None) -> Message | None:
    """The message in an item, or None with the reason noted; read once even when the work starts over."""
    place = item.delivery, item.place
    outcome = work._read.get(place)
    if not isinstance(outcome, Rejection) and work._bad.get(item.delivery, 0) >= BAD_SIGNATURES_ALLOWED:
        work.reject(item, "gap", "it follows messages with bad signatures from the same peer")
        return None
    if outcome is None:
        try:
            outcome = work.form.prepare(item.text, hmac_key)
            if outcome.author != work.author or outcome.sequence != item.sequence:
                raise InvalidMessage("author and sequence are not those at the head of the text")
        except InvalidMessage as error:
            outcome = Rejection(item.place, None, work.author, item.sequence, "invalid", str(error))
        work._read[place] = outcome
    if isinstance(outcome, Rejection):
        work.rejected.append((item, outcome))
        return None
    return outcome


class SignatureSlice(NamedTuple):
    """A stretch of the accepted messages of several feeds, to be verified in one loop."""

    parts: list[tuple[FeedWork, int, int]]
    """Work, first and one past the last index into its `accepted`."""


def slices(works: Iterable[FeedWork], count: int) -> list[SignatureSlice]:
    """Share all signatures still to be checked evenly among `count` loops; a long feed is cut."""
    waiting = [(work, work.verified, len(work.accepted)) for work in works if work.verified < len(work.accepted)]
    total = sum(end - start for _, start, end in waiting)
    size = -(-total // max(count, 1))
    shared: list[SignatureSlice] = []
    room = 0
    for work, start, end in waiting:
        while start < end:
            if not room:
                shared.append(SignatureSlice([]))
                room = size
            stop = min(end, start + room)
            shared[-1].parts.append((work, start, stop))
            room -= stop - start
            start = stop
    return shared


def check_slice(part: SignatureSlice, hmac_key: bytes | None = None) -> bool:
    """Whether every signature of a slice is good."""
    by_format: dict[str, tuple[FeedFormat, list[Message]]] = {}
    for work, start, end in part.parts:
        form = work.form
        by_format.setdefault(form.name, (form, []))[1].extend(work.accepted[start:end])
    return all(form.first_bad_signature(messages, hmac_key) < 0 for form, messages in by_format.values())


def verify(work: FeedWork, hmac_key: bytes | None = None) -> None:
    """Check the signatures of one feed's accepted messages, starting over without each text that has a bad one."""
    while work.verified < len(work.accepted):
        bad = work.form.first_bad_signature(work.accepted[work.verified :], hmac_key)
        if bad < 0:
            work.verified = len(work.accepted)
            return
        _start_over(work, work.verified + bad, hmac_key)


def _start_over(work: FeedWork, bad: int, hmac_key: bytes | None) -> None:
    """Take the chain up again where a signature was bad, with what else was delivered for that place."""
    item, message = work.taken[bad], work.accepted[bad]
    work._bad[item.delivery] = work._bad.get(item.delivery, 0) + 1
    rejection = Rejection(item.place, message.id, work.author, item.sequence, "invalid", _BAD_SIGNATURE)
    work._read[item.delivery, item.place] = rejection
    for settled in (work.accepted, work.taken, work.duplicates, work.known, work.doubtful, work.rejected):
        settled.clear()
    work.verified = bad
    prepare(work, hmac_key)


def judge_doubtful(work: FeedWork, hmac_key: bytes | None = None) -> None:
    """Decide about texts that differ from what is held at their place: the same message, a bad one, or a fork."""
    for item, first, first_sequence in work.doubtful:
        try:
            message = check_alone(work.form, item.text, hmac_key)
        except InvalidMessage as error:
            work.reject(item, "invalid", str(error))
            continue
        if message.author != work.author or message.sequence != item.sequence:
            work.reject(item, "invalid", "author and sequence are not those at the head of the text")
        elif message.text == first:
            work.duplicates.append(item)
        else:
            if work.fork is None and not work.forked:
                work.fork = FoundFork(first_sequence, first, message, item.delivery)
            work.reject(item, "fork", "its author signed another message for this place in the feed", message.id)
    work.doubtful.clear()


def order_items(items: Sequence[Item]) -> list[Item]:
    """Delivery after delivery, each by sequence."""
    return sorted(items, key=lambda item: (item.delivery, item.sequence))
