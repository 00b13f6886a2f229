"""A peer without EBT is replicated by history streams, as far as it can itself."""

import asyncio

import pytest

from tests.interop.conftest import Lab
from tests.interop.dataset import Dataset
from tests.interop.test_bulk import Dialler, join
from tests.interop.test_live import each_wants_the_other, seconds_until_ours_is_there, seconds_until_theirs_is_here


@pytest.mark.parametrize("dialler", ["we dial", "they dial"])
async def test_ssb_server_without_ebt_and_we_replicate_both_ways(
    lab: Lab, one_thousand: Dataset, dialler: Dialler
) -> None:
    peer, source, ours = await asyncio.gather(lab.js("server", ebt=False), lab.js("db2"), lab.ours())
    await each_wants_the_other(ours, peer)
    # half of the feeds are theirs to give, we get the other half elsewhere and give it to them
    await source.load(one_thousand.file)
    await asyncio.gather(source.want(one_thousand.clock), ours.want(one_thousand.clock))
    await ours.dial(source.address)
    await ours.reach(one_thousand.clock)
    odd = await peer.call("makeOdd", seed="history", feeds=5, each=34, loneSurrogates=True)
    theirs = {feed: count for feed, (count, _) in odd.items()}
    await ours.want(theirs)
    await peer.want([*one_thousand.clock, *theirs])
    await peer.publish({"type": "post", "text": "there before"})
    await ours.publish({"type": "post", "text": "here before"})

    await join(dialler, ours, peer)
    await asyncio.gather(
        ours.reach({**theirs, peer.id: 1}, timeout=20), peer.reach({**one_thousand.clock, ours.id: 1}, timeout=20)
    )
    assert await seconds_until_theirs_is_here(peer, ours, "live from there") < 1
    assert await seconds_until_ours_is_there(ours, peer, "live from here") < 1
    assert await ours.digest() == await peer.digest()


@pytest.mark.parametrize("dialler", ["we dial", "they dial"])
async def test_db2_without_ebt_gives_us_its_feeds(lab: Lab, dialler: Dialler) -> None:
    """It never asks for history streams itself, so nothing can flow to it."""
    peer, ours = await asyncio.gather(lab.js("db2", ebt=False), lab.ours())
    odd = await peer.call("makeOdd", seed="history", feeds=5, each=34)
    await peer.publish({"type": "post", "text": "there before"})
    theirs = {**{feed: count for feed, (count, _) in odd.items()}, peer.id: 1}
    await ours.want(theirs)
    await join(dialler, ours, peer)
    await ours.reach(theirs, timeout=20)
    assert await seconds_until_theirs_is_here(peer, ours, "live from there") < 1
    assert await ours.digest() == await peer.digest()
