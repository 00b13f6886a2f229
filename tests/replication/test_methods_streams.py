"""createLogStream, createFeedStream, messagesByType and links, as scripts of the old sbot use them."""

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from feeds import hiding
from feeds.log import Log
from replication.errors import RemoteCallError
from replication.methods import links, streams
from replication.methods.streams import first_received
from replication.rpc.connection import RpcConnection
from replication.rpc.streams import Source
from tests.support import builders
from tests.support.peers import Node, key, open_node, program


async def collect(source: Source, count: int | None = None) -> list[Any]:
    items: list[Any] = []
    async with asyncio.timeout(10):
        while count is None or len(items) < count:
            batch = await source.read_batch()
            if not batch:
                break
            items += [json.loads(body.data) for body in batch]
    return items


async def ask(own: RpcConnection, method: str, **options: Any) -> list[Any]:
    return await collect(own.source(method, [options] if options else []))


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of a few entries, so that a small log has many."""
    monkeypatch.setattr(streams, "ENTRIES_AT_ONCE", 4)
    monkeypatch.setattr(streams, "FETCHED_AT_ONCE", 3)
    monkeypatch.setattr(links, "AT_ONCE", 4)


async def fill(node: Node, count: int) -> list[str]:
    """Messages of two feeds in turn with receive times of 1000, 2000, ... ms; ids in the order of receipt."""
    one, other = builders.Feed(key("one")), builders.Feed(key("other"), timestamp=1_400_000_000_000)
    ids = []
    ticks = itertools.count(1)
    node.store.ingest._now = lambda: float(next(ticks))  # type: ignore[misc]
    for number in range(count):
        feed = (one, other)[number % 2]
        kind = "post" if number % 3 else "vote"
        text = feed.append({"type": kind, "number": number})
        await node.take([text])
        ids.append(feed.ids[-1])
    return ids


def keys(items: list[Any]) -> list[str]:
    return [item["key"] for item in items]


@pytest.mark.usefixtures("small_pages")
async def test_the_log_in_the_order_of_receipt(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        assert await ask(own, "createLogStream") == []
        ids = await fill(a, 21)
        assert keys(await ask(own, "createLogStream")) == ids
        assert keys(await ask(own, "createLogStream", limit=5)) == ids[:5]
        assert keys(await ask(own, "createLogStream", reverse=True)) == ids[::-1]
        assert keys(await ask(own, "createLogStream", reverse=True, limit=6)) == ids[:-7:-1]
        assert await ask(own, "createLogStream", values=False, limit=2) == ids[:2]
        values = await ask(own, "createLogStream", keys=False)
        assert [value["content"]["number"] for value in values] == list(range(21))
        assert await ask(own, "createLogStream", old=False) == []


@pytest.mark.usefixtures("small_pages")
async def test_bounds_are_times_of_receipt(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        ids = await fill(a, 12)
        times = [item["timestamp"] for item in await ask(own, "createLogStream")]
        assert times == sorted(set(times))
        assert keys(await ask(own, "createLogStream", gt=times[3])) == ids[4:]
        assert keys(await ask(own, "createLogStream", gte=times[3])) == ids[3:]
        assert keys(await ask(own, "createLogStream", lt=times[3])) == ids[:3]
        assert keys(await ask(own, "createLogStream", lte=times[3])) == ids[:4]
        assert keys(await ask(own, "createLogStream", gt=times[2], lt=times[9])) == ids[3:9]
        assert keys(await ask(own, "createLogStream", gt=times[2], lt=times[9], reverse=True)) == ids[3:9][::-1]
        assert keys(await ask(own, "createLogStream", gt=times[2], lt=times[9], reverse=True, limit=2)) == ids[8:6:-1]
        assert keys(await ask(own, "createLogStream", gt=times[-1])) == []
        assert keys(await ask(own, "createLogStream", gt=times[5] + 0.5)) == ids[6:]
        assert keys(await ask(own, "createLogStream", gt=0)) == ids


async def test_first_received_finds_the_place(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a:
        await fill(a, 9)
        log: Log = a.store.log
        entries = await log.entries_after(0, 100)
        for entry in entries:
            assert await first_received(log, entry.received) == entry.position
            assert await first_received(log, entry.received + 1) == entry.position + 1
        assert await first_received(log, 0) == 1


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("method", ["createLogStream", "createFeedStream", "messagesByType"])
async def test_live_streams_go_on_without_a_hole(tmp_path: Path, method: str) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        options = {"type": "post"} if method == "messagesByType" else {}
        before = [await a.post(str(number)) for number in range(6)]
        stream = own.source(method, [{"live": True, **options}])
        fresh = own.source(method, [{"live": True, "old": False, **options}])
        assert keys(await collect(stream, 6)) == before
        await asyncio.sleep(0.05)
        after = [await a.post(f"new {number}") for number in range(9)]
        assert keys(await collect(stream, 9)) == after
        assert keys(await collect(fresh, 9)) == after
        limited = own.source(method, [{"live": True, "limit": 16, **options}])
        last = await a.post("last")
        assert keys(await collect(limited)) == [*before, *after, last]


async def test_a_live_log_stream_can_mark_where_the_new_begins(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        await a.post()
        stream = own.source("createLogStream", [{"live": True, "sync": True, "keys": False}])
        old, mark = await collect(stream, 2)
        assert old["sequence"] == 1
        assert mark == {"sync": True}


@pytest.mark.usefixtures("small_pages")
async def test_the_log_in_the_order_of_claimed_times(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        await fill(a, 13)
        claimed = [item["value"]["timestamp"] for item in await ask(own, "createFeedStream")]
        assert claimed == sorted(claimed)
        assert len(claimed) == 13
        assert claimed != [item["value"]["timestamp"] for item in await ask(own, "createLogStream")]
        backwards = [item["value"]["timestamp"] for item in await ask(own, "createFeedStream", reverse=True, limit=4)]
        assert backwards == claimed[:-5:-1]
        bounded = await ask(own, "createFeedStream", gt=claimed[2], lte=claimed[8])
        assert [item["value"]["timestamp"] for item in bounded] == claimed[3:9]


@pytest.mark.usefixtures("small_pages")
async def test_messages_of_one_type(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        ids = await fill(a, 30)
        votes = [ids[number] for number in range(0, 30, 3)]
        assert keys(await collect(own.source("messagesByType", ["vote"]))) == votes
        assert keys(await ask(own, "messagesByType", type="vote", limit=3)) == votes[:3]
        assert keys(await ask(own, "messagesByType", type="vote", reverse=True, limit=3)) == votes[:-4:-1]
        assert await ask(own, "messagesByType", type="nothing") == []
        with pytest.raises(RemoteCallError, match="type"):
            await ask(own, "messagesByType")


async def test_a_slow_reader_misses_nothing(tmp_path: Path) -> None:
    feed = builders.chain("feed", 2500)
    async with open_node(tmp_path, "a") as a, program(a) as own:
        stream = own.source("createLogStream", [{"live": True, "keys": False}])
        for start in range(0, 2500, 100):
            await a.take(feed.texts[start : start + 100])
        found = await collect(stream, 2500)
        assert [value["sequence"] for value in found] == list(range(1, 2501))


# ---- links


@pytest.mark.usefixtures("small_pages")
async def test_links_by_their_ends_and_names(tmp_path: Path) -> None:
    root, friend = builders.message_id(1), key("friend").id
    async with open_node(tmp_path, "a") as a, program(a) as own:
        vote = await a.publish({"type": "vote", "vote": {"link": root, "value": 1, "expression": "Like"}})
        reply = await a.publish({"type": "post", "text": "re", "root": root, "mentions": [{"link": friend}]})
        follow = await a.publish({"type": "contact", "contact": friend, "following": True})
        for number in range(10):
            await a.post(str(number))

        assert await ask(own, "links", dest=root) == [
            {"source": a.id, "dest": root, "rel": "vote", "key": vote},
            {"source": a.id, "dest": root, "rel": "root", "key": reply},
        ]
        assert keys(await ask(own, "links", dest=root, rel="vote")) == [vote]
        assert keys(await ask(own, "links", dest=root, reverse=True)) == [reply, vote]
        assert keys(await ask(own, "links", dest=root, source=key("other").id)) == []
        assert keys(await ask(own, "links", source=a.id)) == [vote, reply, reply, follow]
        assert keys(await ask(own, "links", source=a.id, dest="@")) == [reply, follow]
        assert keys(await ask(own, "links", dest="%", limit=1)) == [vote]
        assert keys(await ask(own, "links", rel="contact")) == [follow]
        assert keys(await ask(own, "links", source=a.id, reverse=True, limit=1)) == [follow]
        assert await ask(own, "links", dest=root, rel="vote", keys=False) == [
            {"source": a.id, "dest": root, "rel": "vote"}
        ]
        (with_value,) = await ask(own, "links", dest=root, rel="root", values=True, meta=False)
        assert set(with_value) == {"key", "value", "timestamp"}
        assert with_value["value"]["content"]["root"] == root
        with pytest.raises(RemoteCallError, match="dest"):
            await ask(own, "links", dest="nonsense")


async def test_live_links_come_as_they_are_made(tmp_path: Path) -> None:
    root = builders.message_id(1)
    async with open_node(tmp_path, "a") as a, program(a) as own:
        stream = own.source("links", [{"dest": root, "live": True}])
        await asyncio.sleep(0.05)
        await a.post("no link")
        vote = await a.publish({"type": "vote", "vote": {"link": root, "value": 1}})
        assert keys(await collect(stream, 1)) == [vote]


@pytest.mark.usefixtures("small_pages")
async def test_what_is_deleted_here_is_in_no_list_but_in_the_feed_that_peers_get(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as node, program(node) as own:
        ids = await fill(node, 20)
        gone = [ids[0], *ids[5:10], ids[13], ids[19]]
        await node.store.database.write(
            lambda connection: [hiding.hide_message(connection, message, 1) for message in gone]
        )
        left = [id for id in ids if id not in gone]
        for method in ("createLogStream", "createFeedStream"):
            for reverse in (False, True):
                found = keys(await ask(own, method, reverse=reverse))
                assert sorted(found) == sorted(left), method
            assert set(keys(await ask(own, method, gt=4500))) <= set(left)
        posts = [id for number, id in enumerate(ids) if number % 3 and id not in gone]
        assert keys(await ask(own, "messagesByType", type="post")) == posts
        assert await first_received(node.store.log, 19_500) == 20
        assert await first_received(node.store.log, 1e9) == 20
        feed = builders.Feed(key("one")).id
        for options in ({"keys": True}, {"keys": False}, {"keys": True, "reverse": True}):
            whole = await ask(own, "createHistoryStream", id=feed, **options)
            assert len(whole) == 10, options
