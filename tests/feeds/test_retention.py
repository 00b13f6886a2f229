"""Rules of what need not be kept: how they are read, what they come to, and what they never touch."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.errors import Busy, InvalidRule
from feeds.message import JsonObject
from feeds.private.sealing import seal
from feeds.retention import Outcome, Retention
from feeds.retention_rules import Rule, parse_rules
from tests.support.builders import Feed, keypair
from tests.support.stores import Store, open_store

DAY = 86_400_000
NOW = 1_700_000_000_000
NEAR, FAR, OUT = (keypair(name) for name in ("near", "far", "out"))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path, workers=0, now=lambda: NOW / 1000) as store:
        yield store


def retention(store: Store) -> Retention:
    distances = {store.own.id: 0.0, NEAR.id: 1.0, FAR.id: 3.0}
    return Retention(
        store.database, store.indexer, store.erasing, store.mailbox, own=store.own.id, distances=lambda: distances
    )


async def fill(store: Store) -> dict[str, Feed]:
    """Three feeds of ten posts, one each hundred days up to now, then a vote, an about, a contact and a last post."""
    feeds = {}
    for keys in (NEAR, FAR, OUT):
        feed = feeds[keys.id] = Feed(keys)
        for number in range(10, 0, -1):
            feed.append({"type": "post", "text": f"post {number} {'x' * 100}"}, timestamp=NOW - number * 100 * DAY)
        old = NOW - 50 * DAY
        feed.append({"type": "vote", "vote": {"link": feed.ids[0], "value": 1}}, timestamp=old)
        feed.append({"type": "about", "about": feed.id, "name": "somebody"}, timestamp=old)
        feed.append({"type": "contact", "contact": NEAR.id, "following": True}, timestamp=old)
        feed.append({"type": "post", "text": "the last one"}, timestamp=old)
        report = await store.ingest.add(feed.texts, source="test")
        assert not report.rejections
    await store.ingest.publish({"type": "post", "text": "ours"})
    await store.indexer.catch_up()
    return feeds


async def left(store: Store) -> dict[str, list[int]]:
    """Sequences of each feed that are still here."""
    found: dict[str, list[int]] = {}
    for entry in await store.log.entries_after(0, 1000, whole=True):
        found.setdefault(entry.author, []).append(entry.sequence)
    return found


async def apply(store: Store, text: str) -> Outcome:
    """Carry rules out; what was reckoned before must be what happens."""
    rules, keeper = parse_rules(text), retention(store)
    before = await left(store)
    planned = await keeper.plan(rules, now=NOW)
    assert await left(store) == before
    done = await keeper.apply(rules, now=NOW)
    assert done == planned
    await store.indexer.catch_up()
    assert sum(map(len, before.values())) - sum(map(len, (await left(store)).values())) == done.messages
    assert sum(info.bytes for info in store.log.feeds()) == done.kept_bytes
    again = await keeper.plan(rules, now=NOW)
    assert (again.messages, again.kept_bytes) == (0, done.kept_bytes)
    return done


ALL = [*range(1, 15)]


async def test_by_hops(store: Store) -> None:
    await fill(store)
    outcome = await apply(store, "hops=3")
    stay = [12, 13, 14]  # the about, the contact, and the end of the feed
    assert await left(store) == {NEAR.id: ALL, FAR.id: stay, OUT.id: stay, store.own.id: [1]}
    assert [(share.messages, share.feeds) for share in outcome.rules] == [(22, 2)]


async def test_by_age(store: Store) -> None:
    await fill(store)
    await apply(store, "age=500d")
    assert (await left(store))[NEAR.id] == [*range(6, 15)]


async def test_a_time_to_come_makes_nobody_younger(store: Store) -> None:
    feed = Feed(NEAR)
    feed.append({"type": "post", "text": "from the future"}, timestamp=NOW + 900 * DAY)
    feed.append({"type": "post", "text": "the last one"})
    await store.ingest.add(feed.texts, source="test")
    await retention(store).apply(parse_rules("age=1d"), now=NOW + 2 * DAY)
    assert await left(store) == {NEAR.id: [2]}


async def test_by_type_and_age_and_hops_together(store: Store) -> None:
    await fill(store)
    await apply(store, "hops=2 type=vote age=49d")
    assert (await left(store))[NEAR.id] == ALL
    assert (await left(store))[OUT.id] == [number for number in ALL if number != 11]


async def test_abouts_go_only_by_name_and_contacts_never(store: Store) -> None:
    await fill(store)
    await apply(store, "type=about,vote")
    assert (await left(store))[NEAR.id] == [*range(1, 11), 13, 14]
    with pytest.raises(InvalidRule, match="contact"):
        parse_rules("type=contact")


async def test_by_bytes_the_oldest_go(store: Store) -> None:
    feeds = await fill(store)
    sizes = [len(text) for text in feeds[OUT.id].texts]
    keep = sum(sizes[5:11]) + 10  # posts 6 to 10 and the vote; what is kept for other reasons does not count
    outcome = await apply(store, f"hops=4 bytes={keep}")
    assert (await left(store))[OUT.id] == [*range(6, 15)]
    assert (await left(store))[FAR.id] == ALL
    assert outcome.messages == 5


async def test_a_message_counts_for_the_first_rule_that_takes_it(store: Store) -> None:
    await fill(store)
    outcome = await apply(store, "hops=4; age=500d; type=vote")
    assert [share.messages for share in outcome.rules] == [11, 10, 2]
    assert outcome.messages == 23


async def test_private_messages_that_we_can_read_stay(store: Store) -> None:
    feed = Feed(OUT)
    for reader in (store.own.id, NEAR.id):
        content: JsonObject = {"type": "post", "text": "secret", "recps": [reader]}
        feed.append(seal(content, [reader], me=OUT.id, random=os.urandom))
    feed.append({"type": "post", "text": "the last one"})
    await store.ingest.add(feed.texts, source="test")
    await store.indexer.catch_up()
    await retention(store).apply(parse_rules("hops=3"), now=NOW)
    assert await left(store) == {OUT.id: [1, 3]}
    assert len(await store.mailbox.threads()) == 1


async def test_nothing_is_decided_while_types_are_unknown(store: Store) -> None:
    await fill(store)
    await store.indexer.rebuild(["message_types"])
    with pytest.raises(Busy, match="types"):
        await retention(store).apply(parse_rules("hops=3"), now=NOW)


@pytest.mark.parametrize(
    "text",
    [
        "hops",
        "hops=",
        "hops=0",
        "hops=100",
        "hops=²",
        "age=5",
        "age=0d",
        "age=5m",
        "bytes=-1",
        "bytes=5T",
        "type=",
        "type=a,,b",
        "weight=5",
        "hops=2 hops=3",
        "hops=2, age=1y",
        "; ".join(["hops=2"] * 21),
    ],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(InvalidRule):
        parse_rules(text)


@given(st.text(st.sampled_from("hopsagebytestype=;, 0123456789dwyKMG²") | st.characters()))
def test_any_text_is_rules_or_refused(text: str) -> None:
    try:
        rules = parse_rules(text)
    except InvalidRule:
        return
    assert parse_rules("; ".join(rule.text for rule in rules)) == rules


def test_rules_are_read() -> None:
    assert parse_rules(" hops=3   age=1y;;type=vote,post bytes=2G; ") == (
        Rule("hops=3 age=1y", hops=3, age=365 * DAY),
        Rule("type=vote,post bytes=2G", types=("vote", "post"), keep=2 << 30),
    )
    assert parse_rules("") == ()
