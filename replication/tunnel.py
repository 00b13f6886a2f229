"""A byte stream through a room: a duplex muxrpc stream of binary items in which a whole connection of its own runs.

What is written waits in a queue, which one task empties as fast as the connection with the room takes it; who writes
waits in `drain` while the queue is long. What arrives waits in the stream's own queue until it is read.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from replication.errors import ConnectionClosed, RemoteError
from replication.limits import DEFAULT_LIMITS, Limits
from replication.rpc.bodies import BodyType
from replication.rpc.streams import Duplex

PIECE = 64 * 1024


class TunnelStream:
    """One end of a tunnel, a `ByteStream`. `host` is the room: what comes through it counts as from one place."""

    def __init__(
        self,
        duplex: Duplex,
        *,
        portal: str,
        address: str,
        limits: Limits = DEFAULT_LIMITS,
        on_closed: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_closed` is called once, when no more is read or written."""
        self.peername = address
        self.host = portal
        self.bytes_in = 0
        self.bytes_out = 0
        self._duplex = duplex
        self._limits = limits
        self._on_closed = on_closed
        self._queue: deque[bytes] = deque()
        self._unsent = 0
        self._sending = False
        self._closed: str | None = None
        self._more = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._sent = asyncio.Event()
        self._sent.set()
        self._pump = asyncio.create_task(self._send(), name=f"tunnel {address}")
        self._ending: asyncio.Task[None] | None = None

    async def read(self) -> bytes:
        """All that has arrived; `b""` at the end; raises ConnectionClosed after a cut."""
        if self._closed is not None:
            raise ConnectionClosed(self._closed)
        try:
            batch = await self._duplex.read_batch()
        except RemoteError as error:
            self.abort(str(error))
            raise ConnectionClosed(str(error)) from None
        if self._closed is not None:
            raise ConnectionClosed(self._closed)
        if any(body.kind is not BodyType.BINARY for body in batch):
            self.abort("the tunnel carried something else than bytes")
            raise ConnectionClosed("the tunnel carried something else than bytes")
        data = b"".join(body.data for body in batch)
        self.bytes_in += len(data)
        return data

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue bytes; ignored once the stream is closed."""
        if self._closed is not None or not len(data):
            return
        self._queue.append(bytes(data))
        self._unsent += len(data)
        self.bytes_out += len(data)
        self._sent.clear()
        if self._unsent > self._limits.outbound_high:
            self._drained.clear()
        self._more.set()

    async def drain(self) -> None:
        """Wait until little enough is unsent; raises ConnectionClosed if it never will be."""
        await self._drained.wait()
        if self._closed is not None:
            raise ConnectionClosed(self._closed)

    async def close(self) -> None:
        """Send what is queued, for a short time at most, then end the stream."""
        if self._closed is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.close_timeout):
                    await self._sent.wait()
        self._end("closed by us", None)
        if self._ending is not None:
            await asyncio.wait([self._ending], timeout=self._limits.close_timeout)

    def abort(self, reason: str = "closed by us") -> None:
        """End the stream at once; the other side hears nothing of the reason."""
        self._end(reason, "the tunnel was closed")

    def _end(self, reason: str, error: str | None) -> None:
        if self._closed is not None:
            return
        self._closed = reason
        self._queue.clear()
        self._unsent = 0
        self._pump.cancel()
        for event in (self._drained, self._sent):
            event.set()
        self._ending = asyncio.create_task(self._duplex.cancel(error), name=f"end of {self.peername}")
        self._on_closed()

    async def _send(self) -> None:
        """Hand over what is queued, in pieces, until the stream ends."""
        try:
            while True:
                await self._more.wait()
                self._more.clear()
                while self._queue:
                    data = b"".join(self._queue)
                    self._queue.clear()
                    for at in range(0, len(data), PIECE):
                        piece = data[at : at + PIECE]
                        await self._duplex.send([piece], BodyType.BINARY)
                        self._unsent -= len(piece)
                        if self._unsent <= self._limits.outbound_low:
                            self._drained.set()
                if not self._queue:
                    self._sent.set()
        except RemoteError as error:
            self.abort(str(error))
