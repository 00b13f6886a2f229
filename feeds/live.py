"""The one notice after a commit: a position, never the messages.

Followers (event streams, EBT sessions, history streams) keep their own cursor, wait here until the log has grown beyond
it and read on from there; a slow one costs nothing and loses nothing.
"""

import asyncio

__all__ = ["Live"]


class Live:
    """Where the log ends, and a way to wait until it ends further on. Belongs to one event loop."""

    def __init__(self, position: int = 0) -> None:
        self._position = position
        self._grown: asyncio.Event = asyncio.Event()

    @property
    def position(self) -> int:
        """Last committed position that was announced."""
        return self._position

    def notify(self, position: int) -> None:
        """Wake everyone who waits for less; a position that is no news is ignored."""
        if position > self._position:
            self._position = position
            self._grown.set()
            self._grown = asyncio.Event()

    async def wait_beyond(self, position: int) -> int:
        """Return the log's last position as soon as it is greater than `position`."""
        while self._position <= position:
            await self._grown.wait()
        return self._position
