"""An authenticated, encrypted duplex stream to a peer: secret handshake and box stream over any byte stream.

Useful on its own, without anything of SSB above it::

    async with await secret_stream.connect("net:127.0.0.1:8008~shs:KEY", keypair) as stream:
        await stream.send(b"hello")
        print(await stream.read())

    async def greet(stream: SecretStream) -> None:
        await stream.send(b"hello " + stream.remote_id.encode())

    server = await secret_stream.listen("127.0.0.1", 0, keypair, greet)

``read`` gives ``b""`` after the peer's goodbye, and raises if the connection was cut or damaged: the two
can be told apart. What goes wrong on one connection stays with it.
"""

import asyncio
import binascii
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

from feeds.keys import Keypair
from replication.address import Address, parse_addresses
from replication.admission import Admission
from replication.box_stream import Opener, Sealer
from replication.errors import ConnectionClosed, DialFailed, DialTimeout, HandshakeFailed, InvalidAddress, RemoteError
from replication.limits import DEFAULT_LIMITS, Limits
from replication.secret_handshake import (
    EPHEMERAL_SECRET_SIZE,
    MAIN_NETWORK,
    ClientHandshake,
    Handshake,
    ServerHandshake,
    SessionKeys,
)
from replication.transport import ByteStream, Dialler, StreamServer, listen_tcp, open_tcp

log = logging.getLogger(__name__)

_FLUSH_AT = 64 * 1024

Authorize = Callable[[bytes], bool]


