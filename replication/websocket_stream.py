"""A WebSocket as a byte stream, for peers that dial `ws:` and `wss:` addresses and for answering them.

What is said inside is the same as over TCP (secret handshake, box stream), cut into binary frames anyhow: where a
frame ends means nothing. The framing is `websockets`' protocol without I/O, on top of a byte stream of ours, so that
its back-pressure and its cutting off of peers that take nothing hold here too. No extension is agreed on: compressing
what is encrypted is in vain, and unpacking is a way to be flooded.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import CONNECTING, OPEN, Event, Protocol
from websockets.server import ServerProtocol
from websockets.uri import WebSocketURI

from replication.address import Address
from replication.errors import ConnectionClosed, DialFailed, HandshakeFailed, HandshakeTimeout
from replication.limits import DEFAULT_LIMITS, Limits
from replication.transport import ByteStream

Opener = Callable[[str, int, ssl.SSLContext | None], Awaitable[ByteStream]]
"""Opens a stream to host and port, with TLS if a context is given. Raises ``DialFailed`` or ``DialTimeout``."""

_PIECE: Final = 16 * 1024
"""Bytes parsed at once: small frames are many and slow, and others want their turn."""
_FRAME: Final = 32 * 1024
"""Bytes that we put into one frame at most."""
_HEAD: Final = 16 * 1024
"""Bytes of HTTP that may come before the first frame."""
_LOST: Final = "the WebSocket was closed while it was opened"
_QUIET: Final = logging.Logger("frames", level=logging.CRITICAL + 1)
"""The library's own log, which tells of every frame and connection: ours says what matters."""


class WebSocketStream:
    """A ``ByteStream`` over an opened WebSocket; see ``open_websocket`` and ``answer_websocket``."""

    def __init__(self, stream: ByteStream, protocol: Protocol, early: list[Event], limits: Limits) -> None:
        self._stream = stream
        self._protocol = protocol
        self._limits = limits
        self._unparsed = b""
        self._ready: list[bytes] = []
        self._hollow = 0
        self._at_end = False
        self._failure: str | None = None
        self._passed = ""  # the limit because of which it failed
        self._take(early)

    @property
    def peername(self) -> str:
        return self._stream.peername

    @property
    def host(self) -> str:
        """The other end's address, by which callers are counted."""
        host: str = getattr(self._stream, "host", "")
        return host

    @property
    def bytes_in(self) -> int:
        return self._stream.bytes_in

    @property
    def bytes_out(self) -> int:
        return self._stream.bytes_out

    async def read(self) -> bytes:
        while not self._ready:
            if self._failure is not None:
                self._stream.abort(self._failure)
                raise ConnectionClosed(self._failure, limit=self._passed)
            if self._at_end:
                return b""
            if not self._unparsed:
                self._unparsed = await self._stream.read()
            if self._unparsed:
                await self._parse()
            else:
                self._at_end = True
        data = self._ready[0] if len(self._ready) == 1 else b"".join(self._ready)
        self._ready.clear()
        return data

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._protocol.state is not OPEN:
            return
        for start in range(0, len(data), _FRAME):
            self._protocol.send_binary(data[start : start + _FRAME])
        self._send()

    async def drain(self) -> None:
        await self._stream.drain()

    async def close(self) -> None:
        if self._protocol.state is OPEN:
            self._protocol.send_close(1000)
            self._send()
        await self._stream.close()

    def abort(self, reason: str = "closed by us") -> None:
        self._failure = self._failure or reason
        self._ready.clear()
        self._unparsed = b""
        self._stream.abort(reason)

    async def _parse(self) -> None:
        """Take a piece of what has arrived, and answer pings; who does not take the answers is not read further."""
        piece, self._unparsed = self._unparsed[:_PIECE], self._unparsed[_PIECE:]
        self._protocol.receive_data(piece)
        self._take(self._protocol.events_received())
        if self._protocol.parser_exc is not None:
            self._failure = self._failure or f"broken WebSocket frames: {self._protocol.parser_exc}"
        if self._send():
            with suppress(ConnectionClosed):  # what has arrived counts all the same
                await self._stream.drain()
        if not self._ready:
            await asyncio.sleep(0)

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if not isinstance(event, Frame):
                continue
            if event.opcode is Opcode.TEXT:
                self._failure = self._failure or "the peer sent text instead of binary WebSocket frames"
            elif event.opcode is Opcode.CLOSE:
                self._at_end = True
            elif event.data and event.opcode in (Opcode.BINARY, Opcode.CONT):
                self._hollow = 0
                self._ready.append(bytes(event.data))
            else:
                self._hollow += 1
                if self._hollow > self._limits.websocket_hollow_frames:
                    self._failure = self._failure or "too many WebSocket frames without data"
                    self._passed = "websocket_hollow_frames"

    def _send(self) -> bool:
        """Pass on what the protocol has to say; false if it was nothing."""
        data = b"".join(self._protocol.data_to_send())
        self._stream.write(data)
        return bool(data)


