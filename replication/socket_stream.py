"""One TCP or unix socket connection as a byte stream, written for the peers that exist.

* TCP_NODELAY, since a request and its answer are smaller than a segment;
* TCP_QUICKACK set again after each receive, because the kernel forgets it: deployed peers write a
  frame in several pieces with Nagle on, and hold the next piece until the last is acknowledged;
* reads go into a buffer of our own that grows only while a peer sends much, so that idle and
  unauthenticated connections cost a few kilobytes; a full buffer stops the reading of the socket;
* a peer that takes nothing of what is queued for it is cut off after a while.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from replication.errors import ConnectionClosed
from replication.limits import Limits

READ_MAX = 128 * 1024
_READ_MIN = 4 * 1024
_SMALL_READS = 16
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
_MAPPED = "::ffff:"


class SocketStream(asyncio.BufferedProtocol):
    """A ``ByteStream`` over a TCP or unix socket, as an asyncio protocol (also under uvloop)."""

    def __init__(self, limits: Limits, on_made: Callable[["SocketStream"], None] | None = None) -> None:
        self._limits = limits
        self._on_made = on_made
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._buffer = bytearray(_READ_MIN)
        self._filled = 0
        self._small_reads = 0
        self._reading_paused = False
        self._at_end = False
        self._closed: str | None = None
        self._passed = ""  # the limit because of which we closed
        self._reader: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._socket: socket.socket | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._progress = (0, 0.0)
        self.peername = "unknown"
        self.host = ""
        self.bytes_in = 0
        self.bytes_out = 0

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = sock if _QUICKACK is not None else None
            self._acknowledge_quickly()
        self.host, self.peername = describe_peer(transport.get_extra_info("peername"))
        self._transport.set_write_buffer_limits(high=self._limits.outbound_high, low=self._limits.outbound_low)
        if self._on_made is not None:
            self._on_made(self)

    def get_buffer(self, sizehint: int) -> bytearray | memoryview:  # noqa: ARG002 - asyncio's signature
        return memoryview(self._buffer)[self._filled :] if self._filled else self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        self.bytes_in += nbytes
        if self._filled == len(self._buffer):
            self._reading_paused = True
            self._transport.pause_reading()
        self._acknowledge_quickly()
        self._wake_reader()

    def eof_received(self) -> bool:
        self._at_end = True
        self._wake_reader()
        # What we still have to say is sent before we close, except with TLS, which knows no half-open connections.
        return self._transport.get_extra_info("sslcontext") is None

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closed is None:
            self._closed = "the connection was cut" if exc is None else f"the connection was cut: {plain_error(exc)}"
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        self._socket = None
        self.resume_writing()
        self._wake_reader()
        if not self._gone.done():
            self._gone.set_result(None)

    # the stream's side

    async def read(self) -> bytes:
        while not self._filled:
            if self._closed is not None:
                raise ConnectionClosed(self._closed, limit=self._passed)
            if self._at_end:
                return b""
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = bytes(memoryview(self._buffer)[: self._filled])
        self._fit_buffer(self._filled)
        self._filled = 0
        if self._reading_paused:
            self._reading_paused = False
            if self._closed is None and not self._transport.is_closing():
                self._transport.resume_reading()
        return data

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closed is not None or not len(data):
            return
        self.bytes_out += len(data)
        self._transport.write(data)
        if self._stall_timer is None and self._transport.get_write_buffer_size():
            self._progress = (self._sent(), self._loop.time())
            self._watch_progress()

    async def drain(self) -> None:
        if self._closed is None and self._writable is not None:
            await asyncio.shield(self._writable)
        if self._closed is not None:
            raise ConnectionClosed(self._closed, limit=self._passed)

    async def close(self) -> None:
        if self._closed is None:
            self._closed = "closed by us"
            self._transport.close()
            self._wake_reader()
        try:
            async with asyncio.timeout(self._limits.close_timeout):
                await asyncio.shield(self._gone)
        except TimeoutError:
            pass
        finally:
            self._abort_transport()

    def abort(self, reason: str = "closed by us") -> None:
        if self._closed is None:
            self._closed = reason
        self._filled = 0
        self._abort_transport()
        self._wake_reader()
        self.resume_writing()

    def _abort_transport(self) -> None:
        """Once only: asyncio's transport fails on an abort after it has flushed and closed."""
        if not self._gone.done():
            self._transport.abort()

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _acknowledge_quickly(self) -> None:
        if self._socket is not None and _QUICKACK is not None:
            with suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    def _fit_buffer(self, filled: int) -> None:
        size = len(self._buffer)
        if filled == size:
            self._small_reads = 0
            if size < READ_MAX:
                self._buffer = bytearray(min(size * 4, READ_MAX))
        elif filled <= size // 16 and size > _READ_MIN:
            self._small_reads += 1
            if self._small_reads >= _SMALL_READS:
                self._small_reads = 0
                self._buffer = bytearray(max(size // 4, _READ_MIN))

    def _sent(self) -> int:
        return self.bytes_out - self._transport.get_write_buffer_size()

    def _watch_progress(self) -> None:
        """Cut the connection when queued bytes have not moved for ``stall_timeout``."""
        self._stall_timer = None
        if self._closed is not None and self._gone.done():
            return
        now, sent = self._loop.time(), self._sent()
        if sent == self.bytes_out:
            return
        if sent != self._progress[0]:
            self._progress = (sent, now)
        elif now - self._progress[1] >= self._limits.stall_timeout:
            self._passed = "stall_timeout"
            self.abort(f"the peer took nothing for {self._limits.stall_timeout:g} s")
            return
        self._stall_timer = self._loop.call_later(self._limits.stall_timeout / 4, self._watch_progress)


def plain_error(error: BaseException) -> str:
    """The reason of an operating system error in its own words, without numbers and paths."""
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    if isinstance(error, socket.gaierror) and error.strerror:
        return error.strerror  # its numbers are its own
    return str(error) or type(error).__name__


def describe_peer(peername: object) -> tuple[str, str]:
    """(host, text for people) of a socket's peer name."""
    if isinstance(peername, tuple) and len(peername) >= 2:
        host, port = str(peername[0]).removeprefix(_MAPPED), peername[1]
        return host, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return "unix", "unix"
