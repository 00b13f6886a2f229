"""Peers over real sockets: everything joined, local callers, the unix socket, and nobody harming another."""

import asyncio
import contextlib
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from replication.admission import Admission
from replication.errors import ConnectionClosed, DialFailed, HandshakeFailed, RemoteCallError, RpcProtocolError
from replication.limits import LOCAL_LIMITS, Limits
from replication.memory_stream import memory_pair
from replication.peer import (
    Peer,
    PeerConfig,
    accept_peer,
    connect_local,
    connect_peer,
    listen_local,
    listen_peers,
)
from replication.rpc.calls import Kind
from replication.rpc.connection import Sink
from replication.rpc.methods import Caller, Method, MethodTable, Who
from replication.transport import StreamServer
from tests.support.wires import ALICE, BOB, MALLORY

MESSAGE = b'{"content":"' + b"x" * 680 + b'"}'


async def whoami(caller: Caller, _args: list[Any]) -> Any:
    return {"id": caller.id, "local": caller.local}


async def publish(_caller: Caller, args: list[Any]) -> Any:
    return args[0]


async def use(_caller: Caller, _args: list[Any]) -> Any:
    return "used"


async def messages(_caller: Caller, args: list[Any], out: Sink) -> None:
    for _ in range(args[0] // 100):
        await out.send([MESSAGE] * 100)


TABLE = MethodTable(
    [
        Method(("whoami",), Kind.SYNC, Who.ANON, whoami),
        Method(("publish",), Kind.ASYNC, Who.LOCAL, publish),
        Method(("invite", "use"), Kind.ASYNC, Who.INVITE, use),
        Method(("messages",), Kind.SOURCE, Who.ANON, messages),
    ]
)


async def run(peer: Peer) -> None:
    await peer.run()


@contextlib.asynccontextmanager
async def node(**options: Any) -> AsyncIterator[tuple[StreamServer, str]]:
    """Bob's node, listening; and its address."""
    on_peer = options.pop("on_peer", run)
    on_refused = options.pop("on_refused", lambda _peername, _error: None)
    server = await listen_peers("127.0.0.1", 0, PeerConfig(BOB, TABLE, **options), on_peer, on_refused=on_refused)
    try:
        yield server, f"net:127.0.0.1:{server.port}~shs:{BOB.id[1:45]}"
    finally:
        await server.close()


@contextlib.asynccontextmanager
async def running(peer: Peer) -> AsyncIterator[Peer]:
    task = asyncio.create_task(peer.run())
    try:
        yield peer
    finally:
        await peer.close()
        await task


def config(keypair: Any = ALICE, **options: Any) -> PeerConfig:
    return PeerConfig(keypair, MethodTable(), **options)


async def call_everything() -> None:
    async with node() as (_, address), running(await connect_peer(address, config())) as peer:
        assert (peer.id, peer.local, peer.is_client) == (BOB.id, False, True)
        assert await peer.connection.call("whoami") == {"id": ALICE.id, "local": False}
        with pytest.raises(RemoteCallError, match="method:publish is not in list"):
            await peer.connection.call("publish", [1])
        total = 0
        source = peer.connection.source("messages", [2000])
        while batch := await source.read_batch():
            total += len(batch)
        assert total == 2000
        assert peer.connection.bytes_in > 2000 * len(MESSAGE)


async def test_two_nodes_talk() -> None:
    await call_everything()


def test_two_nodes_talk_under_uvloop() -> None:
    uvloop.run(call_everything())


async def test_own_key_and_masters_are_local() -> None:
    async with node(masters={MALLORY.id}) as (_, address):
        for keypair in (BOB, MALLORY):
            async with running(await connect_peer(address, config(keypair))) as peer:
                assert await peer.connection.call("publish", [1]) == 1
                assert await peer.connection.call("whoami") == {"id": keypair.id, "local": True}


async def test_an_invites_key_may_use_the_invite_and_nothing_else() -> None:
    def rights_of(identity: str) -> frozenset[Who]:
        return frozenset({Who.INVITE if identity == MALLORY.id else Who.ANON})

    async with node(rights_of=rights_of) as (_, address):
        async with running(await connect_peer(address, config(MALLORY))) as peer:
            assert await peer.connection.call("invite.use", [{}]) == "used"
            with pytest.raises(RemoteCallError, match="not in list"):
                await peer.connection.call("whoami")
        async with running(await connect_peer(address, config())) as peer:
            with pytest.raises(RemoteCallError, match="not in list"):
                await peer.connection.call("invite.use", [{}])


async def test_the_unix_socket_serves_the_nodes_user(tmp_path: Path) -> None:
    server = await listen_local(tmp_path / "socket", PeerConfig(BOB, TABLE), run)
    async with running(await connect_local(tmp_path / "socket", config())) as peer:
        assert await peer.connection.call("whoami") == {"id": None, "local": True}
        assert await peer.connection.call("publish", ["x" * 1_000_000]) == "x" * 1_000_000
        answers = await asyncio.gather(*(peer.connection.call("publish", [number]) for number in range(2000)))
        assert answers == list(range(2000))
    await server.close()
    with pytest.raises(DialFailed):
        await connect_local(tmp_path / "socket", config())


async def test_who_is_refused_is_told_to_the_node_and_not_to_the_caller() -> None:
    refused: list[Exception] = []

    async with node(
        authorize=lambda public: public != ALICE.public, on_refused=lambda _peername, error: refused.append(error)
    ) as (_, address):
        with pytest.raises(HandshakeFailed, match="does not let us in"):
            await connect_peer(address, config())
        async with running(await connect_peer(address, config(MALLORY))) as peer:
            assert await peer.connection.call("whoami") == {"id": MALLORY.id, "local": False}
    assert [str(error) for error in refused] == ["server-accept: the caller is not let in"]


async def test_a_peer_can_be_reached_over_any_stream() -> None:
    near, far = memory_pair()
    accepting = asyncio.create_task(accept_peer(far, PeerConfig(BOB, TABLE)))
    alice = await connect_peer((near, BOB.public), config())
    async with running(await accepting) as bob, running(alice):
        assert bob.id == ALICE.id
        assert not bob.is_client
        assert await alice.connection.call("whoami") == {"id": ALICE.id, "local": False}


async def test_a_peer_that_breaks_the_protocol_harms_nobody_else() -> None:
    ends: list[Exception | None] = []

    async def note(peer: Peer) -> None:
        await peer.run()
        ends.append(peer.connection.error)

    async with node(on_peer=note) as (_, address):
        async with running(await connect_peer(address, config())) as honest:
            hostile = await connect_peer(address, config(MALLORY))
            hostile.connection._stream.write(b"\x0a\xff\xff\xff\xff\x00\x00\x00\x01")
            await hostile.run()
            assert isinstance(hostile.connection.error, Exception)
            assert await honest.connection.call("whoami") == {"id": ALICE.id, "local": False}
        await eventually(lambda: len(ends) == 2)
    assert isinstance(ends[0], RpcProtocolError)
    assert ends[1] is None


async def test_a_peer_that_asks_and_never_reads_is_cut_off_and_holds_little() -> None:
    limits = Limits(stall_timeout=0.4, close_timeout=0.2)
    ends: list[Exception | None] = []

    async def note(peer: Peer) -> None:
        await peer.run()
        ends.append(peer.connection.error)

    async with node(on_peer=note, limits=limits) as (_, address):
        greedy = await connect_peer(address, config(MALLORY))
        tracemalloc.start()
        for _ in range(20):
            greedy.connection.source("messages", [1_000_000])
        async with running(await connect_peer(address, config())) as honest:
            async with asyncio.timeout(1):
                assert await honest.connection.call("whoami") == {"id": ALICE.id, "local": False}
            await eventually(lambda: bool(ends))
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
        tracemalloc.stop()
        greedy.connection.abort()
    assert "took nothing" in str(ends[0])


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - conditions of many kinds
            await asyncio.sleep(0.001)


async def test_an_accident_in_the_hub_closes_that_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    async def clumsy(peer: Peer) -> None:
        if peer.id == MALLORY.id:
            raise RuntimeError("tripped")
        await peer.run()

    async with node(on_peer=clumsy) as (_, address), running(await connect_peer(address, config())) as fine:
        doomed = await connect_peer(address, config(MALLORY))
        await doomed.run()
        assert await fine.connection.call("whoami") == {"id": ALICE.id, "local": False}
    assert "tripped" in caplog.text


async def test_closing_the_listener_says_goodbye_to_its_peers() -> None:
    async with node() as (server, address):
        peer = await connect_peer(address, config())
        task = asyncio.create_task(peer.run())
        assert await peer.connection.call("whoami")
        async with asyncio.timeout(3):
            await server.close()
            await task
        assert peer.connection.error is None
        with pytest.raises(ConnectionClosed):
            await peer.connection.call("whoami")


async def test_two_hundred_peers_at_once() -> None:
    gate = Admission(Limits(unauthenticated_loopback=200))
    server = await listen_peers("127.0.0.1", 0, PeerConfig(BOB, TABLE), run, admission=gate)
    address = f"net:127.0.0.1:{server.port}~shs:{BOB.id[1:45]}"
    peers = await asyncio.gather(*(connect_peer(address, config()) for _ in range(200)))
    async with contextlib.AsyncExitStack() as stack:
        for peer in peers:
            await stack.enter_async_context(running(peer))
        answers = await asyncio.gather(*(peer.connection.call("whoami") for peer in peers))
        assert answers == [{"id": ALICE.id, "local": False}] * 200
        assert gate.total == 0
    await server.close()


async def test_peers_that_are_idle_after_much_traffic_hold_little() -> None:
    count = 8
    async with node() as (_, address), contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(running(await connect_peer(address, config())))
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(count):
            peer = await stack.enter_async_context(running(await connect_peer(address, config())))
            source = peer.connection.source("messages", [2000])
            while await source.read_batch():
                pass
        await asyncio.sleep(0.05)
        both_ends = (tracemalloc.get_traced_memory()[0] - before) / count
        tracemalloc.stop()
        assert both_ends < 512 * 1024


def test_local_callers_have_more_room() -> None:
    assert LOCAL_LIMITS.json_frame > Limits().json_frame
    assert LOCAL_LIMITS.calls_per_second > Limits().calls_per_second
