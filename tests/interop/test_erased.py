"""What was erased here keeps no JavaScript peer from getting the feed elsewhere, nor us from getting more of it."""

import asyncio

import pytest

from tests.interop.conftest import Lab
from tests.interop.js_peer import Stack

POSTS = 30


@pytest.mark.parametrize("stack", ["server", "db2"])
async def test_a_thinned_feed_goes_on_on_both_sides(lab: Lab, stack: Stack) -> None:
    author, late, ours = await asyncio.gather(lab.js(stack), lab.js(stack), lab.ours())
    for number in range(POSTS):
        await author.publish({"type": "post", "text": f"post {number}"})
    await asyncio.gather(ours.want([author.id]), late.want([author.id, ours.id]), author.want([author.id, ours.id]))
    await ours.dial(author.address)
    await ours.reach({author.id: POSTS})
    answer = await ours.request("POST", "/v1/admin/retention", json={"rules": "hops=1 type=post"})
    assert answer.json()["messages"] == POSTS - 1

    # Somebody who has nothing gets nothing of it from us, and is not kept waiting for us.
    await late.dial(ours.address)
    hello = await ours.publish({"type": "post", "text": "ours comes all the same"})
    await late.reach({ours.id: hello["value"]["sequence"]}, timeout=10)
    assert (await late.clock()).get(author.id, 0) == 0
    await late.dial(author.address)
    await late.reach({author.id: POSTS}, timeout=20)

    # New ones come to us, and from us to those who have all before them.
    await late.hang_up()
    await late.dial(ours.address)
    await author.publish({"type": "post", "text": "one more"})
    await ours.reach({author.id: POSTS + 1}, timeout=10)
    await late.reach({author.id: POSTS + 1}, timeout=20)
