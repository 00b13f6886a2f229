"""The graph in memory follows the log, transaction by transaction."""

import random
import time
from pathlib import Path
from typing import Any

import pytest

from feeds.contact_graph import Edge
from feeds.views.social_graph import SocialGraph
from tests.support import vectors
from tests.support.builders import Feed, keypair
from tests.support.stores import Store, open_store

VECTORS = vectors.entries("follow-graph.json")


async def say(store: Store, feed: Feed, destination: str, **members: Any) -> None:
    await store.ingest.add([feed.append({"type": "contact", "contact": destination, **members})], source="test")


@pytest.mark.parametrize("vector", VECTORS[::5], ids=range(0, len(VECTORS), 5))
async def test_vectors_through_the_log(tmp_path: Path, vector: dict[str, Any]) -> None:
    feeds: dict[str, Feed] = {}
    expected = {
        keypair(source).id: {keypair(destination).id: edge for destination, edge in row.items()}
        for source, row in vector["graph"].items()
    }
    hops = {keypair(name).id: distance for name, distance in vector["hops"].items()}
    me = keypair(vector["me"]).id
    async with open_store(tmp_path) as store:
        texts = []
        for contact in vector["contacts"]:
            feed = feeds.setdefault(contact["author"], Feed(keypair(contact["author"])))
            texts.append(feed.append({**contact["content"], "contact": keypair(contact["content"]["contact"]).id}))
        for at in range(0, len(texts), 4):
            await store.ingest.add(texts[at : at + 4], source="test")
        assert store.graph.edges() == expected
        assert store.graph.hops(me, vector["max_hops"]) == hops
    async with open_store(tmp_path) as store:
        assert store.graph.edges() == expected
        assert store.graph.hops(me, vector["max_hops"]) == hops


async def test_revision_and_subscribers_change_with_the_edges_only(tmp_path: Path) -> None:
    a, b = Feed(keypair("a")), keypair("b").id
    async with open_store(tmp_path) as store:
        calls: list[tuple[int, bool]] = []
        end = store.graph.subscribe(lambda: calls.append((store.graph.revision, store.graph.is_following(a.id, b))))
        await say(store, a, b, following=True)
        assert calls == [(1, True)]
        assert store.log.position == 1
        await say(store, a, b, following=True)
        await say(store, a, "not a feed id", following=True)
        await store.ingest.add([a.append({"type": "post", "text": "x"})], source="test")
        assert calls == [(1, True)]
        await say(store, a, b, blocking=True)
        assert calls == [(1, True), (2, False)]
        end()
        await say(store, a, b)
        assert len(calls) == 2
        assert store.graph.revision == 3


async def test_who_follows_and_blocks_whom(tmp_path: Path) -> None:
    a, b = Feed(keypair("a")), Feed(keypair("b"))
    c = keypair("c").id
    async with open_store(tmp_path) as store:
        graph = store.graph
        await say(store, a, b.id, following=True)
        await say(store, a, c, blocking=True, following=True)
        await say(store, b, c, following=True)
        assert graph.follows(a.id) == [b.id]
        assert graph.blocks(a.id) == [c]
        assert graph.followers(c) == [b.id]
        assert graph.blockers(c) == [a.id]
        assert graph.is_blocking(a.id, c)
        assert not graph.is_following(a.id, c)
        assert not graph.is_blocking(c, a.id)
        assert graph.hops(a.id, 2) == {a.id: 0, b.id: 1, c: -1}
        # The newest contact message replaces the one before wholly: not blocking is also not following.
        await say(store, b, c, blocking=False)
        assert not graph.is_following(b.id, c)
        assert graph.edges()[b.id][c] == -2


async def test_the_last_contact_in_a_batch_counts(tmp_path: Path) -> None:
    a, b = Feed(keypair("a")), keypair("b").id
    async with open_store(tmp_path) as store:
        said: list[dict[str, Any]] = [{"following": True}, {"blocking": True}, {"following": True}, {"flagged": {}}]
        for members in said:
            a.append({"type": "contact", "contact": b, **members})
        await store.ingest.add(a.texts, source="test")
        assert store.graph.edges() == {a.id: {b: -1}}
    async with open_store(tmp_path) as store:
        assert store.graph.edges() == {a.id: {b: -1}}


async def test_own_publishing_changes_it_too(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        other = keypair("other").id
        await store.ingest.publish({"type": "contact", "contact": other, "following": True})
        assert store.graph.hops(store.own.id, 3) == {store.own.id: 0, other: 1}


def test_hops_over_a_hundred_thousand_edges_are_quick_and_kept() -> None:
    rng = random.Random(1)
    names = [keypair(number).id for number in range(2000)]
    graph = SocialGraph()
    graph.changed(
        [(names[source], names[rng.randrange(2000)], Edge.FOLLOW) for source in range(2000) for _ in range(50)]
    )
    began = time.thread_time()
    hops = graph.hops(names[0], 3)
    assert time.thread_time() - began < 0.5  # about 15 ms on an idle machine
    assert len(hops) > 1900
    assert graph.hops(names[0], 3) is hops
    graph.changed([(names[0], names[1], Edge.BLOCK)])
    assert graph.hops(names[0], 3)[names[1]] == -1
