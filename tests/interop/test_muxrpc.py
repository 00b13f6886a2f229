"""Our muxrpc connection against the npm package alone: every kind of call, in both directions."""

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from feeds.keys import Keypair
from feeds.message import JsonValue
from replication.errors import RemoteCallError, RemoteVisible
from replication.peer import Peer, PeerConfig, connect_peer, listen_peers
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Caller, Handler, Kind, Method, MethodTable, Name, Who
from replication.rpc.streams import Duplex, Sink, Source
from tests.interop.conftest import Lab
from tests.interop.js_peer import JsWire

US = Keypair.generate(hashlib.sha256(b"our side").digest())
THEIR_SEED = base64.b64encode(hashlib.sha256(b"their side").digest()).decode()
BINARY = b"\x07" * 70000
BLOCK = 1000


async def echo(_caller: Caller, args: list[Any]) -> Any:
    return args[0]


async def binary(_caller: Caller, args: list[Any]) -> bytes:
    return b"\x07" * int(args[0])


async def fail(_caller: Caller, args: list[Any]) -> None:
    raise RemoteVisible(args[0])


async def count_up(_caller: Caller, args: list[Any], out: Sink) -> None:
    for first in range(0, args[0], BLOCK):
        await out.send([str(n).encode() for n in range(first, min(first + BLOCK, args[0]))])


async def breaks(_caller: Caller, args: list[Any], out: Sink) -> None:
    await out.send_value("one item")
    raise RemoteVisible(args[0])


async def add_up(_caller: Caller, _args: list[Any], inp: Source) -> None:
    assert sum([n async for n in inp if isinstance(n, int)]) == 10


async def double(_caller: Caller, _args: list[Any], both: Duplex) -> None:
    async for item in both:
        await both.send_value(item * 2 if isinstance(item, int) else item)


async def place(_caller: Caller, _args: list[Any]) -> str:
    return "found"


def our_methods() -> MethodTable:
    """The same methods as peers/wire.js offers."""
    handlers: list[tuple[Name, Kind, Handler]] = [
        (("echo",), Kind.ASYNC, echo),
        (("binary",), Kind.ASYNC, binary),
        (("fail",), Kind.ASYNC, fail),
        (("range",), Kind.SOURCE, count_up),
        (("breaks",), Kind.SOURCE, breaks),
        (("sum",), Kind.SINK, add_up),
        (("double",), Kind.DUPLEX, double),
        (("in", "nested", "place"), Kind.SYNC, place),
    ]
    return MethodTable(Method(name, kind, Who.ANON, handler) for name, kind, handler in handlers)


@pytest.fixture
def config(network_key: str) -> PeerConfig:
    return PeerConfig(US, our_methods(), network_key=base64.b64decode(network_key))


@pytest.fixture
async def wire(lab: Lab) -> JsWire:
    return await lab.wire()


@pytest.fixture
async def theirs(wire: JsWire, config: PeerConfig, network_key: str) -> AsyncIterator[RpcConnection]:
    """A running connection to the JavaScript server."""
    at = await wire.call("listen", mode="rpc", seed=THEIR_SEED, networkKey=network_key)
    peer = await connect_peer(f"net:127.0.0.1:{at['port']}~shs:{at['public']}", config)
    running = asyncio.create_task(peer.run())
    yield peer.connection
    await peer.close()
    await running


async def test_we_call_every_kind_of_method(theirs: RpcConnection, wire: JsWire) -> None:
    values: list[JsonValue] = [0, -1.5, "text", "ü🦀\u2028", None, True, [], {"a": [1, {"b": None}]}, "x" * 20000]
    for value in values:
        assert await theirs.call("echo", [value]) == value
    assert await theirs.call("binary", [len(BINARY)]) == BINARY
    assert await theirs.call("in.nested.place", [], kind=Kind.SYNC) == "found"
    with pytest.raises(RemoteCallError, match="on purpose"):
        await theirs.call("fail", ["on purpose"])
    assert [n async for n in theirs.source("range", [5000])] == list(range(5000))

    sink = theirs.sink("sum")
    await sink.send([b"1", b"2", b"3", b"4"])
    await sink.end()
    await sink.finished()
    assert (await wire.notice("sum"))["value"] == 10

    both = theirs.duplex("double")
    await both.send([b"1", b"2", b'"four"', b'{"five":5}'])
    await both.end()
    assert [item async for item in both] == [2, 4, "four", {"five": 5}]


async def test_their_source_that_breaks_gives_its_item_and_then_the_error(theirs: RpcConnection) -> None:
    source = theirs.source("breaks", ["broken"])
    items = aiter(source)
    assert await anext(items) == "one item"
    with pytest.raises(RemoteCallError, match="broken"):
        await anext(items)


async def test_we_stop_their_endless_source_and_the_connection_goes_on(theirs: RpcConnection) -> None:
    source = theirs.source("ticks")
    items = aiter(source)
    assert [await anext(items) for _ in range(3)] == ["tick"] * 3
    await source.cancel()
    assert await asyncio.wait_for(theirs.call("echo", ["still here"]), 5) == "still here"


async def test_two_hundred_calls_at_once(theirs: RpcConnection) -> None:
    answers = await asyncio.gather(*(theirs.call("echo", [n]) for n in range(200)))
    assert answers == list(range(200))


async def test_they_call_every_kind_of_method(wire: JsWire, config: PeerConfig, network_key: str) -> None:
    ended = asyncio.Event()

    async def serve(peer: Peer) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await peer.run()
        if peer.connection.error is None:
            ended.set()

    server = await listen_peers("127.0.0.1", 0, config, serve)
    remote = base64.b64encode(US.public).decode()
    result = await wire.call(
        "dial", mode="rpc", seed=THEIR_SEED, networkKey=network_key, port=server.port, remote=remote
    )
    await asyncio.wait_for(ended.wait(), 5)  # their goodbye reached us as one
    await server.close()
    assert result == {
        "echo": True,
        "binary": True,
        "fail": "on purpose",
        "range": 499500,
        "someOfRange": [0, 1, 2],
        "breaks": "broken",
        "double": [2, 4, 6, "four", {"five": 5}],
        "nested": "found",
        "parallel": 200,
    }
