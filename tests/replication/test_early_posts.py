"""Newest posts before history: what is asked of whom, and whole nodes that show them while a sync stands still."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from feeds.early_posts import page
from feeds.message import JsonValue
from replication import early_fetch
from replication.early_posts import AT_ONCE, BEHIND, FEEDS, LAST, MANY, SHARE, Ask, Asking, Offer, wakes_old_replication
from replication.errors import RemoteVisible
from replication.exchange import INVALID_FEEDS_MAX
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Caller, Kind, Method, Pool, Who
from replication.rpc.streams import Duplex, Sink
from tests.replication.test_history import ask, collect
from tests.support import builders
from tests.support.peers import Node, key, open_node, stranger, until

LONG = 2 * MANY
OLD_MANIFEST: JsonValue = {"replicate": {"upto": "source"}}


def offers(count: int, missing: int, *, held: int = 0) -> list[Offer]:
    return [Offer(f"@{number}", held, held + missing, 0) for number in range(count)]


# ---- the decision


def test_little_that_is_missing_is_not_asked_for_early() -> None:
    assert Asking().choose(offers(1, MANY - 1)) == []
    assert Asking().choose(offers(MANY // BEHIND, BEHIND)) == []  # no feed lacks much
    assert Asking().choose([]) == []


def test_the_end_of_each_feed_is_asked_for_once_nearest_first() -> None:
    asking = Asking()
    first = asking.choose(offers(20, LONG, held=7))
    assert first == [Ask(f"@{number}", 7 + LONG - LAST + 1, LAST) for number in range(AT_ONCE)]
    second = asking.choose(offers(20, LONG, held=7))
    assert [one.feed for one in second] == [f"@{number}" for number in range(AT_ONCE, 2 * AT_ONCE)]
    assert len(asking.choose(offers(20, LONG))) == 20 - 2 * AT_ONCE
    assert asking.choose(offers(20, LONG)) == []


def test_what_was_looked_at_already_is_not_asked_for_again() -> None:
    asks = Asking().choose([Offer("@a", 0, LONG, LONG), Offer("@b", 0, LONG, LONG - 3), Offer("@c", 0, LONG, 0)])
    assert asks == [Ask("@b", LONG - 2, LAST), Ask("@c", LONG - LAST + 1, LAST)]


def test_what_comes_twice_is_a_small_share_of_what_is_missing() -> None:
    asking, asked = Asking(), 0
    while asks := asking.choose(offers(100, 3 * BEHIND)):
        asked += len(asks)
    assert asked == 100 * 3 * BEHIND // SHARE // LAST
    assert asking.choose(offers(100, 2 * BEHIND)) == []  # and it does not shrink as the sync goes on


def test_a_session_is_asked_for_so_many_feeds_and_bytes_at_most() -> None:
    asking, asked = Asking(), 0
    while asks := asking.choose(offers(2 * FEEDS, LONG)):
        asked += len(asks)
    assert (asked, asking.over) == (FEEDS, True)
    asking = Asking()
    assert asking.choose(offers(20, LONG))
    asking.received(5 << 20)
    assert (asking.choose(offers(20, LONG)), asking.over) == ([], True)


@pytest.mark.parametrize(
    ("manifest", "feeds", "wakes"),
    [
        (OLD_MANIFEST, 301, True),
        (OLD_MANIFEST, 300, False),
        ({"replicate": {}, "ebt": {"replicate": "duplex"}}, 9999, False),
        ({"createHistoryStream": "source"}, 9999, False),
        ({"replicate": "async"}, 9999, False),
        (None, 9999, False),
        ([], 9999, False),
    ],
)
def test_old_peers_that_would_ask_back_for_too_many_feeds(manifest: JsonValue, feeds: int, wakes: bool) -> None:
    assert wakes_old_replication(manifest, feeds) is wakes


# ---- nodes


def posting(name: str, count: int, last: dict[str, Any] | None = None) -> builders.Feed:
    feed = builders.Feed(key(name))
    for number in range(count - (last is not None)):
        feed.append({"type": "post", "text": f"{name} {number}"})
    if last is not None:
        feed.append(last)
    return feed


def early(node: Node) -> list[str]:
    posts, _ = node.store.database.peek(lambda connection: page(connection, None, 1000))
    return [post.id for post in posts]


@contextmanager
def closed_door(node: Node, monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.Event]:
    """Nothing gets into the node's log until the event is set."""
    opened, add = asyncio.Event(), node.store.ingest.add_peeked

    async def waiting(*arguments: Any, **options: Any) -> Any:
        await opened.wait()
        return await add(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(node.store.ingest, "add_peeked", waiting)
        yield opened


async def test_newest_posts_are_here_while_the_history_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = b"a picture"
    async with open_node(tmp_path, "b") as b:
        blob = (await b.blobs.add(picture)).id
        feed = builders.Feed(key("feed"))
        feed = posting("feed", LONG, {"type": "about", "about": feed.id, "name": "Feed", "image": blob})
        await b.take(feed.texts)
        await b.want([feed.id])
        async with open_node(tmp_path, "a") as a:
            await a.follow(feed.id)
            with closed_door(a, monkeypatch) as door:
                await a.connections.dial(b.address)
                await until(lambda: early(a))
                assert early(a) == feed.ids[LONG - LAST : LONG - 1][::-1]
                await until(lambda: a.blobs.has(blob))
                # ... and they are told and served to nobody
                assert a.clock() == {a.id: 1}
                async with stranger(a) as peer:
                    assert await collect(ask(peer, id=feed.id, live=False)) == []
                    stream = peer.duplex("ebt.replicate", [{"version": 3}])
                    (note,) = await stream.read_batch()
                    assert json.loads(note.data)[feed.id] >> 1 == 0
                    await stream.send([b'{"%b":0}' % feed.id.encode()])
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.5):
                            await stream.read_batch()
                door.set()
                await until(lambda: a.clock().get(feed.id) == LONG)
            assert early(a) == []
            await until(lambda: not _rows(a))
            assert a.replicator.failure(feed.id) is None
            # both ways the peer has told the truth, and nothing is asked for again
            assert b.replicator.ebt.state.shown(a.id, feed.id) is not None


