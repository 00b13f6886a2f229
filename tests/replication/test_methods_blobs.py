"""blobs.* by muxrpc: what the node's user may do, what any peer may read, and what hostile arguments get."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from feeds.blobs import EMPTY, PIECE
from feeds.message import JsonValue
from replication.errors import RemoteCallError, ReplicationError
from replication.rpc.bodies import BodyType
from replication.rpc.connection import RpcConnection
from tests.support.peers import open_node, program, stranger, until

NOBODYS = "&" + base64.b64encode(b"n" * 32).decode() + ".sha256"


def blob_id(data: bytes) -> str:
    return f"&{base64.b64encode(hashlib.sha256(data).digest()).decode()}.sha256"


async def add(connection: RpcConnection, data: bytes, *args: Any) -> None:
    sink = connection.sink("blobs.add", list(args))
    for at in range(0, len(data), 50_000):
        await sink.send([data[at : at + 50_000]], BodyType.BINARY)
    await sink.end()
    await sink.finished()


async def get(connection: RpcConnection, *args: Any, method: str = "blobs.get") -> bytes:
    found = b""
    source = connection.source(method, list(args))
    while batch := await source.read_batch():
        assert all(body.kind is BodyType.BINARY and 0 < len(body.data) <= PIECE for body in batch)
        found += b"".join(body.data for body in batch)
    return found


def files(folder: Path) -> list[Path]:
    return [path for path in (folder / "a" / "blobs").rglob("*") if path.is_file()]


async def test_blobs_come_back_as_they_were_added(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own, stranger(a) as peer:
        for data in (b"", b"x", b"0123456789" * 40_000):
            await add(own, data)
            blob = blob_id(data)
            for connection in (own, peer):
                for asked in (
                    blob,
                    {"key": blob},
                    {"hash": blob, "size": len(data)},
                    {"key": None, "id": blob, "max": len(data)},
                ):
                    assert await get(connection, asked) == data
                assert await connection.call("blobs.has", [blob]) is True
                assert await connection.call("blobs.size", [blob]) == len(data)


async def test_the_id_may_be_given(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        await add(own, b"right", blob_id(b"right"))
        with pytest.raises(RemoteCallError, match="expected the blob"):
            await add(own, b"wrong", NOBODYS)
        with pytest.raises(RemoteCallError, match="expected a blob id"):
            await add(own, b"wrong", "&x")
        assert len(files(tmp_path)) == 1


async def test_the_id_is_told_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """muxrpc's sinks have no answer; programs that look for one find it as an item of the stream."""
    told: list[tuple[BodyType, Sequence[bytes]]] = []
    send = RpcConnection.stream_sends

    async def spy(self: RpcConnection, call: int, kind: BodyType, bodies: Sequence[bytes]) -> None:
        if kind is BodyType.JSON:
            told.append((kind, bodies))
        await send(self, call, kind, bodies)

    monkeypatch.setattr(RpcConnection, "stream_sends", spy)
    async with open_node(tmp_path, "a") as a, program(a) as own:
        await add(own, b"hello")
        assert told == [(BodyType.JSON, [json.dumps(blob_id(b"hello")).encode()])]


async def test_what_is_asked_next_does_not_overtake_an_add(tmp_path: Path) -> None:
    """JavaScript's sinks are done when everything was sent, so its programs ask at once."""
    async with open_node(tmp_path, "a") as a, program(a) as own:
        for number in range(5):
            data = b"%d" % number * 300_000
            sink = own.sink("blobs.add")
            await sink.send([data], BodyType.BINARY)
            await sink.end()
            assert await own.call("blobs.has", [blob_id(data)]) is True
            assert await get(own, blob_id(data)) == data
        sink = own.sink("blobs.add")
        await sink.send([b"unfinished"], BodyType.BINARY)
        assert await own.call("blobs.has", [blob_id(b"unfinished")]) is False


