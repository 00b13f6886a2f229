"""The ends of muxrpc streams as coroutines see them: ``Source`` to read from, ``Sink`` to send to, ``Duplex`` both.

Items wait in a queue that counts bytes; the connection stops reading its socket while a queue is full.
A reader that is behind takes everything that waits in one batch.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from replication.errors import RemoteError, StreamEnded
from replication.rpc.bodies import Body, BodyType, Payload, encode_body

_SEND_AT_ONCE = 128 * 1024


class StreamHost(Protocol):
    """What a stream end asks of its connection."""

    def stream_took(self, stream: "RpcStream", size: int) -> None: ...

    async def stream_sends(self, call: int, kind: BodyType, bodies: Sequence[bytes]) -> None: ...

    async def stream_ends(self, call: int, error: str | None) -> None: ...


class RpcStream:
    """What all ends share. ``call`` is the number on the wire as we send it."""

    def __init__(self, host: StreamHost, call: int) -> None:
        self.call = call
        self._host = host
        self._inbox: list[Body] = []
        self._size = 0
        self._read_error: RemoteError | None = None
        self._send_error: RemoteError | None = None
        self._remote_ended = False
        self._we_ended = False
        self._discards = not isinstance(self, Source)
        self._changed: asyncio.Future[None] | None = None

    @property
    def waiting(self) -> int:
        """Bytes that have arrived and were not taken."""
        return self._size

    @property
    def remote_ended(self) -> bool:
        """Whether the peer has ended its direction, or the connection is gone."""
        return self._remote_ended

    # the connection's side

    def deliver(self, kind: BodyType, bodies: list[bytes]) -> int:
        """Items have arrived; returns how many bytes of them wait now."""
        if self._discards:
            return 0
        self._inbox += [Body(kind, body) for body in bodies]
        size = sum(map(len, bodies))
        self._size += size
        self._wake()
        return size

    def finish(self, error: RemoteError | None) -> None:
        """The peer has ended the stream, or the connection is gone (``ConnectionClosed``)."""
        if not self._remote_ended:
            self._read_error = error
        self._remote_ended = True
        self._send_error = self._send_error or error
        self._wake()

    def discard(self) -> int:
        """Nobody will read any more: forget what waits and what will come; returns the bytes forgotten."""
        self._discards = True
        size, self._size = self._size, 0
        self._inbox.clear()
        return size

    # the coroutine's side

    async def _read_batch(self) -> list[Body]:
        while not self._inbox:
            if self._we_ended and self._discards:
                return []
            if self._read_error is not None:
                raise self._read_error
            if self._remote_ended:
                return []
            await self._wait()
        batch, self._inbox = self._inbox, []
        size, self._size = self._size, 0
        self._host.stream_took(self, size)
        return batch

    async def _wait(self) -> None:
        if self._changed is not None:
            raise RuntimeError("only one task may read a stream")
        self._changed = asyncio.get_running_loop().create_future()
        try:
            await self._changed
        finally:
            self._changed = None

    async def _send(self, bodies: Sequence[bytes], kind: BodyType) -> None:
        at = 0
        while at < len(bodies):
            self._check_sendable()
            upto, size = at, 0
            while upto < len(bodies) and (upto == at or size + len(bodies[upto]) <= _SEND_AT_ONCE):
                size += len(bodies[upto])
                upto += 1
            await self._host.stream_sends(self.call, kind, bodies if upto - at == len(bodies) else bodies[at:upto])
            at = upto

    def _check_sendable(self) -> None:
        if self._send_error is not None:
            raise self._send_error
        if self._we_ended:
            raise StreamEnded("this stream was ended by us")

    async def _end(self, error: str | None) -> None:
        if not self._we_ended:
            self._we_ended = True
            if error is not None:
                self._host.stream_took(self, self.discard())
                self._wake()
            await self._host.stream_ends(self.call, error)

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)


class Source(RpcStream):
    """The reading end."""

    async def read_batch(self) -> list[Body]:
        """All items that wait, at least one; ``[]`` once the peer has ended cleanly.

        Raises ``RemoteCallError`` if it ended with an error, ``ConnectionClosed`` if the connection is gone.
        """
        return await self._read_batch()

    async def __aiter__(self) -> AsyncIterator[Payload]:
        """Decoded items to the end; raises ``InvalidJson`` for one that is not JSON though it says so."""
        while batch := await self._read_batch():
            for body in batch:
                yield body.value()

    async def cancel(self, error: str | None = None) -> None:
        """Tell the peer to stop; what waits and what still arrives is dropped. Never raises."""
        self._host.stream_took(self, self.discard())
        await self._end(error)
        self._wake()


class Sink(RpcStream):
    """The sending end."""

    async def send(self, bodies: Sequence[bytes], kind: BodyType = BodyType.JSON) -> None:
        """Send items that are encoded already, joined into few writes; waits while too much is unsent.

        Raises ``RemoteCallError``, ``StreamEnded`` or ``ConnectionClosed`` when nobody takes them any more.
        """
        await self._send(bodies, kind)

    async def send_value(self, value: "Payload | Body") -> None:
        """Send one item: bytes as binary, everything else as JSON."""
        body = encode_body(value)
        await self._send([body.data], body.kind)

    async def end(self, error: str | None = None) -> None:
        """End this direction, or the whole stream with an error that the peer will see."""
        await self._end(error)

    async def finished(self) -> None:
        """Wait until the peer has ended too; raises ``RemoteCallError`` if with an error."""
        while not self._remote_ended:
            await self._wait()
        if self._read_error is not None:
            raise self._read_error


class Duplex(Source, Sink):
    """Both: reading and sending end independently, except that an error ends everything."""
