"""get, publish and the tips, as scripts of the old sbot use them."""

import json
from pathlib import Path
from typing import Any

import pytest

from feeds.message import JsonValue
from replication.errors import RemoteCallError
from tests.support import builders
from tests.support.peers import key, open_node, program


async def test_publish_answers_the_stored_message_and_get_finds_it(tmp_path: Path) -> None:
    content: JsonValue = {"type": "post", "text": "naïve 🎉", "10": 1, "a": {"b": [1.5, None]}}
    async with open_node(tmp_path, "a") as a, program(a) as own:
        stored: Any = await own.call("publish", [content])
        assert set(stored) == {"key", "value", "timestamp"}
        assert stored["value"]["content"] == content
        assert stored["value"]["author"] == a.id
        assert await own.call("get", [stored["key"]]) == stored["value"]
        assert await own.call("get", [{"id": stored["key"]}]) == stored["value"]
        assert await own.call("get", [{"id": stored["key"], "meta": True, "private": True}]) == stored
        assert await own.call("get", [stored["key"] + "?unbox=xyz"]) == stored["value"]
        entry = await a.store.log.get(stored["key"])
        assert entry is not None
        assert json.loads(entry.text) == stored["value"]


async def test_the_text_of_a_message_is_handed_out_as_it_was_signed(tmp_path: Path) -> None:
    feed = builders.Feed(key("feed"))
    feed.append({"type": "post", "text": "\u2028", "n": 10**20})
    async with open_node(tmp_path, "a") as a, program(a) as own:
        await a.take(feed.texts)
        source = own.source("createLogStream", [{"keys": False}])
        (body,) = await source.read_batch()
        assert body.data == feed.texts[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "expected the content"),
        (7, "expected the content"),
        ({"text": "no type"}, "type"),
        ({"type": "xy"}, "type"),
        ({"type": "post", "text": "x" * 9000}, "limit"),
    ],
)
async def test_what_cannot_be_published_says_why(tmp_path: Path, content: Any, reason: str) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        with pytest.raises(RemoteCallError, match=reason):
            await own.call("publish", [content])
        assert a.clock() == {}


async def test_a_message_that_is_not_here_is_not_found(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        with pytest.raises(RemoteCallError, match="not found"):
            await own.call("get", [builders.message_id(1)])
        with pytest.raises(RemoteCallError, match="expected a message id"):
            await own.call("get", [a.id])
        with pytest.raises(RemoteCallError, match="not found"):
            await own.call("latestSequence", [key("nobody").id])


async def test_tips_and_clocks(tmp_path: Path) -> None:
    feed = builders.chain("feed", 3)
    async with open_node(tmp_path, "a") as a, program(a) as own:
        await a.take(feed.texts)
        own_id = await a.post()
        latest: Any = await own.call("getLatest", [feed.id])
        assert (latest["key"], latest["value"]["sequence"]) == (feed.ids[2], 3)
        assert await own.call("getLatest", [key("nobody").id]) is None
        assert await own.call("latestSequence", [feed.id]) == 3
        assert await own.call("latestSequence", [{"id": feed.id}]) == 3
        assert await own.call("getVectorClock") == {feed.id: 3, a.id: 1}
        assert await own.call("getFeedState", [a.id]) == {"id": own_id, "sequence": 1}
        assert await own.call("getFeedState", [key("nobody").id]) == {"id": None, "sequence": 0}
        lines = [json.loads(body.data) for body in await own.source("latest").read_batch()]
        assert {(line["id"], line["sequence"]) for line in lines} == {(feed.id, 3), (a.id, 1)}
        assert all(isinstance(line["ts"], int) for line in lines)
