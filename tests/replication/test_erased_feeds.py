"""Whole nodes of which one has erased messages: nobody is stuck with it, and it can have them again if it wants to."""

import time
from pathlib import Path
from typing import Any

from replication.rpc.connection import RpcConnection
from replication.rpc.streams import Source
from tests.replication.test_history import NO_EBT, ask, collect, sequences
from tests.support import builders
from tests.support.peers import Node, open_node, program, stranger, until


async def erase(node: Node, feed: builders.Feed, first: int, last: int) -> None:
    places = [await node.store.log.at(feed.id, sequence) for sequence in range(first, last + 1)]
    await node.store.erasing.erase([place.position for place in places if place], now=int(time.time() * 1000))
    await node.store.indexer.catch_up()


def user_stream(connection: RpcConnection, **options: Any) -> Source:
    return connection.source("createUserStream", [options])


async def test_a_peer_gets_the_beginning_from_one_and_the_rest_from_another(tmp_path: Path) -> None:
    feed = builders.chain("feed", 60)
    async with (
        open_node(tmp_path, "thin") as thin,
        open_node(tmp_path, "whole") as whole,
        open_node(tmp_path, "new") as new,
    ):
        for node in (thin, whole):
            await node.take(feed.texts)
        for node in (thin, whole, new):
            await node.want([feed.id])
        await erase(thin, feed, 21, 40)
        await new.connections.dial(thin.address)
        await until(lambda: new.clock().get(feed.id) == 20)
        await new.connections.dial(whole.address)
        await until(lambda: new.clock().get(feed.id) == 60)
        more = feed.append({"type": "post", "text": "new"})
        await whole.connections.disconnect(new.id)
        await thin.take([more])
        await until(lambda: new.clock().get(feed.id) == 61)


async def test_new_messages_come_to_a_node_that_has_erased_old_ones(tmp_path: Path) -> None:
    feed = builders.chain("feed", 30)
    async with open_node(tmp_path, "thin") as thin, open_node(tmp_path, "whole") as whole:
        for node in (thin, whole):
            await node.take(feed.texts)
            await node.want([feed.id])
        await erase(thin, feed, 1, 29)
        await whole.take([feed.append({"type": "post", "text": "while apart"})])
        await thin.connections.dial(whole.address)
        await until(lambda: thin.clock()[feed.id] == 31)
        await whole.take([feed.append({"type": "post", "text": "live"})])
        await until(lambda: thin.clock()[feed.id] == 32)
        held = await thin.store.log.entries_after(0, 100, author=feed.id, whole=True)
        assert [entry.sequence for entry in held] == [30, 31, 32]  # what was erased did not come back


async def test_a_feed_that_begins_anew_comes_again_whole_over_the_connection_there_is(tmp_path: Path) -> None:
    feed = builders.chain("feed", 40)
    async with open_node(tmp_path, "thin") as thin, open_node(tmp_path, "whole") as whole:
        for node in (thin, whole):
            await node.take(feed.texts)
            await node.want([feed.id])
        await thin.connections.dial(whole.address)
        await erase(thin, feed, 5, 9)
        assert thin.clock()[feed.id] == 40
        await thin.store.erasing.begin_anew(feed.id, now=int(time.time() * 1000))
        await until(lambda: thin.clock().get(feed.id) == 40)
        assert await thin.store.log.range(feed.id, 0, 100) == feed.texts


async def test_history_streams_of_peers_end_before_what_was_erased(tmp_path: Path) -> None:
    feed = builders.chain("feed", 20)
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        await a.take(feed.texts)
        await erase(a, feed, 6, 8)
        for keys in (True, False):
            assert sequences(await collect(ask(peer, id=feed.id, keys=keys))) == [1, 2, 3, 4, 5]
            assert sequences(await collect(ask(peer, id=feed.id, keys=keys, seq=7))) == []
            assert sequences(await collect(ask(peer, id=feed.id, keys=keys, seq=9))) == [*range(9, 21)]
        live = ask(peer, id=feed.id, seq=9, live=True, keys=False)
        assert sequences(await collect(live, 12)) == [*range(9, 21)]
        await a.take([feed.append({"type": "post", "text": "new"})])
        assert sequences(await collect(live, 1)) == [21]


async def test_a_live_stream_that_meets_what_was_erased_ends(tmp_path: Path) -> None:
    feed = builders.chain("feed", 20)
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        await a.take(feed.texts)
        await erase(a, feed, 6, 8)
        assert sequences(await collect(ask(peer, id=feed.id, live=True, keys=False))) == [1, 2, 3, 4, 5]


async def test_programs_of_our_own_get_what_is_left(tmp_path: Path) -> None:
    feed = builders.chain("feed", 20)
    left = [1, 2, 3, 4, 5, *range(9, 20)]
    async with open_node(tmp_path, "a") as a, program(a) as own:
        await a.take(feed.texts)
        await erase(a, feed, 6, 8)
        await erase(a, feed, 20, 20)
        for keys in (True, False):
            assert sequences(await collect(ask(own, id=feed.id, keys=keys))) == left
            assert sequences(await collect(ask(own, id=feed.id, keys=keys, reverse=True))) == left[::-1]
            assert sequences(await collect(user_stream(own, id=feed.id, gt=6, lt=11, keys=keys))) == [9, 10]
        assert sequences(await collect(ask(own, id=feed.id, limit=7, keys=False))) == left[:7]
        assert sequences(await collect(own.source("createLogStream", [{}]))) == left
        assert await own.call("getLatest", [feed.id]) is None


async def test_peers_without_ebt_go_on_behind_what_was_erased(tmp_path: Path) -> None:
    feed = builders.chain("feed", 20)
    async with open_node(tmp_path, "thin", without=NO_EBT) as thin, open_node(tmp_path, "b", without=NO_EBT) as b:
        for node in (thin, b):
            await node.take(feed.texts)
            await node.want([feed.id])
        await erase(thin, feed, 1, 10)
        await thin.connections.dial(b.address)
        await thin.take([feed.append({"type": "post", "text": "new"})])
        await until(lambda: b.clock()[feed.id] == 21)
