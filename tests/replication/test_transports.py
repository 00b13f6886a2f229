"""Streams that are neither TCP nor a unix socket: dialled by a registered dialler, and accepted from elsewhere."""

import asyncio
from pathlib import Path

import pytest

from replication.address import Address
from replication.errors import DialFailed, DialTimeout, InvalidAddress
from replication.limits import Limits
from replication.memory_stream import memory_pair
from replication.peer import PeerConfig, connect_peer
from replication.peer_info import Direction
from replication.rpc.methods import MethodTable
from replication.transport import ByteStream
from tests.support.peers import key, open_node, until


def through(name: str, to: str) -> str:
    return f"{name}:somewhere~shs:{to[1:-8]}"


async def test_a_registered_dialler_carries_a_connection_and_the_other_side_accepts_it(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        asked: list[Address] = []
        serving: list[asyncio.Task[None]] = []

        async def dialler(address: Address) -> ByteStream:
            near, far = memory_pair()
            asked.append(address)
            serving.append(asyncio.create_task(b.connections.accept(far, kind="tunnel")))
            return near

        with pytest.raises(InvalidAddress, match="only net"):
            await a.connections.dial(through("pipe", b.id))
        a.connections.add_dialler("pipe", dialler)
        info = await a.connections.dial(through("pipe", b.id))
        assert (info.id, info.address) == (b.id, through("pipe", b.id))
        await until(lambda: b.connections.connected(a.id))
        seen = b.connections.connected(a.id)
        assert seen is not None
        assert (seen.direction, seen.source) == (Direction.INCOMING, "tunnel")
        assert asked[0].data == ("somewhere",)
        assert (await a.connections.call(b.id, "whoami")) == {"id": b.id}
        assert await a.connections.disconnect(b.id)
        await asyncio.wait_for(serving[0], 5)  # accept lasts as long as the connection


async def test_a_dialler_that_fails_or_hangs_is_told_like_any_other(tmp_path: Path) -> None:
    async def broken(_address: Address) -> ByteStream:
        raise DialFailed("tunnel", "the room does not know this peer")

    async def endless(_address: Address) -> ByteStream:
        await asyncio.Event().wait()
        raise AssertionError

    async with open_node(tmp_path, "a") as a:
        a.connections.add_dialler("broken", broken)
        a.connections.add_dialler("endless", endless, patience=0.05)
        with pytest.raises(DialFailed, match="does not know"):
            await a.connections.dial(through("broken", key("b").id))
        with pytest.raises(DialTimeout, match="in time"):
            await a.connections.dial(through("endless", key("b").id))


async def test_limits_and_blocks_hold_for_accepted_streams(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a", limits=Limits(inbound=1)) as a:
        await a.block(key("blocked").id)

        async def call(name: str) -> None:
            near, far = memory_pair()
            serving = asyncio.create_task(a.connections.accept(far, kind="ws"))
            try:
                peer = await connect_peer((near, key("a").public), PeerConfig(key(name), MethodTable()))
                running = asyncio.create_task(peer.run())
                await asyncio.sleep(0.05)
                await peer.close()
                await running
            finally:
                await asyncio.wait_for(serving, 5)

        await call("friend")
        with pytest.raises(DialFailed):
            await call("blocked")
        assert a.connections.refused[0] == 1
    near, far = memory_pair()
    await a.connections.accept(far, kind="ws")  # a stopped node hangs up
    near.abort()
