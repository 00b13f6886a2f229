"""Methods called across: deployed JavaScript calling ours, ours calling theirs, and old local programs attaching."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from feeds.keys import Keypair
from feeds.message import JsonValue
from replication.errors import RemoteCallError
from replication.peer import PeerConfig, connect_peer
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Kind, MethodTable
from tests.interop.conftest import Lab
from tests.interop.js_peer import JsPeer, Stack
from tests.interop.line_process import CommandFailed
from tests.interop.our_node import OurNode

STACKS = pytest.mark.parametrize("stack", ["server", "db2"])
POSTS = 5


def refused(*name: str) -> str:
    """The words that deployed peers compare."""
    return f"method:{','.join(name)} is not in list of allowed methods"


async def posts(node: OurNode | JsPeer) -> list[dict[str, Any]]:
    return [await node.publish({"type": "post", "text": f"post {n} ü🦀"}) for n in range(POSTS)]


@STACKS
async def test_javascript_calls_our_methods(lab: Lab, stack: Stack) -> None:
    peer, ours = await asyncio.gather(lab.js(stack), lab.ours())
    ours_posted = await posts(ours)
    await peer.dial(ours.address)

    async def history(**options: Any) -> list[Any]:
        items: list[Any] = await peer.ask("createHistoryStream", {"id": ours.id, **options}, kind="source")
        return items

    values = [message["value"] for message in ours_posted]
    keys = [message["key"] for message in ours_posted]
    assert [(item["key"], item["value"]) for item in await history()] == list(zip(keys, values, strict=True))
    assert all(isinstance(item["timestamp"], int) for item in await history())
    assert await history(keys=False) == values
    assert await history(values=False) == keys
    assert await history(seq=3, keys=False) == values[2:]
    assert await history(sequence=4, keys=False) == values[3:]
    assert await history(sequence=2, limit=2, keys=False) == values[1:3]
    assert await history(seq=POSTS + 1) == []
    assert await history(id=Keypair.generate(b"\x01" * 32).id) == []

    live = asyncio.create_task(
        peer.ask("createHistoryStream", {"id": ours.id, "live": True, "keys": False}, kind="source", take=POSTS + 1)
    )
    await asyncio.sleep(0.2)
    new = await ours.publish({"type": "post", "text": "live"})
    assert await live == [*values, new["value"]]
    only_new = {"id": ours.id, "live": True, "old": False, "keys": False}
    live = asyncio.create_task(peer.ask("createHistoryStream", only_new, kind="source", take=1))
    await asyncio.sleep(0.2)
    newer = await ours.publish({"type": "post", "text": "live again"})
    assert await live == [newer["value"]]

    manifest = await peer.ask("manifest")
    assert manifest["createHistoryStream"] == "source"
    assert manifest["ebt"]["replicate"] == "duplex"
    assert await peer.ask("whoami") == {"id": ours.id}
    before = time.time() * 1000 - 5000
    answers = await peer.ask("gossip.ping", {"timeout": 300000}, kind="duplex", send=[1, 2], take=1)
    assert before < answers[0] < before + 15000
    if stack == "db2":
        assert await peer.ask("ebt.clock", {"format": "classic"}) == {ours.id: POSTS + 2}


@STACKS
async def test_javascript_is_refused_what_only_our_user_may_call(lab: Lab, stack: Stack) -> None:
    peer, ours = await asyncio.gather(lab.js(stack), lab.ours())
    await ours.publish({"type": "post", "text": "mine"})
    await peer.dial(ours.address)
    if stack == "server":
        with pytest.raises(CommandFailed) as error:
            await peer.ask("publish", {"type": "post", "text": "not mine"})
        assert str(error.value) == refused("publish")
    with pytest.raises(CommandFailed) as error:
        await peer.ask("createLogStream", {}, kind="source")
    assert str(error.value) == refused("createLogStream")
    assert await ours.clock() == {ours.id: 1}


@STACKS
async def test_a_managed_connection_pings_and_stays(lab: Lab, stack: Stack) -> None:
    peer, ours = await asyncio.gather(lab.js(stack), lab.ours())
    await peer.call("record")
    await peer.dial(ours.address, managed=True)
    await asyncio.sleep(1.5)
    frames = await peer.call("recorded")
    pings = [frame for frame in frames if frame.get("method") == "gossip.ping" and frame["way"] == "in"]
    assert pings, "our node did not answer the ping"
    assert all(not frame["end"] for frame in pings)
    assert await peer.call("links") == [ours.id]


@asynccontextmanager
async def calling(address: str, network_key: str) -> AsyncIterator[RpcConnection]:
    config = PeerConfig(Keypair.generate(b"\x02" * 32), MethodTable(), network_key=base64.b64decode(network_key))
    peer = await connect_peer(address, config)
    running = asyncio.create_task(peer.run())
    try:
        yield peer.connection
    finally:
        await peer.close()
        await running


@STACKS
async def test_we_call_their_methods(lab: Lab, stack: Stack) -> None:
    peer = await lab.js(stack)
    theirs = await posts(peer)
    values = [message["value"] for message in theirs]
    async with calling(peer.address, lab.network_key) as remote:
        options: JsonValue = {"id": peer.id, "seq": 2, "keys": False}
        # ssb-db2 sends by claimed time, and these may all have the same
        bare: list[Any] = [item async for item in remote.source("createHistoryStream", [options])]
        assert sorted(bare, key=lambda value: int(value["sequence"])) == values[1:]
        keyed: list[Any] = [item async for item in remote.source("createHistoryStream", [{"id": peer.id}])]
        assert {item["key"] for item in keyed} == {message["key"] for message in theirs}
        with pytest.raises(RemoteCallError) as error:
            await remote.call("publish", [{"type": "post", "text": "not mine"}])
        assert refused("publish") in str(error.value)
        with pytest.raises(RemoteCallError) as error:
            await remote.call("no.such.method", [])
        assert refused("no", "such", "method") in str(error.value)
        manifest = await remote.call("manifest", [], kind=Kind.SYNC)
        assert isinstance(manifest, dict)
        assert manifest["createHistoryStream"] == "source"
        ping = remote.duplex("gossip.ping", [{"timeout": 300000}])
        await ping.send_value(int(time.time() * 1000))
        answer = await anext(aiter(ping))
        assert isinstance(answer, int)
        assert abs(answer - time.time() * 1000) < 10_000
        await ping.end()
