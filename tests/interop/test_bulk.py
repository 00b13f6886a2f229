"""A whole network's worth of feeds through our node: from one JavaScript stack to us, and from us to the other.

What is compared at the end is every message's id and every byte of its JSON text, at all three nodes.
"""

import asyncio
from typing import Literal

import pytest

from tests.interop.conftest import Lab
from tests.interop.dataset import Dataset
from tests.interop.js_peer import JsPeer, Stack
from tests.interop.our_node import OurNode

Dialler = Literal["we dial", "they dial"]
OTHER: dict[Stack, Stack] = {"server": "db2", "db2": "server"}
OUR_MESSAGES = 20
ODD = {"feeds": 3, "each": 34}


async def join(dialler: Dialler, ours: OurNode, peer: JsPeer) -> None:
    if dialler == "we dial":
        await ours.dial(peer.address)
    else:
        await peer.dial(ours.address)


@pytest.mark.parametrize(
    ("stack", "dialler", "onward"),
    [
        ("server", "we dial", "everything"),
        ("db2", "they dial", "everything"),
        ("server", "they dial", "some feeds"),
        ("db2", "we dial", "some feeds"),
    ],
)
async def test_ten_thousand_messages_arrive_here_and_go_on_to_the_other_stack(
    lab: Lab, ten_thousand: Dataset, stack: Stack, dialler: Dialler, onward: str
) -> None:
    source, target, ours = await asyncio.gather(lab.js(stack), lab.js(OTHER[stack]), lab.ours())
    await source.load(ten_thousand.file)
    odd = await source.call("makeOdd", seed="odd", **ODD)
    # ssb-db2 stores lone surrogates as UTF-8, which has none: they go no further than from ssb-server to us
    odder = await source.call("makeOdd", seed="odder", loneSurrogates=True, **ODD) if stack == "server" else {}
    for number in range(OUR_MESSAGES):
        await ours.publish({"type": "post", "text": f"ours {number} 🦀 \u2028"})
    everywhere = {**ten_thousand.clock, **{feed: count for feed, (count, _) in odd.items()}, ours.id: OUR_MESSAGES}
    to_us = {**everywhere, **{feed: count for feed, (count, _) in odder.items()}}
    further = everywhere if onward == "everything" else dict(list(everywhere.items())[-20:])
    await asyncio.gather(source.want(to_us), target.want(further), ours.want(feed for feed in to_us if feed != ours.id))

    await join(dialler, ours, source)
    await asyncio.gather(ours.reach(to_us), source.reach(everywhere))
    await join(dialler, ours, target)
    await target.reach(further)

    at_source, at_target, here = await asyncio.gather(source.digest(), target.digest(), ours.digest())
    assert {feed: at_source[feed] for feed in (*odd, *odder)} == {
        feed: (count, digest) for feed, (count, digest) in {**odd, **odder}.items()
    }, "the peer itself did not keep its odd messages as it signed them"
    assert {feed: count for feed, (count, _) in here.items()} == to_us
    assert here == at_source
    assert at_target == {feed: here[feed] for feed in further}
    clock = await ours.clock()
    assert clock == to_us
    assert await source.clock() == clock
