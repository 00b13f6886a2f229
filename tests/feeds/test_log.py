"""Reads of the log, its memory, and the conditions under which a run is written."""

import gc
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from feeds.formats.registry import CLASSIC
from feeds.log import Appended, Entry, ForkFound, Log, Run
from feeds.log_rows import message_id
from feeds.message import EMPTY, Tip
from feeds.tips import TipRow, Tips
from tests.support import builders
from tests.support.builders import Feed, chain, keypair
from tests.support.stores import VIEWS, Store, open_store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path) as opened:
        yield opened


async def fill(store: Store, *feeds: Feed) -> None:
    """Add feeds, a few messages of each in turn."""
    longest = max(len(feed.texts) for feed in feeds)
    for at in range(0, longest, 3):
        await store.ingest.add([text for feed in feeds for text in feed.texts[at : at + 3]], source="test")


def run_of(feed: Feed, base: Tip, first: int, last: int) -> Run:
    messages = [CLASSIC.prepare(text) for text in feed.texts[first - 1 : last]]
    return Run(
        feed.id,
        base,
        [message.key for message in messages],
        [message.timestamp for message in messages],
        [message.text for message in messages],
        [[None] * len(messages) for _ in VIEWS],
    )


async def append(store: Store, *runs: Run) -> Appended:
    appended = await store.database.write(lambda connection: store.log.append(connection, runs, 1234))
    store.log.committed(appended.position, appended.tips)
    return appended


async def test_an_empty_log(store: Store) -> None:
    feed = keypair("nobody").id
    assert store.log.position == 0
    assert store.log.sequence(feed) == 0
    assert store.log.tip(feed) == EMPTY
    assert store.log.feed_state(feed) == "open"
    assert store.log.clock() == {}
    assert store.log.feeds() == []
    assert store.log.feed(feed) is None
    assert await store.log.get(builders.message_id(1)) is None
    assert await store.log.get("nonsense") is None
    assert await store.log.at(feed, 1) is None
    assert await store.log.range(feed, 0, 10) == []
    assert await store.log.entries_after(0, 10) == []
    assert await store.log.entries_after(0, 10, author=feed) == []
    assert await store.log.entries_after(0, 10, type="post") == []
    assert await store.log.appended_after(0) == (0, {})
    assert await store.log.forks() == []


async def test_messages_are_found_by_id_and_by_place(store: Store) -> None:
    one, two = chain("one", 20), chain("two", 12)
    await fill(store, one, two)
    for feed in (one, two):
        for sequence, (id_, text) in enumerate(zip(feed.ids, feed.texts, strict=True), 1):
            entry = await store.log.get(id_)
            assert entry is not None
            assert (entry.id, entry.author, entry.sequence, entry.text) == (id_, feed.id, sequence, text)
            assert entry == await store.log.at(feed.id, sequence)
        assert await store.log.at(feed.id, 0) is None
        assert await store.log.at(feed.id, len(feed.ids) + 1) is None
    assert await store.log.get(builders.message_id(1)) is None


async def test_an_id_that_begins_like_another_is_told_apart(store: Store) -> None:
    feed = chain("one", 1)
    await fill(store, feed)
    entry = await store.log.get(feed.ids[0])
    assert entry is not None
    alike = feed.ids[0][:20] + ("A" if feed.ids[0][20] != "A" else "B") + feed.ids[0][21:]
    assert await store.log.get(alike) is None


async def test_only_the_canonical_spelling_of_an_id_is_one(store: Store) -> None:
    feed = chain("one", 1)
    await fill(store, feed)
    data = feed.ids[0][1:-7].replace("+", "-").replace("/", "_")
    assert await store.log.get(f"ssb:message/bendybutt-v1/{data}") is None


async def test_memory_tells_what_was_committed_also_after_a_restart(tmp_path: Path) -> None:
    one, two = chain("one", 7), chain("two", 4)
    async with open_store(tmp_path) as store:
        await fill(store, one, two)
        seen = [store.log.clock(), store.log.feeds(), store.log.position, store.log.tip(one.id), store.log.feed(two.id)]
    assert seen[0] == {one.id: 7, two.id: 4}
    assert seen[2] == 11
    assert seen[3] == Tip(7, one.ids[-1])
    info = seen[4]
    assert info == (two.id, 4, 4, sum(map(len, two.texts)), "open")
    async with open_store(tmp_path) as store:
        again = [
            store.log.clock(),
            store.log.feeds(),
            store.log.position,
            store.log.tip(one.id),
            store.log.feed(two.id),
        ]
    assert again == seen


