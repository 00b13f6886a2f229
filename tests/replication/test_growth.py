"""One follower of the commit notice tells everybody whose feed grew, and nobody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from replication import growth
from replication.growth import Growth
from tests.support import builders
from tests.support.peers import until
from tests.support.stores import Store, open_store


@asynccontextmanager
async def following(folder: Path) -> AsyncIterator[tuple[Store, Growth]]:
    async with open_store(folder) as store:
        follower = Growth(store.log, store.live)
        task = asyncio.create_task(follower.run())
        yield store, follower
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_callbacks_hear_of_each_feed_once_a_commit(tmp_path: Path) -> None:
    one, other = builders.chain("one", 3), builders.chain("other", 2)
    async with following(tmp_path) as (store, follower):
        heard: list[dict[str, int]] = []
        stop = follower.subscribe(lambda feeds: heard.append(dict(feeds)))
        await store.ingest.add([*one.texts[:2], *other.texts], source="test")
        await asyncio.sleep(0.01)
        await store.ingest.add(one.texts, source="test")
        await asyncio.sleep(0.01)
        stop()
        await store.ingest.publish({"type": "post"})
        await asyncio.sleep(0.01)
    assert heard == [{one.id: 2, other.id: 2}, {one.id: 3}]


async def test_only_those_are_woken_whose_feed_grew_beyond_what_they_know(tmp_path: Path) -> None:
    one, other = builders.chain("one", 3), builders.chain("other", 1)
    async with following(tmp_path) as (store, follower):
        await store.ingest.add(one.texts[:1], source="test")
        assert await follower.beyond(one.id, 0) == 1
        waiting = asyncio.create_task(follower.beyond(one.id, 1))
        far = asyncio.create_task(follower.beyond(one.id, 2))
        await asyncio.sleep(0.01)
        await store.ingest.add(other.texts, source="test")
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await store.ingest.add(one.texts[1:2], source="test")
        assert await asyncio.wait_for(waiting, 1) == 2
        assert not far.done()
        await store.ingest.add(one.texts[2:], source="test")
        assert await asyncio.wait_for(far, 1) == 3
        assert follower._waiting == {}


async def test_waiters_that_gave_up_leave_nothing_behind(tmp_path: Path) -> None:
    async with following(tmp_path) as (_store, follower):
        waiting = [asyncio.create_task(follower.beyond("@x", 0)) for _ in range(10)]
        await asyncio.sleep(0.01)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert follower._waiting == {}


async def test_a_follower_that_lags_catches_up_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "READ_AT_ONCE", 4)
    feeds = [builders.chain(f"feed {number}", 1) for number in range(30)]
    async with open_store(tmp_path) as store:
        follower = Growth(store.log, store.live)
        for feed in feeds:
            await store.ingest.add(feed.texts, source="test")
        heard: dict[str, int] = {}
        follower.subscribe(heard.update)
        task = asyncio.create_task(follower.run())
        await until(lambda: len(heard) == 30)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert heard == {feed.id: 1 for feed in feeds}
