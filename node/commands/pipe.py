"""`sbot pipe`: standard input and output joined over a secret-handshake connection, for any program.

Each direction ends on its own: the end of standard input sends a goodbye, while what the other side still says is
printed until it says goodbye as well. Needs no running node; without a key file it uses a key that lives as long as it.
"""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import replace

from feeds.errors import InvalidRef
from feeds.keys import Keypair, public_from_id
from feeds.refs import FeedRef
from node import keyfile
from node.commands import settings
from node.commands.catalogue import Invocation
from node.config import Config
from node.directory import DataDirectory
from node.errors import NodeError, PortTaken, UsageError
from replication.address import Address, parse_addresses
from replication.admission import Admission
from replication.errors import AddressInUse, ConnectionClosed, DialFailed, InvalidAddress, LocalError, ReplicationError
from replication.limits import DEFAULT_LIMITS
from replication.secret_stream import SecretStream, accept, connect
from replication.transport import ByteStream, listen_tcp, open_tcp

CHUNK = 64 * 1024
CHUNKS_AHEAD = 16
"""Pieces of standard input read before the peer takes them."""
A_DAY = 86400.0
LIMITS = replace(DEFAULT_LIMITS, stall_timeout=A_DAY, close_timeout=A_DAY)
"""Whoever reads the other end may take their time: it may be a person with a pager."""


def pipe(invocation: Invocation) -> int:
    """Join standard input and output with one peer, dialled (ADDRESS) or awaited (--listen HOST:PORT)."""
    found = settings.reading(invocation, valued=("listen", "allow"), switches=("ephemeral",))
    config = settings.loaded(invocation, found)
    listen, allow = found.values.get("listen"), found.values.get("allow")
    if (listen is None) == (not found.words) or len(found.words) > 1:
        raise UsageError("Give one ADDRESS to dial, or --listen HOST:PORT to await a peer.")
    keypair = _own_key(config, ephemeral=found.on("ephemeral"))
    try:
        if listen is None:
            asyncio.run(_dial(found.words[0], keypair, config))
        else:
            asyncio.run(_await_peer(*_host_and_port(listen), keypair, config, _allowed(allow)))
    except DialFailed as error:
        raise NodeError(
            f"No connection: {error.reason} (at {error.step}); check the address and the network key."
        ) from None
    except InvalidAddress as error:
        raise UsageError(f"{found.words[0] if found.words else listen} is not an address to dial: {error}.") from None
    except ReplicationError as error:
        raise NodeError(f"The connection broke: {error}; not everything may have arrived.") from None
    return 0


def _own_key(config: Config, *, ephemeral: bool) -> Keypair:
    keypair = None if ephemeral else keyfile.load(DataDirectory(config.path).secret)
    return keypair or Keypair.generate()


def _allowed(identity: str | None) -> bytes | None:
    if identity is None:
        return None
    try:
        return public_from_id(str(FeedRef.parse(identity)))
    except InvalidRef as error:
        raise UsageError(f"--allow needs the id of a feed: {error}.") from None


def _host_and_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--listen needs HOST:PORT, as in 127.0.0.1:8020 (port 0 picks a free one), not {text!r}.")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - as the user asked


async def _dial(text: str, keypair: Keypair, config: Config) -> None:
    failure: DialFailed | None = None
    for address in parse_addresses(text):
        try:
            wire, stream = await _open(address, keypair, config)
        except DialFailed as error:
            failure = error
            continue
        return await _join(wire, stream)
    assert failure is not None
    raise failure


async def _open(address: Address, keypair: Keypair, config: Config) -> tuple["_OpenWire", SecretStream]:
    if address.transport != "net" or address.public is None:
        raise InvalidAddress("only net:HOST:PORT~shs:KEY can be dialled")
    wire = _OpenWire(await open_tcp(address.host, address.port, limits=LIMITS))
    own = keypair if address.seed is None else Keypair.generate(address.seed)
    return wire, await connect((wire, address.public), own, network_key=config.network_key)


