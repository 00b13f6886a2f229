"""History streams, served and fetched: between our nodes and against peers without EBT (protocol.md section 8)."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from replication import history
from replication.errors import RemoteCallError
from replication.limits import Limits
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Caller, Kind, Method, Pool, Who
from replication.rpc.streams import Duplex, Sink, Source
from tests.support import builders
from tests.support.peers import bulky, key, open_node, program, stranger, until

NO_EBT = (("ebt", "replicate"),)


async def collect(source: Source, count: int | None = None, seconds: float = 10.0) -> list[Any]:
    """Items of a stream: all until it ends, or the first `count`."""
    items: list[Any] = []
    async with asyncio.timeout(seconds):
        while count is None or len(items) < count:
            batch = await source.read_batch()
            if not batch:
                break
            items += [json.loads(body.data) for body in batch]
    return items


def ask(connection: RpcConnection, **options: Any) -> Source:
    return connection.source("createHistoryStream", [options])


def sequences(items: Iterable[Any]) -> list[int]:
    return [item.get("value", item)["sequence"] for item in items]


# ---- serving


async def test_the_shapes_and_ranges_that_can_be_asked_for(tmp_path: Path) -> None:
    feed = builders.chain("feed", 12)
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        await a.take(feed.texts)
        whole = await collect(ask(peer, id=feed.id))
        assert [item["key"] for item in whole] == feed.ids
        assert [item["value"] for item in whole] == [json.loads(text) for text in feed.texts]
        assert all(isinstance(item["timestamp"], int) for item in whole)

        assert sequences(await collect(ask(peer, id=feed.id, seq=5, keys=False))) == list(range(5, 13))
        assert sequences(await collect(ask(peer, id=feed.id, sequence=12))) == [12]
        assert sequences(await collect(ask(peer, id=feed.id, seq=13))) == []
        assert sequences(await collect(ask(peer, id=feed.id, seq=0, limit=3))) == [1, 2, 3]
        assert sequences(await collect(ask(peer, id=feed.id, seq=4, sequence=4, limit=2))) == [4, 5]
        assert sequences(await collect(ask(peer, id=feed.id, limit=-1, keys=False))) == list(range(1, 13))
        assert sequences(await collect(ask(peer, id=feed.id, limit=0))) == []
        assert sequences(await collect(ask(peer, id=feed.id, reverse=True, limit=3))) == [12, 11, 10]
        assert sequences(await collect(ask(peer, id=feed.id, reverse=True, seq=10))) == [12, 11, 10]
        assert sequences(await collect(ask(peer, id=feed.id, old=False))) == []
        assert await collect(ask(peer, id=feed.id, values=False, limit=2)) == feed.ids[:2]
        assert await collect(ask(peer, id=key("nobody").id)) == []
        assert sequences(await collect(peer.source("createHistoryStream", [feed.id, 11]))) == [11, 12]


async def test_the_stored_text_is_what_is_sent(tmp_path: Path) -> None:
    feed = builders.Feed(key("feed"))
    feed.append({"type": "post", "text": "\u2028 naïve 🎉", "big": 10**20})
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        await a.take(feed.texts)
        (body,) = await ask(peer, id=feed.id, keys=False).read_batch()
        assert body.data == feed.texts[0]
        (body,) = await ask(peer, id=feed.id).read_batch()
        assert feed.texts[0] in body.data


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["nonsense"],
        [{}],
        [{"id": 7}],
        [{"id": "@short.ed25519"}],
        [{"id": None}],
        [None],
        [[]],
        [{"id": "FEED", "seq": 1, "sequence": 2}],
        [{"id": "FEED", "seq": "1"}],
        [{"id": "FEED", "seq": 1.5}],
        [{"id": "FEED", "limit": []}],
        [{"id": "FEED", "live": "yes"}],
    ],
)
async def test_senseless_options_get_an_error_that_names_them(tmp_path: Path, options: list[Any]) -> None:
    feed = builders.chain("feed", 2)
    for option in options:
        if isinstance(option, dict) and option.get("id") == "FEED":
            option["id"] = feed.id
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        await a.take(feed.texts)
        with pytest.raises(RemoteCallError, match=r"expected|differ"):
            await collect(peer.source("createHistoryStream", options))
        assert len(await collect(ask(peer, id=feed.id))) == 2


async def test_a_live_stream_goes_on_after_the_old_messages(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        await a.post("old")
        stream = ask(peer, id=a.id, live=True, keys=False)
        only_new = ask(peer, id=a.id, live=True, old=False, keys=False)
        counted = ask(peer, id=a.id, live=True, limit=3, keys=False)
        assert sequences(await collect(stream, 1)) == [1]
        for number in range(2, 5):
            await a.post("new")
            assert sequences(await collect(stream, 1, 1.0)) == [number]
        assert sequences(await collect(only_new, 3)) == [2, 3, 4]
        assert sequences(await collect(counted)) == [1, 2, 3]  # and ends


async def test_a_live_stream_of_a_feed_that_does_not_exist_yet(tmp_path: Path) -> None:
    feed = builders.chain("later", 3)
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        stream = ask(peer, id=feed.id, seq=1, live=True, keys=False)
        await asyncio.sleep(0.05)
        await a.take(feed.texts)
        assert sequences(await collect(stream, 3)) == [1, 2, 3]


async def test_streams_that_were_ended_are_forgotten(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        streams = [ask(peer, id=a.id, live=True) for _ in range(50)]
        await asyncio.sleep(0.05)
        for stream in streams:
            await stream.cancel()
        await a.post()
        assert len(await collect(ask(peer, id=a.id))) == 1
        await until(lambda: not a.replicator.growth._waiting)


async def test_a_feed_that_blocks_the_caller_looks_empty(tmp_path: Path) -> None:
    shy = builders.Feed(key("shy"))
    shy.append({"type": "contact", "contact": key("stranger").id, "blocking": True})
    async with open_node(tmp_path, "a") as a, stranger(a) as blocked, stranger(a, "other") as other:
        await a.take(shy.texts)
        assert await collect(ask(blocked, id=shy.id)) == []
        assert await collect(ask(blocked, id=shy.id, live=True)) == []
        assert len(await collect(ask(other, id=shy.id))) == 1


async def test_a_block_ends_a_live_stream(tmp_path: Path) -> None:
    shy = builders.Feed(key("shy"))
    shy.append({"type": "post", "text": "hello"})
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        await a.take(shy.texts)
        stream = ask(peer, id=shy.id, live=True, keys=False)
        assert sequences(await collect(stream, 1)) == [1]
        await a.take([shy.append({"type": "contact", "contact": key("stranger").id, "blocking": True})])
        assert await collect(stream) == []


async def test_all_of_many_streams_are_served_though_few_at_once(tmp_path: Path) -> None:
    texts = builders.generate(600, 300)
    feeds = sorted({json.loads(text)["author"] for text in texts})
    async with open_node(tmp_path, "a", limits=Limits(history_streams_served=2)) as a, stranger(a) as peer:
        await a.take(texts)
        streams = [ask(peer, id=feed, live=True, keys=False) for feed in feeds]
        found = [sequences(await collect(stream, 2)) for stream in streams]
        assert found == [[1, 2]] * 300


async def test_more_streams_than_allowed_are_refused_and_the_rest_go_on(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a", limits=Limits(history_streams=5)) as a, stranger(a) as peer:
        streams = [ask(peer, id=a.id, live=True, keys=False) for _ in range(6)]
        with pytest.raises(RemoteCallError, match="too many"):
            await collect(streams[5])
        await a.post()
        assert sequences(await collect(streams[0], 1)) == [1]


async def test_a_reader_that_does_not_read_does_not_stop_the_others(tmp_path: Path) -> None:
    feed = bulky("feed", 400)
    async with open_node(tmp_path, "a") as a, stranger(a, "deaf") as deaf, stranger(a, "honest") as honest:
        await a.take(feed.texts)
        for _ in range(20):
            ask(deaf, id=feed.id, keys=False)
        await asyncio.sleep(0.05)
        assert len(await collect(ask(honest, id=feed.id, keys=False))) == 400


async def test_user_streams_are_between_two_sequences_and_for_the_user_only(tmp_path: Path) -> None:
    feed = builders.chain("feed", 12)
    async with open_node(tmp_path, "a") as a, program(a) as own, stranger(a) as peer:
        await a.take(feed.texts)

        async def between(**options: Any) -> list[int]:
            return sequences(await collect(own.source("createUserStream", [{"id": feed.id, **options}])))

        assert await between() == list(range(1, 13))
        assert await between(gt=3, lt=6) == [4, 5]
        assert await between(gte=3, lte=6) == [3, 4, 5, 6]
        assert await between(gt=3, lte=6, reverse=True) == [6, 5, 4]
        assert await between(gte=3, reverse=True, limit=2) == [12, 11]
        assert await between(gt=20) == []
        with pytest.raises(RemoteCallError) as refused:
            await collect(peer.source("createUserStream", [{"id": feed.id}]))
        assert refused.value.message == "method:createUserStream is not in list of allowed methods"


# ---- fetching


async def test_two_nodes_without_ebt_sync_both_ways(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a", without=NO_EBT) as a, open_node(tmp_path, "b", without=NO_EBT) as b:
        await a.follow(b.id)
        await b.follow(a.id)
        await b.connections.dial(a.address)
        await until(lambda: a.clock() == b.clock() and len(a.clock()) == 2)
        assert a.connections.peers()[0].replication == "history"
        for node in (a, b):
            await node.post("live")
            await until(lambda: a.clock() == b.clock(), 1.0)


async def test_a_client_falls_back_when_the_server_has_no_ebt(tmp_path: Path) -> None:
    async with open_node(tmp_path, "a", without=NO_EBT) as server, open_node(tmp_path, "b") as client:
        await server.follow(client.id)
        await client.follow(server.id)
        await client.connections.dial(server.address)
        await until(lambda: server.clock() == client.clock() and len(server.clock()) == 2)


async def test_a_server_falls_back_when_the_client_asks_for_history_first(tmp_path: Path) -> None:
    """What ssb-server without EBT does: it asks for its own feed, and serves ours once asked (OBSERVED.md 4.3)."""
    own = builders.chain("stranger", 5)
    asked: list[Any] = []

    async def serve(_caller: Caller, args: list[Any], out: Sink) -> None:
        asked.append(args[0])
        if args[0]["id"] == own.id:
            await out.send(own.texts[args[0]["seq"] - 1 :])
        await asyncio.Event().wait()

    method = Method(("createHistoryStream",), Kind.SOURCE, Who.ANON, serve)
    async with open_node(tmp_path, "a") as a, stranger(a, methods=[method]) as peer:
        await a.follow(own.id)
        ask(peer, id=own.id, seq=6, live=True, keys=False)
        await until(lambda: a.clock().get(own.id) == 5, 2.0)
        assert {"id": own.id, "seq": 1, "live": True, "keys": False} in asked


async def test_a_server_falls_back_when_the_client_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replication.exchange.EBT_WAIT_SECONDS", 0.2)
    monkeypatch.setattr("replication.exchange.LOOK_SECONDS", 0.1)
    own = builders.chain("stranger", 5)

    async def serve(_caller: Caller, args: list[Any], out: Sink) -> None:
        await out.send(own.texts[args[0]["seq"] - 1 :] if args[0]["id"] == own.id else [])

    method = Method(("createHistoryStream",), Kind.SOURCE, Who.ANON, serve)
    async with open_node(tmp_path, "a") as a, stranger(a, methods=[method]):
        await a.follow(own.id)
        await until(lambda: a.clock().get(own.id) == 5)


async def test_a_server_opens_ebt_where_the_client_has_it_and_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after two dials crossed: the client's stream was ended by one on the connection that is gone."""
    monkeypatch.setattr("replication.exchange.EBT_WAIT_SECONDS", 0.2)
    monkeypatch.setattr("replication.exchange.LOOK_SECONDS", 0.1)
    got: list[Any] = []
    asked: list[Any] = []

    async def serve_ebt(_caller: Caller, args: list[Any], duplex: Duplex) -> None:
        asked.extend(args)
        await duplex.send([json.dumps({a.id: 0}).encode()])
        while batch := await duplex.read_batch():
            got.extend(body.value() for body in batch)

    async def serve_history(_caller: Caller, args: list[Any], _out: Sink) -> None:
        asked.extend(args)

    methods = [
        Method(("ebt", "replicate"), Kind.DUPLEX, Who.ANON, serve_ebt),
        Method(("createHistoryStream",), Kind.SOURCE, Who.ANON, serve_history),
    ]
    async with open_node(tmp_path, "a") as a, stranger(a, methods=methods):
        await a.post("for a peer that asks by EBT only")
        await until(lambda: [item for item in got if item.get("author") == a.id])
        assert asked == [{"version": 3, "format": "classic"}]


