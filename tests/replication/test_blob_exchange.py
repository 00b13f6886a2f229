"""Blobs between nodes over real sockets, and between a node and peers that cheat."""

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from feeds.blob_ranks import AVATAR, NAMED
from replication.blob_search import blobs_named, rank_of
from replication.blob_wants import Fetch
from replication.errors import RemoteCallError, RemoteVisible
from replication.limits import Limits
from replication.rpc.bodies import BodyType
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Caller, Kind, Method, Who
from replication.rpc.streams import Sink, Source
from tests.support.blob_nodes import blob, blobs
from tests.support.builders import Feed
from tests.support.peers import Node, key, open_node, program, stranger, until

DATA = os.urandom(300_000)
"""Five pieces."""


def blob_id(data: bytes) -> str:
    return f"&{base64.b64encode(hashlib.sha256(data).digest()).decode()}.sha256"


def files(node: Node) -> list[Path]:
    folder = node.socket.parent / "blobs"
    return [path for path in folder.rglob("*") if path.is_file()]


async def read(node: Node, wanted: str) -> bytes:
    async with node.blobs.reading(wanted) as reader:
        return await reader.read(0, reader.info.size)


async def comes(node: Node, data: bytes, seconds: float = 10.0) -> None:
    """The blob arrives and is what it should be."""
    async with asyncio.timeout(seconds):
        await node.blobs.arrived(blob_id(data))
    assert await read(node, blob_id(data)) == data


Give = Callable[[Sink], Awaitable[None]]


@asynccontextmanager
async def peer_with(
    node: Node, haves: dict[str, int], give: Give, name: str = "peer"
) -> AsyncIterator[tuple[RpcConnection, list[Any]]]:
    """A peer of the test's own: it says what it has, and answers each blobs.get by `give`; with the gets it saw."""
    seen: list[Any] = []

    async def wants(_caller: Caller, _args: list[Any], out: Sink) -> None:
        await out.send([json.dumps(haves).encode()])
        await asyncio.Event().wait()

    async def get(_caller: Caller, args: list[Any], out: Sink) -> None:
        seen.append(args)
        await give(out)

    methods = [
        Method(("blobs", "createWants"), Kind.SOURCE, Who.ANON, wants),
        Method(("blobs", "get"), Kind.SOURCE, Who.ANON, get),
    ]
    async with stranger(node, name, methods) as connection:
        yield connection, seen


def sends(*pieces: bytes) -> Give:
    async def give(out: Sink) -> None:
        await out.send(list(pieces), BodyType.BINARY)

    return give


# ---- two nodes of ours


