"""The hub: listening, dialling, redialling, limits, blocks, and an end that nobody can hold up."""

import asyncio
import logging
import stat
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from replication.errors import (
    AddressInUse,
    ConnectionClosed,
    DialFailed,
    DialTimeout,
    HandshakeFailed,
    InvalidAddress,
    RemoteCallError,
)
from replication.limits import Limits
from replication.peer import PeerConfig, connect_peer
from replication.peer_info import Direction, PeerEvent, PeerState
from replication.rpc.methods import Caller, Kind, Method, MethodTable, Who
from tests.support.peers import Node, bulky, key, open_node, program, stranger, until


def address_of(port: int, name: str) -> str:
    return f"net:127.0.0.1:{port}~shs:{key(name).id[1:-8]}"


async def closed_port() -> int:
    """A port on which nobody listens."""
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.scheduler.LOOK_SECONDS", 0.05)


# ---- dialling


async def test_a_dial_gives_the_peer_and_both_sides_list_it(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        info = await b.connections.dial(a.address)
        assert (info.id, info.address, info.direction, info.state) == (
            a.id,
            a.address,
            Direction.OUTGOING,
            PeerState.CONNECTED,
        )
        await until(lambda: a.connections.peers())
        (seen,) = a.connections.peers()
        assert (seen.id, seen.direction, seen.state) == (b.id, Direction.INCOMING, PeerState.CONNECTED)
        await until(lambda: seen.bytes_in >= 176)


async def test_a_connected_peer_is_not_dialled_again_and_two_dials_share_one_connection(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        first, second = await asyncio.gather(b.connections.dial(a.address), b.connections.dial(a.address))
        third = await b.connections.dial(a.address)
        assert first.since == second.since == third.since
        assert len(b.connections.peers()) == len(a.connections.peers()) == 1


async def test_what_cannot_be_dialled_says_so(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a:
        for text in ("", "nonsense", "net:host:1", "unix:/tmp/x~noauth", "ws://host:1~shs:" + "A" * 43 + "="):
            with pytest.raises(InvalidAddress):
                await a.connections.dial(text)
        with pytest.raises(InvalidAddress, match="our own"):
            await a.connections.dial(a.address)


async def test_a_dead_port_and_a_wrong_key_name_the_step(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        events: list[PeerEvent] = []
        b.connections.subscribe(events.append)
        with pytest.raises(DialFailed) as nobody:
            await b.connections.dial(address_of(await closed_port(), "a"))
        assert nobody.value.step == "connect"
        port = int(a.address.split(":")[2].split("~")[0])
        with pytest.raises(HandshakeFailed):
            await b.connections.dial(address_of(port, "somebody else"))
        assert [event.kind for event in events] == ["dial-failed", "dial-failed"]
        assert b.book.all() == []  # an address that never worked is not kept
        await b.connections.dial(a.address)


async def test_a_silent_peer_times_out(tmp_path: Path) -> None:
    held: list[Any] = []
    server = await asyncio.start_server(lambda *streams: held.append(streams), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with open_node(tmp_path, "a", limits=Limits(handshake_timeout=0.2, dial_timeout=0.3)) as a:
        with pytest.raises((DialTimeout, HandshakeFailed)):
            await a.connections.dial(address_of(port, "b"))
        assert a.connections.traffic().breaches == {"handshake_timeout": 1}
    server.close()
    for _, writer in held:
        writer.close()


# ---- remembering and redialling


async def test_a_lost_peer_is_redialled_and_one_we_hung_up_on_is_not(tmp_path: Path) -> None:
    async with open_node(tmp_path, "b") as b:
        async with open_node(tmp_path, "a") as a:
            await b.connections.dial(a.address)
            port = int(a.address.split(":")[2].split("~")[0])
        await until(lambda: not b.connections.connected(a.id))
        async with open_node(tmp_path, "a", port=port) as a:
            await until(lambda: b.connections.connected(a.id))
            (info,) = b.connections.peers()
            assert info.source == "manual"
            assert await b.connections.disconnect(a.id)
            await until(lambda: not b.connections.connected(a.id))
            await asyncio.sleep(0.4)
            assert not b.connections.connected(a.id)
            assert not await b.connections.disconnect(a.id)
            await b.connections.dial(a.address)


async def test_remembered_peers_are_dialled_on_the_next_start(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a:
        async with open_node(tmp_path, "b") as b:
            await b.connections.dial(a.address)
        async with open_node(tmp_path, "b") as b:
            await until(lambda: b.connections.connected(a.id))
            assert await b.connections.forget(a.address)
            assert b.connections.remembered() == []


async def test_an_address_that_is_only_remembered_is_dialled_by_and_by(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        await b.connections.remember(a.address, "pub")
        await until(lambda: b.connections.connected(a.id))
        with pytest.raises(InvalidAddress):
            await b.connections.remember("nonsense")
        with pytest.raises(InvalidAddress, match="our own"):
            await b.connections.remember(b.address)


async def test_failing_redials_are_counted_and_told(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a:
        await a.connections.remember(address_of(await closed_port(), "b"))
        await until(lambda: a.connections.peers()[0].failures >= 2)
        (info,) = a.connections.peers()
        assert info.state in (PeerState.DISCONNECTED, PeerState.DIALLING)
        assert info.error is not None
        assert "connect" in info.error
        assert info.redial_in is not None


async def test_a_dial_of_a_new_address_does_not_fail_with_the_old_one(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        held: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(lambda _reader, writer: held.append(writer), "127.0.0.1", 0)
        await b.connections.remember(address_of(server.sockets[0].getsockname()[1], "a"))
        await until(lambda: held)  # the redial of the old address hangs in its handshake
        dialling = asyncio.create_task(b.connections.dial(a.address))
        await asyncio.sleep(0.05)
        held[0].transport.abort()
        assert (await dialling).address == a.address
        server.close()


async def test_peers_that_dial_each_other_at_once_end_with_one_connection(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        await a.follow(b.id)
        await b.follow(a.id)
        await asyncio.gather(a.connections.dial(b.address), b.connections.dial(a.address), return_exceptions=True)
        await asyncio.sleep(0.3)
        await until(lambda: len(live(a)) == len(live(b)) == 1)
        await until(lambda: a.clock() == b.clock() and len(a.clock()) == 2)
        assert live(a)[0].direction is not live(b)[0].direction


def live(node: Node) -> list[Any]:
    return [info for info in node.connections.peers() if info.state is PeerState.CONNECTED]


# ---- who is let in


async def test_blocked_peers_are_refused_in_the_handshake(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        await a.block(b.id)
        with pytest.raises(HandshakeFailed):
            await b.connections.dial(a.address)
        with pytest.raises(DialFailed, match="we block"):
            await a.connections.dial(b.address)
        assert live(a) == []


async def test_no_more_peers_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.connections.IDLE_SECONDS", 1000.0)
    async with open_node(tmp_path, "a", limits=Limits(inbound=3)) as a, AsyncExitStack() as stack:
        for number in range(3):
            await stack.enter_async_context(stranger(a, f"peer {number}"))
        with pytest.raises(HandshakeFailed):
            await connect_peer(a.address, PeerConfig(keypair=key("late"), table=MethodTable()))
        assert a.connections.traffic().breaches == {"inbound": 1}
        own = await connect_peer(a.address, PeerConfig(keypair=key("a"), table=MethodTable()))  # our user gets in
        await own.close()


async def test_strangers_that_are_silent_keep_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is followed takes the place of a stranger at once, a stranger only of one that is silent for a while."""
    monkeypatch.setattr("replication.connections.IDLE_SECONDS", 1000.0)
    async with open_node(tmp_path, "a", limits=Limits(inbound=3)) as a, AsyncExitStack() as stack:
        await a.follow(key("friend").id)
        crowd = [await stack.enter_async_context(stranger(a, f"peer {number}")) for number in range(3)]
        for silent in (1, 2, 0):
            await asyncio.sleep(0.02)
            await crowd[silent].call("whoami")
        with pytest.raises(HandshakeFailed):
            await connect_peer(a.address, PeerConfig(keypair=key("late"), table=MethodTable()))
        friend = await stack.enter_async_context(stranger(a, "friend"))
        await asyncio.wait_for(crowd[1].closed.wait(), 5)
        monkeypatch.setattr("replication.connections.IDLE_SECONDS", 0.0)
        late = await stack.enter_async_context(stranger(a, "late"))
        await asyncio.wait_for(crowd[2].closed.wait(), 5)
        assert await friend.call("whoami") == await late.call("whoami") == await crowd[0].call("whoami")
        assert len(a.connections.peers()) == 3
        assert a.connections.traffic().breaches["inbound"] == 3


async def test_no_more_dials_than_allowed(tmp_path: Path) -> None:
    async with (
        open_node(tmp_path, "a") as a,
        open_node(tmp_path, "b") as b,
        open_node(tmp_path, "c", limits=Limits(outbound=1)) as c,
    ):
        await c.connections.dial(a.address)
        with pytest.raises(DialFailed, match="open already"):
            await c.connections.dial(b.address)


async def test_a_key_has_two_connections_at_most_and_the_oldest_goes(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, stranger(a) as first, stranger(a) as second, stranger(a) as third:
        await asyncio.wait_for(first.closed.wait(), 5)
        assert a.connections.traffic().breaches == {"connections_per_key": 1}
        assert await second.call("whoami") == await third.call("whoami") == {"id": a.id}


async def test_our_own_key_has_the_rights_of_the_user_and_is_no_peer(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, stranger(a, "a") as own, stranger(a, "b") as other:
        assert isinstance(await own.call("status"), dict)
        await until(lambda: a.connections.peers())
        assert [info.id for info in a.connections.peers()] == [key("b").id]
        with pytest.raises(RemoteCallError) as refused:
            await other.call("status")
        assert refused.value.message == "method:status is not in list of allowed methods"


async def test_the_unix_socket_is_for_the_user_alone(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a:
        assert stat.S_IMODE(a.socket.stat().st_mode) == 0o600
        async with program(a) as own:
            assert await own.call("whoami") == {"id": a.id}
            assert isinstance(await own.call("status"), dict)
        assert a.connections.peers() == []
    assert not a.socket.exists()


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a:
        port = int(a.address.split(":")[2].split("~")[0])
        with pytest.raises(AddressInUse, match=str(port)):
            async with open_node(tmp_path, "b", port=port):
                pass


# ---- one peer's trouble is its own


async def test_garbage_and_cuts_leave_the_others_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with open_node(tmp_path, "a") as a, stranger(a, "honest") as honest:
        port = int(a.address.split(":")[2].split("~")[0])
        for junk in (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(64), b"\xff" * 500):
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(junk)
            await writer.drain()
            writer.close()
        peer = await connect_peer(a.address, PeerConfig(keypair=key("cut"), table=MethodTable()))
        peer.connection.abort()
        assert await honest.call("whoami") == {"id": a.id}
        await until(lambda: len(live(a)) == 1)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_failing_exchange_ends_its_connection_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_node(tmp_path, "a") as a, stranger(a, "honest") as honest:
        await until(lambda: live(a))

        async def fail(*_arguments: Any) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(a.replicator, "exchange", fail)
        async with stranger(a, "unlucky") as unlucky:
            await asyncio.wait_for(unlucky.closed.wait(), 5)
        assert await honest.call("whoami") == {"id": a.id}
        await until(lambda: len(live(a)) == 1)
    assert "a bug" in caplog.text


async def test_followers_hear_of_peers_and_one_that_fails_harms_nobody(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a:
        heard: list[PeerEvent] = []

        def broken(_event: PeerEvent) -> None:
            raise RuntimeError("a follower's bug")

        a.connections.subscribe(broken)
        stop = a.connections.subscribe(heard.append)
        async with stranger(a, "b"):
            await until(lambda: heard)
        await until(lambda: len(heard) == 2)
        stop()
        async with stranger(a, "c"):
            await until(lambda: live(a))
    assert [(event.kind, event.info.id) for event in heard] == [
        ("connected", key("b").id),
        ("disconnected", key("b").id),
    ]
    assert heard[1].info.state is PeerState.DISCONNECTED


# ---- the end


async def test_stopping_takes_under_three_seconds_whatever_peers_do(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()

    async def stuck(_caller: Caller, _args: list[Any], _out: Any) -> None:
        await asyncio.Event().wait()

    method = Method(("createHistoryStream",), Kind.SOURCE, Who.ANON, stuck)
    async with AsyncExitStack() as stack:
        async with open_node(tmp_path, "a") as a:
            await a.take(bulky("long", 400).texts)
            deaf = await connect_peer(a.address, PeerConfig(keypair=key("deaf"), table=MethodTable()))  # never reads
            for _ in range(20):
                deaf.connection.source("createHistoryStream", [{"id": key("long").id}])
            await stack.enter_async_context(stranger(a, "b", [method]))
            half_way = await asyncio.open_connection("127.0.0.1", int(a.address.split(":")[2].split("~")[0]))
            await a.connections.remember(address_of(await closed_port(), "gone"))
            await until(lambda: len(live(a)) == 2)
            await asyncio.sleep(0.5)
            full = max(info.bytes_out for info in live(a))
            await asyncio.sleep(0.3)
            assert full == max(info.bytes_out for info in live(a)) > 1_000_000  # all buffers on the way are full
            began = loop.time()
            await a.connections.stop()
            assert 1.0 < loop.time() - began < 3.0  # it did wait for the deaf one
            assert live(a) == []
        deaf.connection.abort()
        half_way[1].close()


async def test_a_stopped_node_says_goodbye(tmp_path: Path) -> None:
    async with open_node(tmp_path, "b") as b:
        async with open_node(tmp_path, "a") as a:
            events: list[PeerEvent] = []
            await b.connections.dial(a.address)
            b.connections.subscribe(events.append)
        await until(lambda: events)
        assert events[0].kind == "disconnected"
        assert events[0].info.error is None


async def test_each_way_to_pass_a_limit_is_counted_under_its_name(tmp_path: Path) -> None:
    limits = Limits(unauthenticated_loopback=2, handshake_timeout=0.3, silence_timeout=0.3)
    async with open_node(tmp_path, "a", limits=limits) as a, AsyncExitStack() as stack:
        port = int(a.address.split(":")[2].split("~")[0])
        for _ in range(3):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
        await until(lambda: a.connections.traffic().breaches.get("handshake_timeout", 0) == 2)
        large = await stack.enter_async_context(stranger(a, "large"))
        with pytest.raises((ConnectionClosed, RemoteCallError)):
            await large.call("whoami", ["x" * 70_000])
        silent = await stack.enter_async_context(stranger(a, "silent"))
        await asyncio.wait_for(silent.closed.wait(), 5)
        elsewhere = Counter({"lan_peers": 2})
        a.connections.count_also(elsewhere)
        await until(lambda: "silence_timeout" in a.connections.traffic().breaches)
        assert a.connections.traffic().breaches == {
            "unauthenticated_loopback": 1,
            "handshake_timeout": 2,
            "json_frame": 1,
            "silence_timeout": 1,
            "lan_peers": 2,
        }