async def test_ebt_that_opens_later_takes_over(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def serve(_caller: Caller, _args: list[Any], _out: Sink) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    method = Method(("createHistoryStream",), Kind.SOURCE, Who.ANON, serve)
    async with open_node(tmp_path, "a") as a, stranger(a, methods=[method]) as peer:
        ask(peer, id=key("stranger").id, live=True)
        await until(lambda: a.connections.peers()[0].replication == "history")
        duplex = peer.duplex("ebt.replicate", [{"version": 3}])
        assert await duplex.read_batch()
        await asyncio.wait_for(ended.wait(), 5)
        await until(lambda: a.connections.peers()[0].replication == "ebt")


async def test_a_peer_that_serves_neither_is_left_alone(tmp_path: Path) -> None:
    neither = (*NO_EBT, ("createHistoryStream",))
    async with open_node(tmp_path, "a", without=neither) as server, open_node(tmp_path, "b") as client:
        await client.follow(server.id)
        await client.connections.dial(server.address)
        await until(lambda: client.connections.peers()[0].replication == "history")
        await asyncio.sleep(0.2)
        assert client.connections.connected(server.id)


async def test_a_thousand_feeds_by_history_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "OPENED_PER_SECOND", 2000.0)
    texts = builders.generate(1000, 1000)
    feeds = {json.loads(text)["author"] for text in texts}
    limits = Limits(calls_per_second=2000.0)
    async with open_node(tmp_path, "a", without=NO_EBT, limits=limits) as a, open_node(tmp_path, "b") as b:
        await a.take(texts)
        await b.want(feeds)
        await b.connections.dial(a.address)
        await until(lambda: b.clock() == a.clock())