async def test_a_wanted_blob_comes_also_when_it_is_wanted_before_it_exists(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        await a.blobs.add(DATA)
        await b.blobs.want(blob_id(DATA))
        await b.connections.dial(a.address)
        await comes(b, DATA)
        for data in (b"later", os.urandom(65536 * 2)):
            await a.blobs.want(blob_id(data))
            await asyncio.sleep(0.05)
            await b.blobs.add(data)
            await comes(a, data)
        assert b.blobs.wanted(blob_id(DATA)) is None
        assert b.blob_exchange.status()["transfers"] == []
        assert b.blob_exchange.blob_status(blob_id(DATA))["sources"] == {a.id: len(DATA)}


async def test_it_comes_through_a_node_between(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b, open_node(tmp_path, "c") as c:
        await b.connections.dial(a.address)
        await c.connections.dial(b.address)
        await c.blobs.want(blob_id(DATA))
        await asyncio.sleep(0.05)
        await a.blobs.add(DATA)
        await comes(c, DATA)
        await comes(b, DATA)


async def test_wants_and_pushes_survive_a_restart(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        await a.blobs.want(blob_id(DATA))
        await a.blobs.add(b"to push")
        assert await own.call("blobs.push", [blob_id(b"to push")]) is True
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        await b.blobs.add(DATA)
        await a.connections.dial(b.address)
        await comes(a, DATA)
        await comes(b, b"to push")
        assert await a.blobs.pushes() == [blob_id(b"to push")]
        async with open_node(tmp_path, "c") as c, open_node(tmp_path, "d") as d:
            for other in (c, d):
                await other.connections.dial(a.address)
            for other in (c, d):
                await comes(other, b"to push")
            deadline = asyncio.get_running_loop().time() + 10
            while await a.blobs.pushes():
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.01)


async def test_messages_of_wanted_feeds_make_wants_pictures_first(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a", hops=1) as a, open_node(tmp_path, "b") as b, open_node(tmp_path, "c") as c:
        picture, named, strange = os.urandom(1000), os.urandom(70_000), b"of somebody far away"
        await a.follow(b.id)
        for node, data in ((b, picture), (b, named), (c, strange)):
            await node.blobs.add(data)
        await b.publish({"type": "post", "text": f"look ![]({blob_id(named)})", "mentions": []})
        await b.publish({"type": "about", "about": b.id, "image": {"link": blob_id(picture)}})
        await c.post(f"![]({blob_id(strange)})")
        await a.connections.dial(b.address)
        await a.connections.dial(c.address)
        await comes(a, picture)
        await comes(a, named)
        await b.publish({"type": "post", "text": "not here", "mentions": [{"link": blob(77)}]})
        await until(lambda: a.blobs.wanted(blob(77)))
        want = a.blobs.wanted(blob(77))
        assert want is not None
        assert (want.asked, want.rank) == (False, NAMED + 1)
        assert a.blobs.wanted(blob_id(strange)) is None
        assert not a.blobs.has(blob_id(strange))
        status = a.blob_exchange.blob_status(blob(77))
        assert [(named["author"], named["replicated"]) for named in status["named_in"]] == [(b.id, True)]
        assert status["rank"] == NAMED + 1


async def test_messages_that_were_here_before_their_feed_was_wanted(tmp_path: Path) -> None:
    feed = Feed(key("somebody"))
    feed.append({"type": "post", "text": "x", "mentions": [{"link": blob(1)}]})
    feed.append({"type": "about", "about": feed.id, "image": blob(2)})
    async with open_node(tmp_path, "a") as a:
        await a.take(feed.texts)
        await asyncio.sleep(0.3)
        assert await a.blobs.wants() == []
        await a.follow(feed.id)
        await until(lambda: a.blobs.wanted(blob(1)) and a.blobs.wanted(blob(2)))
        assert [want.rank for want in await a.blobs.wants()] == [AVATAR + 1, NAMED + 1]
    async with open_node(tmp_path, "a") as a:
        assert len(await a.blobs.wants()) == 2
        await a.block(feed.id)
        await until(lambda: feed.id not in a.replicator.policy.wanted)
        feed.append({"type": "post", "text": "x", "mentions": [{"link": blob(3)}]})
        await a.take(feed.texts[2:])
        await asyncio.sleep(0.3)
        assert a.blobs.wanted(blob(3)) is None


async def test_off_and_wanted_only(tmp_path: Path) -> None:
    async with (
        open_node(tmp_path, "off", fetch=Fetch.OFF) as off,
        open_node(tmp_path, "some", fetch=Fetch.WANTED) as some,
        open_node(tmp_path, "b") as b,
    ):
        for node in (off, some):
            await node.follow(b.id)
        named, asked, mine = b"named", b"asked for", b"mine"
        for data in (named, asked):
            await b.blobs.add(data)
        await off.blobs.add(mine)
        await b.blobs.want(blob_id(mine))
        await b.post(f"![]({blob_id(named)})")
        for node in (off, some):
            await node.connections.dial(b.address)
            await node.blobs.want(blob_id(asked))
        await comes(some, asked)
        await comes(b, mine)
        await until(lambda: some.store.log.sequence(b.id) == 1)
        await asyncio.sleep(0.3)
        assert not some.blobs.has(blob_id(named))
        assert not off.blobs.has(blob_id(asked))
        assert off.blob_exchange.blob_status(blob_id(asked))["fetch"] == "off"


# ---- peers that cheat


async def _lies(out: Sink) -> None:
    await out.send([b"x" * len(DATA)], BodyType.BINARY)


async def _endless(out: Sink) -> None:
    while True:
        await out.send([bytes(65536)], BodyType.BINARY)


async def _short(out: Sink) -> None:
    await out.send([DATA[:-1]], BodyType.BINARY)


async def _nothing(_out: Sink) -> None:
    return


async def _refuses(_out: Sink) -> None:
    raise RemoteVisible("could not find blob")


async def _json(out: Sink) -> None:
    await out.send([b'{"not":"bytes"}'])


@pytest.mark.parametrize(
    ("give", "size", "reason"),
    [
        (_lies, len(DATA), "other bytes"),
        (_endless, len(DATA), "more than the 300000 bytes"),
        (_short, len(DATA), "other bytes"),
        (_nothing, len(DATA), "other bytes"),
        (_refuses, len(DATA), "it answered: could not find blob"),
        (_json, len(DATA), "something else than bytes"),
        (sends(DATA), len(DATA) - 1, "more than the 299999 bytes"),
    ],
)
async def test_a_cheat_is_found_out_and_the_next_source_asked(
    tmp_path: Path, give: Give, size: int, reason: str
) -> None:
    wanted = blob_id(DATA)
    async with open_node(tmp_path, "a") as a, peer_with(a, {wanted: size}, give) as (_, seen):
        await a.blobs.want(wanted)
        await until(lambda: a.blob_exchange.blob_status(wanted)["last_error"])
        status = a.blob_exchange.blob_status(wanted)
        assert reason in status["last_error"]
        assert status["failures"][key("peer").id]["again_in"] > 50
        assert seen == [[{"key": wanted, "max": 5 * 1024 * 1024}]]
        assert not a.blobs.has(wanted)
        assert files(a) == []
        async with peer_with(a, {wanted: len(DATA)}, sends(DATA[:65536], DATA[65536:]), "honest"):
            await comes(a, DATA)
        assert len(seen) == 1


async def test_what_is_larger_than_allowed_is_not_even_asked_for(tmp_path: Path) -> None:
    wanted = blob_id(DATA)
    async with open_node(tmp_path, "a") as a, peer_with(a, {wanted: 5 * 1024 * 1024 + 1}, _endless) as (_, seen):
        await a.blobs.want(wanted)
        await until(lambda: a.blob_exchange.blob_status(wanted)["last_error"])
        assert seen == []


async def test_a_peer_that_stalls_is_given_up(tmp_path: Path) -> None:
    async def stall(out: Sink) -> None:
        await out.send([DATA[:1000]], BodyType.BINARY)
        await asyncio.Event().wait()

    wanted = blob_id(DATA)
    async with open_node(tmp_path, "a", limits=Limits(stall_timeout=0.1)) as a, peer_with(a, {wanted: 10**6}, stall):
        await a.blobs.want(wanted)
        await until(lambda: a.blob_exchange.blob_status(wanted)["last_error"])
        assert "nothing came" in a.blob_exchange.blob_status(wanted)["last_error"]
        async with peer_with(a, {wanted: len(DATA)}, sends(DATA), "honest"):
            await comes(a, DATA)


async def test_a_peer_that_hangs_up_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    half = asyncio.Event()

    async def give(out: Sink) -> None:
        await out.send([DATA[:200_000]], BodyType.BINARY)
        half.set()
        await asyncio.Event().wait()

    wanted = blob_id(DATA)
    async with open_node(tmp_path, "a") as a:
        async with peer_with(a, {wanted: len(DATA)}, give):
            await a.blobs.want(wanted)
            await half.wait()
        await until(lambda: not a.blob_exchange.status()["peers"])
        await until(lambda: not a.blob_exchange.status()["transfers"])
        assert files(a) == []
        async with open_node(tmp_path, "b") as b:
            await b.blobs.add(DATA)
            await b.connections.dial(a.address)
            await comes(a, DATA)


async def test_who_sends_sixteen_wrong_blobs_is_hung_up_on(tmp_path: Path) -> None:
    ids = blobs(range(1, 41))
    async with open_node(tmp_path, "a") as a:
        for wanted in ids:
            await a.blobs.want(wanted)
        async with peer_with(a, dict.fromkeys(ids, 10), sends(b"0123456789")) as (connection, seen):
            async with asyncio.timeout(10):
                await connection.closed.wait()
        assert 16 <= len(seen) < 24
        assert files(a) == []


HOSTILE: list[Any] = [
    {"../../../etc/passwd": -1, "&../../../../tmp/x.sha256": 5, "": -1, "&" + "A" * 43 + "=.sha256\n": 7},
    {blob(1): "1", blob(2): None, blob(3): [], blob(4): 1.5, blob(5): True, blob(6): 0, blob(7): 2**60},
    [],
    "x",
    None,
    17,
    [[{}]],
]


async def test_hostile_notes_do_nothing(tmp_path: Path) -> None:
    async def wants(_caller: Caller, _args: list[Any], out: Sink) -> None:
        await out.send([json.dumps(item).encode() for item in HOSTILE] + [b"{", b'{"a":'])
        await out.send([json.dumps({blob_id(DATA): -1}).encode()])
        await asyncio.Event().wait()

    async with open_node(tmp_path, "a") as a:
        await a.blobs.add(DATA)
        method = Method(("blobs", "createWants"), Kind.SOURCE, Who.ANON, wants)
        async with stranger(a, "peer", [method]) as connection:
            assert await told(connection.source("blobs.createWants"), 2) == [{}, {blob_id(DATA): len(DATA)}]
        assert a.blob_exchange.status()["wanted_for_peers"] == 0
    assert not (tmp_path / "x.sha256").exists()


async def told(source: Source, count: int, seconds: float = 10.0) -> list[Any]:
    """The first items of a stream."""
    items: list[Any] = []
    async with asyncio.timeout(seconds):
        while len(items) < count:
            items += [body.value() for body in await source.read_batch()]
    return items


async def test_twenty_thousand_wants_are_answered_where_held_and_else_bounded(tmp_path: Path) -> None:
    ids = blobs(range(1, 20_001))

    async def wants(_caller: Caller, _args: list[Any], out: Sink) -> None:
        for at in range(0, len(ids), 1000):
            await out.send([json.dumps(dict.fromkeys(ids[at : at + 1000], -1)).encode()])
        await out.send([json.dumps({blob_id(DATA): -1}).encode()])
        await asyncio.Event().wait()

    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        await a.blobs.add(DATA)
        await b.connections.dial(a.address)
        method = Method(("blobs", "createWants"), Kind.SOURCE, Who.ANON, wants)
        async with stranger(a, "peer", [method]) as connection:
            source = connection.source("blobs.createWants", max_json=1024 * 1024)
            heard: dict[str, int] = {}
            async with asyncio.timeout(20):
                while blob_id(DATA) not in heard:
                    for body in await source.read_batch():
                        value = body.value()
                        assert isinstance(value, dict)
                        assert len(body.data) < 65536
                        heard.update(dict.fromkeys(value, 1))
            assert len(heard) <= 1100
            assert a.blob_exchange.status()["peers"][key("peer").id]["wants"] <= 1000
            await b.blobs.add(b"still served")
            await a.blobs.want(blob_id(b"still served"))
            await comes(a, b"still served")
        assert b.blob_exchange.status()["peers"][a.id]["wants"] <= 1000


async def test_too_many_wrong_notes_end_the_listening(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def wants(_caller: Caller, _args: list[Any], out: Sink) -> None:
        try:
            while True:
                await out.send([b'{"x":-1}'] * 50)
                await asyncio.sleep(0)
        finally:
            ended.set()

    method = Method(("blobs", "createWants"), Kind.SOURCE, Who.ANON, wants)
    async with open_node(tmp_path, "a") as a, stranger(a, "peer", [method]):
        async with asyncio.timeout(10):
            await ended.wait()


# ---- the methods


async def test_the_first_item_comes_at_once_and_the_newest_stream_is_told(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        first = peer.source("blobs.createWants")
        assert await told(first, 1) == [{}]
        await a.blobs.want(blob(1))
        assert await told(first, 1) == [{blob(1): -1}]
        second = peer.source("blobs.createWants")
        assert await told(second, 1) == [{blob(1): -1}]
        await a.blobs.want(blob(2))
        assert await told(second, 1) == [{blob(2): -1}]
        assert first.waiting == 0
        await second.cancel()
        assert await told(first, 1) == [{blob(1): -1, blob(2): -1}]
        async with stranger(a) as again:
            assert await told(again.source("blobs.createWants"), 1) == [{blob(1): -1, blob(2): -1}]
        await a.blobs.want(blob(3))
        while blob(3) not in (await told(first, 1))[-1]:
            pass  # what was wanted before is told again to the stream that is the newest now


async def test_opening_again_and_again_is_slow_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.blob_exchange.OPENING_SECONDS", 0.2)
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        streams = [peer.source("blobs.createWants") for _ in range(5)]
        with pytest.raises(RemoteCallError, match="open 4 times already"):
            await streams[4].read_batch()
        began = asyncio.get_running_loop().time()
        for _ in range(6):
            await streams.pop(0).cancel()
            await peer.call("blobs.has", [blob(1)])
            streams.append(peer.source("blobs.createWants"))
        assert await told(streams[-1], 1) == [{}]
        assert asyncio.get_running_loop().time() - began >= 0.2
        await a.blobs.want(blob(1))
        assert await told(streams[-1], 1) == [{blob(1): -1}]


async def test_create_wants_is_not_for_programs(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, program(a) as own:
        with pytest.raises(RemoteCallError, match="for other nodes"):
            await own.source("blobs.createWants").read_batch()


async def test_changes_tells_what_arrives_from_then_on(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        await a.blobs.add(b"before")
        source = peer.source("blobs.changes")
        await peer.call("blobs.has", [blob(1)])
        await a.blobs.add(b"after")
        await a.blobs.add(b"and more")
        assert await told(source, 2) == [blob_id(b"after"), blob_id(b"and more")]


async def test_to_an_old_peer_has_is_a_want(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b, stranger(a) as old:
        await b.connections.dial(a.address)
        assert await old.call("blobs.has", [[blob_id(DATA), blob(1)]]) == [False, False]
        source = old.source("blobs.changes")
        await b.blobs.add(DATA)
        assert await told(source, 1) == [blob_id(DATA)]
        assert await old.call("blobs.has", [blob_id(DATA)]) is True


# ---- what messages name


def test_blobs_are_found_wherever_a_message_names_them() -> None:
    ids = blobs(range(1, 4))
    uri = "ssb:blob/sha256/" + ids[2][1:-7].replace("+", "-").replace("/", "_")
    content = {
        "type": "post",
        "text": f"![a]({ids[0]}) &x {ids[1]}?unbox=abc [b]({uri})",
        "mentions": [{"link": ids[0]}],
    }
    text = json.dumps(content, separators=(",", ":")).encode()
    assert set(blobs_named(text)) == set(ids)
    assert list(blobs_named(b'{"text":"&' + b"A" * 42 + b'B=.sha256"}')) == []  # no canonical base64
    assert rank_of(text, 2) == NAMED + 2
    assert rank_of(b'{"type":"about"}', 1) == AVATAR + 1
    assert rank_of(text, 1000) < 90
