"""Blobs to and from the deployed JavaScript, and through us between two of them."""

import asyncio
import base64
import hashlib
import time

import pytest

from tests.interop.conftest import Lab
from tests.interop.js_peer import JsPeer, Stack
from tests.interop.our_node import OurNode

STACKS = pytest.mark.parametrize("stack", ["server", "db2"])
SMALL = b"a small blob"
LARGE = bytes(range(256)) * 8192
"""2 MiB: 32 pieces."""


def blob_id(data: bytes) -> str:
    return f"&{base64.b64encode(hashlib.sha256(data).digest()).decode()}.sha256"


async def holds(node: JsPeer | OurNode, data: bytes, seconds: float = 15.0) -> None:
    """Returns when the node gives out the blob, byte for byte."""
    deadline = time.monotonic() + seconds
    while (found := await node.blob(blob_id(data))) is None:
        assert time.monotonic() < deadline, "the blob did not come"
        await asyncio.sleep(0.02)
    assert found == data


@pytest.mark.parametrize(("stack", "we_dial"), [("server", True), ("db2", False)])
async def test_blobs_go_both_ways(lab: Lab, stack: Stack, we_dial: bool) -> None:
    peer, ours = await asyncio.gather(lab.js(stack), lab.ours())
    theirs = [await peer.add_blob(data) for data in (SMALL, LARGE)]
    assert theirs == [blob_id(SMALL), blob_id(LARGE)]
    mine = [b"mine " + SMALL, b"mine " + LARGE]
    for data in mine:
        await ours.add_blob(data)
    for blob in theirs:
        await ours.want_blob(blob)
    await (ours.dial(peer.address) if we_dial else peer.dial(ours.address))
    wanted = [asyncio.create_task(peer.ask("blobs.want", blob_id(data), on=None)) for data in mine]
    assert await asyncio.wait_for(asyncio.gather(*wanted), 15) == [True, True]
    for data in (SMALL, LARGE):
        await holds(ours, data)
    for data in mine:
        await holds(peer, data)

    # wanted while connected, before it exists
    late, later = b"late " + LARGE, b"later " + LARGE
    waiting = asyncio.create_task(peer.ask("blobs.want", blob_id(late), on=None))
    await ours.want_blob(blob_id(later))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await ours.add_blob(late)
    assert await asyncio.wait_for(waiting, 15) is True
    await peer.add_blob(later)
    await holds(peer, late)
    await holds(ours, later)

    # what a message names is fetched, and what is pushed is taken
    named, pushed, pushed_by_us = b"named " + SMALL, b"pushed " + LARGE, b"pushed by us"
    await peer.add_blob(named)
    await ours.want([peer.id])
    await peer.publish({"type": "post", "text": f"![see]({blob_id(named)})"})
    await holds(ours, named)
    await peer.add_blob(pushed)
    await peer.ask("blobs.push", blob_id(pushed), on=None)
    await holds(ours, pushed)
    await ours.add_blob(pushed_by_us)
    async with ours.local() as rpc:
        assert await rpc.call("blobs.push", [blob_id(pushed_by_us)]) is True
    await holds(peer, pushed_by_us)


async def test_a_blob_goes_from_one_javascript_peer_to_another_through_us(lab: Lab) -> None:
    server, db2, ours = await asyncio.gather(lab.js("server"), lab.js("db2"), lab.ours())
    await server.dial(ours.address)
    await ours.dial(db2.address)
    await server.add_blob(LARGE)
    assert await asyncio.wait_for(db2.ask("blobs.want", blob_id(LARGE), on=None), 15) is True
    waiting = asyncio.create_task(server.ask("blobs.want", blob_id(SMALL), on=None))
    await asyncio.sleep(0.2)
    await db2.add_blob(SMALL)
    assert await asyncio.wait_for(waiting, 15) is True
    assert await db2.blob(blob_id(LARGE)) == LARGE
    assert await server.blob(blob_id(SMALL)) == SMALL


@STACKS
async def test_javascript_calls_our_blob_methods(lab: Lab, stack: Stack) -> None:
    peer, ours = await asyncio.gather(lab.js(stack), lab.ours())
    blob, missing = await ours.add_blob(LARGE), blob_id(b"nowhere")
    await peer.dial(ours.address)
    assert await peer.ask("blobs.has", blob) is True
    assert await peer.ask("blobs.has", [missing, blob]) == [False, True]
    assert await peer.ask("blobs.size", blob) == len(LARGE)
    for asked in (blob, {"key": blob}, {"hash": blob, "size": len(LARGE)}, {"key": blob, "max": 5 * 1024 * 1024}):
        pieces = [base64.b64decode(piece["base64"]) for piece in await peer.ask("blobs.get", asked, kind="source")]
        assert b"".join(pieces) == LARGE
        assert max(map(len, pieces)) == 65536
    part = await peer.ask("blobs.getSlice", {"hash": blob, "start": 10, "end": 20}, kind="source")
    assert base64.b64decode(part[0]["base64"]) == LARGE[10:20]
    changes = asyncio.create_task(peer.ask("blobs.changes", kind="source", take=1))
    await asyncio.sleep(0.2)
    new = await ours.add_blob(SMALL)
    assert await asyncio.wait_for(changes, 10) == [new]
