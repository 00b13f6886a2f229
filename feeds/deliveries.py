"""Deliveries on their way through the door: who waits to get in, what waits to be judged, who is owed an answer.

The bytes on their way are bounded; whoever would exceed them waits, first come first served. A delivery is answered
once every one of its texts is accounted for as added, here already, or rejected.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from feeds.admission import Item, Outcome
from feeds.errors import InvalidMessage, StoreError
from feeds.formats.base import FeedFormat
from feeds.validation import Rejection

__all__ = ["AddReport", "Deliveries", "Peeked"]

IN_FLIGHT_BYTES: Final = 16 << 20

Peeked: TypeAlias = tuple[str, int, bytes]
"""A text with the author and the sequence that it claims, as `peek` of a known format has read them."""
_delivery_of: Final = itemgetter(0)


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
    peeked: Sequence[Peeked] | None
    """The same texts, if whoever delivered them has looked at their heads."""
    source: str
    size: int
    answer: "asyncio.Future[AddReport]"
    taken: int = 0
    """So many texts have left the line."""
    unsettled: int = 0
    """So many of those are not accounted for yet."""
    added: int = 0
    duplicates: int = 0
    rejections: list[Rejection] = field(default_factory=list)
    feeds: set[str] = field(default_factory=set)


class Deliveries:
    """The line and the answers. Belongs to one event loop.

    sequence -- last sequence held of a feed, for reports; arrived -- called when there is something new to take.
    """

    def __init__(
        self, formats: Sequence[FeedFormat], sequence: Callable[[str], int], arrived: Callable[[], object]
    ) -> None:
        self._formats: Final = formats
        self._sequence: Final = sequence
        self._arrived: Final = arrived
        self._open: Final[dict[int, _Delivery]] = {}
        self._line: Final[deque[_Delivery]] = deque()
        self._numbers = 0
        self._in_flight = 0
        self._entrance: Final = asyncio.Lock()
        self._room: Final = asyncio.Event()
        self._closed = False
        self.counts: Final[Counter[str]] = Counter()
        """What became of texts since the start."""
        self.arriving = 0
        """Texts that were let in and are not answered for yet."""

    @property
    def waiting(self) -> bool:
        """Whether there is anything to take."""
        return bool(self._line)

    async def enter(
        self, texts: Sequence[bytes], source: str, *, peeked: Sequence[Peeked] | None = None
    ) -> "asyncio.Future[AddReport]":
        """Put a delivery in line, once there is room for it; its answer comes later. Raises StoreError once closed.

        peeked -- the same texts, if their heads have been read.
        """
        size = sum(map(len, texts))
        answer: asyncio.Future[AddReport] = asyncio.get_running_loop().create_future()
        async with self._entrance:
            while self._in_flight and self._in_flight + size > IN_FLIGHT_BYTES and not self._closed:
                self._room.clear()
                await self._room.wait()
            if self._closed:
                raise StoreError("the store is closing")
            if not texts:
                answer.set_result(AddReport(0, 0, [], {}))
                return answer
            self._numbers += 1
            delivery = _Delivery(self._numbers, texts, peeked, source, size, answer)
            self._in_flight += size
            self.arriving += len(texts)
            self._open[delivery.number] = delivery
            self._line.append(delivery)
        self._arrived()
        return answer

    def close(self) -> None:
        """Let nothing more in; what is in goes on."""
        self._closed = True
        self._room.set()

    def take(self, items: dict[str, list[Item]], messages: int, size: int) -> None:
        """Move texts from the head of the line into `items`, by feed, up to so many and about so many bytes."""
        while self._line and messages > 0 and size > 0:
            delivery = self._line[0]
            if delivery.answer.done():  # cancelled, or failed by an earlier round: nobody waits for the rest
                delivery.taken = len(delivery.texts)
            begin = delivery.taken
            while delivery.taken < len(delivery.texts) and messages > 0 and size > 0:
                size -= len(delivery.texts[delivery.taken])
                delivery.taken += 1
                messages -= 1
            self._sort_in(delivery, begin, items)
            if delivery.taken == len(delivery.texts):
                self._line.popleft()
                self._settle(delivery, 0)

    def _sort_in(self, delivery: _Delivery, begin: int, items: dict[str, list[Item]]) -> None:
        """Put texts with those of the same feed, by what their heads claim."""
        number, texts = delivery.number, delivery.texts
        if delivery.peeked is not None:
            for place, (author, sequence, text) in enumerate(delivery.peeked[begin : delivery.taken], begin):
                items.setdefault(author, []).append((number, sequence, place, text))
            delivery.unsettled += delivery.taken - begin
            return
        for place in range(begin, delivery.taken):
            text = texts[place]
            reason = "no known feed format"
            for form in self._formats:
                try:
                    author, sequence = form.peek(text)
                except InvalidMessage as error:
                    reason = str(error)
                    continue
                items.setdefault(author, []).append((number, sequence, place, text))
                delivery.unsettled += 1
                break
            else:
                delivery.rejections.append(Rejection(place, None, None, None, "invalid", reason))

    def source(self, number: int) -> str:
        """Who made a delivery."""
        return self._open[number].source

    def report(self, outcome: Outcome) -> None:
        """Account for everything that an outcome settles."""
        for number, count in Counter(map(_delivery_of, outcome.taken)).items():
            delivery = self._open[number]
            delivery.added += count
            delivery.feeds.add(outcome.author)
            self._settle(delivery, count)
        for item in outcome.duplicates:
            delivery = self._open[item[0]]
            delivery.duplicates += 1
            delivery.feeds.add(outcome.author)
            self._settle(delivery, 1)
        for item, rejection in outcome.rejected:
            self.reject(item, rejection)

    def reject(self, item: Item, rejection: Rejection) -> None:
        """Account for a text that is not taken."""
        delivery = self._open[item[0]]
        delivery.rejections.append(rejection)
        self._settle(delivery, 1)

    def fail(self, items: Iterable[Item], error: Exception) -> None:
        """Answer whoever delivered these with an error; what else they delivered is dropped."""
        for item in items:
            delivery = self._open[item[0]]
            if not delivery.answer.done():
                delivery.answer.set_exception(error)
            self._settle(delivery, 1)

    def fail_all(self, error: Exception) -> None:
        """Answer everyone with an error and let nobody in any more."""
        self.close()
        for delivery in self._open.values():
            if not delivery.answer.done():
                delivery.answer.set_exception(error)

    def _settle(self, delivery: _Delivery, count: int) -> None:
        """Account for some of a delivery's texts, and answer its caller once that was the last."""
        delivery.unsettled -= count
        if delivery.unsettled or delivery.taken < len(delivery.texts):
            return
        if not delivery.answer.done():
            tips = {feed: self._sequence(feed) for feed in delivery.feeds}
            rejections = sorted(delivery.rejections, key=lambda rejection: rejection.index)
            delivery.answer.set_result(AddReport(delivery.added, delivery.duplicates, rejections, tips))
        self.counts.update(rejection.kind for rejection in delivery.rejections)
        self.counts["added"] += delivery.added
        self.counts["duplicate"] += delivery.duplicates
        del self._open[delivery.number]
        self._in_flight -= delivery.size
        self.arriving -= len(delivery.texts)
        self._room.set()
