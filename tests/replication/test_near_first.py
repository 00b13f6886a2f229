"""Near feeds before far ones: when the far ones wait, and that liars do not make them wait for long."""

from pathlib import Path

from replication.near_first import ENOUGH, MANY, NearFirst
from tests.replication.test_explaining import asking
from tests.support import builders
from tests.support.peers import key, open_node, stranger, until


def test_little_that_is_missing_makes_nobody_wait() -> None:
    near = NearFirst()
    assert not any(near.look(float(second), MANY - 1) for second in range(30))


def test_far_feeds_wait_until_the_near_ones_are_here() -> None:
    near = NearFirst()
    missing = [*range(5 * MANY, ENOUGH, -100)]
    assert all(near.look(float(second), count) for second, count in enumerate(missing))
    assert not near.look(99.0, ENOUGH)
    assert not near.look(100.0, ENOUGH + 1)
    assert near.look(101.0, MANY)


def test_who_promises_and_does_not_deliver_is_waited_for_ten_seconds_and_once() -> None:
    near = NearFirst()
    waits = [near.look(float(second), 1 << 30) for second in range(1000)]
    assert sum(waits) == 10
    assert not near.look(2000.0, 1)
    assert near.look(2001.0, MANY)


def test_who_delivers_a_drop_at_a_time_is_waited_for_ten_minutes() -> None:
    near = NearFirst()
    waits = [near.look(float(second), (1 << 30) - second // 5) for second in range(5000)]
    assert sum(waits) == 600


async def test_a_first_sync_asks_for_near_feeds_first(tmp_path: Path) -> None:
    near, far = builders.Feed(key("near")), key("far").id
    text = near.append({"type": "contact", "contact": far, "following": True})
    async with open_node(tmp_path, "a") as a:
        await a.take([text])
        await a.follow(near.id)
        await until(lambda: far in a.replicator.policy.wanted)
        async with stranger(a) as peer:
            stream = peer.duplex("ebt.replicate", [{"version": 3}])
            await stream.read_batch()
            await stream.send([b'{"%b":%d,"%b":200}' % (near.id.encode(), 2 * MANY << 1, far.encode())])

            def receiving(feed: str) -> bool:
                pairs = a.replicator.ebt.state.feed_status(feed).peers
                return any(pair.receiving for pair in pairs.values())

            await until(lambda: receiving(near.id) and receiving(far))
            await until(lambda: not receiving(far))
            assert receiving(near.id)
            found = await asking(a)(far)
            assert found["limit"] == "feeds that we follow come first, and much of them is still missing"
            await stream.send([b'{"%b":2}' % near.id.encode()])
            await until(lambda: receiving(far))
            assert (await asking(a)(far))["limit"] is None
