"""GET /v1/stream on a real server: events, filters, resuming, pings, the end, readers that do not read."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from api import events
from api.events import StreamFilter
from api.server import HttpServer
from api.services import HttpSettings
from tests.api.test_access import code
from tests.support import builders
from tests.support.api import TOKEN, Api, open_api, peer_info, serve

IN_MODULE = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 10.0


class Event(NamedTuple):
    name: str
    data: str
    id: str


class Reader:
    """Reads an event stream as browsers do."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.aiter_lines()
        self.comments: list[str] = []

    async def next(self, *names: str) -> Event:
        """The next event, of one of these names if some are given."""
        while True:
            event = await asyncio.wait_for(self._event(), PATIENCE)
            if not names or event.name in names:
                return event

    async def _event(self) -> Event:
        fields: dict[str, str] = {}
        async for line in self._lines:
            if line.startswith(":"):
                self.comments.append(line[1:].strip())
            elif line:
                name, _, value = line.partition(": ")
                assert name not in fields
                fields[name] = value
            elif fields:
                return Event(fields["event"], fields["data"], fields["id"])
        raise EOFError

    async def end(self) -> list[Event]:
        """What is left of the stream."""
        left = []
        try:
            while True:
                left.append(await asyncio.wait_for(self._event(), PATIENCE))
        except EOFError:
            return left


@asynccontextmanager
async def reading(server: HttpServer, query: str = "", **headers: str) -> AsyncIterator[Reader]:
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client,
        client.stream("GET", f"/v1/stream{query}", headers={"Authorization": f"Bearer {TOKEN}", **headers}) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
        yield Reader(answer)


@pytest.fixture
async def server(api: Api) -> AsyncIterator[HttpServer]:
    async with serve(api) as running:
        yield running


async def test_new_messages_come_as_they_are_stored(api: Api, server: HttpServer) -> None:
    await api.publish("before")
    async with reading(server) as reader:
        ids = await api.publish("one", "two")
        for position, expected in enumerate(ids, 2):
            event = await reader.next("message")
            entry = await api.store.log.get(expected)
            assert entry is not None
            assert event.data.encode() == entry.as_kvt()
            assert event.id == str(position)
    await closed(api)


async def test_what_looks_like_the_end_of_a_line_is_none(api: Api, server: HttpServer) -> None:
    text = "a\x85b\u2028c\u2029d\r\ne\x0bf\x1cg\x7fh"
    await api.publish(text)
    async with reading(server, "?since=0") as reader:  # httpx takes each of them for one
        event = await reader.next("message")
        assert json.loads(event.data)["value"]["content"]["text"] == text
    answer = await api.client.get("/v1/messages", headers={"Accept": "application/x-ndjson"})
    (line,) = answer.text.splitlines()
    assert json.loads(line)["value"]["content"]["text"] == text


async def closed(api: Api) -> None:
    """Wait until the server has noticed that its readers are gone."""
    await until(lambda: not api.app.state.streams and not api.peers.subscribers)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens on the server's side."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


async def test_nothing_is_lost_or_repeated_over_many_connections(api: Api, server: HttpServer) -> None:
    texts = builders.generate(1000, 5)
    seen: list[str] = []
    last = "0"

    async def write() -> None:
        for start in range(0, 1000, 40):
            await api.receive(*texts[start : start + 40])

    writing = asyncio.create_task(write())
    for cut_after in (1, 10, 200, 350, 439):
        async with reading(server, "?since=0", **({"Last-Event-ID": last} if seen else {})) as reader:
            for _ in range(cut_after):
                event = await reader.next("message")
                seen.append(json.loads(event.data)["key"])
                last = event.id
    await writing
    assert seen == [entry.id for entry in await api.store.log.entries_after(0, 2000)]


async def test_since_and_last_event_id(api: Api, server: HttpServer) -> None:
    await api.publish(*"abcde")
    for query, headers, first in (
        ("?since=0", {}, "1"),
        ("?since=3", {}, "4"),
        ("?since=1", {"Last-Event-ID": "4"}, "5"),
        ("", {"Last-Event-ID": "2"}, "3"),
    ):
        async with reading(server, query, **headers) as reader:
            assert (await reader.next("message")).id == first
    async with reading(server, "?since=99999") as reader:  # of another database: begin at the end of this one
        await api.publish("f")
        assert (await reader.next("message")).id == "6"