class SecretStream:
    """The stream to one authenticated peer. One task reads; anyone may write.

    Writes of one turn of the event loop are joined, so that many small ones share full packets.
    """

    def __init__(self, stream: ByteStream, keys: SessionKeys, leftover: bytes, limits: Limits = DEFAULT_LIMITS) -> None:
        self._stream = stream
        self._sealer = Sealer(keys.send_key, keys.send_nonce)
        self._opener = Opener(keys.receive_key, keys.receive_nonce, limits=limits)
        self._early = leftover
        self._unsealed: list[bytes | bytearray | memoryview] = []
        self._unsealed_size = 0
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self.remote_public = keys.remote_public
        self.remote_id = feed_id(keys.remote_public)

    @property
    def peername(self) -> str:
        return self._stream.peername

    @property
    def bytes_in(self) -> int:
        """Bytes received on the wire since the connection began."""
        return self._stream.bytes_in

    @property
    def bytes_out(self) -> int:
        """Bytes handed to the wire since the connection began."""
        return self._stream.bytes_out

    @property
    def partial(self) -> bool:
        """Whether the peer has sent a part of a packet and not yet the rest."""
        return self._opener.partial

    async def read(self) -> bytes:
        """All plaintext that has arrived, at least a byte; ``b""`` after the peer's goodbye.

        Raises ``BoxStreamError`` on damage or an end without goodbye, ``ConnectionClosed`` after a cut.
        """
        opener = self._opener
        while not opener.ended:
            failure = opener.failure  # found behind intact packets, which were delivered first
            if failure is None:
                sealed = self._early or await self._stream.read()
                self._early = b""
                if sealed and (plain := opener.open(sealed)):
                    return plain
                failure = opener.failure if sealed else opener.end_of_input()
            if failure is not None:
                self._stream.abort(str(failure))
                raise failure
        return b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue ``data``, which must not be changed afterwards. Ignored once the stream is closing."""
        if self._closing or not len(data):
            return
        if not self._unsealed:
            self._loop.call_soon(self._flush)
        self._unsealed.append(data)
        self._unsealed_size += len(data)
        if self._unsealed_size >= _FLUSH_AT:
            self._flush()

    async def drain(self) -> None:
        """Wait until little enough is unsent; raises ``ConnectionClosed`` if it never will be."""
        await self._stream.drain()

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """``write`` and ``drain``."""
        self.write(data)
        await self._stream.drain()

    async def end(self) -> None:
        """Say goodbye, so that the peer knows that all was sent; reading goes on until the peer says it too."""
        self._say_goodbye()
        await self._stream.drain()

    async def close(self) -> None:
        """Say goodbye, send what is queued (for a short time at most) and close."""
        self._say_goodbye()
        await self._stream.close()

    def abort(self, reason: str = "closed by us") -> None:
        """Cut the connection, without a goodbye."""
        self._closing = True
        self._unsealed.clear()
        self._unsealed_size = 0
        self._stream.abort(reason)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        else:
            self.abort()

    def _say_goodbye(self) -> None:
        if not self._closing:
            self._flush()
            self._closing = True
            self._stream.write(self._sealer.goodbye())

    def _flush(self) -> None:
        if not self._unsealed:
            return
        data = self._unsealed[0] if len(self._unsealed) == 1 else b"".join(self._unsealed)
        self._unsealed.clear()
        self._unsealed_size = 0
        self._stream.write(self._sealer.seal(data))


async def connect(
    to: str | Address | tuple[ByteStream, bytes],
    keypair: Keypair,
    *,
    network_key: bytes = MAIN_NETWORK,
    timeout: float | None = None,
    limits: Limits = DEFAULT_LIMITS,
    diallers: Mapping[str, Dialler] | None = None,
) -> SecretStream:
    """Dial an address (alternatives in order), or use a connected stream to a peer whose public key is given.

    ``diallers`` open the streams of transports besides ``net``, by the transport's name.

    Raises ``InvalidAddress``, or ``DialFailed`` and its kinds with the step and the reason of the last try.
    """
    if isinstance(to, tuple):
        return await _handshake_as_client(*to, keypair, network_key, limits)
    alternatives = [to] if isinstance(to, Address) else parse_addresses(to)
    failure: DialFailed | None = None
    for address in alternatives:
        try:
            return await _dial(address, keypair, network_key, timeout, limits, diallers or {})
        except DialFailed as error:
            failure = error
    assert failure is not None
    raise failure


async def accept(
    stream: ByteStream,
    keypair: Keypair,
    *,
    network_key: bytes = MAIN_NETWORK,
    authorize: Authorize = lambda _public: True,
    on_hello: Callable[[], None] = lambda: None,
    limits: Limits = DEFAULT_LIMITS,
) -> SecretStream:
    """Answer a caller; ``authorize(public key)`` may turn it away. Raises ``HandshakeFailed`` and closes the stream.

    ``on_hello`` is called when the caller has shown that it knows the network key.
    """
    machine = ServerHandshake(keypair, os.urandom(EPHEMERAL_SECRET_SIZE), network_key, authorize)
    return await _run_handshake(stream, machine, limits, on_hello)


async def listen(
    host: str | None,
    port: int,
    keypair: Keypair,
    on_stream: Callable[[SecretStream], Awaitable[None]],
    *,
    network_key: bytes = MAIN_NETWORK,
    authorize: Authorize = lambda _public: True,
    on_refused: Callable[[str, Exception], None] = lambda _peername, _error: None,
    admission: Admission | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> StreamServer:
    """Accept peers on a TCP port (0: a free one; see ``StreamServer.port``).

    ``on_stream`` runs in a task of its own for each authenticated peer, and the stream is closed when it
    returns or fails. ``on_refused`` hears of handshakes that came to nothing. ``admission`` may be shared
    between listeners.
    """
    gate = admission or Admission(limits)

    async def handle(stream: ByteStream) -> None:
        try:
            secret = await accept_admitted(
                stream, gate, keypair, network_key=network_key, authorize=authorize, limits=limits
            )
        except HandshakeFailed as error:
            on_refused(stream.peername, error)
            return
        try:
            async with secret:
                await on_stream(secret)
        except RemoteError as error:
            log.debug("connection from %s ended: %s", stream.peername, error)

    return await listen_tcp(host, port, handle, limits=limits)


async def accept_admitted(
    stream: ByteStream,
    gate: Admission,
    keypair: Keypair,
    *,
    network_key: bytes,
    authorize: Authorize,
    limits: Limits,
) -> SecretStream:
    """``accept`` while holding one of the places for callers that have not proved who they are."""
    with gate.admit(getattr(stream, "host", ""), lambda: stream.abort("made room for others")) as place:
        return await accept(
            stream, keypair, network_key=network_key, authorize=authorize, on_hello=place.has_shown, limits=limits
        )


def feed_id(public: bytes) -> str:
    """The classic feed id of a public key."""
    return f"@{binascii.b2a_base64(public, newline=False).decode()}.ed25519"


async def _dial(
    address: Address,
    keypair: Keypair,
    network_key: bytes,
    timeout: float | None,
    limits: Limits,
    diallers: Mapping[str, Dialler],
) -> SecretStream:
    dialler = diallers.get(address.transport)
    if address.public is None or (dialler is None and address.transport != "net"):
        ways = " or ".join(sorted({"net", *diallers}))
        raise InvalidAddress(f"{address}: only {ways} addresses with a key can be dialled, as in net:HOST:PORT~shs:KEY")
    if address.seed is not None:
        keypair = Keypair.generate(address.seed)
    try:
        async with asyncio.timeout(limits.dial_timeout if timeout is None else timeout):
            if dialler is not None:
                stream = await dialler(address)
            else:
                stream = await open_tcp(address.host, address.port, limits=limits)
            return await _handshake_as_client(stream, address.public, keypair, network_key, limits)
    except TimeoutError:
        raise DialTimeout("connect", f"{_place(address)} did not answer in time") from None


def _place(address: Address) -> str:
    return f"{address.host} port {address.port}" if address.port else address.host


async def _handshake_as_client(
    stream: ByteStream, server_public: bytes, keypair: Keypair, network_key: bytes, limits: Limits
) -> SecretStream:
    machine = ClientHandshake(keypair, server_public, os.urandom(EPHEMERAL_SECRET_SIZE), network_key)
    stream.write(machine.hello)
    return await _run_handshake(stream, machine, limits)


async def _run_handshake(
    stream: ByteStream, machine: Handshake, limits: Limits, on_hello: Callable[[], None] = lambda: None
) -> SecretStream:
    """One deadline for the whole exchange, however slowly it drips; any failure closes without a word."""
    try:
        async with asyncio.timeout(limits.handshake_timeout):
            while machine.keys is None:
                data = await stream.read()
                if not data:
                    raise machine.end_of_input()
                reply = machine.receive(data)
                if reply:
                    stream.write(reply)
                    on_hello()
    except TimeoutError:
        stream.abort("the handshake took too long")
        raise machine.timed_out() from None
    except ConnectionClosed:
        stream.abort()
        raise machine.end_of_input() from None
    except BaseException:
        stream.abort("the handshake failed")
        raise
    return SecretStream(stream, machine.keys, machine.leftover, limits)
