"""WebSockets between our node and the deployed JavaScript ones, whoever dials."""

import socket

import pytest

from tests.interop.conftest import Lab
from tests.interop.js_peer import Stack

LONG = "long " * 1200


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("stack", ["server", "db2"])
@pytest.mark.parametrize("dialler", ["ours", "theirs"])
async def test_messages_go_both_ways_over_a_websocket(lab: Lab, stack: Stack, dialler: str) -> None:
    theirs = await lab.js(stack, ws=True)
    ours = await lab.ours("--ws-port", str(port := free_port()))
    for number in range(30):
        await theirs.publish({"type": "post", "text": f"{number} {LONG}"})
    await ours.publish({"type": "contact", "contact": theirs.id, "following": True})
    for number in range(29):
        await ours.publish({"type": "post", "text": f"{number} {LONG}"})
    await theirs.publish({"type": "contact", "contact": ours.id, "following": True})
    await theirs.want([ours.id, theirs.id])
    if dialler == "ours":
        await ours.dial(theirs.ws_address)
        (seen,) = [peer for peer in await ours.peers() if peer["id"] == theirs.id]
        assert seen["address"] == theirs.ws_address
    else:
        await theirs.dial(f"ws://127.0.0.1:{port}~{ours.address.split('~')[1]}")
    await ours.reach({theirs.id: 31}, timeout=8)
    await theirs.reach({ours.id: 30}, timeout=8)
    mine, other = await ours.digest(), await theirs.digest()
    assert {feed: mine[feed] for feed in (ours.id, theirs.id)} == other
    await ours.hang_up(theirs.id)
    await theirs.notice("closed")
