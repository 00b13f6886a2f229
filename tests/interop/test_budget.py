"""A budget that is used up stops a JavaScript peer from sending, and it sends again when we ask again."""

import asyncio

import pytest

from tests.interop.conftest import Lab
from tests.interop.js_peer import Stack

TEXT = "x" * 7000
OVER = 155
"""Messages of 7 kB that are more than a MiB."""


@pytest.mark.parametrize("stack", ["server", "db2"])
async def test_what_is_over_the_budget_waits(lab: Lab, stack: Stack) -> None:
    peer, ours = await asyncio.gather(lab.js(stack), lab.ours("--budget-hops", "1=1"))
    await peer.want([ours.id, peer.id])
    await ours.want([peer.id])
    for number in range(OVER):
        await peer.publish({"type": "post", "text": f"{number} {TEXT}"})
    await ours.dial(peer.address)
    await ours.reach({peer.id: OVER - 10}, timeout=20)
    await asyncio.sleep(1.0)  # for the peer to hear that nothing more is wanted
    held = await ours.sequence(peer.id)
    for number in range(3):
        await peer.publish({"type": "post", "text": f"more {number}"})
    ours_is_there = await ours.publish({"type": "post", "text": "ours goes out all the same"})
    await peer.reach({ours.id: ours_is_there["value"]["sequence"]}, timeout=10)
    assert await ours.sequence(peer.id) == held
    found = (await ours.request("GET", "/v1/replication")).json()
    assert found["budget"]["spent"]["hops"] == [1]
    assert found["messages"]["missing"] == OVER + 3 - held

    await ours.stop()
    ours._options += ["--budget-hops", "1=100"]
    await ours.open()
    await ours.dial(peer.address)
    await ours.reach({peer.id: OVER + 3}, timeout=20)
