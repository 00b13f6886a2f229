"""Whole nodes that dial by schedule: staged addresses, the firewall for strangers, room for whom a person picks."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from replication.errors import HandshakeFailed, InvalidAddress
from replication.limits import Limits
from replication.peer_info import PeerState
from replication.policy import Strangers
from replication.rpc.streams import Source
from replication.schedule import Quotas, Rules
from tests.support.peers import Node, key, open_node, program, stranger, until


def live(node: Node) -> set[str]:
    return {info.id for info in node.connections.peers() if info.state is PeerState.CONNECTED}


async def test_a_peer_on_the_local_network_is_found_shown_and_left_alone_on_request(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b, program(a) as own:
        staged = own.source("conn.stagedPeers")
        assert await first(staged) == []
        dead = f"net:127.0.0.1:1~shs:{key('dead').id[1:-8]}"
        assert a.connections.stage(dead, kind="lan", source="lan", ttl=60)
        assert not a.connections.stage(dead, kind="lan", source="lan", ttl=60)
        ((address, details),) = await first(staged)
        assert (address, details["key"], details["type"]) == (dead, key("dead").id, "lan")
        assert a.connections.stage(b.address, kind="lan", source="lan", ttl=60)
        await until(lambda: b.id in live(a))
        known = {each.id: each for each in a.connections.known_peers()}
        assert (known[b.id].group, known[b.id].staged, known[b.id].state) == ("lan", True, PeerState.CONNECTED)
        assert (known[b.id].decision, known[b.id].hops) == ("dial", None)
        assert a.connections.decisions()[b.address].what == "dial"
        await until(lambda: {each.id: each for each in a.connections.known_peers()}[key("dead").id].failures >= 2)
        assert a.book.all() == []  # staged ones are not remembered
        assert await a.connections.disconnect(b.id)
        await until(lambda: b.id not in live(a))
        await asyncio.sleep(0.3)
        assert b.id not in live(a)
        assert "you hung up" in a.connections.decisions()[b.address].reason
        assert (await a.connections.dial(b.address)).reason == "picked by hand"
        assert a.connections.unstage(dead)
        assert not a.connections.unstage(dead)
        listed: Any = await own.call("conn.known")
        assert [(line["id"], line["group"]) for line in listed] == [(b.id, "by hand")]


async def first(source: Source) -> Any:
    async with asyncio.timeout(10):
        (body,) = await source.read_batch()
    return json.loads(body.data)


async def test_alternatives_are_tried_in_order_and_all_of_them_kept(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        dead = f"net:127.0.0.1:1~shs:{b.id[1:-8]}"
        stranger_there = b.address.partition("~")[0] + f"~shs:{key('dead').id[1:-8]}"
        info = await a.connections.dial(f"{dead};{stranger_there};{b.address}")
        assert (info.id, info.address) == (b.id, b.address)
        assert [known.address for known in a.book.all()] == [b.address]  # what never worked is not kept
        with pytest.raises(HandshakeFailed):
            await a.connections.dial(f"net:127.0.0.1:1~shs:{key('dead').id[1:-8]};{stranger_there}")
        with pytest.raises(InvalidAddress, match="our own"):
            await a.connections.dial(f"{b.address};{a.address}")
        assert (await a.connections.remember(f"{dead};{b.address}", auto=False)).address == dead
        assert {known.address for known in a.book.all()} == {dead, b.address}


async def test_staging_refuses_what_cannot_be_dialled(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a:
        for text in ("", "nonsense", "ws://host:1~shs:" + "A" * 43 + "=", a.address):
            with pytest.raises(InvalidAddress):
                a.connections.stage(text, kind="lan", source="lan")


async def test_hints_are_dialled_within_the_quota_of_their_group(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        others = [await stack.enter_async_context(open_node(tmp_path, f"pub{number}")) for number in range(4)]
        a = await stack.enter_async_context(open_node(tmp_path, "a"))
        for other in others:
            assert await a.connections.hint(other.address, "pub", kind="pub", origin=others[0].id)
            assert not await a.connections.hint(other.address, "pub", kind="pub", origin=others[0].id)
        await until(lambda: len(live(a)) == 2)
        await asyncio.sleep(0.3)
        assert len(live(a)) == Quotas().pub
        waiting = [info for info in a.connections.peers() if info.state is PeerState.DISCONNECTED]
        assert {info.reason for info in waiting} == {"its group (pub) has its 2 connections"}
        for other in others:  # a person may have all of them
            await a.connections.dial(other.address)
        assert len(live(a)) == 4


async def test_a_peer_that_a_person_picks_finds_room(tmp_path: Path) -> None:
    async with (
        open_node(tmp_path, "pub") as pub,
        open_node(tmp_path, "friend") as friend,
        open_node(tmp_path, "a", limits=Limits(outbound=1)) as a,
    ):
        await a.connections.hint(pub.address, "pub", kind="pub", origin=friend.id)
        await until(lambda: live(a) == {pub.id})
        await a.connections.dial(friend.address)
        assert live(a) == {friend.id}
        await asyncio.sleep(0.3)
        assert live(a) == {friend.id}
        assert a.connections.decisions()[pub.address].reason


@pytest.mark.parametrize("strangers", list(Strangers))
async def test_who_may_call(tmp_path: Path, strangers: Strangers) -> None:
    async with open_node(tmp_path, "a", strangers=strangers) as a:
        friend, far = key("friend").id, key("far").id
        await a.follow(friend, key("enemy").id)
        await a.block(key("enemy").id)
        await a.want([far])
        await until(lambda: a.replicator.policy.hops.get(friend) == 1)
        a.connections.admit_also(lambda peer: peer in (key("guest").id, key("enemy").id))
        await a.connections.remember(f"net:127.0.0.1:1~shs:{key('picked').id[1:-8]}")
        admitted = {}
        for name in ("friend", "far", "guest", "picked", "nobody", "enemy"):
            try:
                async with stranger(a, name):
                    admitted[name] = True
            except HandshakeFailed:
                admitted[name] = False
    open_to_all = strangers is Strangers.ANYONE
    assert admitted == {
        "friend": True,
        "far": strangers is not Strangers.FOLLOWED,
        "guest": True,
        "picked": True,
        "nobody": open_to_all,
        "enemy": False,
    }


async def test_autoconnect_off_leaves_everything_to_the_person(tmp_path: Path) -> None:
    async with open_node(tmp_path, "b") as b, open_node(tmp_path, "a", rules=Rules(autoconnect=False)) as a:
        await a.connections.hint(b.address, "pub", kind="pub", origin=b.id)
        await asyncio.sleep(0.3)
        assert live(a) == set()
        assert "autoconnect is off" in a.connections.decisions()[b.address].reason
        await a.connections.remember(b.address)
        await until(lambda: live(a) == {b.id})
