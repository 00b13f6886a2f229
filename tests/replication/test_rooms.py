"""Rooms: nodes that can reach no more than a room meet in it, and nothing said by a room or a caller harms them."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from feeds.message import JsonValue
from replication.errors import DialFailed, RemoteCallError, RemoteError, RoomFailed
from replication.limits import Limits
from replication.room_state import tunnel_address
from replication.rooms import Guests
from replication.schedule import Rules
from tests.support.peers import Node, bulky, key, open_node, stranger, until

QUIET = Rules(autoconnect=False)


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.scheduler.LOOK_SECONDS", 0.05)


async def in_room(node: Node, room: Node) -> None:
    await node.connections.dial(room.address)
    await node.rooms.enter(room.id)


async def test_two_nodes_meet_in_a_room_by_themselves_and_replicate(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        room, a, b = [
            await stack.enter_async_context(open_node(tmp_path, name, room="Lobby" if name == "room" else ""))
            for name in ("room", "a", "b")
        ]
        await a.follow(b.id)
        await b.follow(a.id)
        await a.post("from a")
        await b.post("from b")
        await in_room(a, room)
        await in_room(b, room)
        (present,) = a.rooms.present()
        assert (present.id, present.metadata.name, present.metadata.version) == (room.id, "Lobby", 2)
        await until(lambda: a.rooms.present()[0].attendants == [b.id])
        await until(lambda: a.connections.connected(b.id) and b.connections.connected(a.id))
        info = a.connections.connected(b.id)
        assert info is not None
        assert info.address == tunnel_address(room.id, b.id)
        await until(lambda: a.clock() == b.clock() and len(a.clock()) == 2)
        assert room.clock() == {}
        await b.connections.stop()
        await until(lambda: a.rooms.present()[0].attendants == [])
        await until(lambda: not a.connections.connected(b.id))
        assert [each for each in a.connections.known_peers() if each.kind == "room-attendant"] == []


async def test_much_goes_through_a_tunnel_in_both_directions(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        room = await stack.enter_async_context(open_node(tmp_path, "room", room="Lobby"))
        limits = Limits(stream_queue=64 * 1024, outbound_high=128 * 1024, outbound_low=32 * 1024)
        a, b = [await stack.enter_async_context(open_node(tmp_path, name, rules=QUIET, limits=limits)) for name in "ab"]
        one, other = bulky("one", 300), bulky("other", 300)
        await a.take(one.texts)
        await b.take(other.texts)
        for node in (a, b):
            await node.want([one.id, other.id])
            await in_room(node, room)
        info = await a.connections.dial(tunnel_address(room.id, b.id))
        await until(lambda: a.clock() == b.clock() and len(a.clock()) == 2)
        live = a.connections.connected(b.id)
        assert live is not None
        assert min(live.bytes_in, live.bytes_out) > 1_000_000
        assert await a.connections.disconnect(info.id)
        await until(lambda: not b.connections.connected(a.id))
        assert a.rooms._tunnels == b.rooms._tunnels == {}


async def test_a_dial_opens_the_way_to_the_room_first(tmp_path: Path) -> None:
    async with (
        open_node(tmp_path, "room", room="Lobby") as room,
        open_node(tmp_path, "a", rules=QUIET) as a,
        open_node(tmp_path, "b", rules=QUIET) as b,
    ):
        await in_room(b, room)
        with pytest.raises(DialFailed, match="no address"):
            await a.connections.dial(tunnel_address(room.id, b.id))
        await a.connections.remember(room.address, auto=False)
        info = await a.connections.dial(tunnel_address(room.id, b.id))
        assert info.id == b.id
        with pytest.raises(DialFailed):
            await a.connections.dial(tunnel_address(room.id, key("nobody").id))


async def test_who_may_come_through_a_room(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        room = await stack.enter_async_context(open_node(tmp_path, "room", room="Lobby"))
        a, b = [
            await stack.enter_async_context(open_node(tmp_path, name, rules=QUIET, guests=Guests.MUTUAL))
            for name in "ab"
        ]
        await in_room(a, room)
        await in_room(b, room)
        with pytest.raises(DialFailed):
            await a.connections.dial(tunnel_address(room.id, b.id))
        await b.follow(a.id)
        with pytest.raises(DialFailed):
            await a.connections.dial(tunnel_address(room.id, b.id))
        await a.follow(b.id)
        await b.want([a.id])
        await b.take([entry.text for entry in await a.store.log.entries_after(0, 10)])
        assert (await a.connections.dial(tunnel_address(room.id, b.id))).id == b.id


async def test_the_inner_caller_is_whom_the_room_named(tmp_path: Path) -> None:
    """A room that lets somebody in under the name of a friend gains nothing."""
    async with open_node(tmp_path, "a", rules=QUIET, guests=Guests.FOLLOWED) as a:
        friend = key("friend")
        await a.follow(friend.id)
        async with open_node(tmp_path, "portal", room="Liar") as portal:
            await in_room(a, portal)
            await until(lambda: portal.connections.rpc_of(a.id))
            connection = portal.connections.rpc_of(a.id)
            assert connection is not None
            offers: list[JsonValue] = [
                None,
                {},
                {"portal": portal.id, "target": a.id},
                {"portal": portal.id, "target": a.id, "origin": a.id},
                {"portal": portal.id, "target": a.id, "origin": portal.id},
                {"portal": portal.id, "target": friend.id, "origin": friend.id},
                {"portal": friend.id, "target": a.id, "origin": friend.id},
                {"portal": portal.id, "target": a.id, "origin": key("stranger").id},
                {"portal": portal.id, "target": a.id, "origin": ["x"]},
            ]
            for offer in offers:
                duplex = connection.duplex("tunnel.connect", [offer])
                with pytest.raises(RemoteCallError, match="could not connect"):
                    await duplex.read_batch()
        # whoever is no room of ours may not call at all
        async with stranger(a) as other:
            duplex = other.duplex(
                "tunnel.connect", [{"portal": key("stranger").id, "target": a.id, "origin": friend.id}]
            )
            with pytest.raises(RemoteCallError, match="could not connect"):
                await duplex.read_batch()


async def test_a_peer_that_is_no_room_is_said_to_be_none(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        await a.connections.dial(b.address)
        with pytest.raises(RoomFailed, match="no room"):
            await a.rooms.enter(b.id)
        assert a.rooms.present() == []


async def test_tunnels_through_one_room_are_bounded(tmp_path: Path) -> None:
    async with (
        open_node(tmp_path, "room", room="Lobby") as room,
        open_node(tmp_path, "a", rules=QUIET, limits=Limits(tunnels=2)) as a,
    ):
        await in_room(a, room)
        await until(lambda: room.connections.rpc_of(a.id))
        connection = room.connections.rpc_of(a.id)
        assert connection is not None
        offers: list[JsonValue] = [
            {"portal": room.id, "target": a.id, "origin": key(name).id} for name in ("x", "y", "z")
        ]
        open_ones = [connection.duplex("tunnel.connect", [offer]) for offer in offers]
        with pytest.raises(RemoteCallError, match="too many"):
            await open_ones[2].read_batch()
        assert sum(a.rooms._tunnels.values()) == 2
        for duplex in open_ones[:2]:
            await duplex.cancel()
        await until(lambda: not a.rooms._tunnels)


async def test_a_room_of_the_first_kind(tmp_path: Path) -> None:
    without = [("room", "metadata"), ("room", "attendants")]
    async with AsyncExitStack() as stack:
        room = await stack.enter_async_context(open_node(tmp_path, "room", room="Old", without=without))
        a, b = [await stack.enter_async_context(open_node(tmp_path, name, rules=QUIET)) for name in "ab"]
        await in_room(a, room)
        await in_room(b, room)
        await until(lambda: a.rooms.present()[0].attendants == [b.id])
        assert (await b.connections.dial(tunnel_address(room.id, a.id))).id == a.id


async def test_a_room_that_tells_nothing(tmp_path: Path) -> None:
    """Outsiders may use a room's tunnels and do not see who is there."""
    without = [("room", "attendants"), ("tunnel", "endpoints")]
    async with open_node(tmp_path, "room", room="Shy", without=without) as room, open_node(tmp_path, "a") as a:
        await in_room(a, room)
        (present,) = a.rooms.present()
        assert present.attendants == []
        assert "not in list of allowed methods" in present.refused


async def test_what_the_room_answers_is_passed_on(tmp_path: Path) -> None:
    async with open_node(tmp_path, "room", room="Lobby") as room, open_node(tmp_path, "a") as a:
        await in_room(a, room)
        assert await a.rooms.call(room.id, "tunnel.ping")
        with pytest.raises(RoomFailed, match=r"refused room\.registerAlias"):
            await a.rooms.call(room.id, "room.registerAlias", "x", "y")
        with pytest.raises((RoomFailed, RemoteError)):
            await a.rooms.call(key("unknown").id, "tunnel.ping")
