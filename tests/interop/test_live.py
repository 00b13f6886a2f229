"""What is published while connected is at the other side within a second."""

import asyncio
import base64
import time

import pytest

from tests.interop.conftest import Lab
from tests.interop.js_peer import JsPeer, Stack
from tests.interop.our_node import OurNode
from tests.interop.test_bulk import Dialler, join

ROUNDS = 5
SECONDS = 1.0
SETTLED_SECONDS = 8.0  # with a connection that may have to be given up for another one


async def each_wants_the_other(ours: OurNode, *peers: JsPeer) -> None:
    everyone = [ours.id, *(peer.id for peer in peers)]
    for peer in peers:
        await peer.want(everyone)
        await peer.call("watch", on=True)
    await ours.want(peer.id for peer in peers)


async def arrived(peer: JsPeer, message: str, timeout: float = 10) -> None:
    await peer.notice("message", timeout=timeout, where=lambda notice: notice["id"] == message)


async def seconds_until_theirs_is_here(peer: JsPeer, ours: OurNode, text: str) -> float:
    begun = time.monotonic()
    message = await peer.publish({"type": "post", "text": text})
    await ours.reach({peer.id: message["value"]["sequence"]}, timeout=10)
    return time.monotonic() - begun


async def seconds_until_ours_is_there(ours: OurNode, peer: JsPeer, text: str) -> float:
    begun = time.monotonic()
    message = await ours.publish({"type": "post", "text": text})
    await arrived(peer, message["key"])
    return time.monotonic() - begun


@pytest.mark.parametrize("dialler", ["we dial", "they dial"])
@pytest.mark.parametrize("stack", ["server", "db2"])
async def test_live_messages_flow_both_ways_within_a_second(lab: Lab, stack: Stack, dialler: Dialler) -> None:
    peer, ours = await asyncio.gather(lab.js(stack), lab.ours())
    await each_wants_the_other(ours, peer)
    await peer.publish({"type": "post", "text": "there before"})
    first = await ours.publish({"type": "post", "text": "here before"})
    await join(dialler, ours, peer)
    await ours.reach({peer.id: 1}, timeout=10)
    await arrived(peer, first["key"])
    for number in range(ROUNDS):
        assert await seconds_until_theirs_is_here(peer, ours, f"theirs {number}") < SECONDS
        assert await seconds_until_ours_is_there(ours, peer, f"ours {number}") < SECONDS
    here, there = await ours.digest(), await peer.digest()
    assert here == there
    assert here[ours.id][0] == here[peer.id][0] == ROUNDS + 1


async def test_live_messages_of_one_stack_go_through_us_to_the_other(lab: Lab) -> None:
    server, db2, ours = await asyncio.gather(lab.js("server"), lab.js("db2"), lab.ours())
    await each_wants_the_other(ours, server, db2)
    await asyncio.gather(server.dial(ours.address), ours.dial(db2.address))
    for number in range(ROUNDS):
        for author, reader in ((server, db2), (db2, server)):
            message = await author.publish({"type": "post", "text": f"through {number}"})
            await arrived(reader, message["key"], timeout=2 * SECONDS)
    assert await server.digest() == await db2.digest()


@pytest.mark.parametrize("stack", ["server", "db2"])
async def test_two_nodes_that_dial_each_other_at_once_still_replicate(lab: Lab, stack: Stack) -> None:
    peer, ours = await asyncio.gather(lab.js(stack), lab.ours())
    await each_wants_the_other(ours, peer)
    for number in range(2):
        await asyncio.gather(ours.dial(peer.address), peer.dial(ours.address), return_exceptions=True)
        assert await seconds_until_theirs_is_here(peer, ours, f"theirs {number}") < SETTLED_SECONDS
        assert await seconds_until_ours_is_there(ours, peer, f"ours {number}") < SETTLED_SECONDS
        await asyncio.gather(ours.hang_up(peer.id), peer.hang_up(), return_exceptions=True)
        await ours.without(peer.id)


async def test_a_network_with_an_hmac_key_replicates(lab: Lab) -> None:
    """With ssb-server only: ssb-db2 8 has no setting for it."""
    key = base64.b64encode(b"a signing key for tests, 32 byte").decode()
    peer, ours = await asyncio.gather(lab.js("server", hmacKey=key), lab.ours("--hmac-key", key))
    await each_wants_the_other(ours, peer)
    await ours.dial(peer.address)
    assert await seconds_until_theirs_is_here(peer, ours, "theirs") < SETTLED_SECONDS
    assert await seconds_until_ours_is_there(ours, peer, "ours") < SETTLED_SECONDS
    assert await ours.digest() == await peer.digest()