async def test_lists_of_ids(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own, stranger(a) as peer:
        await add(own, b"held")
        ids: JsonValue = [blob_id(b"held"), NOBODYS, EMPTY]
        for connection in (own, peer):
            assert await connection.call("blobs.has", [ids]) == [True, False, True]
            assert await connection.call("blobs.size", [ids]) == [4, None, 0]
            assert await connection.call("blobs.has", [[]]) == []


async def test_slices(tmp_path: Path) -> None:
    data = bytes(range(256)) * 1000
    async with open_node(tmp_path, "a") as a, program(a) as own, stranger(a) as peer:
        await add(own, data)
        blob = blob_id(data)
        for start, end in ((0, 10), (100_000, 200_000), (255_999, 256_000), (0, 10**9), (256_000, 256_001), (7, 7)):
            found = await get(peer, {"hash": blob, "start": start, "end": end}, method="blobs.getSlice")
            assert found == data[start:end]
        assert await get(peer, {"key": blob, "start": 5}, method="blobs.getSlice") == data[5:]
        for start, end in ((-1, 5), (5, 4)):
            with pytest.raises(RemoteCallError, match="expected 0 <= start <= end"):
                await get(peer, {"key": blob, "start": start, "end": end}, method="blobs.getSlice")


async def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own, stranger(a) as peer:
        await add(own, b"12345")
        blob = blob_id(b"12345")
        for options, reason in (({"size": 4}, "has 5 bytes, not 4"), ({"max": 4}, "the limit is 4")):
            with pytest.raises(RemoteCallError, match=reason):
                await get(peer, {"key": blob, **options})
        with pytest.raises(RemoteCallError, match="blob not found"):
            await get(peer, NOBODYS)


HOSTILE = [
    [],
    [None],
    [7],
    [{}],
    [{"key": ["&"]}],
    ["../../secret"],
    ["&" + "/" * 43 + "=.sha256"],
    [{"hash": "&../../../secret"}],
    [{"key": EMPTY, "max": "5"}],
    [{"key": EMPTY, "size": {}}],
    ["&" + "x" * 5000],
    ["%" + EMPTY[1:]],
    ["\ud800"],
    [{"key": EMPTY, "start": 1.5}],
]


@pytest.mark.parametrize("args", HOSTILE, ids=range(len(HOSTILE)))
async def test_hostile_arguments(tmp_path: Path, args: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        for method in ("blobs.has", "blobs.size"):
            with pytest.raises(RemoteCallError, match="expected"):
                await peer.call(method, args)
            with pytest.raises(RemoteCallError, match="expected"):
                await peer.call(method, [[EMPTY, *args, 1]])
        with pytest.raises(RemoteCallError, match="expected"):
            await get(peer, *args, method="blobs.getSlice")
        assert await peer.call("blobs.has", [EMPTY]) is True
    assert "failed" not in caplog.text


@pytest.mark.parametrize("name", ["add", "rm", "ls", "want", "push", "meta"])
async def test_peers_may_only_read(tmp_path: Path, name: str) -> None:
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "add": lambda: add(peer, b"x"),
            "ls": lambda: get(peer, method="blobs.ls"),
        }
        call = calls.get(name, lambda: peer.call(f"blobs.{name}", [EMPTY]))
        with pytest.raises(RemoteCallError, match="not in list of allowed methods"):
            await call()
        assert files(tmp_path) == []


async def test_too_large_and_cut_adds_leave_nothing(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a:
        async with program(a) as own:
            with pytest.raises(ReplicationError, match="the limit is 5242880"):
                await add(own, b"x" * 5_300_000)
            sink = own.sink("blobs.add")
            await sink.send([b'"text"'], BodyType.JSON)
            with pytest.raises(RemoteCallError, match="expected bytes"):
                await sink.finished()
            sink = own.sink("blobs.add")
            await sink.send([b"x" * 500_000], BodyType.BINARY)
            await sink.end("changed my mind")
            await until(lambda: not files(tmp_path))
            sink = own.sink("blobs.add")
            await sink.send([b"x" * 500_000], BodyType.BINARY)
            await until(lambda: files(tmp_path))
        await until(lambda: not files(tmp_path))
        async with program(a) as own:
            assert await own.source("blobs.ls").read_batch() == []


async def test_listing(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        await add(own, b"one")
        await add(own, b"three")
        ids = [json.loads(body.data) for body in await own.source("blobs.ls").read_batch()]
        assert ids == [blob_id(b"one"), blob_id(b"three")]
        (one, three) = [json.loads(body.data) for body in await own.source("blobs.ls", [{"meta": True}]).read_batch()]
        assert {name: one[name] for name in ("id", "size")} == {"id": ids[0], "size": 3}
        assert await own.call("blobs.meta", [ids[1]]) == three
        assert await own.call("blobs.meta", [NOBODYS]) is None
        live = own.source("blobs.ls", [{"live": True, "old": False}])
        await own.call("whoami")
        await add(own, b"new")
        assert [json.loads(body.data) for body in await live.read_batch()] == [blob_id(b"new")]
        await live.cancel()
        assert await own.call("blobs.rm", [ids[0]]) is True
        with pytest.raises(RemoteCallError, match="blob not found"):
            await own.call("blobs.rm", [ids[0]])
        assert await own.call("blobs.has", [ids]) == [False, True]


async def test_wanting_waits_until_the_blob_is_here(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        blob = blob_id(b"wanted")
        assert await own.call("blobs.want", [blob, {"nowait": True}]) is False
        waiting = asyncio.create_task(own.call("blobs.want", [blob]))
        await own.call("whoami")
        assert not waiting.done()
        await add(own, b"wanted")
        assert await asyncio.wait_for(waiting, 10) is True
        assert await own.call("blobs.want", [blob]) is True
        assert await own.call("blobs.push", [blob]) is True
        with pytest.raises(RemoteCallError, match="blob not found"):
            await own.call("blobs.push", [NOBODYS])