async def test_feeds_beyond_the_live_streams_come_in_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "REOPEN_SECONDS", 0.1)
    monkeypatch.setattr(history, "MAX_OPEN", 5)
    texts = builders.generate(60, 20)
    feeds = {json.loads(text)["author"] for text in texts}
    async with open_node(tmp_path, "a", without=NO_EBT) as a, open_node(tmp_path, "b") as b:
        await a.take(texts)
        await b.want(feeds)
        await b.connections.dial(a.address)
        await until(lambda: b.clock() == a.clock())


async def test_a_cut_history_stream_resumes_where_it_was(tmp_path: Path) -> None:
    own = builders.chain("stranger", 40)
    asked: list[int] = []

    def serving(upto: int) -> Method:
        async def serve(_caller: Caller, args: list[Any], out: Sink) -> None:
            if args[0]["id"] == own.id:
                asked.append(args[0]["seq"])
                await out.send(own.texts[args[0]["seq"] - 1 : upto])
            await asyncio.Event().wait()

        return Method(("createHistoryStream",), Kind.SOURCE, Who.ANON, serve, pool=Pool.HISTORY)

    async with open_node(tmp_path, "a") as a:
        await a.follow(own.id)
        for upto in (25, 40):
            async with stranger(a, methods=[serving(upto)]) as peer:
                ask(peer, id=own.id, live=True)
                await until(lambda: a.clock().get(own.id) == upto)  # noqa: B023
    assert asked == [1, 26]


