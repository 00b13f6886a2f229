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
async def test_messages_go_both_ways_over_a_websocket_whoever_dials(lab: Lab, stack: Stack) -> None:
    theirs = await lab.js(stack, ws=True)
    ours = await lab.ours("--ws-port", str(port := free_port()))
    await ours.publish({"type": "contact", "contact": theirs.id, "following": True})
    await theirs.publish({"type": "contact", "contact": ours.id, "following": True})
    await theirs.want([ours.id, theirs.id])
    for turn, address in enumerate((theirs.ws_address, f"ws://127.0.0.1:{port}~{ours.address.split('~')[1]}")):
        for number in range(20):
            await theirs.publish({"type": "post", "text": f"{number} {LONG}"})
            await ours.publish({"type": "post", "text": f"{number} {LONG}"})
        await (ours if turn == 0 else theirs).dial(address)
        if turn == 0:
            assert address in [peer["address"] for peer in await ours.peers() if peer["id"] == theirs.id]
        written = 1 + 20 * (turn + 1)
        await ours.reach({theirs.id: written}, timeout=15)
        await theirs.reach({ours.id: written}, timeout=15)
        theirs.forget_notices()
        await ours.hang_up(theirs.id)
        await theirs.notice("closed")
        await ours.without(theirs.id)
    mine, other = await ours.digest(), await theirs.digest()
    assert {feed: mine[feed] for feed in (ours.id, theirs.id)} == other
