"""Which feeds grew: one follower of the commit notice for all sessions of the node (design.md, rule 4).

Every EBT session and every live history stream wants to know when a feed got longer. If each followed `Live` itself, a
commit would wake thousands of tasks which then each ask the log. So one task follows, reads once a notice which feeds
grew, and tells the callbacks and only those waiters whose feed it was.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from feeds.live import Live
from feeds.log import Log

READ_AT_ONCE: Final = 20_000

OnGrowth = Callable[[Mapping[str, int]], None]


class Growth:
    """Follows the log from the position it has now; whoever subscribes reads the log's clock for what came before."""

    def __init__(self, log: Log, live: Live) -> None:
        self._log = log
        self._live = live
        self._position = log.position
        self._callbacks: list[OnGrowth] = []
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def subscribe(self, callback: OnGrowth) -> Callable[[], None]:
        """Call back with {feed: latest sequence} after each commit; returns the function that ends it."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    async def beyond(self, feed: str, sequence: int) -> int:
        """Wait until the feed is longer than `sequence` and give its length."""
        while (latest := self._log.sequence(feed)) <= sequence:
            event = asyncio.Event()
            waiting = self._waiting.setdefault(feed, set())
            waiting.add(event)
            try:
                await event.wait()
            finally:
                waiting.discard(event)
                if not waiting and self._waiting.get(feed) is waiting:
                    del self._waiting[feed]
        return latest

    async def run(self) -> None:
        """Follow for ever."""
        while True:
            await self._live.wait_beyond(self._position)
            while self._position < self._log.position:
                self._position, grown = await self._log.appended_after(self._position, READ_AT_ONCE)
                self._tell(grown)

    def _tell(self, grown: Mapping[str, int]) -> None:
        if not grown:
            return
        for callback in tuple(self._callbacks):
            callback(grown)
        if self._waiting:
            for feed in grown:
                for event in self._waiting.get(feed, ()):
                    event.set()