async def test_new_wants_open_streams_and_unfollowing_ends_them(tmp_path: Path) -> None:
    open_streams: Counter[str] = Counter()

    async def serve(_caller: Caller, args: list[Any], _out: Sink) -> None:
        open_streams[args[0]["id"]] += 1
        try:
            await asyncio.Event().wait()
        finally:
            open_streams[args[0]["id"]] -= 1

    friend = key("friend").id
    method = Method(("createHistoryStream",), Kind.SOURCE, Who.ANON, serve)
    async with open_node(tmp_path, "a") as a, stranger(a, methods=[method]) as peer:
        ask(peer, id=key("stranger").id, live=True)
        await until(lambda: open_streams[a.id] == 1)
        await a.follow(friend)
        await until(lambda: open_streams[friend] == 1)
        await a.publish({"type": "contact", "contact": friend, "following": False})
        await until(lambda: open_streams[friend] == 0)
        assert open_streams[a.id] == 1


async def test_a_lying_history_stream_is_ended_and_the_feed_comes_from_elsewhere(tmp_path: Path) -> None:
    victim = builders.chain("victim", 6)
    broken = [*victim.texts[:3], victim.texts[3].replace(b'"sha256"', b'"sha257"'), *victim.texts[4:]]
    open_streams: Counter[str] = Counter()

    async def lie(_caller: Caller, args: list[Any], out: Sink) -> None:
        open_streams[args[0]["id"]] += 1
        try:
            if args[0]["id"] == victim.id:
                await out.send(broken[args[0]["seq"] - 1 :])
            await asyncio.Event().wait()
        finally:
            open_streams[args[0]["id"]] -= 1

    method = Method(("createHistoryStream",), Kind.SOURCE, Who.ANON, lie)
    async with open_node(tmp_path, "a") as a, stranger(a, "liar", methods=[method]) as liar:
        await a.follow(victim.id)
        ask(liar, id=key("liar").id, live=True)
        await until(lambda: a.clock().get(victim.id) == 3 and not open_streams[victim.id])
        async with open_node(tmp_path, "b") as b:
            await b.take(victim.texts)
            await b.want([victim.id])
            await a.connections.dial(b.address)
            await until(lambda: a.clock().get(victim.id) == 6)


