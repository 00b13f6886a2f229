"""EBT between whole nodes and against peers that misbehave (protocol.md section 9, safety.md)."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.database import Database
from feeds.formats.registry import CLASSIC
from feeds.ingest import Peeked
from feeds.message import JsonObject
from feeds.migrations import FEEDS
from replication.ebt.notes import is_message
from replication.ebt.remembered import RememberedClocks
from replication.ebt.session import Session
from replication.ebt.state import EbtState
from replication.errors import ConnectionClosed, RemoteCallError
from replication.migrations import REPLICATION
from replication.rpc.bodies import Body, BodyType
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Caller, Kind, Method, Who
from replication.rpc.streams import Duplex
from tests.support import builders
from tests.support.peers import Node, bulky, key, open_node, stranger, until
from tests.support.stores import Ticking

OPTIONS: JsonObject = {"version": 3, "format": "classic"}


class Ebt:
    """An EBT stream of the test's own, opened as the client."""

    def __init__(self, connection: RpcConnection) -> None:
        self.connection = connection
        self.duplex = connection.duplex("ebt.replicate", [OPTIONS])
        self.notes: list[dict[str, int]] = []
        self.messages: list[dict[str, Any]] = []

    async def read(self, seconds: float = 10.0) -> None:
        """Take what has come, waiting for something."""
        async with asyncio.timeout(seconds):
            bodies = await self.duplex.read_batch()
            if not bodies:
                raise ConnectionClosed("the stream has ended")
            for body in bodies:
                (self.messages if is_message(body.data) else self.notes).append(json.loads(body.data))

    async def quiet(self, seconds: float = 0.3) -> None:
        """Take what comes until nothing has come for a while."""
        try:
            while True:
                await self.read(seconds)
        except TimeoutError:
            return

    def note(self, feed: str) -> int | None:
        """The last note on a feed."""
        return next((notes[feed] for notes in reversed(self.notes) if feed in notes), None)

    async def tell(self, notes: dict[str, int]) -> None:
        await self.duplex.send([json.dumps(notes).encode()])

    async def give(self, texts: Sequence[bytes]) -> None:
        await self.duplex.send(texts)


@asynccontextmanager
async def ebt_stream(node: Node, name: str = "stranger") -> AsyncIterator[Ebt]:
    async with stranger(node, name) as connection:
        yield Ebt(connection)


@asynccontextmanager
async def two_nodes(folder: Path) -> AsyncIterator[tuple[Node, Node]]:
    async with open_node(folder, "a") as a, open_node(folder, "b") as b:
        await a.follow(b.id)
        await b.follow(a.id)
        yield a, b


def only_messages(folder: Path, name: str) -> AbstractAsyncContextManager[Node]:
    """A node that asks peers neither for wants of blobs nor for rooms: where the bytes of EBT are counted."""
    return open_node(folder, name, only_messages=True)


async def quiet_moment(*nodes: Node) -> None:
    """Long enough for each side to tell the other what it has now."""
    for node in nodes:
        node.replicator.ebt.state._confirm = 0.05
    await asyncio.sleep(0.8)


# ---- nodes with each other


async def test_two_nodes_sync_both_ways_and_stay_live(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, b):
        for number in range(30):
            await a.post(f"a {number}")
            await b.post(f"b {number}")
        await b.connections.dial(a.address)
        await until(lambda: a.clock() == b.clock())
        assert a.clock() == {a.id: 31, b.id: 31}

        loop = asyncio.get_running_loop()
        for one, other in ((a, b), (b, a)):
            began = loop.time()
            await one.post("live")
            await until(lambda: a.clock() == b.clock())
            assert loop.time() - began < 1.0
            assert other.clock()[one.id] == 32


async def test_the_stored_text_arrives_byte_for_byte(tmp_path: Path) -> None:
    feed = builders.Feed(key("odd"))
    for text in ("日本語 🎉", "\u2028\x7f", "</script>", 'quotes " and \\ back'):
        feed.append({"type": "post", "text": text, "n": 10**20, "__proto__": {}, "empty": []})
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        await a.take(feed.texts)
        await a.want([feed.id])
        await b.want([feed.id])
        await b.connections.dial(a.address)
        await until(lambda: b.clock().get(feed.id) == 4)
        assert await b.store.log.range(feed.id, 0, 10) == await a.store.log.range(feed.id, 0, 10)