async def test_ranges_are_in_order_and_bounded(store: Store) -> None:
    one, two = chain("one", 30), chain("two", 10)
    await fill(store, one, two)
    assert await store.log.range(one.id, 0, 100) == one.texts
    assert await store.log.range(one.id, 10, 5) == one.texts[10:15]
    assert await store.log.range(one.id, 30, 5) == []
    size = len(one.texts[0])
    assert await store.log.range(one.id, 0, 100, max_bytes=1) == one.texts[:1]
    assert await store.log.range(one.id, 0, 100, max_bytes=size + 1) == one.texts[:2]
    unknown = keypair("nobody").id
    requests = [(one.id, 28, 9), (unknown, 0, 9), (two.id, 0, 3), (one.id, 0, 1)]
    assert await store.log.ranges(requests) == [one.texts[28:], [], two.texts[:3], one.texts[:1]]
    assert await store.log.ranges(requests, max_bytes=1) == [one.texts[28:29], [], [], []]
    assert await store.log.ranges([(unknown, 0, 1)]) == [[]]


async def test_entries_in_receive_order_by_author_and_type(store: Store) -> None:
    one, two = chain("one", 40), chain("two", 25)
    await fill(store, one, two)
    everything = await store.log.entries_after(0, 1000)
    assert [entry.position for entry in everything] == list(range(1, 66))
    assert [entry.received for entry in everything] == sorted(entry.received for entry in everything)

    def kind(entry: Entry) -> object:
        content = json.loads(entry.text)["content"]
        return content["type"] if isinstance(content, dict) else None

    for author in (None, one.id, two.id):
        for type_ in (None, "post", "vote", "about"):
            fitting = [
                entry
                for entry in everything
                if (author is None or entry.author == author) and (type_ is None or kind(entry) == type_)
            ]
            assert fitting
            for position in (0, 1, 17, 64, 65, 66):
                ahead = [entry for entry in fitting if entry.position > position]
                behind = [entry for entry in reversed(fitting) if entry.position < position or position == 0]
                for limit in (1, 4, 1000):
                    found = await store.log.entries_after(position, limit, author=author, type=type_)
                    assert found == ahead[:limit]
                    found = await store.log.entries_after(position, limit, author=author, type=type_, descending=True)
                    assert found == behind[:limit]


async def test_a_log_without_an_index_of_types_says_so(store: Store) -> None:
    plain = await Log.open(store.database)
    with pytest.raises(ValueError, match="index of types"):
        await plain.entries_after(0, 1, type="post")


async def test_an_entry_as_key_value_and_time_keeps_the_text() -> None:
    entry = Entry(3, "%id=.sha256", "@feed", 1, 1500000000123, '{"text":"é\\u2028","n":1e21}'.encode())
    assert entry.as_kvt() == (
        b'{"key":"%id=.sha256","value":{"text":"\xc3\xa9\\u2028","n":1e21},"timestamp":1500000000123}'
    )


async def test_growth_from_memory_and_from_the_tables_is_the_same(tmp_path: Path) -> None:
    one, two = chain("one", 9), chain("two", 6)
    async with open_store(tmp_path) as store:
        await fill(store, one, two)
        assert await store.log.appended_after(0) == (15, {one.id: 9, two.id: 6})
        assert await store.log.appended_after(12) == (15, {one.id: 9})
        assert await store.log.appended_after(15) == (15, {})
        position, grown = await store.log.appended_after(0, 1)
        assert (position, grown) == (6, {one.id: 3, two.id: 3})
    async with open_store(tmp_path) as store:
        assert await store.log.appended_after(0) == (15, {one.id: 9, two.id: 6})
        assert await store.log.appended_after(12) == (15, {one.id: 9})
        assert await store.log.appended_after(0, 4) == (4, {one.id: 3, two.id: 1})
        position = 0
        seen: dict[str, int] = {}
        while position < store.log.position:
            position, grown = await store.log.appended_after(position, 2)
            seen.update(grown)
        assert seen == {one.id: 9, two.id: 6}