async def test_a_gap_in_a_history_stream_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "AGAIN_SECONDS", 0.05)
    feed = builders.chain("feed", 6)
    asked: list[int] = []

    async def skip(_caller: Caller, args: list[Any], out: Sink) -> None:
        if args[0]["id"] == feed.id:
            asked.append(args[0]["seq"])
            await out.send([*feed.texts[:2], feed.texts[4]] if len(asked) == 1 else feed.texts[args[0]["seq"] - 1 :])
        await asyncio.Event().wait()

    method = Method(("createHistoryStream",), Kind.SOURCE, Who.ANON, skip)
    async with open_node(tmp_path, "a") as a, stranger(a, methods=[method]) as peer:
        await a.follow(feed.id)
        ask(peer, id=key("stranger").id, live=True)
        await until(lambda: a.clock().get(feed.id) == 6)
    assert asked == [1, 3]


async def test_messages_that_come_in_another_order_are_taken_at_once(tmp_path: Path) -> None:
    feed = builders.chain("feed", 6)
    asked: list[int] = []

    async def by_claimed_time(_caller: Caller, args: list[Any], out: Sink) -> None:
        if args[0]["id"] == feed.id:
            asked.append(args[0]["seq"])
            await out.send([feed.texts[place] for place in (3, 0, 4, 1, 5, 2)])
        await asyncio.Event().wait()

    method = Method(("createHistoryStream",), Kind.SOURCE, Who.ANON, by_claimed_time)
    async with open_node(tmp_path, "a") as a, stranger(a, methods=[method]) as peer:
        await a.follow(feed.id)
        ask(peer, id=key("stranger").id, live=True)
        await until(lambda: a.clock().get(feed.id) == 6)
    assert asked == [1]


async def test_messages_of_other_feeds_are_not_taken_from_a_history_stream(tmp_path: Path) -> None:
    wanted, foreign = builders.chain("wanted", 2), builders.chain("foreign", 2)
    asked: Counter[str] = Counter()

    async def smuggle(_caller: Caller, args: list[Any], out: Sink) -> None:
        asked[args[0]["id"]] += 1
        if args[0]["id"] == wanted.id:
            await out.send([wanted.texts[0], *foreign.texts])
        await asyncio.Event().wait()

    method = Method(("createHistoryStream",), Kind.SOURCE, Who.ANON, smuggle)
    async with open_node(tmp_path, "a") as a, stranger(a, methods=[method]) as peer:
        await a.follow(wanted.id)
        ask(peer, id=key("stranger").id, live=True)
        await until(lambda: asked[wanted.id])
        await asyncio.sleep(0.3)
        assert foreign.id not in a.clock()
        assert asked[wanted.id] == 1
        assert a.connections.connected(key("stranger").id)
