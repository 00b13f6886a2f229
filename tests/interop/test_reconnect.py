"""Reconnecting costs what is new and nothing else; an interrupted exchange goes on where it stopped."""

import asyncio
from typing import Any, Literal

import pytest

from tests.interop.conftest import Lab
from tests.interop.dataset import Dataset
from tests.interop.js_peer import JsPeer, Stack
from tests.interop.our_node import OurNode
from tests.interop.test_bulk import Dialler, join

QUIET_SECONDS = 1.0
PUT_ON_DISK_SECONDS = 0.7

Frame = dict[str, Any]


def of(what: str, frames: list[Frame]) -> list[Frame]:
    """Frames of that kind on EBT streams and history streams (an empty object elsewhere looks like empty notes)."""
    replicating = ("ebt.replicate", "createHistoryStream")
    return [frame for frame in frames if frame["what"] == what and frame.get("method") in replicating]


async def parted(ours: OurNode, peer: JsPeer) -> None:
    """Hangs up and waits until both know."""
    peer.forget_notices()
    await ours.hang_up(peer.id)
    await peer.notice("closed")
    await ours.without(peer.id)
    await asyncio.sleep(PUT_ON_DISK_SECONDS)  # the peers write the clocks they remember a little later


async def frames_of_a_reconnect(dialler: Dialler, ours: OurNode, peer: JsPeer) -> list[Frame]:
    await peer.call("record")
    await join(dialler, ours, peer)
    await asyncio.sleep(QUIET_SECONDS)
    frames: list[Frame] = await peer.call("recorded")
    return frames


@pytest.mark.parametrize("dialler", ["we dial", "they dial"])
@pytest.mark.parametrize("stack", ["server", "db2"])
async def test_a_reconnect_carries_what_is_new_and_nothing_else(
    lab: Lab, one_thousand: Dataset, stack: Stack, dialler: Dialler
) -> None:
    peer, ours = await asyncio.gather(lab.js(stack), lab.ours())
    await peer.load(one_thousand.file)
    await ours.publish({"type": "post", "text": "ours"})
    await peer.publish({"type": "post", "text": "theirs"})
    everything = {**one_thousand.clock, ours.id: 1, peer.id: 1}
    await asyncio.gather(peer.want(everything), ours.want(feed for feed in everything if feed != ours.id))
    await join(dialler, ours, peer)
    await asyncio.gather(ours.reach(everything), peer.reach(everything))
    await asyncio.sleep(PUT_ON_DISK_SECONDS)

    # twice: a JavaScript peer sends its whole clock once more after a first sync
    for _ in range(2):
        await parted(ours, peer)
        frames = await frames_of_a_reconnect(dialler, ours, peer)
        assert of("message", frames) == []
        assert of("notes", frames), "EBT did not begin"
    notes = of("notes", frames)
    assert len([frame for frame in notes if frame["way"] == "in"]) <= 1, "we sent more than one set of notes"
    assert sum(frame["feeds"] for frame in notes if frame["way"] == "in") == 0, "we do not remember the peer's clock"

    await parted(ours, peer)
    mine = [(await ours.publish({"type": "post", "text": f"new {n}"}))["value"]["sequence"] for n in range(3)]
    theirs = [(await peer.publish({"type": "post", "text": f"new {n}"}))["value"]["sequence"] for n in range(3)]
    frames = await frames_of_a_reconnect(dialler, ours, peer)
    await asyncio.gather(ours.reach({peer.id: theirs[-1]}, timeout=10), peer.reach({ours.id: mine[-1]}, timeout=10))
    carried = sorted((frame["way"], frame["author"], frame["sequence"]) for frame in of("message", frames))
    assert carried == sorted(
        [("in", ours.id, sequence) for sequence in mine] + [("out", peer.id, sequence) for sequence in theirs]
    )


@pytest.mark.parametrize("end", ["connection cut", "we are killed", "they are killed"])
@pytest.mark.parametrize("stack", ["server", "db2"])
async def test_an_interrupted_sync_resumes(
    lab: Lab, six_thousand: Dataset, stack: Stack, end: Literal["connection cut", "we are killed", "they are killed"]
) -> None:
    peer, ours = await asyncio.gather(lab.js(stack), lab.ours())
    await peer.load(six_thousand.file)
    await asyncio.gather(peer.want(six_thousand.clock), ours.want(six_thousand.clock))
    size = six_thousand.file.stat().st_size
    relay, through = await lab.relay(peer.address, cut_after=size // 2 if end == "connection cut" else None)
    await ours.dial(through)
    if end == "connection cut":
        await asyncio.wait_for(relay.cut.wait(), 60)
    else:
        await asyncio.wait_for(relay.passed(size // 3), 60)
        if end == "we are killed":
            await ours.kill()
            await relay.close()  # or we would dial again by ourselves as soon as we are back
            await ours.open()
        else:
            await peer.kill()
            await peer.open()
            await peer.want(six_thousand.clock)
    await ours.without(peer.id)  # a dial before we notice the cut would be answered by the old connection
    kept = sum((await ours.clock()).values())
    assert kept < six_thousand.messages, "it was over before it was interrupted"

    await peer.call("record")
    await ours.dial(peer.address)
    await ours.reach(six_thousand.clock)
    sent = of("message", await peer.call("recorded"))
    # what arrives between our first notes and their use may come twice; anything near the whole set may not
    assert len(sent) <= six_thousand.messages - kept + 1000, f"{kept} were kept, yet {len(sent)} were sent again"
    there = await peer.digest()
    here = await ours.digest()
    assert here == {feed: there[feed] for feed in six_thousand.clock}