async def test_a_third_node_gets_messages_through_the_one_between(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, b), open_node(tmp_path, "c") as c:
        await c.follow(a.id, b.id)
        await b.follow(c.id)
        await b.connections.dial(a.address)
        await c.connections.dial(b.address)
        await a.post()
        await until(lambda: c.clock() == b.clock() and len(c.clock()) == 3 and a.clock()[a.id] == c.clock()[a.id])
        await a.post("live")
        await until(lambda: c.clock()[a.id] == a.clock()[a.id], 1.0)


async def test_a_cut_connection_resumes_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feeds = [bulky(f"feed {number}", 200) for number in range(3)]
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        for feed in feeds:
            await a.take(feed.texts)
        await a.want(feed.id for feed in feeds)
        await b.want(feed.id for feed in feeds)
        add, go_on = b.store.ingest.add_peeked, asyncio.Event()

        async def first_batch_only(texts: Sequence[Peeked], *, source: str) -> Any:
            if b.clock():
                await go_on.wait()
            return await add(texts, source=source)

        monkeypatch.setattr(b.store.ingest, "add_peeked", first_batch_only)
        await b.connections.dial(a.address)
        await until(b.clock)
        for link in a.connections._links:
            link.peer.connection.abort()
        await until(lambda: not b.connections.connected(a.id))
        go_on.set()
        before = sum(b.clock().values())
        await until(lambda: b.connections.connected(a.id))  # b redials by itself
        await until(lambda: sum(b.clock().values()) == 600)
        assert 0 < before < 600
        status = b.replicator.ebt.state.peer_status(a.id)
        assert status is not None
        assert status.received == 600 - before  # nothing twice


async def test_equal_nodes_reconnect_without_a_word_too_many(tmp_path: Path) -> None:
    texts = builders.generate(100, 100)
    feeds = {json.loads(text)["author"] for text in texts}
    async with only_messages(tmp_path, "a") as a, only_messages(tmp_path, "b") as b:
        await a.take(texts)
        await a.want(feeds)
        await b.want(feeds)
        await b.connections.dial(a.address)
        await until(lambda: b.clock() == a.clock())
        await quiet_moment(a, b)
        assert await b.connections.disconnect(a.id)
        await until(lambda: not a.connections.connected(b.id))

        info = await b.connections.dial(a.address)
        await asyncio.sleep(0.5)
        now = b.connections.connected(a.id)
        assert now is not None
        # one request and one empty note each way, each in a box of its own; the handshake is 144 and 176 bytes
        assert now.bytes_in - info.bytes_in <= 2 * 34 + 9 + 2
        assert now.bytes_out - info.bytes_out <= 4 * 34 + 2 * 9 + 2 + 90
        status = b.replicator.ebt.state.peer_status(a.id)
        assert status is not None
        assert (status.received, status.sent) == (0, 0)


async def test_a_thousand_feeds(tmp_path: Path) -> None:
    texts = builders.generate(1000, 1000)
    feeds = {json.loads(text)["author"] for text in texts}
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        await a.take(texts)
        await a.want(feeds)
        await b.want(feeds)
        await b.connections.dial(a.address)
        await until(lambda: b.clock() == a.clock())
        assert len(b.clock()) == 1000


async def test_a_feed_that_is_unfollowed_in_mid_session_stops(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, b):
        await b.connections.dial(a.address)
        await until(lambda: a.clock() == b.clock())
        await b.publish({"type": "contact", "contact": a.id, "following": False})
        await until(lambda: a.id not in b.replicator.policy.wanted)
        await until(lambda: a.clock()[b.id] == b.clock()[b.id])
        await a.post("not for b any more")
        await asyncio.sleep(0.3)
        assert b.clock()[a.id] == a.clock()[a.id] - 1
        assert b.connections.connected(a.id)

        await b.follow(a.id)
        await until(lambda: a.clock() == b.clock())