def _rows(node: Node) -> int:
    query = "SELECT count(*) FROM early_post"
    (count,) = node.store.database.peek(lambda connection: connection.execute(query).fetchone())
    return int(count)


async def test_a_feed_that_is_blocked_meanwhile_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = posting("feed", LONG)
    async with open_node(tmp_path, "b") as b, open_node(tmp_path, "a") as a:
        await b.take(feed.texts)
        await b.want([feed.id])
        await a.follow(feed.id)
        with closed_door(a, monkeypatch) as door:
            await a.connections.dial(b.address)
            await until(lambda: early(a))
            await a.block(feed.id)
            await until(lambda: not _rows(a))
            door.set()


class Scripted:
    """A peer of the test's own: it claims what it likes by EBT, sends nothing there, and answers history streams."""

    def __init__(self, answers: dict[str, Any], manifest: JsonValue = None) -> None:
        self.answers = answers
        """By feed: texts, "silent", "error" or "endless"."""
        self.asked: list[dict[str, Any]] = []
        self.manifest = manifest
        self.endless = 0

    def methods(self) -> list[Method]:
        async def history(_caller: Caller, args: list[JsonValue], out: Sink) -> None:
            (options,) = args
            assert isinstance(options, dict)
            self.asked.append(options)
            answer = self.answers.get(str(options["id"]), [])
            match answer:
                case "silent":
                    await asyncio.Event().wait()
                case "error":
                    raise RemoteVisible("no")
                case ("endless", text):
                    while True:
                        self.endless += 1
                        await out.send([text])
                        await asyncio.sleep(0)  # this peer and the node share a loop
                case _:
                    await out.send(answer[-int(str(options["limit"])) :])

        async def manifest(_caller: Caller, _args: list[JsonValue]) -> JsonValue:
            return self.manifest

        return [
            Method(("createHistoryStream",), Kind.SOURCE, Who.ANON, history, pool=Pool.HISTORY),
            Method(("manifest",), Kind.SYNC, Who.ANON, manifest),
        ]

    async def claim(self, connection: RpcConnection, feeds: dict[str, int]) -> Duplex:
        stream = connection.duplex("ebt.replicate", [{"version": 3}])
        await stream.read_batch()
        notes = ",".join(f'"{feed}":{sequence << 1 | 1}' for feed, sequence in feeds.items())
        await stream.send([f"{{{notes}}}".encode()])
        return stream


async def test_a_peer_that_answers_wrongly_costs_nothing_but_the_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(early_fetch, "ANSWER_SECONDS", 2.0)
    silent, broken, endless = (posting(name, 3) for name in ("silent", "broken", "endless"))
    honest = posting("honest", LONG)
    answers = {
        silent.id: "silent",
        broken.id: "error",
        endless.id: ("endless", endless.texts[-1]),
        honest.id: honest.texts,
    }
    peer = Scripted(answers)
    async with open_node(tmp_path, "a") as a:
        for feed in answers:
            await a.follow(feed)
        async with stranger(a, methods=peer.methods()) as connection:
            await peer.claim(connection, dict.fromkeys(answers, LONG))
            await until(lambda: len(peer.asked) == 4)
            await until(lambda: honest.ids[-1] in early(a))
            await asyncio.sleep(0.5)
            assert set(early(a)) == set(honest.ids[-LAST:])
            sent = peer.endless
            await asyncio.sleep(0.2)
            assert peer.endless == sent  # it was told to stop
            assert a.clock() == {a.id: 4}
            assert [info.id for info in a.connections.peers()] == [key("stranger").id]
            assert all(a.replicator.failure(feed) is None for feed in answers)
            assert len(peer.asked) == 4  # one try each


