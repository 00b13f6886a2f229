"""A pair of byte streams joined in memory, for tests and for streams carried inside other streams."""

import asyncio
from collections import deque

from replication.errors import ConnectionClosed
from replication.limits import DEFAULT_LIMITS, Limits


class MemoryStream:
    """One end of a ``memory_pair``; behaves like a socket with bounded buffers, without any delay."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._inbox: deque[bytes] = deque()
        self._waiting = 0
        self._other: MemoryStream
        self._at_end = False
        self._closed: str | None = None
        self._changed = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self.peername = "memory"
        self.bytes_in = 0
        self.bytes_out = 0

    def join(self, other: "MemoryStream") -> None:
        self._other = other

    async def read(self) -> bytes:
        while not self._inbox:
            if self._closed is not None:
                raise ConnectionClosed(self._closed)
            if self._at_end:
                return b""
            self._changed.clear()
            await self._changed.wait()
        data = b"".join(self._inbox)
        self._inbox.clear()
        self._waiting = 0
        self._other._drained.set()
        self.bytes_in += len(data)
        return data

    def write(self, data: bytes | bytearray | memoryview) -> None:
        other = self._other
        if self._closed is not None or other._closed is not None or not len(data):
            return
        self.bytes_out += len(data)
        other._inbox.append(bytes(data))
        other._waiting += len(data)
        if other._waiting > self._limits.outbound_high:
            self._drained.clear()
        other._changed.set()

    async def drain(self) -> None:
        await self._drained.wait()
        if self._closed is not None or self._other._closed is not None:
            raise ConnectionClosed(self._closed or "the connection was cut")

    async def close(self) -> None:
        if self._closed is None:
            self._closed = "closed by us"
            self._other._at_end = True
            self._wake_both()

    def abort(self, reason: str = "closed by us") -> None:
        if self._closed is None:
            self._closed = reason
        other = self._other
        if other._closed is None and not other._at_end:
            other._closed = "the connection was cut"
        self._wake_both()

    def _wake_both(self) -> None:
        for stream in (self, self._other):
            stream._changed.set()
            stream._drained.set()


def memory_pair(limits: Limits = DEFAULT_LIMITS) -> tuple[MemoryStream, MemoryStream]:
    """Two joined ends: what one writes the other reads."""
    one, other = MemoryStream(limits), MemoryStream(limits)
    one.join(other)
    other.join(one)
    return one, other