async def test_a_peer_that_a_feed_blocks_gets_nothing_of_it(tmp_path: Path) -> None:
    shy = builders.Feed(key("shy"))
    shy.append({"type": "contact", "contact": key("b").id, "blocking": True})
    shy.append({"type": "post", "text": "not for b"})
    async with two_nodes(tmp_path) as (a, b):
        await a.follow(shy.id)
        await a.take(shy.texts)
        await b.follow(shy.id)
        await b.connections.dial(a.address)
        await until(lambda: b.clock().get(a.id) == a.clock()[a.id] and a.clock().get(b.id) == b.clock()[b.id])
        await asyncio.sleep(0.3)
        assert shy.id not in b.clock()


async def test_a_block_holds_for_the_messages_it_comes_with(tmp_path: Path) -> None:
    shy = builders.chain("shy", 2)
    async with open_node(tmp_path, "a") as a, ebt_stream(a, "blocked") as blocked, ebt_stream(a, "other") as other:
        await a.take(shy.texts)
        await a.want([shy.id])
        for peer in (blocked, other):
            await peer.read()
            await peer.tell({shy.id: 0})
            await peer.quiet(0.1)
            assert len(peer.messages) == 2
        shy.append({"type": "contact", "contact": key("blocked").id, "blocking": True})
        shy.append({"type": "post", "text": "in the same breath"})
        await a.take(shy.texts[2:])
        await other.quiet(0.3)
        await blocked.quiet(0.1)
        assert len(other.messages) == 4
        assert len(blocked.messages) == 2
        assert blocked.note(shy.id) == -1


async def test_blocking_a_peer_in_mid_session_hangs_up_and_keeps_it_out(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, b):
        await b.connections.dial(a.address)
        await until(lambda: a.clock() == b.clock())
        await a.block(b.id)
        await until(lambda: not b.connections.connected(a.id))
        assert not a.connections.connected(b.id)
        await a.post("b must not see this")
        await asyncio.sleep(0.5)
        assert b.clock()[a.id] == 1
        assert not b.connections.connected(a.id)


