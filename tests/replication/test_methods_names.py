"""names.*, about.*, tangles.thread, search.query and the two spellings of block, as old programs use them."""

from pathlib import Path
from typing import Any

import pytest

from replication.errors import RemoteCallError
from tests.replication.test_methods_streams import ask, keys
from tests.support import builders
from tests.support.peers import Node, key, open_node, program, until

BLOB = "&" + "A" * 43 + "=.sha256"


async def indexed(node: Node) -> None:
    await until(lambda: not node.store.indexer.behind)


async def test_names_and_pictures(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        other, third = builders.Feed(key("other")), builders.Feed(key("third"))
        for feed, name in ((other, "Bob"), (third, "bob")):
            await a.take([feed.append({"type": "about", "about": feed.id, "name": name, "image": BLOB})])
        await a.take([third.append({"type": "about", "about": other.id, "name": "Robert"})])
        await indexed(a)
        assert await own.call("names.getSignifier", [other.id]) == "Bob"
        assert await own.call("names.getSignifier", [a.id]) is None
        assert await own.call("names.getImageFor", [other.id]) == BLOB
        found: Any = await own.call("names.getSignifies", ["@BOB"])
        assert {(one["id"], one["name"], one["rank"]) for one in found} == {(other.id, "Bob", 1), (third.id, "bob", 1)}
        assert await own.call("names.getSignifies", ["bo"]) == []
        assert await own.call("names.get") == {
            other.id: {other.id: "Bob", third.id: "Robert"},
            third.id: {third.id: "bob"},
        }
        await a.publish({"type": "about", "about": other.id, "name": "my Bob"})
        await indexed(a)
        assert await own.call("names.getSignifier", [other.id]) == "my Bob"
        asked: Any = {"key": "name", "dest": other.id}
        assert await own.call("about.socialValue", [asked]) == "my Bob"
        assert await own.call("about.latestValue", [asked]) == "my Bob"
        assert await own.call("about.socialValues", [asked]) == {
            other.id: "Bob",
            third.id: "Robert",
            a.id: "my Bob",
        }
        await a.block(third.id)
        await until(lambda: a.store.graph.blocks(a.id))
        assert set(await own.call("about.socialValues", [asked])) == {other.id, a.id}  # type: ignore[arg-type]
        assert await own.call("about.socialValue", [{"key": "nothing", "dest": other.id}]) is None
        wrong: Any
        for wrong in ({}, {"key": "name"}, {"key": "name", "dest": "x"}):
            with pytest.raises(RemoteCallError, match="expected"):
                await own.call("about.socialValue", [wrong])


async def test_a_thread_in_causal_order(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        root = await a.post("root")
        first = await a.publish({"type": "post", "text": "1", "root": root, "branch": root})
        second = await a.publish({"type": "post", "text": "2", "root": root, "branch": first})
        await a.post("something else")
        await indexed(a)
        assert keys(await ask(own, "tangles.thread", root=root)) == [root, first, second]
        assert await ask(own, "tangles.thread", root=root, values=False, reverse=True, limit=2) == [second, first]
        assert await ask(own, "tangles.thread", root="%" + "A" * 43 + "=.sha256") == []
        with pytest.raises(RemoteCallError, match="root"):
            await ask(own, "tangles.thread", root="x")


async def test_words_are_found(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        ids = [await a.post(f"message {number} about {('cats', 'dogs')[number % 2]}") for number in range(6)]
        await indexed(a)
        assert keys(await ask(own, "search.query", query="cats")) == ids[4::-2]
        assert keys(await ask(own, "search.query", query="cats", limit=1)) == ids[4:5]
        assert keys(await ask(own, "search.query", query='"about dogs" -5')) == [ids[3], ids[1]]
        with pytest.raises(RemoteCallError, match="words"):
            await ask(own, "search.query", query="!")


@pytest.mark.parametrize("method", ["replicate.block", "ebt.block"])
async def test_a_feed_can_be_refused_without_a_word_to_others(tmp_path: Path, method: str) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        feed = builders.keypair("other").id
        await a.follow(feed)
        await until(lambda: feed in a.replicator.policy.wanted)
        assert await own.call(method, [a.id, feed, True]) is True
        assert feed not in a.replicator.policy.wanted
        assert await own.call(method, [a.id, feed, False]) is True
        assert feed in a.replicator.policy.wanted
        assert a.clock() == {a.id: 1}
        wrong: Any
        for wrong in ([], [feed, a.id, True], [a.id, a.id, True], [a.id, feed], [a.id, "x", True]):
            with pytest.raises(RemoteCallError, match=r"expected|own"):
                await own.call(method, wrong)
