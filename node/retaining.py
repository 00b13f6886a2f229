"""Carries out the rules of what need not be kept (`--retention`), once a day while the node runs."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from feeds.errors import FeedsError
from feeds.retention import Retention
from feeds.retention_rules import Rule

__all__ = ["Retaining"]

log = logging.getLogger("node.retaining")

FIRST_SECONDS = 600.0
"""After the start, when views are ready and the first peers have been heard."""
EVERY_SECONDS = 86_400.0
RETRY_SECONDS = 3600.0


class Retaining:
    """Runs the rules. now -- seconds since 1970."""

    def __init__(self, retention: Retention, rules: Sequence[Rule], *, now: Callable[[], float]) -> None:
        self._retention = retention
        self._rules = rules
        self._now = now

    async def run(self, *, first: float = FIRST_SECONDS) -> None:
        """Erase what the rules say, again and again, until cancelled. first -- seconds until the first time."""
        pause = first
        while True:
            await asyncio.sleep(pause)
            pause = EVERY_SECONDS if await self._once() else RETRY_SECONDS

    async def _once(self) -> bool:
        try:
            outcome = await self._retention.apply(self._rules, now=int(self._now() * 1000))
        except FeedsError as error:
            log.warning("old messages were not erased: %s", error)
            return False
        if outcome.messages:
            log.info("%d messages (%d bytes) erased by the rules of --retention", outcome.messages, outcome.bytes)
        return True
