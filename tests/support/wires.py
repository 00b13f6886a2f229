"""Machines and connections wired together for tests: handshakes, box streams, muxrpc over memory."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from hypothesis import strategies as st

from feeds.keys import Keypair
from replication.box_stream import Opener, Sealer
from replication.limits import DEFAULT_LIMITS, Limits
from replication.memory_stream import MemoryStream, memory_pair
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import MethodTable, Who
from replication.secret_handshake import MAIN_NETWORK, ClientHandshake, ServerHandshake, SessionKeys

ALICE = Keypair.generate(b"a" * 32)
BOB = Keypair.generate(b"b" * 32)
MALLORY = Keypair.generate(b"m" * 32)


def client_machine(*, server: bytes = BOB.public, network: bytes = MAIN_NETWORK) -> ClientHandshake:
    """Alice, about to dial Bob."""
    return ClientHandshake(ALICE, server, b"\x11" * 32, network)


def server_machine(*, network: bytes = MAIN_NETWORK, allow: bool = True) -> ServerHandshake:
    """Bob, awaiting a caller."""
    return ServerHandshake(BOB, b"\x22" * 32, network, authorize=lambda _public: allow)


def session() -> tuple[SessionKeys, SessionKeys]:
    """The keys that Alice and Bob have after a handshake."""
    alice, bob = client_machine(), server_machine()
    alice.receive(bob.receive(alice.receive(bob.receive(alice.hello))))
    assert alice.keys is not None
    assert bob.keys is not None
    return alice.keys, bob.keys


def box_pair(limits: Limits = DEFAULT_LIMITS) -> tuple[Sealer, Opener]:
    """One direction of a box stream."""
    alice, bob = session()
    return Sealer(alice.send_key, alice.send_nonce), Opener(bob.receive_key, bob.receive_nonce, limits=limits)


def pieces(data: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    """``data`` cut at the given places."""
    start = 0
    for cut in sorted({cut for cut in cuts if 0 < cut < len(data)}):
        yield data[start:cut]
        start = cut
    yield data[start:]


def cuts(most: int) -> st.SearchStrategy[list[int]]:
    """Places to cut at, for hypothesis."""
    return st.lists(st.integers(0, most), max_size=30)


@contextlib.asynccontextmanager
async def rpc_pair(
    client: MethodTable | None = None,
    server: MethodTable | None = None,
    *,
    limits: Limits = DEFAULT_LIMITS,
    server_limits: Limits | None = None,
    local: bool = False,
    rights: frozenset[Who] = frozenset({Who.ANON}),
) -> AsyncIterator[tuple[RpcConnection, RpcConnection]]:
    """Two running connections, Alice's (who dialled) and Bob's, joined in memory. ``local``: Bob trusts Alice."""
    streams = memory_pair(limits)
    alice = RpcConnection(streams[0], client or MethodTable(), remote_id=BOB.id, is_client=True, limits=limits)
    bob = RpcConnection(
        streams[1],
        server or MethodTable(),
        remote_id=ALICE.id,
        local=local,
        rights=rights,
        limits=server_limits or limits,
    )
    running = [asyncio.create_task(alice.run()), asyncio.create_task(bob.run())]
    try:
        yield alice, bob
    finally:
        await asyncio.gather(alice.close(), bob.close())
        await asyncio.gather(*running)


@dataclass(frozen=True)
class RawFrame:
    """A muxrpc frame as a test sees it."""

    flags: int
    number: int
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class RawPeer:
    """A peer made of hand-written frames, on one end of a memory pair."""

    def __init__(self, stream: MemoryStream) -> None:
        self.stream = stream
        self._rest = b""

    def send(self, flags: int, number: int, body: bytes | Any) -> None:
        self.stream.write(raw_frame(flags, number, body))

    def call(self, number: int, name: Sequence[str], args: Sequence[Any] = (), kind: str | None = None) -> None:
        request: dict[str, Any] = {"name": list(name), "args": list(args)}
        if kind is not None:
            request["type"] = kind
        self.send(0x0A if kind in ("source", "sink", "duplex") else 0x02, number, request)

    async def frame(self) -> RawFrame:
        """The next frame; a goodbye has flags, number and body of zeros."""
        while len(self._rest) < 9 or len(self._rest) < 9 + int.from_bytes(self._rest[1:5], "big"):
            async with asyncio.timeout(5):
                data = await self.stream.read()
            if not data:
                raise EOFError
            self._rest += data
        flags, length, number = struct.unpack_from(">BIi", self._rest)
        body, self._rest = self._rest[9 : 9 + length], self._rest[9 + length :]
        return RawFrame(flags, number, body)


@contextlib.asynccontextmanager
async def raw_peer(
    table: MethodTable, *, limits: Limits = DEFAULT_LIMITS, local: bool = False
) -> AsyncIterator[tuple[RawPeer, RpcConnection]]:
    """A running connection of ours and the raw peer it talks to."""
    ours, theirs = memory_pair(limits)
    connection = RpcConnection(ours, table, remote_id=ALICE.id, local=local, limits=limits)
    running = asyncio.create_task(connection.run())
    try:
        yield RawPeer(theirs), connection
    finally:
        await connection.close()
        await running


def raw_frame(flags: int, number: int, body: bytes | Any) -> bytes:
    """One frame; anything but bytes is sent as JSON text."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return struct.pack(">BIi", flags, len(data), number) + data
