"""partialReplication.*: subsets of feeds for any peer, held against a plain filter over what there is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from feeds.message import JsonValue
from replication.errors import RemoteCallError
from replication.methods.partial import parse_query
from replication.rpc.connection import RpcConnection
from tests.support.builders import Feed
from tests.support.peers import Node, key, open_node, program, stranger

TYPES = ("post", "vote", "contact")


async def collect(connection: RpcConnection, name: str, *args: Any) -> list[Any]:
    source, found = connection.source(name, list(args)), []
    while batch := await source.read_batch():
        found += [json.loads(body.data) for body in batch]
    return found


async def filled(node: Node) -> dict[str, Feed]:
    """Three feeds of 250 messages by turns, some of them encrypted."""
    feeds = {name: Feed(key(name)) for name in ("x", "y", "z")}
    texts = []
    for number in range(250):
        for place, feed in enumerate(feeds.values()):
            kind = TYPES[(number + place) % 3]
            texts.append(feed.append("AAAA.box" if number % 10 == 9 else {"type": kind, "text": str(number)}))
    await node.take(texts)
    return feeds


def fits(value: Any, author: str | None, kind: str | None) -> bool:
    content = value["content"]
    return isinstance(content, dict) and author in (None, value["author"]) and kind in (None, content["type"])


async def test_subsets_are_what_a_plain_filter_finds(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own, stranger(a) as peer:
        feeds = await filled(a)
        x, y = feeds["x"].id, feeds["y"].id
        everything = [item["value"] for item in await collect(own, "createLogStream")]
        wanted: Callable[[Any], bool]
        for query, wanted in (
            ({"author": x, "type": "post"}, lambda v: fits(v, x, "post")),
            ({"author": x}, lambda v: fits(v, x, None)),
            ({"author": None, "type": "vote", "private": False}, lambda v: fits(v, None, "vote")),
            ({"op": "author", "feed": y}, lambda v: fits(v, y, None)),
            ({"op": "type", "string": "contact"}, lambda v: fits(v, None, "contact")),
            (
                {"op": "and", "args": [{"op": "type", "string": "post"}, {"op": "author", "feed": x}]},
                lambda v: fits(v, x, "post"),
            ),
            (
                {
                    "op": "or",
                    "args": [
                        {"op": "and", "args": [{"op": "author", "feed": x}, {"op": "type", "string": "vote"}]},
                        {"op": "author", "feed": y},
                    ],
                },
                lambda v: fits(v, x, "vote") or fits(v, y, None),
            ),
        ):
            expected = [value for value in everything if wanted(value)]
            assert len(expected) > 50
            name = "partialReplication.getSubset"
            assert await collect(peer, name, query, {"keys": False}) == expected
            assert await collect(peer, name, json.dumps(query), {"keys": False}) == expected
            backwards = await collect(peer, name, query, {"descending": True, "pageLimit": 7})
            assert [item["value"] for item in backwards] == expected[::-1][:7]
            assert all(item["key"].startswith("%") for item in backwards)


async def test_blocked_feeds_and_feeds_that_block_the_caller_are_in_no_subset(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        bad, shy, good = (Feed(key(name)) for name in ("bad", "shy", "good"))
        texts = [feed.append({"type": "post", "text": "hi"}) for feed in (bad, shy, good)]
        texts.append(shy.append({"type": "contact", "contact": key("stranger").id, "blocking": True}))
        await a.take(texts)
        await a.block(bad.id)
        found = await collect(peer, "partialReplication.getSubset", {"op": "type", "string": "post"})
        assert [item["value"]["author"] for item in found] == [good.id]


async def test_a_thread_without_what_is_private_or_kept_from_the_caller(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        root = await a.post("root")
        other = Feed(key("other"))
        await a.take([other.append({"type": "post", "text": "answer", "root": root, "branch": root})])
        await a.publish({"type": "post", "text": "mine", "root": root, "branch": root})
        for args in ([root], [{"root": root}], [{"id": root}]):
            found = await collect(peer, "partialReplication.getTangle", *args)
            assert [item["value"]["content"]["text"] for item in found] == ["root", "answer", "mine"]
        assert await collect(peer, "partialReplication.getTangle", "%" + "A" * 43 + "=.sha256") == []


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (None, "expected a query"),
        ("[", "not JSON"),
        ({"private": True}, "private messages are in no subset"),
        ({"author": "x"}, "author"),
        ({"op": "not", "args": []}, "expected author, type, and, or or"),
        ({"op": "and", "args": []}, "expected a list of parts"),
        ({"op": "or", "args": [1]}, "an object with op"),
        ({"op": "type"}, "expected a type"),
        ({"op": "author", "feed": 1}, "feed"),
        ({"op": "or", "args": [{"op": "type", "string": "post"}] * 64}, "at most 64 parts"),
    ],
)
async def test_what_is_no_query_is_refused_in_words(tmp_path: Path, query: Any, says: str) -> None:
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        with pytest.raises(RemoteCallError, match=says):
            await collect(peer, "partialReplication.getSubset", query)


def test_an_and_uses_what_all_of_it_shares_and_an_or_does_not() -> None:
    author: JsonValue = {"op": "author", "feed": key("x").id}
    kind: JsonValue = {"op": "type", "string": "post"}
    both = parse_query({"op": "and", "args": [{"op": "and", "args": [author]}, kind]})
    assert (both.author, both.type) == (key("x").id, "post")
    either = parse_query({"op": "or", "args": [author, kind]})
    assert (either.author, either.type) == (None, None)