async def test_memory_of_growth_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feeds.log.RECENT_LIMIT", 4)
    feed = chain("one", 12)
    for text in feed.texts:
        await store.ingest.add([text], source="test")
    assert len(store.log._recent) <= 2
    for after in range(13):
        assert await store.log.appended_after(after) == (12, {feed.id: 12} if after < 12 else {})


async def test_a_run_is_written_only_where_its_feed_stands(store: Store) -> None:
    feed = chain("one", 6)
    first = await append(store, run_of(feed, EMPTY, 1, 3))
    assert (first.before, first.position, first.stale) == (0, 3, [])
    for wrong in (EMPTY, Tip(2, feed.ids[1]), Tip(3, feed.ids[1]), Tip(4, feed.ids[3])):
        refused = await append(store, run_of(feed, wrong, 4, 6))
        assert refused.stale == [0]
        assert refused.runs == []
        assert [(tip.ref, tip.sequence) for tip in refused.tips] == [(feed.id, 3)]
    other = chain("two", 2)
    mixed = await append(store, run_of(feed, EMPTY, 1, 1), run_of(other, EMPTY, 1, 2))
    assert mixed.stale == [0]
    assert store.log.clock() == {feed.id: 3, other.id: 2}
    assert store.log.position == 5
    assert (await append(store, run_of(feed, Tip(3, feed.ids[2]), 4, 6))).stale == []
    assert await store.log.range(feed.id, 0, 9) == feed.texts


async def test_a_fork_is_recorded_once_and_closes_the_feed(store: Store) -> None:
    feed = chain("one", 3)
    await append(store, run_of(feed, EMPTY, 1, 2))
    branch = Feed(feed.keys, previous=feed.ids[0], sequence=1)
    second = branch.append({"type": "post", "text": "other"})

    async def recorded(first: bytes, at: int) -> list[int]:
        found = ForkFound(feed.id, at, first, 2, second, "peer")
        done = await store.database.write(lambda connection: store.log.record_forks(connection, [found], 99))
        store.log.committed(0, done.tips)
        return done.stale

    assert await recorded(b"something that we do not hold", 2) == [0]
    assert store.log.feed_state(feed.id) == "open"
    assert await recorded(feed.texts[1], 2) == []
    assert await recorded(feed.texts[1], 2) == []
    assert store.log.feed_state(feed.id) == "forked"
    assert await store.log.forks() == [(feed.id, 2, feed.texts[1], second, 99, "peer")]
    assert (await append(store, run_of(feed, Tip(2, feed.ids[1]), 3, 3))).stale == [0]


async def test_times_beyond_what_an_integer_column_holds(store: Store) -> None:
    feed = Feed(keypair("late"))
    for timestamp in (10**20, 1.5, 2**53, -(10**20), 1e300):
        feed.append({"type": "post"}, timestamp=timestamp)
    texts = [CLASSIC.prepare(text).text for text in feed.texts]
    report = await store.ingest.add(feed.texts, source="test")
    assert report.added == 5
    assert await store.log.range(feed.id, 0, 9) == texts


def test_tips_of_a_hundred_thousand_feeds_are_small() -> None:
    gc.collect()
    before = sys.getallocatedblocks()
    tips = Tips()
    count = 20_000
    refs = [f"@{number:043d}=.ed25519" for number in range(count)]
    for number, ref in enumerate(refs, 1):
        tips.put(TipRow(number, ref, number, number.to_bytes(32, "big"), number, number, 0))
    size = sum(map(sys.getsizeof, (tips._numbers, tips._refs, tips._keys, tips._states)))
    size += sum(sys.getsizeof(column) for column in (tips._sequences, tips._messages, tips._bytes))
    size += sum(map(sys.getsizeof, refs)) + 28 * count  # the ids, and the numbers in the dict
    assert size / count <= 270
    assert sys.getallocatedblocks() - before <= 3 * count  # no object a feed but the id and its number
    assert tips.tip(refs[4]) == Tip(5, message_id((5).to_bytes(32, "big"), refs[4]))
    assert tips.infos()[4] == tips.info(refs[4]) == (refs[4], 5, 5, 5, "open")
