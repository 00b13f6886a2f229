"""Byte streams under everything: what a connection is made of, whatever carries it.

``ByteStream`` is the seam. TCP and unix sockets are opened and listened on here; ``memory_stream`` has
an in-memory pair, and a tunnel through a room can be one more. Nothing here knows about encryption or
messages.
"""

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from replication.address import Address
from replication.errors import DialFailed, DialTimeout, LocalError
from replication.limits import DEFAULT_LIMITS, Limits
from replication.racing import connect_first
from replication.socket_stream import SocketStream, plain_error
from replication.unix_socket import bind_unix, identity, listen_error, short_path

log = logging.getLogger(__name__)

_BACKLOG = 256


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

Dialler = Callable[[Address], Awaitable[ByteStream]]
"""Opens a stream to an address of one transport. Raises ``DialFailed`` or ``DialTimeout``; the caller sets the time."""


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
    host: str,
    port: int,
    *,
    timeout: float | None = None,
    tls: ssl.SSLContext | None = None,
    through: socket.socket | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> SocketStream:
    """Connect, with TLS if ``tls`` is given; raises ``DialTimeout`` or ``DialFailed`` with step ``connect`` or ``tls``.

    ``through`` is a socket that leads there already, by way of a proxy; it is closed if this fails.
    """
    loop = asyncio.get_running_loop()
    name = host if tls is not None else None
    try:
        async with asyncio.timeout(limits.dial_timeout if timeout is None else timeout):
            if through is None and not _is_ip(host):
                through = await connect_first(host, port)
            if through is not None:
                made = await loop.create_connection(
                    lambda: SocketStream(limits), sock=through, ssl=tls, server_hostname=name
                )
            else:
                made = await loop.create_connection(lambda: SocketStream(limits), host, port, ssl=tls)
    except TimeoutError:
        raise DialTimeout("connect", f"{host} port {port} did not answer in time") from None
    except ssl.SSLCertVerificationError as error:
        raise DialFailed("tls", f"{host} port {port}: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise DialFailed("tls", f"{host} port {port}: {error.reason or 'broken TLS'}") from None
    except (OSError, ValueError, OverflowError) as error:
        raise DialFailed("connect", f"{host} port {port}: {plain_error(error)}") from None
    return made[1]


async def open_unix(path: str | Path, *, limits: Limits = DEFAULT_LIMITS) -> SocketStream:
    """Connect to a unix socket; raises ``DialFailed`` with step ``connect``."""
    loop = asyncio.get_running_loop()
    try:
        with short_path(Path(path)) as name:
            _, stream = await loop.create_unix_connection(lambda: SocketStream(limits), name)
    except (OSError, ValueError) as error:
        raise DialFailed("connect", f"{path}: {plain_error(error)}") from None
    return stream


async def listen_tcp(
    host: str | None,
    port: int,
    handler: StreamHandler,
    *,
    accept: Callable[[str], bool] = lambda _host: True,
    limits: Limits = DEFAULT_LIMITS,
) -> StreamServer:
    """Listen on ``host`` and ``port`` (0: a free one).

    Host None, empty or ``::`` is every interface, IPv4 and IPv6 on one port. ``accept(peer host)`` may refuse a
    connection before anything is spent on it. Raises ``AddressInUse`` or ``LocalError``.
    """
    server = StreamServer(handler, accept, limits)
    loop = asyncio.get_running_loop()
    try:
        if host and host != "::":
            listening = await loop.create_server(server.make_stream, host, port, backlog=_BACKLOG, start_serving=False)
        else:
            every = _bind_everywhere(port)
            listening = await loop.create_server(server.make_stream, sock=every, backlog=_BACKLOG, start_serving=False)
    except OSError as error:
        raise listen_error(f"{host or '*'} port {port}", error) from None
    except (ValueError, OverflowError) as error:
        raise LocalError(f"cannot listen on {host or '*'} port {port}: {error}") from None
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
    sock = bind_unix(target, mode)
    ours = identity(target)
    server = StreamServer(handler, accept, limits)
    loop = asyncio.get_running_loop()
    listening = await loop.create_unix_server(server.make_stream, sock=sock, start_serving=False)

    def remove() -> None:
        if identity(target) == ours:
            target.unlink(missing_ok=True)

    server.serve(listening, remove)
    await listening.start_serving()
    return server


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _bind_everywhere(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))
