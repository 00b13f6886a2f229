"""When to dial which remembered peer again: at the start, and after a loss, with growing pauses.

A peer with several addresses is tried at the one that failed least. How long to wait is `replication.backoff`'s; what a
connection is, and how many there may be, is the hub's.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from replication.address_book import AddressBook, Remembered
from replication.backoff import Backoff
from replication.errors import DialFailed, InvalidAddress

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.5

Dial = Callable[[Remembered], Awaitable[object]]


@dataclass(slots=True)
class _Plan:
    """`failures` in a row, and the monotonic time of the next dial."""

    failures: int = 0
    due: float = 0.0


class Redialler:
    """`run` until cancelled. `dial(known)` raises DialFailed; `may_dial(peer)` is false while it is connected, say."""

    def __init__(
        self,
        book: AddressBook,
        backoff: Backoff,
        *,
        dial: Dial,
        may_dial: Callable[[str], bool],
        patience: float,
        now: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        """`patience`: seconds that a dial may take."""
        self._book = book
        self._backoff = backoff
        self._dial = dial
        self._may_dial = may_dial
        self._patience = patience
        self._now = now
        self._random = random
        self._plans: dict[str, _Plan] = {}

    async def run(self) -> None:
        """Dial each remembered peer when it is due."""
        async with asyncio.TaskGroup() as group:
            while True:
                for peer in dict.fromkeys(known.peer for known in self._book.all() if known.auto):
                    now = self._now()
                    plan = self._plans.setdefault(peer, _Plan(due=now))
                    if plan.due <= now and self._may_dial(peer):
                        plan.due = now + self._patience
                        group.create_task(self._dial_one(peer, plan))
                        await asyncio.sleep(0)  # let it begin, so that it counts among the dials under way
                await asyncio.sleep(LOOK_SECONDS)

    def at_once(self, peer: str) -> None:
        """Forget earlier failures: there is something new to try."""
        self._plans.pop(peer, None)

    def lost(self, peer: str, lasted: float) -> None:
        """A connection that we opened has ended after so many seconds."""
        plan = self._plans.setdefault(peer, _Plan())
        plan.failures = self._backoff.ended(plan.failures, lasted)
        self._postpone(plan)

    def due_in(self, peer: str) -> float | None:
        """Seconds until the next dial, None when none is planned."""
        plan = self._plans.get(peer)
        return None if plan is None else max(0.0, plan.due - self._now())

    async def _dial_one(self, peer: str, plan: _Plan) -> None:
        candidates = [known for known in self._book.of_peer(peer) if known.auto]
        if not candidates:
            return
        known = min(candidates, key=lambda known: known.failures)
        try:
            await self._dial(known)
        except (DialFailed, InvalidAddress) as error:
            plan.failures = self._backoff.failed(plan.failures)
            self._postpone(plan)
            logger.info("dialling %s failed, again in %.0f s: %s", known.address, plan.due - self._now(), error)

    def _postpone(self, plan: _Plan) -> None:
        plan.due = self._now() + self._backoff.delay(plan.failures, self._random())
