"""friends.*, replicate.*, ebt.*, gossip.* and conn.*: what scripts of the old sbot ask about the network."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from feeds.message import JsonValue
from replication.errors import RemoteCallError
from replication.peer_info import PeerState
from replication.rpc.streams import Source
from tests.support import builders
from tests.support.builders import Feed
from tests.support.peers import key, open_node, program, stranger, until


async def items(source: Source) -> list[Any]:
    async with asyncio.timeout(10):
        return [json.loads(body.data) for body in await source.read_batch()]


# ---- friends


async def test_follow_block_and_ask(tmp_path: Path) -> None:
    friend, enemy = key("friend").id, key("enemy").id
    async with open_node(tmp_path, "a") as a, program(a) as own:
        followed: Any = await own.call("friends.follow", [friend])
        assert followed["value"]["content"] == {"type": "contact", "contact": friend, "following": True}
        await own.call("friends.block", [enemy, {"state": True}])
        assert await own.call("friends.isFollowing", [{"source": a.id, "dest": friend}]) is True
        assert await own.call("friends.isFollowing", [{"dest": enemy}]) is False
        assert await own.call("friends.isBlocking", [enemy]) is True
        assert await own.call("friends.hops") == {a.id: 0, friend: 1, enemy: -1}
        assert await own.call("friends.hops", [{"start": friend}]) == {friend: 0}
        assert await own.call("friends.hops", [{"max": 0}]) == {a.id: 0}
        assert await own.call("friends.graph") == {a.id: {friend: 1, enemy: -1}}
        assert await own.call("friends.get", [{"source": a.id, "dest": friend}]) is True
        assert await own.call("friends.get", [{"dest": enemy}]) == {a.id: False}
        await own.call("friends.follow", [friend, {"state": False}])
        assert await own.call("friends.isFollowing", [friend]) is False
        with pytest.raises(RemoteCallError, match="our own feed"):
            await own.call("friends.follow", [a.id])
        with pytest.raises(RemoteCallError, match="expected a feed id"):
            await own.call("friends.follow", ["nonsense"])


async def test_the_graph_and_the_hops_as_streams(tmp_path: Path) -> None:
    friend = key("friend").id
    async with open_node(tmp_path, "a") as a, program(a) as own:
        graph = own.source("friends.stream", [{"live": True}])
        hops = own.source("friends.hopStream", [{"live": True}])
        assert await items(graph) == [{}]
        assert await items(hops) == [{a.id: 0}]
        await a.follow(friend)
        assert await items(graph) == [{a.id: {friend: 1}}]
        assert await items(hops) == [{friend: 1}]
        await a.publish({"type": "contact", "contact": friend, "following": False})
        assert await items(graph) == [{a.id: {friend: -2}}]
        assert await items(own.source("friends.graphStream")) == [{a.id: {friend: -2}}]


# ---- replicate and ebt


async def test_what_is_replicated_and_how_far(tmp_path: Path) -> None:
    feed = builders.chain("feed", 5)
    async with open_node(tmp_path, "a") as a, program(a) as own:
        await a.take(feed.texts[:3])
        assert await own.call("replicate.request", [feed.id]) is True
        upto = own.source("replicate.upto", [{"live": True}])
        assert sorted((line["id"], line["sequence"]) for line in await items(upto)) == sorted([(a.id, 0), (feed.id, 3)])
        await a.take(feed.texts[3:])
        assert await items(upto) == [{"id": feed.id, "sequence": 5}]
        assert await own.call("ebt.request", [{feed.id: False}]) is True
        assert a.replicator.policy.wanted == {a.id}
        assert await own.call("replicate.request", [[feed.id, key("x").id], True]) is True
        assert len(a.replicator.policy.wanted) == 3
        wrongs: list[list[JsonValue]] = [[], ["x"], [feed.id, "yes"], [{feed.id: 1}]]
        for wrong in wrongs:
            with pytest.raises(RemoteCallError, match="expected"):
                await own.call("replicate.request", wrong)


async def test_the_clock_leaves_out_what_the_caller_may_not_have(tmp_path: Path) -> None:
    shy = builders.Feed(key("shy"))
    shy.append({"type": "contact", "contact": key("stranger").id, "blocking": True})
    async with open_node(tmp_path, "a") as a, program(a) as own, stranger(a) as peer, stranger(a, "other") as other:
        await a.take(shy.texts)
        await a.take(builders.chain("unwanted", 1).texts)
        await a.want([shy.id])
        await a.post()
        assert await peer.call("ebt.clock", [{"format": "classic"}]) == {a.id: 1}
        assert await other.call("ebt.clock") == await own.call("ebt.clock") == {a.id: 1, shy.id: 1}


async def test_peer_status_tells_who_has_what(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own, stranger(a) as peer:
        await a.post()
        assert await own.call("ebt.peerStatus", [a.id]) == {"id": a.id, "seq": 1, "peers": {}}
        stream = peer.duplex("ebt.replicate", [{"version": 3}])
        await stream.read_batch()
        await stream.send([b'{"%b":0}' % a.id.encode()])
        await stream.read_batch()
        status: Any = await own.call("ebt.peerStatus", [a.id])
        line = status["peers"][key("stranger").id]
        assert line["replicating"]["tx"] is True
        assert line["replicating"]["sent"] == 1


async def test_ebt_is_not_for_local_programs(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        with pytest.raises(RemoteCallError, match="other nodes"):
            await own.duplex("ebt.replicate", [{"version": 3}]).read_batch()


# ---- gossip and conn


async def test_connect_list_and_hang_up(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b, program(a) as own:
        assert await own.call("gossip.peers") == []
        events = own.source("gossip.changes")
        await asyncio.sleep(0.05)
        connected: Any = await own.call("gossip.connect", [b.address])
        assert (connected["key"], connected["state"]) == (b.id, "connected")
        assert [(event["type"], event["peer"]["key"]) for event in await items(events)] == [("connect", b.id)]
        listed: Any = await own.call("gossip.peers")
        (line,) = listed
        assert (line["address"], line["host"], line["client"]) == (b.address, "127.0.0.1", True)
        one: Any = await own.call("gossip.get", [b.id])
        assert one["key"] == b.id
        assert await own.call("gossip.get", [key("nobody").id]) is None
        ((address, details),) = (await items(own.source("conn.peers")))[0]
        assert (address, details["key"]) == (b.address, b.id)
        assert await own.call("gossip.disconnect", [b.address]) is True
        assert [event["type"] for event in await items(events)] == ["disconnect"]
        assert await own.call("gossip.disconnect", [b.id]) is False
        await until(lambda: not b.connections.peers())


async def test_addresses_in_every_old_spelling(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        legacy = f"127.0.0.1:1:{key('b').id}"
        added: Any = await own.call("gossip.add", [legacy])
        assert added["key"] == key("b").id
        assert added["address"].startswith("net:127.0.0.1:1~shs:")
        as_object: JsonValue = {"host": "127.0.0.1", "port": 2, "key": key("c").id}
        await own.call("gossip.add", [as_object])
        known: Any = await own.call("conn.dbPeers")
        ((first, details), _) = known
        assert (first, details["key"]) == (added["address"], key("b").id)
        assert await own.call("gossip.remove", [legacy]) is True
        assert await own.call("conn.forget", [legacy]) is False
        assert [address.peer for address in a.connections.remembered()] == [key("c").id]


async def test_a_failed_dial_is_explained(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        with pytest.raises(RemoteCallError, match="connect"):
            await own.call("conn.connect", [f"net:127.0.0.1:1~shs:{key('b').id[1:-8]}"])
        for wrong in ([], ["nonsense"], [7]):
            with pytest.raises(RemoteCallError, match="expected"):
                await own.call("gossip.connect", wrong)
        assert [info for info in a.connections.peers() if info.state is PeerState.CONNECTED] == []


@pytest.mark.parametrize("group", ["gossip", "conn"])
async def test_pings_are_answered_in_turn(tmp_path: Path, group: str) -> None:
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        ping = peer.duplex(f"{group}.ping", [{"timeout": 300000}])
        times = []
        for _ in range(3):
            await ping.send([b"1795334755217"])
            (answer,) = await items(ping)
            times.append(answer)
        assert times == sorted(times)
        assert all(isinstance(time, int) and time > 1_600_000_000_000 for time in times)
        await ping.end()
        assert await ping.read_batch() == []


@pytest.mark.parametrize("frame", [b"null", b'"x"', b"{}", b"true", b"{bad"])
async def test_a_ping_that_is_no_time_ends_the_stream(tmp_path: Path, frame: bytes) -> None:
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        ping = peer.duplex("gossip.ping")
        await ping.send([frame])
        with pytest.raises(RemoteCallError, match="timestamps"):
            await ping.read_batch()
        assert await peer.call("whoami") == {"id": a.id}


async def test_a_quiet_connection_is_pinged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.methods.ping.FIRST_PING_SECONDS", 0.05)
    monkeypatch.setattr("replication.methods.ping.PING_SECONDS", 0.05)
    async with (
        open_node(tmp_path, "a") as a,
        open_node(tmp_path, "b", without=[("gossip", "ping")]) as b,
        open_node(tmp_path, "c") as c,
    ):
        await a.connections.dial(c.address)
        await a.connections.dial(b.address)
        await asyncio.sleep(0.2)
        before = a.connections.connected(c.id)
        await asyncio.sleep(0.3)
        after = a.connections.connected(c.id)
        assert before is not None
        assert after is not None
        assert after.bytes_in > before.bytes_in
        assert a.connections.connected(b.id)  # which has no ping, and stays


# ---- what other old programs call


async def test_add_takes_in_a_signed_message_and_refuses_a_wrong_one(tmp_path: Path) -> None:
    feed = Feed(key("other"))
    texts = [feed.append({"type": "post", "text": f"ü {number}"}) for number in range(2)]
    async with open_node(tmp_path, "a") as a, program(a) as own:
        first, second = (json.loads(text) for text in texts)
        added: Any = await own.call("add", [first])
        assert (added["value"], a.clock()[feed.id]) == (first, 1)
        assert await own.call("add", [{"key": added["key"], "value": first, "timestamp": 1}]) == added
        with pytest.raises(RemoteCallError, match="not taken"):
            await own.call("add", [{**second, "timestamp": 7}])
        with pytest.raises(RemoteCallError, match="expected a signed message"):
            await own.call("add", ["x"])
        assert (await own.call("add", [second]))["value"] == second  # type: ignore[index,call-overload]
        assert a.clock()[feed.id] == 2


async def test_friends_as_a_stream_of_ids(tmp_path: Path) -> None:
    friend, further = key("friend").id, Feed(key("friend"))
    async with open_node(tmp_path, "a") as a, program(a) as own:
        await a.follow(friend)
        assert await items(own.source("friends.createFriendStream", [{"hops": 1}])) == [a.id, friend]
        live = own.source("friends.createFriendStream", [{"meta": True, "live": True}])
        assert await items(live) == [{"id": a.id, "hops": 0}, {"id": friend, "hops": 1}]
        await a.take([further.append({"type": "contact", "contact": key("third").id, "following": True})])
        assert await items(live) == [{"id": key("third").id, "hops": 2}]


async def test_a_program_stages_addresses_and_stops_and_starts_dialling(tmp_path: Path) -> None:
    async with open_node(tmp_path, "b") as b, open_node(tmp_path, "a") as a, program(a) as own:
        assert await own.call("conn.stop") is True
        assert await own.call("conn.stage", [b.address, {"type": "lan"}]) is True
        assert await own.call("conn.stage", [b.address, {"type": "lan"}]) is False
        await until(lambda: [each for each in a.connections.known_peers() if "autoconnect is off" in each.reason])
        assert not a.connections.connected(b.id)
        await own.call("conn.start")
        await until(lambda: a.connections.connected(b.id))
        assert await own.call("conn.unstage", [b.address]) is True
        assert await own.call("conn.unstage", [b.address]) is False


async def test_reconnecting_hangs_up_and_dials_anew(tmp_path: Path) -> None:
    async with open_node(tmp_path, "b") as b, open_node(tmp_path, "a") as a, program(a) as own:
        await a.connections.dial(b.address)
        before = a.connections.connected(b.id)
        assert before is not None
        ended: list[str] = []
        a.connections.subscribe(lambda event: ended.append(event.kind))
        assert await own.call("gossip.reconnect") is True
        await until(lambda: ended[:2] == ["disconnected", "connected"])
        assert await own.call("whoami") == {"id": a.id}  # programs are no peers


async def test_discovery_is_stopped_and_started_and_its_neighbours_are_listed(tmp_path: Path) -> None:
    async with open_node(tmp_path, "b") as b, open_node(tmp_path, "a") as a, program(a) as own:
        with pytest.raises(RemoteCallError, match="--lan"):
            await own.call("lan.start")
        found = own.source("lan.discoveredPeers")
        a.connections.autoconnect(False)
        a.connections.stage(b.address, kind="lan", source="lan", ttl=10)
        assert await items(found) == [{"address": b.address, "verified": True}]


async def test_ebt_by_the_name_with_a_format(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        assert await items(peer.duplex("ebt.replicateFormat", [{"version": 3, "format": "classic"}])) == [{a.id: 0}]
        with pytest.raises(RemoteCallError, match="ebt,replicateFormat is not in list of allowed"):
            await peer.duplex("ebt.replicateFormat", [{"version": 3, "format": "bendybutt-v1"}]).read_batch()


async def test_a_peer_is_dialled_back_at_its_own_host_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b, program(a) as own:
        await b.connections.dial(a.address)
        port = int(b.address.split(":")[2].split("~")[0])
        call = b.connections.call
        assert await call(a.id, "conn.dialBack", [port]) == {
            "address": f"127.0.0.1:{port}",
            "reached": True,
            "step": None,
            "reason": None,
        }
        with pytest.raises(RemoteCallError, match="a moment ago"):
            await call(a.id, "conn.dialBack", [port])
        monkeypatch.setattr("replication.methods.dial_back.PAUSE_SECONDS", 0.0)
        closed: Any = await call(a.id, "conn.dialBack", [1])
        assert (closed["address"], closed["reached"], closed["step"]) == ("127.0.0.1:1", False, "connect")
        other: Any = await call(a.id, "conn.dialBack", [int(a.address.split(":")[2].split("~")[0])])
        assert (other["reached"], other["step"]) == (False, "server-accept")  # somebody else is there
        for odd in ([], ["8008"], [0], [65536], [True]):
            with pytest.raises(RemoteCallError, match="expected a port"):
                await call(a.id, "conn.dialBack", odd)
        with pytest.raises(RemoteCallError, match="over TCP"):
            await own.call("conn.dialBack", [port])
        assert a.connections.connected(b.id)
        assert b.connections.connected(a.id)
