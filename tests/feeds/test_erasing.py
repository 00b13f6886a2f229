"""Erased messages: the bytes are gone from the file, the chain holds, and nothing comes back by itself."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from feeds.blob_table import BLOBS
from feeds.erasing import Erased
from feeds.fsck import examine
from feeds.log import Hole
from tests.support.builders import Feed, generate, keypair
from tests.support.stores import VIEWS, Store, open_store

NOW = 1_700_000_000_000
MARK = "quetzalcoatlus"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path, components=[BLOBS], workers=0) as store:
        yield store


def ten() -> Feed:
    feed = Feed(keypair("one"))
    for number in range(1, 11):
        feed.append({"type": "post", "text": f"message {number} {MARK if number in (4, 6) else ''}", "channel": MARK})
    return feed


async def position(store: Store, feed: str, sequence: int) -> int:
    entry = await store.log.at(feed, sequence)
    assert entry is not None
    return entry.position


async def erase(store: Store, feed: str, *sequences: int) -> Erased:
    erased = await store.erasing.erase([await position(store, feed, at) for at in sequences], now=NOW)
    await store.indexer.catch_up()
    return erased


def damage(folder: Path, *, full: bool = True) -> list[object]:
    return [*examine(folder / "sbot.db", folder / "blobs", VIEWS, full=full).damage]


async def test_the_bytes_are_gone_and_the_feed_still_verifies(store: Store, tmp_path: Path) -> None:
    feed = ten()
    await store.ingest.add([*feed.texts, *generate(60, 5)], source="test")
    await store.ingest.publish({"type": "post", "text": "mine"})
    await store.indexer.catch_up()
    before = store.log.feed(feed.id)
    assert before is not None
    erased = await erase(store, feed.id, 4, 6)
    assert erased == Erased(2, len(feed.texts[3]) + len(feed.texts[5]))
    assert await erase(store, feed.id, 4) == Erased(0, 0)  # nothing twice
    info = store.log.feed(feed.id)
    assert info == before._replace(messages=8, bytes=before.bytes - erased.bytes)
    assert store.log.hole(feed.id) == Hole(4, 6)
    assert await store.log.get(feed.ids[3]) is None
    assert (await store.log.get(feed.ids[4])) is not None
    for full in (False, True):
        assert damage(tmp_path, full=full) == []


async def test_no_word_of_it_is_left_in_the_files(tmp_path: Path) -> None:
    feed = Feed(keypair("one"))
    for number in range(40):
        feed.append({"type": "about", "about": feed.id, "name": f"{MARK}{number}", "description": MARK * 20})
        feed.append({"type": "post", "text": f"{MARK} {number}", "channel": "cats"})
    feed.append({"type": "post", "text": "the last one stays"})
    async with open_store(tmp_path, workers=0) as store:
        await store.ingest.add(feed.texts, source="test")
        await store.indexer.catch_up()
        await store.erasing.erase(range(1, 81), now=NOW)
        await store.indexer.catch_up()
        await store.database.vacuum()  # pages of views that were made anew are freed, not overwritten
    for file in tmp_path.iterdir():
        assert MARK.encode() not in file.read_bytes(), file.name


async def test_the_text_itself_is_overwritten_at_once(tmp_path: Path) -> None:
    feed = ten()
    async with open_store(tmp_path, workers=0, views=VIEWS[:1]) as store:
        await store.ingest.add(feed.texts, source="test")
        await store.erasing.erase([4, 6], now=NOW)
    assert b"message 5 " in (tmp_path / "sbot.db").read_bytes()
    for erased in (b"message 4 ", b"message 6 "):
        assert erased not in (tmp_path / "sbot.db").read_bytes()


async def test_views_are_as_if_it_had_never_been_there(store: Store, tmp_path: Path) -> None:
    texts = [*ten().texts, *generate(80, 6)]
    await store.ingest.add(texts, source="test")
    await store.indexer.catch_up()
    await store.erasing.erase(range(20, 60), now=NOW)
    assert store.indexer.behind  # made anew by whoever follows
    await store.indexer.catch_up()
    tables = [table for view in VIEWS for table in view.tables if table != "search"]
    kept = store.dump(tables)
    await store.indexer.rebuild()
    await store.indexer.catch_up()
    assert store.dump(tables) == kept
    assert damage(tmp_path) == []


async def test_views_that_kept_nothing_of_it_are_left_alone(store: Store) -> None:
    feed = Feed(keypair("one"))
    feed.append({"type": "post", "text": "one"})
    feed.append("A" * 64 + ".box")
    await store.ingest.add(feed.texts, source="test")
    await store.indexer.catch_up()
    await store.erasing.erase([2], now=NOW)
    assert set(store.indexer.behind) == {"private_index"}


async def test_it_is_a_duplicate_when_it_comes_again(store: Store) -> None:
    feed = ten()
    await store.ingest.add(feed.texts, source="test")
    await erase(store, feed.id, 4, 5)
    report = await store.ingest.add(feed.texts[2:7], source="test")
    assert (report.added, report.duplicates, report.rejections) == (0, 5, [])
    other = Feed(keypair("one"), previous=feed.ids[2], sequence=3)
    report = await store.ingest.add([other.append({"type": "post", "text": "another fourth"})], source="test")
    assert (report.added, report.rejections) == (0, [])  # nothing is left to prove a fork with
    assert store.log.feed_state(feed.id) == "open"
    other = Feed(keypair("one"), previous=feed.ids[7], sequence=8)
    await store.ingest.add([other.append({"type": "post", "text": "another ninth"})], source="test")
    assert store.log.feed_state(feed.id) == "forked"


async def test_the_feed_goes_on_after_it(store: Store) -> None:
    feed = ten()
    await store.ingest.add(feed.texts, source="test")
    await erase(store, feed.id, 9, 10)
    report = await store.ingest.add([feed.append({"type": "post", "text": "eleventh"})], source="test")
    assert report.added == 1
    assert store.log.sequence(feed.id) == 11


async def test_a_fork_at_an_erased_tip_is_refused_and_not_recorded_without_proof(store: Store) -> None:
    feed = ten()
    await store.ingest.add(feed.texts, source="test")
    await erase(store, feed.id, 10)
    other = Feed(keypair("one"), previous="%" + "A" * 43 + "=.sha256", sequence=10)
    report = await store.ingest.add([other.append({"type": "post", "text": "follows another"})], source="test")
    assert [rejection.kind for rejection in report.rejections] == ["fork"]
    assert store.log.sequence(feed.id) == 10
    assert await store.log.forks() == []


async def test_reads_end_before_it(store: Store) -> None:
    feed = ten()
    await store.ingest.add(feed.texts, source="test")
    await erase(store, feed.id, 4, 6)
    assert await store.log.range(feed.id, 0, 100) == feed.texts[:3]
    assert await store.log.range(feed.id, 3, 100) == []
    assert await store.log.range(feed.id, 4, 100) == feed.texts[4:5]
    assert await store.log.range(feed.id, 6, 100) == feed.texts[6:]
    assert await store.log.next_held(feed.id, 3) == 5
    assert await store.log.next_held(feed.id, 10) is None
    whole = await store.log.entries_after(0, 100, whole=True)
    assert [entry.sequence for entry in whole] == [1, 2, 3, 5, 7, 8, 9, 10]
    assert whole == await store.log.entries_after(0, 100)


async def test_our_own_feed_is_never_erased(store: Store) -> None:
    for number in range(3):
        await store.ingest.publish({"type": "post", "text": f"mine {number}"})
    assert await store.erasing.erase_feed(store.own.id, now=NOW) == Erased(0, 0)
    with pytest.raises(ValueError, match="our own feed"):
        await store.erasing.begin_anew(store.own.id, now=NOW)


async def test_it_outlives_a_restart(tmp_path: Path) -> None:
    feed = ten()
    async with open_store(tmp_path, workers=0) as store:
        await store.ingest.add(feed.texts, source="test")
        await erase(store, feed.id, 4, 6)
    async with open_store(tmp_path, workers=0) as store:
        assert store.log.holes() == {feed.id: Hole(4, 6)}
        assert await store.log.get(feed.ids[5]) is None


@pytest.mark.parametrize("last", [True, False], ids=["at the end of the log", "with messages after it"])
async def test_a_feed_begins_anew(store: Store, tmp_path: Path, last: bool) -> None:
    feed, other = ten(), Feed(keypair("two"))
    await store.ingest.add([other.append({"type": "post", "text": "before"}), *feed.texts], source="test")
    if not last:
        await store.ingest.add([other.append({"type": "post", "text": "after"})], source="test")
    end = store.log.position
    thinned: list[str] = []
    store.log.when_thinned(thinned.append)
    assert (await store.erasing.begin_anew(feed.id, now=NOW)).messages == 10
    assert set(thinned) == {feed.id}
    await store.indexer.catch_up()
    assert store.log.sequence(feed.id) == 0
    assert store.log.hole(feed.id) is None
    assert store.log.feed(feed.id) is None
    assert damage(tmp_path) == []
    report = await store.ingest.add(feed.texts, source="test")
    assert report.added == 10
    assert store.log.position == end + 10  # no position is given twice
    assert await store.log.range(feed.id, 0, 100) == feed.texts
    assert [entry.sequence for entry in await store.log.entries_after(end, 100, author=feed.id)] == [*range(1, 11)]
    await store.indexer.catch_up()
    assert damage(tmp_path) == []
    assert (await store.log.get(feed.ids[9])) is not None


async def test_followers_of_the_log_are_not_told_of_what_was_forgotten(store: Store) -> None:
    feed = ten()
    await store.ingest.add(feed.texts, source="test")
    await store.erasing.begin_anew(feed.id, now=NOW)
    assert await store.log.appended_after(0) == (10, {})
    report = await store.ingest.add(feed.texts[:4], source="test")
    assert report.added == 4
    assert await store.log.appended_after(0) == (14, {feed.id: 4})


async def test_a_forked_feed_does_not_begin_anew(store: Store) -> None:
    feed = ten()
    await store.ingest.add(feed.texts, source="test")
    other = Feed(keypair("one"), previous=feed.ids[8], sequence=9)
    await store.ingest.add([other.append({"type": "post", "text": "another tenth"})], source="test")
    with pytest.raises(ValueError, match="forked"):
        await store.erasing.begin_anew(feed.id, now=NOW)
    assert store.log.sequence(feed.id) == 10


async def test_fsck_names_an_empty_text_that_nobody_erased(store: Store, tmp_path: Path) -> None:
    feed = ten()
    await store.ingest.add(feed.texts, source="test")
    await erase(store, feed.id, 4, 5)

    def spoil(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE message SET text=x'' WHERE sequence=8")

    await store.database.write(spoil)
    (found,) = examine(tmp_path / "sbot.db", tmp_path / "blobs", VIEWS, full=False).damage
    assert (found.subject, found.sequence) == (feed.id, 8)


async def test_fsck_follows_the_chain_over_a_hole(store: Store, tmp_path: Path) -> None:
    feed = ten()
    await store.ingest.add(feed.texts, source="test")
    await erase(store, feed.id, 4, 5)
    await store.database.write(lambda c: c.execute("UPDATE message SET key=zeroblob(32) WHERE sequence=5").rowcount)
    (found, *_) = examine(tmp_path / "sbot.db", tmp_path / "blobs", VIEWS, full=False).damage
    assert (found.subject, found.sequence) == (feed.id, 6)
