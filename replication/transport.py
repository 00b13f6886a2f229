"""Byte streams under everything: what a connection is made of, whatever carries it.

``ByteStream`` is the seam: TCP, unix sockets and an in-memory pair implement it here, and a tunnel
through a room can be one more. The socket kinds are written for the peers that exist:

* TCP_NODELAY, since a request and its answer are smaller than a segment;
* TCP_QUICKACK set again after each receive, because the kernel forgets it: deployed peers write a
  frame in several pieces with Nagle on, and hold the next piece until the last is acknowledged;
* reads go into a buffer of our own that grows only while a peer sends much, so that idle and
  unauthenticated connections cost a few kilobytes; a full buffer stops the reading of the socket.

Nothing here knows about encryption or messages.
"""

import asyncio
import errno
import logging
import os
import socket
import stat
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, cast

from replication.errors import AddressInUse, ConnectionClosed, DialFailed, DialTimeout, LocalError
from replication.limits import DEFAULT_LIMITS, Limits

log = logging.getLogger(__name__)

READ_MAX = 256 * 1024
_READ_MIN = 4 * 1024
_UNIX_PATH_MAX = 100
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)


class ByteStream(Protocol):
    """A connected, ordered stream of bytes. One task reads; anyone may write."""

    @property
    def peername(self) -> str:
        """The other end for people: ``127.0.0.1:8008``, ``[::1]:8008``, ``unix`` or ``memory``."""

    @property
    def bytes_in(self) -> int: ...

    @property
    def bytes_out(self) -> int: ...

    async def read(self) -> bytes:
        """All that has arrived, at least a byte; ``b""`` at the end; raises ``ConnectionClosed`` after a cut."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue ``data``, which must not be changed afterwards. Ignored once the stream is closed."""

    async def drain(self) -> None:
        """Wait until little enough is unsent; raises ``ConnectionClosed`` if it never will be."""

    async def close(self) -> None:
        """Send what is queued (for a short time at most), then close."""

    def abort(self, reason: str = "closed by us") -> None:
        """Close at once; readers and writers get ``ConnectionClosed(reason)``."""


