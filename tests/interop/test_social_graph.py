"""Contact messages drive replication: following brings a feed, blocking ends it."""

import asyncio

import pytest

from tests.interop.conftest import Lab
from tests.interop.dataset import Dataset
from tests.interop.js_peer import Stack
from tests.interop.test_bulk import join

SETTLE_SECONDS = 1.5


def contact(feed: str, **state: bool) -> dict[str, str | bool]:
    return {"type": "contact", "contact": feed, **state}


@pytest.mark.parametrize("stack", ["server", "db2"])
async def test_following_brings_the_feed_and_whom_it_follows_and_blocking_ends_it(
    lab: Lab, one_thousand: Dataset, stack: Stack
) -> None:
    peer, ours = await asyncio.gather(lab.js(stack), lab.ours("--hops", "2"))
    await peer.load(one_thousand.file)
    followed, stranger, *_ = one_thousand.clock
    await peer.want(one_thousand.clock)
    await peer.want([peer.id, ours.id])
    await peer.publish(contact(followed, following=True))
    await join("we dial", ours, peer)
    await asyncio.sleep(SETTLE_SECONDS)
    assert set(await ours.clock()) == set(), "we took feeds that nobody asked for"

    await ours.publish(contact(peer.id, following=True))
    await ours.reach({peer.id: 1, followed: one_thousand.clock[followed]}, timeout=10)
    assert stranger not in await ours.clock(), "a feed at three hops was taken"

    before = await ours.sequence(peer.id)
    await ours.publish(contact(peer.id, following=False, blocking=True))
    await peer.publish({"type": "post", "text": "not for you any more"})
    await asyncio.sleep(SETTLE_SECONDS)
    assert await ours.sequence(peer.id) == before


@pytest.mark.parametrize("stack", ["server", "db2"])
async def test_they_follow_us_and_get_our_feed_until_we_block_them(lab: Lab, stack: Stack) -> None:
    peer, ours = await asyncio.gather(lab.js(stack, hops=2, scheduler=stack == "db2"), lab.ours())
    await ours.publish({"type": "post", "text": "before"})
    await join("they dial", ours, peer)
    await peer.publish(contact(ours.id, following=True))
    await peer.reach({ours.id: 1}, timeout=10)
    await ours.publish({"type": "post", "text": "while followed"})
    await peer.reach({ours.id: 2}, timeout=10)

    await ours.publish(contact(peer.id, following=False, blocking=True))
    await ours.publish({"type": "post", "text": "not for the blocked"})
    await asyncio.sleep(SETTLE_SECONDS)
    assert (await peer.call("have"))[ours.id] == 2
