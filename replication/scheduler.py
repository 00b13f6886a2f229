"""Carries out what `replication.schedule` decides: dials, hangs up, forgets, and keeps how each attempt went.

It looks when something happened, when a wait is over, and every few seconds in any case, since clocks jump. The clock,
the randomness and the question whether there is a network come from outside. Every dial of the node is told to it,
those by hand too, so that there is one record of what works.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol

from replication.address_book import AddressBook, Remembered
from replication.errors import DialFailed, InvalidAddress
from replication.network import has_route, is_near
from replication.peer_info import Decided
from replication.schedule import (
    Decision,
    Dial,
    Forget,
    Group,
    HangUp,
    Held,
    Known,
    Outlook,
    Rules,
    Wait,
    after_failure,
    after_loss,
    decide,
    group_of,
    next_look,
)
from replication.staging import Staging

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0
"""Look again after this time at the latest."""
BREATH_SECONDS: Final = 0.02
BREATH_EACH_SECONDS: Final = 0.0002
"""And after the time of these two at the soonest: a look takes longer the more addresses there are."""
_ONGOING: Final = ("connected", "a dial to this peer is under way")


class Links(Protocol):
    """What the scheduler asks of the hub."""

    async def dial_known(self, known: Remembered) -> object:
        """Dial; raises DialFailed or InvalidAddress. Reports to `reached` or `failed`."""

    def hang_up(self, peer: str, reason: str) -> None: ...

    def held(self) -> list[tuple[str, Held]]:
        """The address and the state of each connection with a peer."""

    def dialling(self) -> Mapping[str, Group]: ...

    def barred(self, peer: str) -> str:
        """Why this peer must not be dialled; empty if it may."""

    def hops(self, peer: str) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds since the epoch, and numbers in [0, 1)."""

    wall: Callable[[], float]
    random: Callable[[], float]


