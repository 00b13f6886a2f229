"""The newest posts of long feeds are seen while their history is still coming, from both JavaScript stacks."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.interop.conftest import Lab
from tests.interop.dataset import Dataset
from tests.interop.js_peer import Stack
from tests.interop.our_node import OurNode
from tests.support import builders

FEEDS = 3
LENGTH = 2000
POSTS = 30
POST_SIZE = 4000
SLOW = 600_000
"""Bytes a second: some seven seconds for everything."""


def long_feeds(folder: Path) -> Dataset:
    """Feeds that say who they are last, and post to their end."""
    file = folder / "long.jsonl"
    feeds = [builders.chain(f"long {number}", LENGTH - 12, seed=7) for number in range(FEEDS)]
    for number, feed in enumerate(feeds):
        for post in range(10):
            feed.append({"type": "post", "text": f"new {number} {post} " + "🦀" * post})
        feed.append({"type": "vote", "vote": {"link": feed.ids[-1], "value": 1}})
        feed.append({"type": "about", "about": feed.id, "name": f"early {number}"})
    file.write_bytes(b"".join(text + b"\n" for feed in feeds for text in feed.texts))
    return Dataset(file, {feed.id: LENGTH for feed in feeds})


async def early(ours: OurNode) -> list[Any]:
    items: list[Any] = (await ours.request("GET", "/v1/timelines/early", params={"limit": 500})).json()["items"]
    return items


@pytest.mark.parametrize("stack", ["server", "db2"])
async def test_newest_posts_come_before_their_history(lab: Lab, tmp_path: Path, stack: Stack) -> None:
    feeds = long_feeds(tmp_path)
    peer, ours = await asyncio.gather(lab.js(stack), lab.ours())
    await peer.load(feeds.file)
    await asyncio.gather(peer.want([*feeds.clock, ours.id]), ours.want(feeds.clock))
    for feed in feeds.clock:
        await ours.publish({"type": "contact", "contact": feed, "following": True})
    relay, through = await lab.relay(peer.address, per_second=SLOW)

    begun = time.monotonic()
    await ours.dial(through)
    while len({item["value"]["author"] for item in await early(ours)}) < FEEDS:
        assert time.monotonic() - begun < 30, ours.log_tail()
        await asyncio.sleep(0.02)
    items, clock = await early(ours), await ours.clock()
    seconds = time.monotonic() - begun
    print(f"{stack}: early posts of all feeds after {seconds:.1f} s, the log has {clock}")
    assert sum(clock.get(feed, 0) for feed in feeds.clock) < FEEDS * LENGTH / 2
    assert all(item["meta"]["early"] for item in items)
    posts = [item["value"]["content"]["text"] for item in items]
    for number in range(FEEDS):
        assert [text for text in posts if text.startswith(f"new {number} ")], posts

    complete = await ours.reach(feeds.clock)
    size = feeds.file.stat().st_size
    print(f"{stack}: everything after {complete + seconds:.1f} s, {relay.from_target / size:.2f} bytes for each")
    assert relay.from_target < 1.25 * size  # boxes and headers are an eighth of it, what came early a twentieth
    assert await early(ours) == []
    assert {feed: digest for feed, digest in (await ours.digest()).items() if feed != ours.id} == {
        feed: digest for feed, digest in (await peer.digest()).items() if feed in feeds.clock
    }

    # being asked for history streams makes ssb-server ask for all feeds: what EBT brings it is not sent again
    sent, ours_held = relay.to_target, FEEDS
    for number in range(POSTS):
        await ours.publish({"type": "post", "text": f"{number} " + "x" * POST_SIZE})
    await peer.reach({ours.id: ours_held + POSTS})
    await asyncio.sleep(0.5)
    assert POSTS * POST_SIZE < relay.to_target - sent < 1.5 * POSTS * (POST_SIZE + 500)
