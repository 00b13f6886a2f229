"""Two nodes of ours and a JavaScript one that know of nothing but a room meet in it and replicate each other.

The room of the first kind is the deployed server ssb-room 1; that of the second kind is a node of ours, which so is
checked against the deployed client (ssb-room-client 2).
"""

import asyncio
import time

import pytest

from tests.interop.conftest import Lab
from tests.interop.js_peer import JsPeer
from tests.interop.our_node import OurNode

MEET_SECONDS = 30.0
POLL_SECONDS = 0.1


async def room_of(lab: Lab, kind: str) -> tuple[str, str]:
    """Id and address of a room."""
    if kind == "ssb-room":
        server = await lab.room("The old room")
        return server.id, server.address
    ours = await lab.ours("--room", "Our room")
    return ours.id, ours.address


def through(room: str, target: str) -> str:
    return f"tunnel:{room}:{target}~shs:{target[1:].removesuffix('.ed25519')}"


async def hears_of(node: OurNode, room: str, other: str) -> None:
    """Returns when one of ours has heard of somebody in the room."""
    deadline = time.monotonic() + MEET_SECONDS
    while True:
        known = (await node.request("GET", "/v1/peers/known")).json()["items"]
        if any(each["id"] == other and each["origin"] == room for each in known):
            return
        assert time.monotonic() < deadline, f"not heard of {other}: {known}"
        await asyncio.sleep(POLL_SECONDS)


async def linked(node: OurNode, wanted: dict[str, str]) -> None:
    """Returns when one of ours is connected with these, under these addresses."""
    deadline = time.monotonic() + MEET_SECONDS
    while True:
        links = {peer["id"]: peer["address"] for peer in await node.peers() if peer["state"] == "connected"}
        if links == wanted:
            return
        assert time.monotonic() < deadline, f"connected with {links}, not {wanted}"
        await asyncio.sleep(POLL_SECONDS)


async def follow_each_other(*nodes: OurNode | JsPeer) -> None:
    for node in nodes:
        for other in nodes:
            if other is not node:
                await node.publish({"type": "contact", "contact": other.id, "following": True})


@pytest.mark.parametrize("kind", ["ssb-room", "ours"])
async def test_two_of_ours_and_a_javascript_node_meet(lab: Lab, kind: str) -> None:
    (room, address), a, b, js = await asyncio.gather(
        room_of(lab, kind), lab.ours(), lab.ours(), lab.js("db2", room=True, scheduler=True)
    )
    nodes = (a, b, js)
    await follow_each_other(*nodes)
    for ours in (a, b):
        await ours.want([other.id for other in nodes if other is not ours])
        await ours.dial(address)
    await js.want([a.id, b.id])
    await js.dial(address, managed=True)

    for node in nodes:
        await node.publish({"type": "post", "text": f"from {node.id}"})
    everything = {node.id: 3 for node in nodes}
    await asyncio.gather(*(node.reach(everything, timeout=MEET_SECONDS) for node in nodes))
    await linked(a, {room: address} | {id: through(room, id) for id in (b.id, js.id)})
    digests = [await node.digest() for node in nodes]
    assert digests[0] == digests[1] == digests[2]


@pytest.mark.parametrize("kind", ["ssb-room", "ours"])
async def test_a_javascript_node_calls_us_through_the_room(lab: Lab, kind: str) -> None:
    (room, address), ours, js = await asyncio.gather(
        room_of(lab, kind), lab.ours("--no-autoconnect", "--room-guests", "anyone"), lab.js("db2", room=True)
    )
    await js.dial(address, managed=True)
    await ours.dial(address)
    await asyncio.gather(ours.want([js.id]), js.want([js.id, ours.id]))
    await hears_of(ours, room, js.id)
    await js.dial(through(room, ours.id), managed=True)
    await asyncio.gather(
        ours.publish({"type": "post", "text": "from ours"}), js.publish({"type": "post", "text": "from theirs"})
    )
    await asyncio.gather(js.reach({ours.id: 1}, timeout=MEET_SECONDS), ours.reach({js.id: 1}, timeout=MEET_SECONDS))
    (link,) = [peer for peer in await ours.peers() if peer["id"] == js.id]
    assert (link["direction"], link["address"]) == ("incoming", through(room, js.id))
