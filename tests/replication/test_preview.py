"""What more hops would fetch: by what peers said, and by the mean where they said nothing."""

from pathlib import Path

from api.models import Preview
from feeds.blobs import BlobTotals
from replication.ebt.state import EbtState
from replication.preview import Means, More, preview
from tests.support import builders
from tests.support.peers import key, open_node, stranger, until


def test_known_and_unknown_feeds() -> None:
    means = Means(feeds=10, messages=1000, bytes=500_000, blobs=20, blobs_held=10, blob_bytes=1_000_000)
    more = {"@a": More(4, 300, 0), "@b": More(4, 50, 60), "@c": More(5, None, 0)}
    found = preview(5, 3, more, 0, means)
    Preview.model_validate(found)
    assert (found["feeds"], found["unknown_feeds"], found["messages"]) == (3, 1, 400)
    assert (found["bytes"], found["blobs"], found["blob_bytes"]) == (200_000, 8, 800_000)
    assert found["by_hop"] == [
        {"hops": 4, "feeds": 2, "unknown_feeds": 0, "messages": 300},
        {"hops": 5, "feeds": 1, "unknown_feeds": 1, "messages": 100},
    ]
    assert preview(3, 3, {}, 2, Means(0, 0, 0, 0, 0, 0))["fewer_feeds"] == 2


def test_what_peers_say_of_unknown_feeds_is_remembered_within_bounds() -> None:
    state = EbtState(heard_of=3)
    state.connect("@peer", {}, client=False, now=0.0)
    feeds = [builders.keypair(name).id for name in range(5)]
    state.notes_received("@peer", dict.fromkeys(feeds, 10 << 1), 0.0)
    assert [state.offered(feed) for feed in feeds] == [10, 10, 10, None, None]
    state.notes_received("@peer", {feeds[0]: 20 << 1}, 0.0)
    assert state.offered(feeds[0]) == 20
    state.disconnect("@peer", 0.0)
    assert state.offered(feeds[0]) is None


async def test_a_node_tells_what_one_hop_more_would_bring(tmp_path: Path) -> None:
    near, far = builders.Feed(key("near")), key("far").id
    text = near.append({"type": "contact", "contact": far, "following": True})
    async with open_node(tmp_path, "a", hops=1) as a:
        await a.take([text])
        await a.follow(near.id)
        await until(lambda: near.id in a.replicator.policy.wanted)
        async with stranger(a) as peer:
            stream = peer.duplex("ebt.replicate", [{"version": 3}])
            await stream.read_batch()
            await stream.send([b'{"%b":%d}' % (far.encode(), 123 << 1)])
            await until(lambda: a.replicator.ebt.state.offered(far))
            found = a.replicator.preview(2, BlobTotals(0, 0, 0, 0))
            Preview.model_validate(found)
            assert (found["feeds"], found["messages"], found["unknown_feeds"]) == (1, 123, 0)
            assert found["bytes"] > 123 * 300
            assert a.replicator.preview(0, BlobTotals(0, 0, 0, 0))["fewer_feeds"] == 1