async def test_a_bad_signature_or_another_feed_is_held_against_the_peer(tmp_path: Path) -> None:
    other = posting("other", 5)
    feeds = [posting(f"feed {number}", 30) for number in range(INVALID_FEEDS_MAX)]
    answers: dict[str, Any] = {
        feed.id: [text.replace(b'"text":"feed', b'"text":"fake') for text in feed.texts] for feed in feeds[1:]
    }
    answers[feeds[0].id] = other.texts
    peer = Scripted(answers)
    async with open_node(tmp_path, "a") as a:
        await a.want([*answers, other.id])
        async with stranger(a, methods=peer.methods()) as connection:
            await peer.claim(connection, dict.fromkeys(answers, LONG))
            await until(lambda: connection.closed.is_set())
        failures = {feed.id: a.replicator.failure(feed.id) for feed in feeds}
        assert all(failure and failure.peer == key("stranger").id for failure in failures.values())
        assert (early(a), _rows(a), a.clock()) == ([], 0, {})


async def test_old_peers_with_many_feeds_are_left_alone(tmp_path: Path) -> None:
    feed = posting("feed", 30)
    peer = Scripted({feed.id: feed.texts}, OLD_MANIFEST)
    async with open_node(tmp_path, "a") as a:
        await a.follow(feed.id)
        async with stranger(a, methods=peer.methods()) as connection:
            others = {key(f"other {number}").id: 1 for number in range(300)}
            await peer.claim(connection, {feed.id: LONG, **others})
            await asyncio.sleep(1.0)
            assert peer.asked == []
        async with stranger(a, "another", methods=peer.methods()) as connection:
            await peer.claim(connection, {feed.id: LONG})
            await until(lambda: peer.asked)


async def test_peers_without_ebt_and_without_anything_are_asked_for_nothing(tmp_path: Path) -> None:
    feed = posting("feed", 30)
    peer = Scripted({feed.id: feed.texts})
    async with open_node(tmp_path, "a") as a:
        await a.follow(feed.id)
        async with stranger(a, methods=peer.methods()) as connection:
            await peer.claim(connection, {feed.id: MANY - 1})
            await asyncio.sleep(1.0)
            assert peer.asked == []


async def test_feeds_that_come_to_be_wanted_after_the_peer_spoke_of_them(tmp_path: Path) -> None:
    feed = posting("feed", LONG)
    peer = Scripted({feed.id: feed.texts})
    async with open_node(tmp_path, "a") as a, stranger(a, methods=peer.methods()) as connection:
        await peer.claim(connection, {feed.id: LONG})
        await until(lambda: a.replicator.ebt.state.offered(feed.id) == LONG)
        assert peer.asked == []
        await a.follow(feed.id)
        await until(lambda: early(a))
        assert len(peer.asked) == 1


# ---- being asked


async def test_live_streams_wait_for_what_ebt_brings_anyway(tmp_path: Path) -> None:
    """ssb-server opens them for all its feeds as soon as it is asked for a history stream."""
    feed, unheard = builders.chain("feed", 3), builders.chain("unheard", 3)
    async with open_node(tmp_path, "a") as a, stranger(a) as peer:
        await a.take([*feed.texts, *unheard.texts])
        await a.want([feed.id, unheard.id])
        stream = peer.duplex("ebt.replicate", [{"version": 3}])
        await stream.read_batch()
        await stream.send([b'{"%b":0}' % feed.id.encode()])
        await collect(stream, 3)
        live = ask(peer, id=feed.id, seq=1, live=True, keys=False)
        assert [item["sequence"] for item in await collect(ask(peer, id=feed.id, seq=2, limit=2, keys=False))] == [2, 3]
        other = ask(peer, id=unheard.id, seq=1, live=True, keys=False)
        assert [item["sequence"] for item in await collect(other, 3)] == [1, 2, 3]
        with pytest.raises(TimeoutError):
            await collect(live, 1, seconds=0.3)
        assert a.replicator.exchange_of(next(iter(a.replicator._exchanges))) is not None
        assert [item["sequence"] for item in await collect(other, 0)] == []
        await stream.end("done")
        assert [item["sequence"] for item in await collect(live, 3)] == [1, 2, 3]


async def test_being_asked_beside_ebt_is_no_sign_of_a_peer_without_it(tmp_path: Path) -> None:
    feed = builders.chain("feed", 3)
    calls: list[JsonValue] = []

    async def history(_caller: Caller, args: list[JsonValue], out: Sink) -> None:
        calls.extend(args)
        raise RemoteVisible("no")

    method = Method(("createHistoryStream",), Kind.SOURCE, Who.ANON, history, pool=Pool.HISTORY)
    async with open_node(tmp_path, "a") as a, stranger(a, methods=[method]) as peer:
        await a.want([feed.id])
        stream = peer.duplex("ebt.replicate", [{"version": 3}])
        await stream.read_batch()
        await collect(ask(peer, id=feed.id, live=False))
        await stream.end()
        await until(lambda: not a.replicator.ebt.has_session(key("stranger").id))
        await asyncio.sleep(0.5)
        assert calls == []