async def test_filters(api: Api, server: HttpServer) -> None:
    one, two, three = (builders.Feed(builders.keypair(name)) for name in "abc")
    for feed in (one, two, three):
        for kind in ("post", "vote", "about"):
            feed.append({"type": kind, "text": "x"})
        feed.append("A" * 40 + ".box")
    await api.receive(*one.texts, *two.texts, *three.texts)
    all_ids = [entry.id for entry in await api.store.log.entries_after(0, 100)]
    uri = "ssb:feed/ed25519/" + two.id[1:-8].replace("+", "-").replace("/", "_")
    for query, expected in (
        ("", all_ids),
        ("&types=message", all_ids),
        ("&types=post", [feed.ids[0] for feed in (one, two, three)]),
        ("&types=post,vote", [feed.ids[n] for feed in (one, two, three) for n in (0, 1)]),
        ("&types=post&types=about", [feed.ids[n] for feed in (one, two, three) for n in (0, 2)]),
        (f"&feeds={two.id.replace('+', '%2B')}", two.ids),
        (f"&feeds={uri}", two.ids),
        (f"&feeds={one.id.replace('+', '%2B')},{uri}", one.ids + two.ids),
        (f"&feeds={uri}&types=vote", [two.ids[1]]),
        (f"&feeds={uri}&types=vote,about", two.ids[1:3]),
        (f"&feeds={one.id.replace('+', '%2B')},{uri}&types=post,vote", one.ids[:2] + two.ids[:2]),
    ):
        async with reading(server, f"?since=0{query}") as reader:
            found = [json.loads((await reader.next("message")).data)["key"] for _ in expected]
            assert sorted(found) == sorted(expected), query


async def test_what_a_filter_leaves_out_does_not_come(api: Api, server: HttpServer) -> None:
    async with reading(server, "?types=vote,peer") as reader:
        await api.publish("not wanted")
        await api.store.ingest.publish({"type": "vote"})
        first = await reader.next()
        assert json.loads(first.data)["value"]["content"]["type"] == "vote"
        assert first.id == "2"
        api.peers.tell("connected", peer_info(builders.keypair("friend").id))
        event = await reader.next()
        assert (event.name, event.id) == ("peer", "2")


