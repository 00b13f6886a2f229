"""The store of posts that came before their history: what is taken, what is refused, and when it is dropped."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from feeds import early_posts
from feeds.early_posts import EARLY_POSTS, EarlyPost, EarlyPosts, own_words, page
from feeds.errors import InvalidMessage
from feeds.formats.registry import CLASSIC
from tests.support import builders
from tests.support.stores import Store, Ticking, open_store

HMAC = bytes(range(32))


@dataclass
class World:
    store: Store
    early: EarlyPosts
    clock: Ticking

    def posts(self, **filters: Any) -> list[EarlyPost]:
        found, following = self.store.database.peek(lambda connection: page(connection, None, 1000, **filters))
        assert following is None
        return found

    def ids(self, **filters: Any) -> list[str]:
        return [post.id for post in self.posts(**filters)]

    def rows(self) -> int:
        query = "SELECT count(*) FROM early_post"
        (count,) = self.store.database.peek(lambda connection: connection.execute(query).fetchone())
        return int(count)

    async def hold(self, feed: builders.Feed, first: int, last: int | None = None) -> list[str]:
        texts = feed.texts[first - 1 : last]
        return [message.id for message in await self.early.hold(feed.id, texts, first=first)]

    async def take(self, texts: Iterable[bytes]) -> None:
        report = await self.store.ingest.add(list(texts), source="test")
        assert not report.rejections

    async def tidy(self, wanted: bool = True) -> None:
        await self.early.tidy(lambda _: wanted)


@asynccontextmanager
async def open_world(folder: Path, *, hmac_key: bytes | None = None) -> AsyncIterator[World]:
    clock = Ticking()
    async with open_store(folder, components=[EARLY_POSTS], now=clock, hmac_key=hmac_key) as store:
        early = await EarlyPosts.open(store.database, store.log, CLASSIC, hmac_key=hmac_key, now=clock)
        yield World(store, early, clock)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


def posting(name: str, count: int, hmac_key: bytes | None = None) -> builders.Feed:
    feed = builders.Feed(builders.keypair(name), hmac_key)
    for number in range(count):
        feed.append({"type": "post", "text": f"{name} {number}"})
    return feed


# ---- what is taken


async def test_the_end_of_a_feed_is_held_newest_first_and_is_no_part_of_the_log(world: World) -> None:
    feed = posting("feed", 100)
    assert await world.hold(feed, 91) == feed.ids[90:]
    assert world.ids() == feed.ids[:89:-1]
    assert [post.text for post in world.posts(descending=False)] == feed.texts[90:]
    assert {post.author for post in world.posts()} == {feed.id}
    assert [post.sequence for post in world.posts()] == list(range(100, 90, -1))
    assert world.early.seen(feed.id) == 100

    log = world.store.log
    assert (log.position, log.sequence(feed.id), log.clock(), log.feed(feed.id)) == (0, 0, {}, None)
    assert await log.get(feed.ids[-1]) is None
    assert await log.range(feed.id, 90, 10) == []
    await world.take(feed.texts)  # and what is held stands in nobody's way
    assert log.sequence(feed.id) == 100


async def test_posts_and_what_a_feed_says_of_itself_are_kept_and_nothing_else(world: World) -> None:
    feed = builders.Feed(builders.keypair("feed"))
    for content in (
        {"type": "vote", "vote": {"link": builders.message_id(1), "value": 1}},
        {"type": "contact", "contact": builders.keypair("other").id, "following": True},
        {"type": "about", "about": builders.keypair("other").id, "name": "Somebody"},
        {"type": "post", "text": "plain"},
        {"type": "post", "text": "a reply", "root": builders.message_id(1)},
        {"type": "about", "about": feed.id, "name": "Old", "image": builders.blob_id(1)},
        {"type": "about", "about": feed.id, "name": "New"},
    ):
        feed.append(content)
    feed.append("AAAA" * 20 + ".box")
    assert await world.hold(feed, 1) == feed.ids[3:7]
    assert world.ids() == [feed.ids[4], feed.ids[3]]
    assert world.ids(replies=False) == [feed.ids[3]]
    words = world.store.database.peek(lambda connection: own_words(connection, [feed.id, "@x"], CLASSIC))
    assert words == {feed.id: {"name": "New", "image": builders.blob_id(1)}}


async def test_a_claimed_time_to_come_is_no_way_to_the_top(world: World) -> None:
    liar, honest = builders.Feed(builders.keypair("liar")), builders.Feed(builders.keypair("honest"))
    liar.append({"type": "post", "text": "x"}, timestamp=9 * 10**15)
    await world.hold(liar, 1)
    honest.append({"type": "post", "text": "x"}, timestamp=int(world.clock() * 1000) + 10_000)
    await world.hold(honest, 1)
    assert [post.author for post in world.posts()] == [honest.id, liar.id]


async def test_pages_go_on_where_the_one_before_ended(world: World) -> None:
    feed = posting("feed", 15)
    await world.hold(feed, 1)
    for descending in (True, False):
        found: list[str] = []
        start = None
        while True:
            posts, start = world.store.database.peek(
                lambda connection, s=start, d=descending: page(connection, s, 4, descending=d)  # type: ignore[misc]
            )
            found += [post.id for post in posts]
            if start is None:
                break
        assert found == (feed.ids[::-1] if descending else feed.ids)
    assert world.ids(only=[]) == world.ids(without=[feed.id]) == []
    assert world.ids(only=[feed.id]) == feed.ids[::-1]


async def test_networks_with_a_key_of_their_own(tmp_path: Path) -> None:
    async with open_world(tmp_path, hmac_key=HMAC) as world:
        assert await world.hold(posting("feed", 3, HMAC), 1)
        with pytest.raises(InvalidMessage, match="signature"):
            await world.hold(posting("other", 3), 1)


# ---- what is refused


async def test_other_feeds_and_bad_signatures_blame_whoever_sent_them(world: World) -> None:
    feed, other = posting("feed", 10), posting("other", 10)
    forged = feed.texts[9].replace(b"feed 9", b"fake 9")
    for bad, reason in (
        (other.texts[9], "another feed"),
        (forged, "signature"),
        (b"{}", "."),
        (b"\xff", "."),
    ):
        with pytest.raises(InvalidMessage, match=reason):
            await world.early.hold(feed.id, [*feed.texts[5:9], bad], first=1)
    assert world.rows() == 0


async def test_what_was_not_asked_for_is_left(world: World) -> None:
    feed = posting("feed", 30)
    held = await world.early.hold(feed.id, feed.texts, first=25)
    assert [message.sequence for message in held] == list(range(25, 31))
    assert world.ids() == feed.ids[:23:-1]


async def test_what_the_log_has_is_left(world: World) -> None:
    feed = posting("feed", 30)
    await world.take(feed.texts[:27])
    assert await world.hold(feed, 20) == feed.ids[27:]


async def test_two_messages_at_one_place_are_not_held(world: World) -> None:
    feed = posting("feed", 10)
    branch, _ = builders.signed_text(
        {
            **{k: v for k, v in json.loads(feed.texts[9]).items() if k != "signature"},
            "content": {"type": "post", "text": "b"},
        },
        feed.keys,
    )
    assert await world.early.hold(feed.id, [*feed.texts[5:], branch], first=1) == []
    assert world.rows() == 0
    await world.hold(feed, 6)  # one branch from one peer, the other from another: neither is shown
    assert await world.early.hold(feed.id, [branch], first=1) == []
    assert world.rows() == 0


async def test_neighbours_that_do_not_follow_on_each_other_are_not_held(world: World) -> None:
    feed, twin = posting("feed", 9), builders.Feed(builders.keypair("feed"))
    for number in range(10):
        twin.append({"type": "post", "text": f"twin {number}"})
    assert await world.early.hold(feed.id, [feed.texts[8], twin.texts[9]], first=1) == []
    await world.take(feed.texts)
    assert await world.early.hold(feed.id, [twin.texts[9]], first=1) == []
    assert world.rows() == 0
    assert world.store.log.feed_state(feed.id) == "open"  # that is for the door to find out


# ---- bounds


async def test_a_feed_keeps_its_newest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_posts, "MESSAGES_A_FEED", 5)
    feed = posting("feed", 40)
    assert await world.hold(feed, 11, 20) == feed.ids[15:20]
    await world.hold(feed, 37)
    assert world.ids() == [*feed.ids[:35:-1], feed.ids[19]]
    assert await world.hold(feed, 1, 10) == []
    assert world.rows() == 5


@pytest.mark.parametrize("bound", ["MESSAGES", "BYTES"])
async def test_feeds_give_way_whose_posts_were_fetched_longest_ago(
    world: World, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    feeds = [posting(f"feed {number}", 10) for number in range(6)]
    monkeypatch.setattr(early_posts, bound, 30 if bound == "MESSAGES" else sum(map(len, feeds[0].texts)) * 3 + 100)
    for feed in feeds[:3]:
        await world.hold(feed, 1)
    await world.hold(feeds[0], 1)  # again, so it is not the oldest any more
    for feed in feeds[3:5]:
        await world.hold(feed, 1)
    assert {post.author for post in world.posts()} == {feeds[0].id, feeds[3].id, feeds[4].id}
    assert world.rows() == 30


async def test_what_alone_is_too_much_is_not_held(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_posts, "BYTES", 100)
    await world.hold(posting("feed", 3), 1)
    assert world.rows() == 0


# ---- when it is dropped


async def test_what_the_log_reaches_is_gone_at_once_and_dropped_soon(world: World) -> None:
    feed = posting("feed", 100)
    await world.hold(feed, 91)
    await world.take(feed.texts[:95])
    assert world.ids() == feed.ids[:94:-1]
    assert world.rows() == 10
    await world.tidy()
    assert world.rows() == 5
    await world.take(feed.texts[95:])
    assert world.ids() == []
    await world.tidy()
    assert world.rows() == 0
    assert await world.hold(feed, 91) == []


async def test_another_branch_than_the_logs_is_dropped_as_a_whole(world: World) -> None:
    feed, twin = posting("feed", 30), builders.Feed(builders.keypair("feed"))
    for number in range(22):
        twin.append({"type": "post", "text": f"twin {number}"})
    await world.hold(feed, 21)
    await world.take(twin.texts)
    await world.tidy()
    assert world.rows() == 0
    assert (world.store.log.feed_state(feed.id), await world.store.log.forks()) == ("open", [])


async def test_forked_and_unwanted_feeds_and_what_is_old_are_dropped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = posting("feed", 30)
    await world.hold(feed, 21)
    await world.tidy(wanted=False)
    assert (world.rows(), world.early.seen(feed.id)) == (0, 0)

    await world.hold(feed, 21)
    monkeypatch.setattr(world.clock, "at", world.clock.at + 6 * 86_400)
    await world.tidy()
    assert world.rows() == 10
    monkeypatch.setattr(world.clock, "at", world.clock.at + 2 * 86_400)
    await world.tidy()
    assert world.rows() == 0

    await world.hold(feed, 21)
    twin = builders.Feed(builders.keypair("feed"))
    twin.append({"type": "post", "text": "twin"})
    await world.take(feed.texts[:2])
    report = await world.store.ingest.add(twin.texts, source="test")
    assert [rejection.kind for rejection in report.rejections] == ["fork"]
    assert world.ids() == []
    await world.tidy()
    assert world.rows() == 0
    assert await world.hold(feed, 21) == []


async def test_what_is_dropped_leaves_no_bytes_behind(tmp_path: Path) -> None:
    feed = posting("feed", 30)
    async with open_world(tmp_path) as world:
        await world.hold(feed, 21)
    assert b"feed 29" in (tmp_path / "sbot.db").read_bytes()
    async with open_world(tmp_path) as world:  # SQLite is often built to overwrite in any case
        await world.store.database.write(lambda connection: connection.execute("PRAGMA secure_delete=OFF").fetchall())
        await world.tidy(wanted=False)
    assert b"feed 29" not in (tmp_path / "sbot.db").read_bytes()


async def test_a_restart_drops_nothing_but_what_the_log_reached(tmp_path: Path) -> None:
    feed, other = posting("feed", 30), posting("other", 30)
    async with open_world(tmp_path) as world:
        await world.hold(feed, 21)
        await world.hold(other, 21)
        await world.take(other.texts[:25])
    async with open_world(tmp_path) as world:
        assert set(world.ids()) == {*feed.ids[20:], *other.ids[25:]}
        assert world.early.seen(feed.id) == 30
        await world.tidy()
        assert world.rows() == 15
        await world.tidy()
        assert set(world.ids()) == {*feed.ids[20:], *other.ids[25:]}