async def open_websocket(
    address: Address, opener: Opener, *, tls: ssl.SSLContext | None = None, limits: Limits = DEFAULT_LIMITS
) -> WebSocketStream:
    """Dial a ``ws`` or ``wss`` address; ``tls`` says whom to trust, if not the system's authorities.

    Raises ``DialFailed``. The caller sets the time.
    """
    secure = address.transport == "wss"
    context = None if not secure else tls or await asyncio.to_thread(ssl.create_default_context)
    stream = await opener(address.host, address.port, context)
    try:
        return await _ask(stream, address, limits)
    except ConnectionClosed as error:
        raise DialFailed("websocket", str(error)) from None
    except BaseException:
        stream.abort("the WebSocket was not opened")
        raise


async def _ask(stream: ByteStream, address: Address, limits: Limits) -> WebSocketStream:
    uri = WebSocketURI(address.transport == "wss", address.host, address.port, address.path, "")
    protocol = ClientProtocol(uri, max_size=(None, limits.websocket_frame), logger=_QUIET)
    protocol.send_request(protocol.connect())
    stream.write(b"".join(protocol.data_to_send()))
    size = 0
    while protocol.state is CONNECTING and protocol.handshake_exc is None:
        data = await stream.read()
        size += len(data)
        if not data:
            raise DialFailed("websocket", _LOST)
        protocol.receive_data(data)
        if size > _HEAD and protocol.state is CONNECTING:
            raise DialFailed("websocket", "an endless answer to our request for a WebSocket")
    problem = protocol.handshake_exc
    if isinstance(problem, InvalidStatus):
        raise DialFailed("websocket", f"no WebSocket there: HTTP status {problem.response.status_code}")
    if problem is not None:
        raise DialFailed("websocket", f"no WebSocket there: {problem}")
    return WebSocketStream(stream, protocol, protocol.events_received(), limits)


async def answer_websocket(stream: ByteStream, *, limits: Limits = DEFAULT_LIMITS) -> WebSocketStream:
    """Answer whoever asks for a WebSocket on a fresh stream; where from (Origin) and for which path does not matter,
    since the secret handshake tells who it is.

    Raises ``HandshakeFailed`` if it is something else or takes too long; the stream is closed then.
    """
    try:
        async with asyncio.timeout(limits.handshake_timeout):
            return await _grant(stream, limits)
    except TimeoutError:
        stream.abort("the request for a WebSocket took too long")
        raise HandshakeTimeout("websocket", "the request for a WebSocket took too long") from None
    except ConnectionClosed as error:
        raise HandshakeFailed("websocket", str(error)) from None
    except HandshakeFailed:
        await stream.close()
        raise
    except BaseException:
        stream.abort("the WebSocket was not opened")
        raise


async def _grant(stream: ByteStream, limits: Limits) -> WebSocketStream:
    protocol = ServerProtocol(max_size=(None, limits.websocket_frame), logger=_QUIET)
    size = 0
    while protocol.state is CONNECTING:
        data = await stream.read()
        size += len(data)
        if not data:
            raise HandshakeFailed("websocket", _LOST)
        protocol.receive_data(data)
        if request := protocol.events_received():
            if len(request) != 1 or not isinstance(request[0], Request) or protocol.parser_exc is not None:
                raise HandshakeFailed("websocket", "the caller did not wait for our answer")
            protocol.send_response(protocol.accept(request[0]))
        stream.write(b"".join(protocol.data_to_send()))
        if protocol.handshake_exc is not None:
            raise HandshakeFailed("websocket", str(protocol.handshake_exc))
        if size > _HEAD and protocol.state is CONNECTING:
            raise HandshakeFailed("websocket", "an endless request for a WebSocket")
    return WebSocketStream(stream, protocol, [], limits)
