"""The one door: what is acknowledged is stored, what is stored continues its feed, whatever happens in between."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from feeds import deliveries, validators
from feeds import ingest as ingest_module
from feeds.errors import FeedLocked, ForkedFeed, InvalidMessage, SequenceMismatch, StoreError, TooLarge
from feeds.formats.registry import CLASSIC
from feeds.ingest import AddReport
from feeds.log import Log
from feeds.message import EMPTY
from feeds.publisher import State
from tests.support.builders import Feed, chain, generate, keypair
from tests.support.chain_model import extend
from tests.support.stores import FailingConnection, Store, Ticking, open_store

POST: dict[str, Any] = {"type": "post", "text": "hello"}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path) as opened:
        yield opened


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    FailingConnection.arm(None)
    yield
    FailingConnection.arm(None)


def branch(feed: Feed, after: int) -> Feed:
    """Another continuation of a feed, signed by its author."""
    previous = feed.ids[after - 1] if after else None
    return Feed(feed.keys, previous=previous, sequence=after, timestamp=feed.timestamp + 1000)


def tampered(text: bytes) -> bytes:
    at = text.rindex(b'"signature":"') + 13
    return text[:at] + (b"A" if text[at : at + 1] != b"A" else b"B") + text[at + 1 :]


def kinds(report: AddReport) -> list[tuple[int, str]]:
    return [(rejection.index, rejection.kind) for rejection in report.rejections]


async def check_whole(store: Store) -> None:
    """Memory equals the tables, every feed is a valid gap-free prefix, views are up to date, SQLite is content."""
    fresh = await Log.open(store.database)
    assert fresh.position == store.log.position == store.live.position
    assert fresh.feeds() == store.log.feeds()
    assert set(store.indexer.behind) <= {"search"}  # which much at once leaves behind
    total = 0
    for feed in fresh.feeds():
        texts = await fresh.range(feed.id, 0, feed.sequence + 1, max_bytes=1 << 30)
        total += len(texts)
        assert len(texts) == feed.messages == feed.sequence
        assert sum(map(len, texts)) == feed.bytes
        assert len(extend(CLASSIC, feed.id, EMPTY, texts).accepted) == len(texts)
        assert store.log.tip(feed.id) == fresh.tip(feed.id)
    assert total == fresh.position
    assert await store.database.read(lambda c: c.execute("PRAGMA integrity_check").fetchall()) == [("ok",)]


# --- adding -----------------------------------------------------------------------------------------------------------


async def test_a_delivery_of_several_feeds_in_any_mixture(store: Store) -> None:
    one, two = chain("one", 20), chain("two", 15)
    mixed = [text for pair in zip(one.texts, [*two.texts, *two.texts[:5]], strict=True) for text in pair]
    report = await store.ingest.add(mixed, source="peer")
    assert report == AddReport(35, 5, [], {one.id: 20, two.id: 15})
    assert store.log.clock() == {one.id: 20, two.id: 15}
    assert await store.log.range(one.id, 0, 99) == one.texts
    again = await store.ingest.add(mixed, source="peer")
    assert again == AddReport(0, 40, [], {one.id: 20, two.id: 15})
    await check_whole(store)


async def test_heads_that_were_read_before_are_believed_no_more_than_the_text(store: Store) -> None:
    one, two = chain("one", 20), chain("two", 5)
    peeked = [(*CLASSIC.peek(text), text) for text in [*one.texts, *two.texts]]
    assert await store.ingest.add_peeked(peeked, source="peer") == AddReport(25, 0, [], {one.id: 20, two.id: 5})
    other = chain("other", 2)
    wrong = [(two.id, 6, other.texts[0]), (other.id, 1, other.texts[1]), (other.id, 1, other.texts[0])]
    report = await store.ingest.add_peeked(wrong, source="liar")
    assert (report.added, kinds(report)) == (1, [(0, "invalid"), (1, "invalid")])
    assert await store.ingest.add_peeked([], source="peer") == AddReport(0, 0, [], {})
    await check_whole(store)


async def test_nothing_delivered(store: Store) -> None:
    assert await store.ingest.add([], source="peer") == AddReport(0, 0, [], {})


async def test_rejections_name_index_kind_and_reason(store: Store) -> None:
    feed = chain("one", 6)
    texts = [b"junk", feed.texts[0], tampered(feed.texts[1]), b"", feed.texts[3], b"{}", b"\xff\xfe", feed.texts[0]]
    report = await store.ingest.add(texts, source="peer")
    assert (report.added, report.duplicates) == (1, 1)
    assert kinds(report) == [(0, "invalid"), (2, "invalid"), (3, "invalid"), (4, "gap"), (5, "invalid"), (6, "invalid")]
    assert report.tips == {feed.id: 1}
    bad, gap = report.rejections[1], report.rejections[3]
    assert (bad.author, bad.sequence, bad.reason) == (feed.id, 2, "signature is not the author's over this message")
    assert (gap.author, gap.sequence, gap.reason) == (feed.id, 4, "sequence is 4, the next one here is 2")
    assert (await store.ingest.add(feed.texts, source="peer")).added == 5


async def test_what_is_bad_leaves_the_feed_open_for_what_is_good(store: Store) -> None:
    feed = chain("one", 4)
    for _ in range(3):
        report = await store.ingest.add([tampered(text) for text in feed.texts], source="liar")
        assert report.added == 0
    assert store.log.feed_state(feed.id) == "open"
    assert await store.ingest.add(feed.texts, source="peer") == AddReport(4, 0, [], {feed.id: 4})


async def test_the_spelling_that_came_is_not_the_one_that_is_kept(store: Store) -> None:
    feed = chain("one", 3)
    spelled = [b"\n" + text.replace(b'":', b'" :') for text in feed.texts]
    assert (await store.ingest.add(spelled, source="peer")).added == 3
    assert await store.log.range(feed.id, 0, 9) == feed.texts
    assert await store.ingest.add(spelled, source="peer") == AddReport(0, 3, [], {feed.id: 3})


async def test_one_notice_after_each_commit_and_memory_first(store: Store) -> None:
    feed = chain("one", 5)
    seen = []

    async def follow() -> None:
        position = 0
        while position < 5:
            position = await store.live.wait_beyond(position)
            seen.append((position, store.log.sequence(feed.id), store.log.position))

    following = asyncio.create_task(follow())
    for text in feed.texts:
        await store.ingest.add([text], source="peer")
        await asyncio.sleep(0)
    await following
    assert seen == [(at, at, at) for at in range(1, 6)]


async def test_five_peers_deliver_the_same_feeds_at_once(store: Store) -> None:
    feeds = [chain(name, 40) for name in range(5)]
    texts = [text for at in range(0, 40, 8) for feed in feeds for text in feed.texts[at : at + 8]]

    async def peer(step: int) -> int:
        added = 0
        for at in range(0, len(texts), step):
            report = await store.ingest.add(texts[at : at + step], source=f"peer {step}")
            assert report.rejections == []
            added += report.added
        return added

    added = await asyncio.gather(*(peer(step) for step in (7, 11, 40, 64, 200)))
    assert sum(added) == 200
    assert store.log.clock() == {feed.id: 40 for feed in feeds}
    await check_whole(store)


async def test_large_rounds_go_through_processes_and_come_out_the_same(tmp_path: Path) -> None:
    texts = generate(1500, 7)
    long = chain("long", 1200)
    results = []
    for name, processes in (("with", True), ("without", False)):
        (tmp_path / name).mkdir()
        async with open_store(tmp_path / name, workers=2, processes=processes) as store:
            bad = [*texts[:700], tampered(texts[700]), *texts[701:], *long.texts[:900], b"junk", *long.texts[900:]]
            report = await store.ingest.add(bad, source="peer")
            results.append((report, store.log.clock(), store.dump(["contact", "message_type"])))
            await check_whole(store)
    assert results[0] == results[1]
    left_out = 1 + (1500 - 701) // 7  # the bad one and what follows it in its feed
    assert results[0][0].added == 1500 - left_out + 1200


async def test_a_child_that_dies_costs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    feed = chain("long", 900)
    async with open_store(tmp_path, workers=2, processes=True) as store:
        assert (await store.ingest.add(feed.texts[:300], source="peer")).added == 300
        children = list(store.ingest._validators._children.values())
        assert children
        for child in children:
            child._process.kill()
            child._process.wait()
        assert (await store.ingest.add(feed.texts[300:600], source="peer")).added == 300
        assert (await store.ingest.add(feed.texts[600:], source="peer")).added == 300
        assert store.log.clock() == {feed.id: 900}
    assert "threads do it" in caplog.text


async def test_children_end_with_the_store_and_when_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validators, "IDLE_SECONDS", 1.0)  # not before they were looked at
    feed = chain("long", 600)
    async with open_store(tmp_path, workers=2, processes=True) as store:
        await store.ingest.add(feed.texts[:300], source="peer")
        processes = [child._process for child in store.ingest._validators._children.values()]
        assert processes
        async with asyncio.timeout(20):
            while any(process.poll() is None for process in processes):  # noqa: ASYNC110 - they tell nobody
                await asyncio.sleep(0.02)
        assert (await store.ingest.add(feed.texts[300:], source="peer")).added == 300
        processes = [child._process for child in store.ingest._validators._children.values()]
    assert [process.poll() for process in processes] == [0] * len(processes)


async def test_a_slow_disk_makes_deliveries_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "IN_FLIGHT_BYTES", 20_000)
    feeds = [chain(name, 30) for name in range(6)]
    async with open_store(tmp_path) as store:
        most = 0

        async def peer(feed: Feed) -> None:
            nonlocal most
            for at in range(0, 30, 10):
                report = await store.ingest.add(feed.texts[at : at + 10], source="peer")
                assert report.added == 10
                most = max(most, store.ingest._deliveries._in_flight)

        await asyncio.gather(*map(peer, feeds))
        assert most <= 20_000
        assert store.ingest._deliveries._in_flight == 0
        assert store.log.position == 180


async def test_one_delivery_larger_than_all_room_is_still_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "IN_FLIGHT_BYTES", 1000)
    monkeypatch.setattr(ingest_module, "ROUND_MESSAGES", 7)
    feed = chain("one", 50)
    async with open_store(tmp_path) as store:
        reports = await asyncio.gather(*(store.ingest.add(feed.texts, source="peer") for _ in range(3)))
        assert sorted(report.added for report in reports) == [0, 0, 50]
        await check_whole(store)


# --- forks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False], ids=["in one delivery", "one after the other"])
async def test_the_first_branch_is_kept_and_both_messages_recorded(store: Store, together: bool) -> None:
    feed = chain("one", 8)
    other = branch(feed, 4)
    for at in range(3):
        other.append({"type": "post", "text": f"other {at}"})
    if together:
        report = await store.ingest.add(feed.texts[:6] + other.texts, source="peer")
        assert kinds(report) == [(6, "fork"), (7, "fork"), (8, "fork")]
    else:
        await store.ingest.add(feed.texts[:6], source="first")
        report = await store.ingest.add(other.texts, source="peer")
        assert kinds(report) == [(0, "fork"), (1, "fork"), (2, "fork")]
    assert store.log.sequence(feed.id) == 6
    assert store.log.feed_state(feed.id) == "forked"
    (fork,) = await store.log.forks()
    assert (fork.author, fork.sequence, fork.source) == (feed.id, 5, "peer")
    assert (fork.first, fork.second) == (feed.texts[4], other.texts[0])
    report = await store.ingest.add(feed.texts, source="peer")
    assert (report.added, report.duplicates, kinds(report)) == (0, 6, [(6, "fork"), (7, "fork")])
    report = await store.ingest.add([other.texts[0], tampered(feed.texts[1])], source="peer")
    assert kinds(report) == [(0, "fork"), (1, "invalid")]
    assert len(await store.log.forks()) == 1
    await check_whole(store)


async def test_a_fork_that_shows_only_by_its_predecessor(store: Store) -> None:
    feed = chain("one", 5)
    other = branch(feed, 3)
    other.append({"type": "post", "text": "other 4"})
    other.append({"type": "post", "text": "other 5"})
    await store.ingest.add(feed.texts[:4], source="first")
    report = await store.ingest.add([other.texts[1]], source="peer")
    assert kinds(report) == [(0, "fork")]
    (fork,) = await store.log.forks()
    assert (fork.sequence, fork.first, fork.second) == (5, feed.texts[3], other.texts[1])
    assert store.log.feed_state(feed.id) == "forked"


async def test_forks_survive_a_restart(tmp_path: Path) -> None:
    feed = chain("one", 3)
    other = branch(feed, 2)
    other.append(POST)
    async with open_store(tmp_path) as store:
        await store.ingest.add([*feed.texts, *other.texts], source="peer")
        forks = await store.log.forks()
    async with open_store(tmp_path) as store:
        assert store.log.feed_state(feed.id) == "forked"
        assert store.log.feeds()[0].state == "forked"
        assert await store.log.forks() == forks


# --- publishing -------------------------------------------------------------------------------------------------------


async def test_own_messages_follow_each_other_and_are_found(store: Store) -> None:
    first = await store.ingest.publish(POST)
    second = await store.ingest.publish({"type": "vote", "vote": {"link": first.id, "value": 1}})
    assert [first.sequence, second.sequence] == [1, 2]
    assert await store.log.get(first.id) == first
    assert await store.log.at(store.own.id, 2) == second
    assert store.log.clock() == {store.own.id: 2}
    await check_whole(store)


async def test_publishing_at_once_never_forks(store: Store) -> None:
    entries = await asyncio.gather(*(store.ingest.publish({"type": "post", "text": str(n)}) for n in range(60)))
    assert sorted(entry.sequence for entry in entries) == list(range(1, 61))
    assert store.log.feed_state(store.own.id) == "open"
    await check_whole(store)


async def test_claimed_times_are_strictly_increasing_whatever_the_clock_does(tmp_path: Path) -> None:
    ticks = iter([1000.0, 1000.0, 500.0, 1000.0005, 2000.0] * 2)
    async with open_store(tmp_path, now=lambda: next(ticks)) as store:
        entries = [await store.ingest.publish(POST) for _ in range(10)]
    times = [CLASSIC.prepare(entry.text).timestamp for entry in entries]
    assert times == sorted(set(times))
    assert times[0] == 1_000_000
    assert times[4] == 2_000_000
    assert [entry.received for entry in entries[:5]] == [1_000_000, 1_000_000, 500_000, 1_000_000, 2_000_000]


async def test_errors_of_publishing_leave_no_trace(store: Store) -> None:
    await store.ingest.publish(POST)
    with pytest.raises(InvalidMessage):
        await store.ingest.publish({"text": "no type"})
    with pytest.raises(TooLarge) as caught:
        await store.ingest.publish({"type": "post", "text": "x" * 9000})
    assert caught.value.limit == 8192
    with pytest.raises(SequenceMismatch):
        await store.ingest.publish(POST, if_sequence=0)
    assert (await store.ingest.publish(POST, if_sequence=1)).sequence == 2

    def refuse(connection: sqlite3.Connection, entry: object) -> None:
        raise KeyError("also")

    with pytest.raises(KeyError, match="also"):
        await store.ingest.publish(POST, also=refuse)
    assert store.log.clock() == {store.own.id: 2}
    await check_whole(store)


async def test_what_is_written_along_is_in_the_same_transaction(store: Store) -> None:
    seen: list[str] = []

    def along(connection: sqlite3.Connection, entry: Any) -> None:
        connection.execute("INSERT INTO view VALUES(?,0,0)", (entry.id,))
        seen.append(entry.id)

    entry = await store.ingest.publish(POST, also=along)
    assert seen == [entry.id]
    assert entry.id in {name for name, _, _ in store.dump(["view"])["view"]}


async def test_a_dry_run_measures_and_signs_nothing(store: Store) -> None:
    draft = store.ingest.dry_run(POST)
    assert (draft.author, draft.sequence) == (store.own.id, 1)
    entry = await store.ingest.publish(POST)
    assert CLASSIC.prepare(entry.text).size == draft.size
    with pytest.raises(TooLarge):
        store.ingest.dry_run({"type": "post", "text": "x" * 9000})
    assert store.log.position == 1


async def test_our_own_messages_come_back_from_peers(store: Store) -> None:
    feed = Feed(store.own)
    for at in range(6):
        feed.append({"type": "post", "text": f"from before {at}"})
    report = await store.ingest.add(feed.texts, source="peer")
    assert report.added == 6
    with pytest.raises(FeedLocked):
        await store.ingest.publish(POST)
    store.publisher.open()  # as `feeds.publishing` does it once peers agree
    assert (await store.ingest.publish(POST)).sequence == 7
    assert store.ingest.own_state is State.OPEN
    await check_whole(store)


async def test_a_fork_of_our_own_feed_ends_publishing(store: Store) -> None:
    await store.ingest.publish(POST)
    other = Feed(store.own)
    other.append({"type": "post", "text": "from another machine"})
    report = await store.ingest.add(other.texts, source="peer")
    assert kinds(report) == [(0, "fork")]
    assert store.ingest.own_state is State.FORKED
    with pytest.raises(ForkedFeed):
        await store.ingest.publish(POST)
    assert store.log.sequence(store.own.id) == 1


async def test_publishing_while_our_own_messages_arrive(store: Store) -> None:
    """The recovery of a feed and a publish race: who comes second fits in or is a proven fork, never both stored."""
    feed = Feed(store.own)
    for at in range(30):
        feed.append({"type": "post", "text": f"from before {at}"})
    reports = await asyncio.gather(
        *(store.ingest.add(feed.texts[at : at + 10], source="peer") for at in (0, 10, 20)),
        store.ingest.publish(POST),
        return_exceptions=True,
    )
    for report in reports:
        assert isinstance(report, AddReport | tuple | ForkedFeed)
    await check_whole(store)


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ["SQLITE_IOERR", "SQLITE_FULL"])
async def test_a_failure_at_any_store_call_loses_nothing_acknowledged(tmp_path: Path, error: str) -> None:
    feeds = [chain(name, 12) for name in range(3)]
    call = 0
    failed = 0
    async with open_store(tmp_path, factory=FailingConnection) as store:
        while call < 60:
            call += 1
            before = store.log.clock()
            at = call // 6
            texts = [text for feed in feeds for text in feed.texts[at : at + 2]]
            FailingConnection.arm(call, error)
            results = await asyncio.gather(
                store.ingest.add(texts[:3], source="peer"),
                store.ingest.publish(POST),
                store.ingest.add(texts[3:], source="peer"),
                return_exceptions=True,
            )
            FailingConnection.arm(None)
            for result in results:
                assert isinstance(result, AddReport | tuple | StoreError), result
                failed += isinstance(result, StoreError)
            for report in (results[0], results[2]):
                if isinstance(report, AddReport):
                    for grown, sequence in report.tips.items():
                        assert store.log.sequence(grown) >= sequence
            assert all(store.log.sequence(feed) >= sequence for feed, sequence in before.items())
        await check_whole(store)
        for feed in feeds:
            await store.ingest.add(feed.texts, source="peer")
        assert {feed.id: 12 for feed in feeds}.items() <= store.log.clock().items()
        await check_whole(store)
    assert failed >= 20


async def test_a_round_judged_on_one_that_failed_to_commit_is_judged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_module, "ROUND_MESSAGES", 5)
    feed = chain("one", 40)
    async with open_store(tmp_path, factory=FailingConnection) as store:
        FailingConnection.arm(4)
        tasks = [
            asyncio.create_task(store.ingest.add(feed.texts[at : at + 5], source="peer")) for at in range(0, 40, 5)
        ]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert any(isinstance(result, StoreError) for result in results)
        for result in results:
            if isinstance(result, AddReport):
                assert {kind for _, kind in kinds(result)} <= {"gap"}
        await check_whole(store)
        held = store.log.sequence(feed.id)
        assert sum(result.added for result in results if isinstance(result, AddReport)) == held
        assert (await store.ingest.add(feed.texts, source="peer")).added == 40 - held
        assert store.ingest._ahead == {}


async def test_a_full_disk_is_an_error_and_passes(store: Store) -> None:
    feed = chain("one", 40)
    pages = store.database.peek(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    await store.database.write(lambda c: c.execute(f"PRAGMA max_page_count={pages}").fetchone())

    async def deliver() -> None:
        for at in range(0, 40, 10):
            await store.ingest.add(feed.texts[at : at + 10], source="peer")

    async def publish() -> None:
        for _ in range(200):
            await store.ingest.publish({"type": "post", "text": "x" * 7000})

    with pytest.raises(StoreError, match="disk is full"):
        await deliver()
    await check_whole(store)
    with pytest.raises(StoreError, match="disk is full"):
        await publish()
    await store.database.write(lambda c: c.execute("PRAGMA max_page_count=100000").fetchone())
    await store.ingest.add(feed.texts, source="peer")
    assert store.log.sequence(feed.id) == 40
    await store.ingest.publish(POST)
    await check_whole(store)


async def test_cancelled_callers_spoil_nothing(store: Store) -> None:
    feeds = [chain(name, 30) for name in range(4)]
    tasks: list[asyncio.Task[Any]] = []
    for at in range(0, 30, 5):
        for feed in feeds:
            tasks.append(asyncio.create_task(store.ingest.add(feed.texts[at : at + 5], source="peer")))
            tasks.append(asyncio.create_task(store.ingest.publish(POST)))
            await asyncio.sleep(0.001)
            if len(tasks) % 3 == 0:
                tasks[len(tasks) // 2].cancel()
                tasks[-1].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, AddReport):
            assert all(store.log.sequence(feed) >= sequence for feed, sequence in result.tips.items())
    for feed in feeds:
        await store.ingest.add(feed.texts, source="peer")
        assert store.log.sequence(feed.id) == 30
    await check_whole(store)
    assert store.ingest._deliveries._open == {}
    assert store.ingest._deliveries._in_flight == 0
    assert store.ingest._ahead == {}


async def test_closing_finishes_what_was_let_in(tmp_path: Path) -> None:
    feeds = [chain(name, 40) for name in range(5)]
    async with open_store(tmp_path) as store:
        tasks = [asyncio.create_task(store.ingest.add(feed.texts, source="peer")) for feed in feeds]
        await asyncio.sleep(0)
        await store.ingest.close()
        reports = await asyncio.gather(*tasks)
        assert [report.added for report in reports] == [40] * 5
        with pytest.raises(StoreError, match="closing"):
            await store.ingest.add(feeds[0].texts, source="peer")
        with pytest.raises(StoreError, match="closing"):
            await store.ingest.publish(POST)


async def test_two_stores_on_one_file_keep_each_feed_whole(tmp_path: Path) -> None:
    feeds = [chain(name, 30) for name in range(4)]
    async with (
        open_store(tmp_path, own=keypair("one"), now=Ticking(1e9)) as one,
        open_store(tmp_path, own=keypair("two"), now=Ticking(2e9)) as two,
    ):

        async def fill(store: Store, step: int) -> int:
            added = 0
            for at in range(0, 30, step):
                for feed in feeds:
                    report = await store.ingest.add(feed.texts[at : at + step], source="peer")
                    assert report.rejections == []
                    added += report.added
                await store.ingest.publish(POST)
            return added

        assert sum(await asyncio.gather(fill(one, 5), fill(two, 3))) == 120
        fresh = await Log.open(one.database)
        assert fresh.clock() == {**{feed.id: 30 for feed in feeds}, one.own.id: 6, two.own.id: 10}
        assert fresh.position == 136


@pytest.mark.parametrize("processes", [True, False], ids=["processes", "threads"])
async def test_rounds_of_one_feed_are_judged_before_those_ahead_of_them_are_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: bool
) -> None:
    monkeypatch.setattr(ingest_module, "ROUND_MESSAGES", 24)
    monkeypatch.setattr(validators, "LARGE", 8)
    long, short = chain("long", 300), chain("short", 40)
    async with open_store(tmp_path, workers=2, processes=processes) as store:
        judged: list[bool] = []
        judge = store.ingest._validators.judge

        async def watched(tasks: Any) -> Any:
            judged.extend(task.assumed for task in tasks)
            return await judge(tasks)

        monkeypatch.setattr(store.ingest._validators, "judge", watched)
        texts = long.texts[:100] + short.texts + long.texts[100:]
        chunks = [texts[at : at + 10] for at in range(0, len(texts), 10)]
        reports = await asyncio.gather(*(store.ingest.add(chunk, source="peer") for chunk in chunks))
        assert [report.added for report in reports] == [10] * 34
        assert store.log.clock() == {long.id: 300, short.id: 40}
        assert any(judged), "no round was judged from a tip that was still on its way"
        await check_whole(store)
        assert store.ingest._ahead == {}
        assert store.ingest._out == {}


@pytest.mark.parametrize("bad", [0, 23, 24, 40, 47, 48, 99])
async def test_a_bad_message_ends_the_feed_there_however_many_rounds_are_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    monkeypatch.setattr(ingest_module, "ROUND_MESSAGES", 24)
    feed = chain("one", 100)
    texts = [*feed.texts[:bad], tampered(feed.texts[bad]), *feed.texts[bad + 1 :]]
    async with open_store(tmp_path, workers=2, processes=False) as store:
        chunks = [texts[at : at + 10] for at in range(0, 100, 10)]
        reports = await asyncio.gather(*(store.ingest.add(chunk, source="liar") for chunk in chunks))
        assert sum(report.added for report in reports) == bad
        kinds_found = [kind for report in reports for _, kind in kinds(report)]
        assert kinds_found == ["invalid"] + ["gap"] * (99 - bad)
        assert (await store.ingest.add(feed.texts, source="peer")).added == 100 - bad
        await check_whole(store)


async def test_a_fork_in_one_round_stops_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_module, "ROUND_MESSAGES", 10)
    feed = chain("one", 40)
    other = branch(feed, 9)
    other.append(POST)
    async with open_store(tmp_path, workers=2, processes=False) as store:
        chunks = [feed.texts[:9], other.texts, feed.texts[9:20], feed.texts[20:30], feed.texts[30:]]
        reports = await asyncio.gather(*(store.ingest.add(chunk, source="peer") for chunk in chunks))
        assert sum(len(chunk) for chunk in chunks) == sum(
            report.added + report.duplicates + len(report.rejections) for report in reports
        )
        assert 9 <= store.log.sequence(feed.id) <= 40
        await check_whole(store)
        await store.ingest.add([*feed.texts[:20], *other.texts], source="peer")
        assert store.log.feed_state(feed.id) == "forked"
        held = store.log.sequence(feed.id)
        assert (await store.ingest.add(feed.texts, source="peer")).added == 0
        assert store.log.sequence(feed.id) == held


@pytest.mark.parametrize("where", ["_take_round", "_forget_ahead"])
async def test_an_error_of_the_program_ends_the_door_and_leaves_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    feed = chain("one", 4)
    async with open_store(tmp_path) as store:
        monkeypatch.setattr(store.ingest, where, lambda *_, **__: 1 / 0)
        async with asyncio.timeout(10):
            with pytest.raises(StoreError, match="error of its own"):
                await store.ingest.add(feed.texts, source="peer")
            with pytest.raises(StoreError, match="closing"):
                await store.ingest.add(feed.texts, source="peer")
    assert "ended by an error" in caplog.text
