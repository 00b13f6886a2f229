"""query.read, query.explain and backlinks.read: whatever index is used, the answer is the one of reading everything."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from replication.errors import RemoteCallError
from replication.map_filter_reduce import compile_query
from replication.methods import query as query_methods
from replication.methods.query import Plan, plan_for
from replication.rpc.connection import RpcConnection
from tests.replication.test_methods_streams import ask, collect, keys
from tests.support import builders, queries
from tests.support.peers import Node, key, open_node, program, until

ROOT = "%" + "A" * 43 + "=.sha256"


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_methods, "AT_ONCE", 4)


async def fill(node: Node, count: int) -> list[dict[str, Any]]:
    """Messages of two feeds about each other; all of them as the log streams give them."""
    chance = random.Random(3)
    feeds = builders.Feed(key("one")), builders.Feed(key("other"), timestamp=1_300_000_000_000)
    for number in range(count):
        feed, other = feeds if number % 2 else feeds[::-1]
        content: dict[str, Any] = {"type": chance.choice(queries.TYPES), "number": number}
        if number % 3 == 0:
            content["root"] = ROOT
        if number % 4 == 0:
            content["vote"] = {"link": other.id, "value": 1}
        if number % 5 == 0:
            content["mentions"] = [{"link": ROOT}, {"link": feed.id}]
        await node.take([feed.append(content)])
    await until(lambda: not node.store.indexer.behind)
    async with program(node) as own:
        return await ask(own, "createLogStream")


def with_time(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "rts": min(item["timestamp"], item["value"]["timestamp"])}


def read_through(query: Any, log: list[dict[str, Any]]) -> list[Any]:
    pipeline = compile_query(query)
    return [*pipeline.push([with_time(item) for item in log]), *pipeline.finish()]


async def read(own: RpcConnection, query: Any, **more: Any) -> list[Any]:
    return await ask(own, "query.read", query=query, **more)


def filters(log: list[dict[str, Any]]) -> list[Any]:
    author, other = (log[at]["value"]["author"] for at in (0, 1))
    return [
        {},
        {"value": {"author": author}},
        {"value": {"content": {"type": "post"}}},
        {"value": {"author": other, "content": {"type": {"$eq": "vote"}}}},
        {"value": {"content": {"root": ROOT}}},
        {"value": {"content": {"vote": {"link": author}, "type": "about"}}},
        {"value": {"content": {"number": {"$gt": 3, "$lte": 17}}}},
        {"timestamp": {"$gt": log[9]["timestamp"]}},
        {"timestamp": {"$gte": log[9]["timestamp"], "$lt": log[20]["timestamp"]}},
        {"key": log[7]["key"]},
        {"value": {"content": {"root": {"$prefix": "%"}}}},
        {"value": {"author": "@nobody"}},
    ]


async def test_every_index_brings_what_reading_everything_brings(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        log = await fill(a, 41)
        for rule in filters(log):
            for stages in ([], [{"$map": {"key": True, "n": ["value", "content", "number"]}}]):
                query = [{"$filter": rule}, *stages]
                expected = read_through(query, log)
                assert await read(own, query) == expected, rule
                assert await read(own, query, reverse=True) == expected[::-1], rule
                assert await read(own, query, limit=3) == expected[:3], rule
                assert await read(own, query, reverse=True, limit=2) == expected[::-1][:2], rule
            counted = [{"$filter": rule}, {"$reduce": {"t": ["value", "content", "type"], "n": {"$count": True}}}]
            assert await read(own, counted) == read_through(counted, log), rule
        assert keys(await read(own, [])) == keys(log)
        assert await ask(own, "query.read") == [with_time(item) for item in log]


async def test_claimed_times_order_what_is_asked_for_by_them(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        log = await fill(a, 21)
        by_claim = sorted(log, key=lambda item: item["value"]["timestamp"])
        for rule in ({"value": {"timestamp": {"$gt": 0}}}, {"rts": {"$gt": 0}}):
            assert keys(await read(own, [{"$filter": rule}])) == keys(by_claim)
            assert keys(await read(own, [{"$filter": rule}], reverse=True, limit=5)) == keys(by_claim)[:-6:-1]
        late = by_claim[15]["value"]["timestamp"]
        assert keys(await read(own, [{"$filter": {"value": {"timestamp": {"$gte": late}}}}])) == keys(by_claim[15:])
        sort = [{"$sort": [["value", "timestamp"]]}, {"$map": "key"}]
        assert await read(own, sort) == keys(by_claim)


async def test_messages_that_point_to_something(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        log = await fill(a, 41)
        author = log[0]["value"]["author"]
        for dest in (ROOT, author):
            expected = [item for item in log if f'"{dest}"' in str(item["value"]["content"]).replace("'", '"')]
            found = await ask(own, "backlinks.read", query=[{"$filter": {"dest": dest}}], index="DTA")
            assert [{**with_time(item), "dest": dest} for item in expected] == found
            only = await read(own, [{"$filter": {"dest": dest, "value": {"author": author}}}])
            assert keys(only) == keys([item for item in expected if item["value"]["author"] == author])
        with pytest.raises(RemoteCallError, match="expected"):
            await ask(own, "backlinks.read", query=[{"$filter": {"value": {"content": {"root": ROOT}}}}])


async def test_live_queries_go_on(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        before = [await a.publish({"type": "post", "text": str(number)}) for number in range(5)]
        query: Any = [{"$filter": {"value": {"content": {"type": "post"}}}}]
        both = own.source("query.read", [{"query": query, "live": True, "sync": True}])
        fresh = own.source("query.read", [{"query": query, "old": False}])
        pointing = own.source("backlinks.read", [{"query": [{"$filter": {"dest": a.id}}], "live": True}])
        found = await collect(both, 6)
        assert keys(found[:5]) == before
        assert found[5] == {"sync": True}
        await asyncio.sleep(0.05)
        after = []
        for number in range(9):
            await a.publish({"type": "vote", "vote": {"link": a.id, "value": 1}})
            after.append(await a.publish({"type": "post", "text": f"new {number}"}))
        assert keys(await collect(both, 9)) == after
        assert keys(await collect(fresh, 9)) == after
        assert [item["dest"] for item in await collect(pointing, 9)] == [a.id] * 9


async def test_private_messages_come_in_plain_where_asked_for(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        await own.call("private.publish", [{"type": "post", "text": "secret"}, [a.id]])
        query: Any = [{"$filter": {"value": {"content": {"text": "secret"}}}}]
        assert await read(own, query) == []
        (found,) = await read(own, query, private=True)
        assert found["value"]["content"]["text"] == "secret"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"query": 7}, "list of stages"),
        ({"query": "{"}, "option query"),
        ({"query": [{"$unknown": 1}]}, "unknown stage"),
        ({"query": [{"$filter": {"a": {"$like": 1}}}]}, "unknown operator"),
        ({"query": [{"$reduce": {"$count": True}}], "live": True}, "leave out live"),
        ({"limit": "x"}, "limit"),
    ],
)
async def test_what_is_wrong_is_said(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        with pytest.raises(RemoteCallError, match=words):
            await ask(own, "query.read", **arguments)


async def test_a_query_may_come_as_text_and_is_explained(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        await a.post()
        await until(lambda: not a.store.indexer.behind)
        text = '[{"$filter":{"value":{"content":{"type":"post"}}}},{"$reduce":{"$count":true}}]'
        assert await read(own, text) == [1]
        assert await collect(own.source("query.read", [text])) == [1]
        told = {"reverse": False, "live": False, "old": True, "sync": False}
        assert await own.call("query.explain", [{"query": text}]) == {"index": "type", **told}
        assert await own.call("query.explain", [{}]) == {"scan": True, **told}


def test_plans() -> None:
    feed = builders.keypair("a").id
    assert plan_for({"value": {"content": {"vote": {"link": ROOT}}}}) == Plan(dest=ROOT, rel="vote.link")
    assert plan_for({"dest": feed}) == Plan(dest=feed)
    assert plan_for({"dest": "#channel"}) == Plan()
    assert plan_for({"value": {"author": feed, "content": {"type": "post"}}}) == Plan(author=feed, type="post")
    assert plan_for({"value": {"author": {"$prefix": "@"}}, "timestamp": {"$gt": 5}}) == Plan(since=5)
    assert plan_for({"value": {"timestamp": {"$lt": 5}}}) == Plan(claimed=True)
    assert plan_for(None) == plan_for([]) == plan_for({"value": 1}) == Plan()