class Scheduler:
    """`run` until cancelled."""

    def __init__(
        self,
        book: AddressBook,
        staging: Staging,
        links: Links,
        rules: Rules,
        times: Times,
        *,
        has_network: Callable[[], bool] = has_route,
        pause: Callable[[Awaitable[object], float], Awaitable[None]] | None = None,
    ) -> None:
        """`pause(happening, seconds)` waits until something happens, or for so long; tests give another clock's."""
        self._book = book
        self._staging = staging
        self._links = links
        self.rules = rules
        self._times = times
        self._has_network = has_network
        self._pause = pause or _pause
        self._outlook = Outlook()
        self._news = asyncio.Event()
        self._count = 0
        self._decided: dict[str, Decided] = {}
        self._near: dict[str, bool] = {}

    async def run(self) -> None:
        """Look and act, again and again."""
        for known in self._book.all():
            if known.auto and known.next_try:  # a person who starts the node wants its own peers now
                await self._book.update(replace(known, next_try=0))
        async with asyncio.TaskGroup() as group:
            while True:
                self._news.clear()
                wait = await self._look(group)
                await self._pause(self._news.wait(), max(BREATH_SECONDS, min(wait, LOOK_SECONDS)))
                if self._news.is_set():  # others make news as often as they like; what that costs us is bounded
                    await self._pause(asyncio.Event().wait(), BREATH_SECONDS + self._count * BREATH_EACH_SECONDS)

    def wake(self) -> None:
        """Something has changed: look at once."""
        self._news.set()

    # ---- what became of it

    async def reached(self, address: str) -> None:
        """A dial led to a connection. Failures are forgiven only once it has lasted."""
        now = self._times.wall()
        if not self.is_near(address):
            since = self._outlook.worked()
            if since is not None:
                await self._book.retry_since(int(since * 1000))
        known = self._record(address)
        if known is not None:
            await self._keep(replace(known, last_success=int(now * 1000), error=None))
        self.wake()

    async def failed(self, address: str, error: Exception) -> None:
        """A dial led to nothing."""
        now = self._times.wall()
        known = self._record(address)
        if known is not None:
            failures = known.failures + 1
            due = after_failure(now, self.group(known), failures, self.rules, self._times.random())
            await self._keep(
                replace(
                    known,
                    failures=failures,
                    last_failure=int(now * 1000),
                    error=str(error)[:300],
                    next_try=int(due * 1000),
                )
            )
            level = logging.INFO if known.auto else logging.DEBUG
            logger.log(level, "dialling %s failed, again in %.0f s: %s", address, due - now, error)
            if not self.is_near(address) and getattr(error, "step", "") == "connect":
                self._outlook.failed(now, known.peer)
        self.wake()

    async def ended(self, address: str, lasted: float) -> None:
        """A connection that we opened has ended after so many seconds."""
        now = self._times.wall()
        known = self._record(address)
        if known is not None:
            group, jitter = self.group(known), self._times.random()
            failures, due = after_loss(now, group, known.failures, lasted, self.rules, jitter)
            worked = int(now * 1000) if failures == 0 else known.last_success
            await self._keep(replace(known, failures=failures, next_try=int(due * 1000), last_success=worked))
        self.wake()

    # ---- for people

    def candidates(self) -> list[Remembered]:
        """Every address there is: staged ones, then those of the book; of one that is both, as it is staged."""
        now = self._times.wall()
        staged = [self._book_part(known) for known in self._staging.here(now)]
        names = {known.address for known in staged}
        return staged + [known for known in self._book.all() if known.address not in names]

    def is_staged(self, address: str) -> bool:
        """Whether it is there only for now."""
        return self._book.get(address) is None

    def group(self, known: Remembered) -> Group:
        """What a connection to this address counts as."""
        return group_of(known.kind, by_hand=known.auto, hops=self._links.hops(known.peer))

    def group_at(self, address: str) -> Group:
        """The same by address; one that nobody told us of is dialled by hand."""
        known = self._record(address)
        return Group.HAND if known is None else self.group(known)

    def decisions(self) -> dict[str, Decided]:
        """The last decision about each address."""
        return self._decided

    def is_near(self, address: str) -> bool:
        """Whether it may work without a way out of the local network."""
        near = self._near.get(address)
        if near is None:
            if len(self._near) > 20_000:
                self._near.clear()
            near = self._near[address] = is_near(address)
        return near

    # ---- one look

    async def _look(self, group: asyncio.TaskGroup) -> float:
        """Decide and act; gives the seconds until time alone changes something."""
        now = self._times.wall()
        held = self._links.held()
        await self._forgive(now, held)
        far = any(not self.is_near(address) for address, _ in held)
        network = self._outlook.network(now, has_network=self._has_network(), connected=far)
        candidates = self.candidates()
        self._count = len(candidates)
        decisions = decide(
            now,
            map(self._known, candidates),
            [each for _, each in held],
            self._links.dialling(),
            self.rules,
            network=network,
            random=self._times.random,
        )
        self._note(decisions, held, now)
        for each in decisions:
            match each:
                case Dial():
                    group.create_task(self._dial(each))
                case HangUp():
                    self._links.hang_up(each.peer, each.reason)
                case Forget():
                    logger.info("forgetting %s: %s", each.address, each.reason)
                    await self._book.forget(each.address)
        await asyncio.sleep(0)  # let the dials begin, so that the next look counts them
        soonest = [next_look(decisions), self._outlook.next_look(now)]
        return min(*soonest, self._staging.next_end(now) or soonest[0]) - now

    async def _dial(self, decision: Dial) -> None:
        known = self._record(decision.address)
        if known is None:
            return
        try:
            await self._links.dial_known(known)
        except (DialFailed, InvalidAddress) as error:
            await self._failed_unnoticed(known, error)
        except Exception as error:
            logger.exception("dialling %s failed", decision.address)
            await self._failed_unnoticed(known, error)

    async def _failed_unnoticed(self, before: Remembered, error: Exception) -> None:
        """Count a failure that came before there was a dial, lest it be tried again at once."""
        known = self._record(before.address)
        if known is not None and known.failures == before.failures:
            await self.failed(before.address, error)

    async def _forgive(self, now: float, held: Iterable[tuple[str, Held]]) -> None:
        for address, each in held:
            known = self._record(address) if each.outgoing else None
            if known is not None and known.failures:
                steady = self.rules.backoff_of(self.group(known)).steady
                if now - each.since >= steady:
                    await self._keep(replace(known, failures=0, next_try=0, last_success=int(now * 1000)))

    def _known(self, known: Remembered) -> Known:
        worked, failed = known.last_success or 0, known.last_failure or 0
        return Known(
            address=known.address,
            peer=known.peer,
            group=self.group(known),
            hops=self._links.hops(known.peer),
            failures=known.failures,
            next_try=known.next_try / 1000,
            last_try=failed / 1000,
            last_worked=worked / 1000,
            last_heard=max(worked, known.added) / 1000,
            near=self.is_near(known.address),
            lasting=not self.is_staged(known.address),
            barred="you hung up on this peer; connect to it to undo that"
            if known.paused
            else self._links.barred(known.peer),
        )

    def _note(self, decisions: Iterable[Decision], held: Iterable[tuple[str, Held]], now: float) -> None:
        before, self._decided = self._decided, {}
        addresses = {each.peer: address for address, each in held}
        moment = int(now * 1000)
        for each in decisions:
            address = each.address or addresses.get(each.peer, "")
            until = int(each.until * 1000) if isinstance(each, Wait) and each.until is not None else None
            new = Decided(_WORDS[type(each)], each.reason, moment, until)
            old = before.get(address)
            if old is not None and (
                (old.what, old.reason) == (new.what, new.reason)
                or (each.reason in _ONGOING and old.what == "dial")  # why it is connected says more
            ):
                new = replace(new, what=old.what, reason=old.reason, at=old.at)
            if address not in self._decided or new.what == "hang-up":
                self._decided[address] = new

    def _record(self, address: str) -> Remembered | None:
        return self._book.get(address) or self._staging.get(address)

    def _book_part(self, staged: Remembered) -> Remembered:
        """A staged address that is in the book too, with what the book knows of it."""
        known = self._book.get(staged.address)
        return staged if known is None else replace(known, kind=known.kind if known.kind == "room" else staged.kind)

    async def _keep(self, known: Remembered) -> None:
        if not await self._book.update(known):
            self._staging.update(known)


_WORDS: Final[dict[type[Decision], str]] = {Dial: "dial", HangUp: "hang-up", Forget: "forget", Wait: "wait"}


async def _pause(happening: Awaitable[object], seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await happening