async def _await_peer(host: str, port: int, keypair: Keypair, config: Config, allowed: bytes | None) -> None:
    """Listen for one peer; whoever fails the handshake does not count, whoever comes later is turned away."""
    joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    gate = Admission(LIMITS)
    taken = False

    async def handle(raw: ByteStream) -> None:
        nonlocal taken
        wire = _OpenWire(raw)
        try:
            stream = await accept(
                wire,
                keypair,
                network_key=config.network_key,
                authorize=lambda public: not taken and allowed in (None, public),
            )
        except DialFailed as error:
            print(f"sbot: refused {raw.peername}: {error.reason} (at {error.step})", file=sys.stderr, flush=True)
            return
        finally:
            gate.leave(getattr(raw, "host", ""))
        if taken:
            stream.abort()
            return
        taken = True
        print(f"sbot: connected to {stream.remote_id}", file=sys.stderr, flush=True)
        try:
            await _join(wire, stream)
            joined.set_result(None)
        except Exception as error:
            joined.set_exception(error)

    try:
        server = await listen_tcp(host, port, handle, accept=gate.enter, limits=LIMITS)
    except AddressInUse:
        raise PortTaken(host=host, port=port, flag="--listen", reason="another program uses it") from None
    except LocalError as error:
        raise UsageError(f"{error}.") from None
    shown = Address.net(host, server.port, keypair.public)
    print(f"sbot: listening on {shown}", file=sys.stderr, flush=True)
    try:
        await joined
    finally:
        await server.close()


class _OpenWire:
    """A byte stream whose `close` only sends what is queued: after our goodbye the peer may still have much to say."""

    def __init__(self, wire: ByteStream) -> None:
        self._wire = wire

    @property
    def peername(self) -> str:
        return self._wire.peername

    @property
    def bytes_in(self) -> int:
        return self._wire.bytes_in

    @property
    def bytes_out(self) -> int:
        return self._wire.bytes_out

    async def read(self) -> bytes:
        return await self._wire.read()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._wire.write(data)

    async def drain(self) -> None:
        await self._wire.drain()

    async def close(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self._wire.drain()

    def abort(self, reason: str = "closed by us") -> None:
        self._wire.abort(reason)

    async def shut(self) -> None:
        """Close for good."""
        await self._wire.close()

    async def until_hung_up(self) -> None:
        """Wait until the peer has closed; after its goodbye nothing it sends counts."""
        with contextlib.suppress(ConnectionClosed):
            while await self._wire.read():
                pass


async def _join(wire: _OpenWire, stream: SecretStream) -> None:
    """Until both directions have ended, or the peer is gone after its goodbye."""
    sending = asyncio.create_task(_send(stream))
    printing = asyncio.create_task(_print(wire, stream, sending))
    try:
        await printing
        await wire.shut()
    finally:
        for task in (sending, printing):
            task.cancel()
        await asyncio.gather(sending, printing, return_exceptions=True)
        wire.abort()


async def _send(stream: SecretStream) -> None:
    async for piece in _standard_input():
        await stream.send(piece)
    await stream.close()


async def _print(wire: _OpenWire, stream: SecretStream, sending: "asyncio.Task[None]") -> None:
    """Until the peer's goodbye, and then until we have said ours or the peer no longer listens."""
    loop = asyncio.get_running_loop()
    while data := await stream.read():
        await loop.run_in_executor(None, _write_all, data)
    hung_up = asyncio.create_task(wire.until_hung_up())
    await asyncio.wait([sending, hung_up], return_when=asyncio.FIRST_COMPLETED)
    hung_up.cancel()
    await asyncio.gather(hung_up, return_exceptions=True)


def _write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]


async def _standard_input() -> AsyncIterator[bytes]:
    """Pieces of standard input. A thread reads them, as files and terminals cannot be awaited; it is left behind."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    room = threading.Semaphore(CHUNKS_AHEAD)

    def read() -> None:
        while room.acquire():
            try:
                piece = os.read(sys.stdin.fileno(), CHUNK)
            except (OSError, ValueError):
                piece = b""
            with contextlib.suppress(RuntimeError):  # the loop has ended before us
                loop.call_soon_threadsafe(queue.put_nowait, piece)
            if not piece:
                return

    threading.Thread(target=read, name="standard input", daemon=True).start()
    while piece := await queue.get():
        room.release()
        yield piece