async def test_peer_and_sync_events(api: Api, server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SYNC_INTERVAL", 0.05)
    friend = peer_info(builders.keypair("friend").id)
    async with reading(server) as reader:
        event = await reader.next("sync")
        assert json.loads(event.data)["position"] == 0
        assert event.id == "0"
        api.peers.tell("connected", friend)
        event = await reader.next("peer")
        told = json.loads(event.data)
        assert told["event"] == "connected"
        assert told["peer"]["id"] == friend.id
        assert told["peer"]["state"] == "connected"
        api.replication.missing = 5
        await api.publish("x")
        while json.loads((event := await reader.next("sync")).data)["messages"]["missing"] != 5:
            pass
        assert json.loads(event.data)["position"] == 1
    async with reading(server, "?types=peer") as reader:
        await api.publish("y")
        api.peers.tell("disconnected", friend)
        assert json.loads((await reader.next()).data)["event"] == "disconnected"
    async with reading(server, "?types=sync") as reader:
        assert (await reader.next()).name == "sync"


async def test_a_quiet_stream_is_kept_alive(tmp_path: Path) -> None:
    assert HttpSettings().ping_interval == 15.0
    async with (
        open_api(tmp_path, HttpSettings(ping_interval=0.05)) as api,
        serve(api) as server,
        reading(server, "?types=message") as reader,
    ):
        async with asyncio.timeout(PATIENCE):
            while reader.comments.count("ping") < 3:
                await asyncio.sleep(0.06)
                await api.publish("x")
                await reader.next("message")


async def test_streams_end_at_once_when_the_node_stops(api: Api, server: HttpServer) -> None:
    await api.publish("x")
    async with reading(server, "?since=0") as one, reading(server, "?types=peer") as two:
        await one.next("message")
        began = time.monotonic()
        stopping = asyncio.create_task(server.stop())
        assert [event.name for event in await one.end()] in ([], ["sync"])
        assert await two.end() == []
        await stopping
        assert time.monotonic() - began < 1.5
    assert not api.app.state.streams
    answer = await api.client.get("/readyz")
    assert answer.status_code == 503
    assert code(answer) == "stopping"


async def test_only_so_many_at_once(tmp_path: Path) -> None:
    async with open_api(tmp_path, HttpSettings(streams=2)) as api, serve(api) as server:
        async with reading(server) as one, reading(server) as two:
            await one.next("sync")
            await two.next("sync")
            assert (await api.client.get("/v1/status")).json()["streams"] == {"open": 2}
            answer = await api.client.get("/v1/stream")
            assert answer.status_code == 429
            assert code(answer) == "too-many-streams"
            assert "retry-after" in answer.headers
        await closed(api)
        async with reading(server) as reader:
            await reader.next("sync")


@pytest.mark.parametrize(
    ("query", "headers", "problem"),
    [
        ("?since=-1", {}, "invalid-parameter"),
        ("?since=x", {}, "invalid-parameter"),
        ("?since=" + "9" * 40, {}, "invalid-parameter"),
        ("?feeds=x", {}, "invalid-id"),
        ("", {"Last-Event-ID": "x"}, "invalid-header"),
        ("", {"Last-Event-ID": "-1"}, "invalid-header"),
        ("", {"Last-Event-ID": "9" * 40}, "invalid-header"),
    ],
)
@IN_MODULE
async def test_wrong_requests(shared: Api, query: str, headers: dict[str, str], problem: str) -> None:
    answer = await shared.client.get(f"/v1/stream{query}", headers=headers)
    assert answer.status_code == 400
    assert code(answer) == problem
    assert not shared.app.state.streams


@pytest.mark.parametrize(("path", "accept"), [("/v1/stream?since=0", "*/*"), ("/v1/messages", "application/x-ndjson")])
async def test_a_reader_that_does_not_read_is_cut(api: Api, path: str, accept: str) -> None:
    feed = builders.Feed(builders.keypair("someone"))
    for _ in range(1000):
        feed.append({"type": "post", "text": "x" * 7000})
    await api.receive(*feed.texts)
    async with serve(api, stall_timeout=0.3) as server:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(server.address)
            client.sendall(request(path, f"Accept: {accept}"))
            await until(lambda: server.connections == 1)
            await asyncio.sleep(0.1)
            assert server.connections == 1
            assert (await api.client.get("/v1/whoami")).status_code == 200
            await until(lambda: server.connections == 0)
        await closed(api)


async def test_peer_events_do_not_pile_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "QUEUE", 10)
    async with serve(api) as server, reading(server, "?types=peer") as reader:
        friend = peer_info(builders.keypair("friend").id)
        await until(lambda: bool(api.peers.subscribers))
        for _ in range(11):
            api.peers.tell("connected", friend)
        assert await reader.end() == []
        await closed(api)


def request(path: str, *extra: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {TOKEN}", *extra, "", ""]
    return "\r\n".join(lines).encode()


def test_what_types_mean() -> None:
    parse = StreamFilter.parse
    assert parse([], []) == StreamFilter()
    assert parse(["peer"], []).events == {"peer"}
    assert parse(["peer", "message"], []) == StreamFilter(frozenset({"peer", "message"}))
    assert parse(["post"], []) == StreamFilter(frozenset({"message"}), frozenset({"post"}))
    assert parse(["post", "sync"], []) == StreamFilter(frozenset({"message", "sync"}), frozenset({"post"}))
    assert parse(["post", "message"], []).types is None
    assert parse([], ["@a"]).author == "@a"
    assert parse([], ["@a", "@b"]).author is None


async def test_blobs_that_come(api: Api, server: HttpServer) -> None:
    await api.services.blobs.add(b"before")
    async with reading(server, "?types=blob") as reader, reading(server, "?types=peer") as other:
        infos = [await api.services.blobs.add(b"blob %d" % number) for number in range(3)]
        await api.services.blobs.add(b"blob 0")
        for info in infos:
            event = await reader.next()
            assert (event.name, json.loads(event.data)) == ("blob", {"id": info.id, "size": 6})
        api.services.stopping.set()
        assert await reader.end() == await other.end() == []