StreamHandler = Callable[[ByteStream], Awaitable[None]]


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
        self.host, self.peername = _describe_peer(transport.get_extra_info("peername"))
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
        return True  # what we still have to say is sent before we close

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closed is None:
            self._closed = "the connection was cut" if exc is None else f"the connection was cut: {_plain(exc)}"
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
                raise ConnectionClosed(self._closed)
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
            raise ConnectionClosed(self._closed)

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
            self._transport.abort()

    def abort(self, reason: str = "closed by us") -> None:
        if self._closed is None:
            self._closed = reason
        self._transport.abort()
        self._wake_reader()
        self.resume_writing()

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
                self._buffer = bytearray(size * 4)
        elif filled <= size // 16 and size > _READ_MIN:
            self._small_reads += 1
            if self._small_reads >= 16:
                self._small_reads = 0
                self._buffer = bytearray(size // 4)

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
            self.abort(f"the peer took nothing for {self._limits.stall_timeout:g} s")
            return
        self._stall_timer = self._loop.call_later(self._limits.stall_timeout / 4, self._watch_progress)


class StreamServer:
    """A listening socket; each connection is handled in a task of its own, apart from the others."""

    def __init__(self, handler: StreamHandler, accept: Callable[[str], bool], limits: Limits) -> None:
        self._handler = handler
        self._accept = accept
        self._limits = limits
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._on_closed: Callable[[], None] = lambda: None

    def make_stream(self) -> SocketStream:
        return SocketStream(self._limits, self._made)

    def serve(self, server: asyncio.Server, on_closed: Callable[[], None] = lambda: None) -> None:
        self._server = server
        self._on_closed = on_closed

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each listening TCP socket."""
        sockets = self._server.sockets if self._server is not None else ()
        return [sock.getsockname()[:2] for sock in sockets if sock.family in (socket.AF_INET, socket.AF_INET6)]

    @property
    def port(self) -> int:
        return self.addresses[0][1]

    async def close(self) -> None:
        """Stop listening, cancel the handlers of open connections and wait for them."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._on_closed()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _made(self, stream: SocketStream) -> None:
        if self._server is None or not self._accept(stream.host):
            stream.abort("too many connections")
            return
        task = asyncio.get_running_loop().create_task(self._handle(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, stream: SocketStream) -> None:
        try:
            await self._handler(stream)
        except Exception:
            log.exception("handling the connection from %s failed", stream.peername)
        finally:
            stream.abort()


async def open_tcp(
    host: str, port: int, *, timeout: float | None = None, limits: Limits = DEFAULT_LIMITS
) -> SocketStream:
    """Connect; raises ``DialTimeout`` or ``DialFailed`` with step ``connect``."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(limits.dial_timeout if timeout is None else timeout):
            _, stream = await loop.create_connection(lambda: SocketStream(limits), host, port)
    except TimeoutError:
        raise DialTimeout("connect", f"{host} port {port} did not answer in time") from None
    except (OSError, ValueError, OverflowError) as error:
        raise DialFailed("connect", f"{host} port {port}: {_plain(error)}") from None
    return stream


async def open_unix(path: str | Path, *, limits: Limits = DEFAULT_LIMITS) -> SocketStream:
    """Connect to a unix socket; raises ``DialFailed`` with step ``connect``."""
    loop = asyncio.get_running_loop()
    try:
        with _short(Path(path)) as name:
            _, stream = await loop.create_unix_connection(lambda: SocketStream(limits), name)
    except (OSError, ValueError) as error:
        raise DialFailed("connect", f"{path}: {_plain(error)}") from None
    return stream


async def listen_tcp(
    host: str | None,
    port: int,
    handler: StreamHandler,
    *,
    accept: Callable[[str], bool] = lambda _host: True,
    limits: Limits = DEFAULT_LIMITS,
) -> StreamServer:
    """Listen on ``host`` (None or empty: every interface, IPv4 and IPv6) and ``port`` (0: a free one).

    ``accept(peer host)`` may refuse a connection before anything is spent on it. Raises ``AddressInUse``
    or ``LocalError``.
    """
    server = StreamServer(handler, accept, limits)
    loop = asyncio.get_running_loop()
    try:
        listening = await loop.create_server(server.make_stream, host or None, port, backlog=256, start_serving=False)
    except OSError as error:
        raise _listen_error(f"{host or '*'} port {port}", error) from None
    except (ValueError, OverflowError) as error:
        raise LocalError(f"cannot listen on {host} port {port}: {error}") from None
    server.serve(listening)
    await listening.start_serving()
    return server


async def listen_unix(
    path: str | Path,
    handler: StreamHandler,
    *,
    mode: int = 0o600,
    accept: Callable[[str], bool] = lambda _host: True,
    limits: Limits = DEFAULT_LIMITS,
) -> StreamServer:
    """Listen on a unix socket that only ``mode`` may use from its first moment on.

    A socket file that nobody listens on is replaced; a live one raises ``AddressInUse``, anything else
    at ``path`` ``LocalError``.
    """
    target = Path(path)
    sock = _bind_unix(target, mode)
    identity = _identity(target)
    server = StreamServer(handler, accept, limits)
    loop = asyncio.get_running_loop()
    listening = await loop.create_unix_server(server.make_stream, sock=sock, start_serving=False)

    def remove() -> None:
        if _identity(target) == identity:
            target.unlink(missing_ok=True)

    server.serve(listening, remove)
    await listening.start_serving()
    return server


def _bind_unix(target: Path, mode: int) -> socket.socket:
    """Bind in a private folder beside ``target``, then link into place: never open to others, never over a live one."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        _clear_stale_socket(target)
        with tempfile.TemporaryDirectory(prefix=".", dir=target.parent) as folder:
            private = Path(folder) / target.name
            with _short(private) as name:
                sock.bind(name)
            private.chmod(mode)
            sock.listen(256)
            os.link(private, target)
    except OSError as error:
        sock.close()
        raise _listen_error(str(target), error) from None
    except LocalError:
        sock.close()
        raise
    return sock


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for ``path`` that fits into a socket address, which holds about a hundred bytes."""
    if len(os.fsencode(path)) <= _UNIX_PATH_MAX or not Path("/proc/self/fd").is_dir():
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _clear_stale_socket(target: Path) -> None:
    try:
        found = target.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise LocalError(f"{target} exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, _short(target) as name:
        probe.settimeout(1.0)
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            target.unlink(missing_ok=True)
            return
        except OSError as error:
            raise AddressInUse(f"{target} is in use: {_plain(error)}") from None
    raise AddressInUse(f"{target} is in use by another process")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _listen_error(where: str, error: OSError) -> LocalError:
    if error.errno in (errno.EADDRINUSE, errno.EEXIST):
        return AddressInUse(f"{where} is already in use")
    return LocalError(f"cannot listen on {where}: {_plain(error)}")


def _plain(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


def _describe_peer(peername: object) -> tuple[str, str]:
    """(host, text for people) of a socket's peer name."""
    if isinstance(peername, tuple) and len(peername) >= 2:
        host, port = str(peername[0]), peername[1]
        return host, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return "unix", "unix"