async def test_a_second_connection_of_a_peer_takes_over_its_session(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, ebt_stream(a) as first:
        await first.read()
        async with ebt_stream(a) as second:
            await second.read()
            with pytest.raises(RemoteCallError, match=r"^reconnected to peer$"):
                await first.duplex.read_batch()
            assert second.notes
            await a.post()
            await second.tell({a.id: 0})
            await second.quiet()
            assert len(second.messages) == 1


async def test_a_peer_that_lost_the_session_which_took_over_gets_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deployed peers lose the newer of two sessions when the end of the older one comes late; they say nothing then."""
    monkeypatch.setattr("replication.ebt.driver.DOUBT_SECONDS", 0.3)
    monkeypatch.setattr("replication.exchange.EBT_WAIT_SECONDS", 0.3)
    opened: asyncio.Queue[Duplex] = asyncio.Queue()
    hold = asyncio.Event()

    async def replicate(_caller: Caller, _args: list[Any], duplex: Duplex) -> None:
        opened.put_nowait(duplex)
        await hold.wait()

    server = Method(("ebt", "replicate"), Kind.DUPLEX, Who.ANON, replicate)
    async with open_node(tmp_path, "a") as a, ebt_stream(a) as first:
        await first.read()
        async with stranger(a, methods=[server]) as connection:
            deaf = Ebt(connection)
            await deaf.read()
            with pytest.raises(ConnectionClosed, match="the stream has ended"):
                await deaf.quiet(5.0)
            async with asyncio.timeout(10):
                duplex = await opened.get()
                await duplex.send([json.dumps({a.id: 0}).encode()])
                await a.post()
                texts: list[bytes] = []
                while not any(is_message(text) for text in texts):
                    texts += [body.data for body in await duplex.read_batch()]
            hold.set()
            await asyncio.sleep(0.5)
            assert opened.empty()  # it is begun anew once


# ---- peers of other making


async def test_the_server_speaks_first_even_with_nothing_to_say(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, ebt_stream(a) as peer:
        await peer.read(2.0)
        assert peer.notes == [{a.id: 0}]


async def test_the_client_is_silent_until_the_server_has_spoken(tmp_path: Path) -> None:
    opened: asyncio.Queue[Duplex] = asyncio.Queue()
    hold = asyncio.Event()

    async def replicate(_caller: Caller, args: list[Any], duplex: Duplex) -> None:
        assert args == [OPTIONS]
        opened.put_nowait(duplex)
        await hold.wait()

    server = Method(("ebt", "replicate"), Kind.DUPLEX, Who.ANON, replicate)
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        b.table._methods[server.name] = server
        await a.connections.dial(b.address)
        async with asyncio.timeout(5):
            duplex = await opened.get()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.4):
                await duplex.read_batch()
        await duplex.send([b"{}"])
        async with asyncio.timeout(5):
            (first,) = await duplex.read_batch()
        assert json.loads(first.data) == {a.id: 0}
        hold.set()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ([], "expected ebt.replicate({version: 3})"),
        ([{"version": 2}], "expected ebt.replicate({version: 3})"),
        (["3"], "expected ebt.replicate({version: 3})"),
        ([{"version": 3, "format": "bendybutt-v1"}], "ebt.replicate: only the format classic is replicated here"),
    ],
)
async def test_other_versions_and_formats_are_refused(tmp_path: Path, options: list[Any], error: str) -> None:
    async with open_node(tmp_path, "a") as a, stranger(a) as connection:
        with pytest.raises(RemoteCallError) as refused:
            await connection.duplex("ebt.replicate", options).read_batch()
        assert refused.value.message == error


async def test_messages_asked_for_arrive_in_order_from_where_they_were_asked(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a:
        feed = builders.chain("long", 1200)
        await a.take(feed.texts)
        await a.want([feed.id])
        async with ebt_stream(a) as peer:
            await peer.read()
            await peer.tell({feed.id: 300 << 1})
            await peer.quiet()
            assert [message["sequence"] for message in peer.messages] == list(range(301, 1201))
            await a.take([feed.append({"type": "post", "text": "live"})])
            await peer.quiet()
            assert peer.messages[-1]["sequence"] == 1201


async def test_unwanted_feeds_are_answered_once_and_leave_nothing_behind(tmp_path: Path) -> None:
    unknown = {key(f"unknown {number}").id: 2 for number in range(50)}
    async with open_node(tmp_path, "a") as a, ebt_stream(a) as peer:
        await peer.read()
        await peer.tell(unknown)
        await peer.tell(unknown)
        await peer.quiet()
        refused = [feed for notes in peer.notes for feed, note in notes.items() if note == -1]
        assert sorted(refused) == sorted(unknown)
        assert a.replicator.feed_status(next(iter(unknown)))["peers"] == []


async def test_a_lying_peer_is_not_asked_again_but_the_feed_is_fine(tmp_path: Path) -> None:
    feed = builders.chain("victim", 10)
    forged = feed.texts[4].replace(b'"sequence":5', b'"sequence":5 ')  # other white space, same message
    broken = feed.texts[4].replace(b'"hash":"sha256"', b'"hash":"sha257"')
    assert forged != broken
    async with open_node(tmp_path, "a") as a:
        await a.want([feed.id])
        async with ebt_stream(a, "liar") as liar:
            await liar.read()
            assert liar.note(feed.id) == 0
            await liar.tell({feed.id: 10 << 1 | 1})
            await liar.give([*feed.texts[:4], broken, *feed.texts[5:]])
            await until(lambda: a.clock().get(feed.id) == 4)
            await liar.quiet()
            assert liar.note(feed.id) == 4 << 1 | 1  # no longer asked to send

            async with ebt_stream(a, "honest") as honest:
                await honest.read()
                await honest.tell({feed.id: 10 << 1 | 1})
                await honest.quiet(0.2)
                assert honest.note(feed.id) == 4 << 1
                await honest.give(feed.texts[4:])
                await until(lambda: a.clock()[feed.id] == 10)
        assert a.store.log.feed_state(feed.id) == "open"


async def test_a_peer_that_lies_about_many_feeds_is_hung_up_on(tmp_path: Path) -> None:
    feeds = [builders.chain(f"victim {number}", 1) for number in range(20)]
    async with open_node(tmp_path, "a") as a:
        await a.want([feed.id for feed in feeds])
        async with ebt_stream(a) as liar:
            await liar.read()
            await liar.give([feed.texts[0].replace(b'"sha256"', b'"sha257"') for feed in feeds])
            with pytest.raises(ConnectionClosed):
                await liar.quiet(5.0)


async def test_a_forked_feed_keeps_its_first_branch_and_is_asked_for_no_more(tmp_path: Path) -> None:
    feed = builders.chain("forker", 3)
    twin = builders.Feed(feed.keys, previous=feed.ids[1], sequence=2, timestamp=feed.timestamp)
    twin.append({"type": "post", "text": "the other branch"})
    twin.append({"type": "post", "text": "and on"})
    async with open_node(tmp_path, "a") as a:
        await a.take(feed.texts)
        await a.want([feed.id])
        async with ebt_stream(a) as peer:
            await peer.read()
            await peer.tell({feed.id: 4 << 1 | 1})
            await peer.give(twin.texts[1:])
            await until(lambda: a.store.log.feed_state(feed.id) == "forked")
            await peer.quiet()
            assert a.clock()[feed.id] == 3
            assert peer.note(feed.id) == 3 << 1 | 1
            assert a.replicator.feed_status(feed.id)["state"] == "forked"
            (fork,) = await a.store.log.forks()
            assert fork.author == feed.id


@pytest.mark.parametrize(
    "frame", [b"null", b"7", b'"text"', b"[]", b"{}", b'{"clock":{}}', b'{"@x":1}', b'{"a":null}', b"true", b"{bad"]
)
async def test_frames_that_are_nothing_do_no_harm(tmp_path: Path, frame: bytes) -> None:
    async with open_node(tmp_path, "a") as a, ebt_stream(a) as peer:
        await a.post()
        await peer.read()
        await peer.duplex.send([frame])
        await peer.tell({a.id: 0})
        await peer.quiet(0.2)
        assert len(peer.messages) == 1


async def test_a_flood_of_bad_notes_ends_the_connection_and_nothing_else(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, ebt_stream(a, "honest") as honest:
        await honest.read()
        async with ebt_stream(a, "flood") as flood:
            await flood.read()
            await flood.tell({f"@nonsense {number}": 1 for number in range(200)})
            with pytest.raises(ConnectionClosed):
                await flood.quiet(5.0)
        await a.post()
        await honest.tell({a.id: 0})
        await honest.quiet(0.2)
        assert len(honest.messages) == 1


async def test_a_flood_of_notes_does_not_starve_an_honest_peer(tmp_path: Path) -> None:
    feeds = [key(f"unknown {number}").id for number in range(2000)]
    async with open_node(tmp_path, "a") as a, ebt_stream(a, "flood") as flood, ebt_stream(a, "honest") as honest:
        await flood.read()
        await honest.read()

        async def pour() -> None:
            for turn in range(100):
                await flood.tell(dict.fromkeys(feeds, turn % 7 << 1))

        pouring = asyncio.create_task(pour())
        await a.post()
        await honest.tell({a.id: 0})
        began = asyncio.get_running_loop().time()
        while not honest.messages:
            await honest.read()
        assert asyncio.get_running_loop().time() - began < 1.0
        pouring.cancel()
        await asyncio.gather(pouring, return_exceptions=True)
        flood.connection.abort()


async def test_a_peer_that_never_reads_holds_nobody_up(tmp_path: Path) -> None:
    sources = [bulky(f"feed {number}", 300) for number in range(4)]
    texts = [text for feed in sources for text in feed.texts]
    feeds = [feed.id for feed in sources]
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        await a.take(texts)
        await a.want(feeds)
        await b.want(feeds)
        async with ebt_stream(a, "deaf") as deaf:
            await deaf.tell(dict.fromkeys(feeds, 0))
            await asyncio.sleep(0.1)
            await b.connections.dial(a.address)
            await until(lambda: b.clock() == a.clock())


async def test_messages_nobody_asked_for_are_not_stored(tmp_path: Path) -> None:
    feed = builders.chain("unwanted", 5)
    async with open_node(tmp_path, "a") as a, ebt_stream(a) as peer:
        await peer.read()
        await peer.give(feed.texts)
        await peer.quiet(0.3)
        assert feed.id not in a.clock()


async def test_interleaved_feeds_and_notes_in_one_burst(tmp_path: Path) -> None:
    texts = builders.generate(600, 20)
    feeds = {json.loads(text)["author"] for text in texts}
    async with open_node(tmp_path, "a") as a, ebt_stream(a) as peer:
        await a.want(feeds)
        await peer.read()
        burst = [json.dumps(dict.fromkeys(feeds, 30 << 1 | 1)).encode()]
        for number, text in enumerate(texts):
            burst.append(text)
            if number % 50 == 0:
                burst.append(b"{}")
        await peer.give(burst)
        await until(lambda: sum(a.clock().values()) == 600)


# ---- sorting what arrives

MIXED_FEEDS = [builders.chain(f"mixed {number}", 12) for number in range(3)]
junk = st.sampled_from(
    [
        b"{}",
        b"null",
        b"[1]",
        b"{bad",
        b'{"author":1}',
        b'{"previous":null}',
        b'{"@x.ed25519":0}',
        b'{"clock":{}}',
        b"\xff",
    ]
)


@given(data=st.data())
def test_frames_sort_alike_however_they_are_cut_into_batches(data: st.DataObject) -> None:
    """Messages that follow on are wanted, once and in order; junk between them and the cuts change nothing."""
    left = [list(feed.texts) for feed in MIXED_FEEDS]
    frames: list[bytes] = []
    while any(left):
        if data.draw(st.integers(0, 3)) == 0:
            frames.append(data.draw(junk))
        feed = data.draw(st.sampled_from([texts for texts in left if texts]))
        count = data.draw(st.integers(1, len(feed)))
        frames += feed[:count]
        del feed[:count]

    state = EbtState(bad_entries=10_000)
    for feed_id in (feed.id for feed in MIXED_FEEDS):
        state.want(feed_id, True, 0.0)
    state.connect("peer", {}, client=False, now=0.0)
    state.outgoing("peer")
    session = object.__new__(Session)
    session.peer, session._state, session._format, session._now = "peer", state, CLASSIC, lambda: 0.0

    wanted: list[Peeked] = []
    while frames:
        cut = data.draw(st.integers(1, len(frames)))
        wanted += session._sort([Body(BodyType.JSON, frame) for frame in frames[:cut]])
        del frames[:cut]
    for mixed in MIXED_FEEDS:
        of_feed = [peeked for peeked in wanted if peeked[0] == mixed.id]
        assert of_feed == [(mixed.id, sequence, text) for sequence, text in enumerate(mixed.texts, 1)]


# ---- remembered clocks


async def test_clocks_are_saved_compactly_and_read_back(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "sbot.db", [FEEDS, REPLICATION])
    try:
        remembered = RememberedClocks(database, Ticking())
        clock = {key(f"feed {number}").id: number - 1 for number in range(1200)}
        few = dict(list(clock.items())[:3])
        await remembered.save({"peer": clock, "other": few, "none": {}})
        await remembered.save({"other": few})
        assert await remembered.load("peer") == clock
        assert await remembered.load("other") == few
        assert await remembered.load("none") == {}
        assert await remembered.load("unknown") == {}
        (size,) = database.peek(
            lambda connection: connection.execute("SELECT length(clock) FROM peer_clock WHERE peer='peer'").fetchone()
        )
        assert size == 8 * len(clock)
        await remembered.forget("peer")
        assert await remembered.load("peer") == {}
    finally:
        await database.close()


async def test_a_damaged_clock_counts_as_unknown(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "sbot.db", [FEEDS, REPLICATION])
    try:
        remembered = RememberedClocks(database, Ticking())
        await remembered.save({"peer": {key("x").id: 5}})
        await database.write(lambda connection: connection.execute("UPDATE peer_clock SET clock=x'010203'").rowcount)
        assert await remembered.load("peer") == {}
    finally:
        await database.close()


async def test_what_a_peer_has_survives_a_restart_of_both(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (a, b):
        await b.connections.dial(a.address)
        await until(lambda: a.clock() == b.clock())
        await quiet_moment(a, b)
    async with only_messages(tmp_path, "a") as a, only_messages(tmp_path, "b") as b:
        await b.connections.dial(a.address)
        await asyncio.sleep(0.4)
        now = b.connections.connected(a.id)
        assert now is not None
        assert now.bytes_in - 144 <= 2 * 34 + 9 + 2  # the server's first note was {}
