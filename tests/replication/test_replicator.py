"""The policy kept up to date, requests that survive, and what people are told."""

import asyncio
import logging
from itertools import pairwise
from pathlib import Path

import pytest

from feeds.errors import StoreError
from replication.replicator import Replicator
from tests.support import builders
from tests.support.peers import key, open_node, stranger, until


async def test_follows_and_blocks_change_what_is_wanted(tmp_path: Path) -> None:
    friend = builders.Feed(key("friend"))
    friend.append({"type": "contact", "contact": key("far").id, "following": True})
    async with open_node(tmp_path, "a", hops=1) as a:
        replicator = a.replicator
        assert replicator.policy.wanted == {a.id}
        await a.follow(friend.id)
        await until(lambda: replicator.policy.wanted == {a.id, friend.id})
        await a.take(friend.texts)
        await asyncio.sleep(0.2)
        assert key("far").id not in replicator.policy.wanted  # two hops away, one is allowed

        await a.block(friend.id)
        assert replicator.policy.wanted == {a.id}  # at once
        assert not replicator.allows_peer(friend.id)
        assert not replicator.may_serve(a.id, friend.id)
        assert not replicator.may_serve(friend.id, key("far").id)


async def test_hops_reach_as_far_as_set(tmp_path: Path) -> None:
    names = ["a", "one", "two", "three", "four"]
    feeds = [builders.Feed(key(name)) for name in names]
    async with open_node(tmp_path, "a", hops=3) as a:
        for feed, following in pairwise(feeds[1:]):
            await a.take([feed.append({"type": "contact", "contact": following.id, "following": True})])
        await a.follow(feeds[1].id)
        await until(lambda: len(a.replicator.policy.wanted) == 4)
        assert a.replicator.policy.wanted == {feed.id for feed in feeds[:4]}
        assert a.replicator.wanted == [feed.id for feed in feeds[:4]]  # the nearest first


async def test_requests_by_hand_survive_a_restart_and_decide(tmp_path: Path) -> None:
    friend, other = key("friend").id, key("other").id
    async with open_node(tmp_path, "a") as a:
        await a.follow(friend)
        await a.replicator.request(other, True)
        await a.replicator.request(friend, False)
        assert a.replicator.policy.wanted == {a.id, other}
    async with open_node(tmp_path, "a") as a:
        assert a.replicator.policy.wanted == {a.id, other}
        assert dict(a.replicator.requests) == {friend: False, other: True}
        await a.replicator.unrequest(friend)
        await a.replicator.unrequest(other)
        assert a.replicator.policy.wanted == {a.id, friend}
    async with open_node(tmp_path, "a") as a:
        assert dict(a.replicator.requests) == {}


async def test_a_thousand_contact_messages_are_few_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    applied = 0
    apply = Replicator._apply

    def counted(self: Replicator) -> None:
        nonlocal applied
        applied += 1
        apply(self)

    monkeypatch.setattr(Replicator, "_apply", counted)
    feed = builders.Feed(key("popular"))
    for number in range(1000):
        feed.append({"type": "contact", "contact": key(f"friend {number}").id, "following": True})
    async with open_node(tmp_path, "a") as a:
        await a.follow(feed.id)
        for start in range(0, 1000, 20):
            await a.take(feed.texts[start : start + 20])
        await until(lambda: len(a.replicator.policy.wanted) == 1002)
    assert applied < 50


async def test_our_own_feed_is_taken_from_anyone(tmp_path: Path) -> None:
    own = builders.chain("a", 4)
    async with open_node(tmp_path, "b") as b:
        await b.take(own.texts)
        await b.want([own.id])
        async with open_node(tmp_path, "a") as a:  # a new store with an old key
            await a.connections.dial(b.address)
            await until(lambda: a.clock().get(a.id) == 4)


async def test_the_status_tells_what_is_held_missing_and_waited_for(tmp_path: Path) -> None:
    feed = builders.chain("feed", 7)
    async with open_node(tmp_path, "a") as a:
        await a.take(feed.texts[:3])
        await a.want([feed.id])
        idle = a.replicator.status()
        assert idle["state"] == "offline"
        assert idle["feeds"] == {"wanted": 2, "held": 1, "behind": 0, "forked": 0, "requested": 1}
        assert a.replicator.feed_status(feed.id)["state"] == "offline"

        async with stranger(a) as peer:
            stream = peer.duplex("ebt.replicate", [{"version": 3}])
            await stream.read_batch()
            await stream.send([b'{"%b":15}' % feed.id.encode()])
            await until(lambda: a.replicator.status()["state"] == "syncing")
            status = a.replicator.status()
            assert status["messages"]["held"] == 3
            assert status["messages"]["missing"] == 4
            (line,) = status["peers"]
            assert (line["id"], line["protocol"], line["missing"]) == (key("stranger").id, "ebt", 4)

            told = a.replicator.feed_status(feed.id)
            assert (told["sequence"], told["lag"], told["state"], told["wanted"]) == (3, 4, "behind", True)
            assert told["waits_for"] == f"4 messages from {key('stranger').id}"
            (pair,) = told["peers"]
            assert (pair["claim"], pair["lag"], pair["receiving"]) == (7, 4, True)

            await stream.send(feed.texts[3:])
            await until(lambda: a.replicator.status()["state"] == "up to date")
            assert a.replicator.feed_status(feed.id)["waits_for"] is None
            assert a.replicator.status()["peers"][0]["received"] == 4

        unknown = a.replicator.feed_status(key("nobody").id)
        assert (unknown["wanted"], unknown["state"], unknown["peers"]) == (False, "not wanted", [])


async def test_messages_that_could_not_be_stored_are_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store refuses once: nothing is lost, the messages are asked for again."""
    texts = builders.chain("feed", 30).texts
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        await a.take(texts)
        feed = next(iter(a.clock()))
        await a.want([feed])
        await b.want([feed])
        add = b.store.ingest.add_peeked
        failures = 0

        async def failing(*arguments: object, **options: object) -> object:
            nonlocal failures
            if not failures:
                failures += 1
                raise StoreError("the disk is full")
            return await add(*arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(b.store.ingest, "add_peeked", failing)
        await b.connections.dial(a.address)
        await until(lambda: b.clock().get(feed) == 30)
        assert failures == 1


async def test_what_peers_have_is_saved_while_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("replication.ebt.driver.SAVE_SECONDS", 0.1)
    monkeypatch.setattr("replication.ebt.driver.TICK_SECONDS", 0.05)
    caplog.set_level(logging.WARNING)
    async with open_node(tmp_path, "a") as a, open_node(tmp_path, "b") as b:
        await a.follow(b.id)
        await b.follow(a.id)
        await b.connections.dial(a.address)
        await until(lambda: a.clock() == b.clock())

        def saved() -> int:
            count = b.store.database.peek(lambda connection: connection.execute("SELECT count(*) FROM peer_clock"))
            return int(count.fetchone()[0])

        await until(saved)
    assert not caplog.records
