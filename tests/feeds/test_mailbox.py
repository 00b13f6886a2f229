"""Private messages in the store and in memory: indexed as they come, tried again with new keys, read, never written."""

import asyncio
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds import mailbox as mailbox_module
from feeds.keys import Keypair
from feeds.log import Entry
from feeds.mailbox import Letter, Mailbox, OpenedEntry, Wanted, _thread
from feeds.message import JsonValue
from feeds.private.key_ring import KeyRing, Opened
from feeds.private.sealing import seal
from feeds.private.stored import boxed_content, opened_value
from feeds.views.private_index import PrivateIndex
from tests.support import builders
from tests.support.builders import Feed
from tests.support.stores import VIEWS, Store, open_store

OWN, FRIEND, LATER, OTHER = (builders.keypair(name) for name in ("own", "friend", "later", "other"))
TABLES = ("opening_key", "opening")
MARKER = "nothing of this is written down"


def boxed(text: str, author: Keypair, *readers: str, **members: Any) -> str:
    content = {"type": "post", "text": text, **members}
    return seal(content, list(readers), me=author.id, random=os.urandom)


async def receive(store: Store, *texts: bytes) -> None:
    report = await store.ingest.add(texts, source="test")
    assert not report.rejections


async def read(mailbox: Mailbox, **wanted: Any) -> list[str]:
    found = await mailbox.find(Wanted(**wanted), limit=10_000)
    return [text_of(one) for one in found]


def text_of(one: OpenedEntry) -> str:
    content = one.opened.content
    assert isinstance(content, dict)
    return str(content["text"])


async def test_what_we_can_open_is_known_with_the_key(tmp_path: Path) -> None:
    theirs = Feed(FRIEND)
    async with open_store(tmp_path) as store:
        await receive(store, theirs.append({"type": "post"}), theirs.append(boxed(MARKER, FRIEND, OWN.id)))
        await receive(store, theirs.append(boxed("for another", FRIEND, OTHER.id)), theirs.append("AAAA.box2"))
        await store.ingest.publish({"type": "post", "text": MARKER}, recps=[FRIEND.id])
        assert store.dump(PrivateIndex.tables)["boxed_message"] == [(2,), (3,), (4,), (5,)]
        assert await store.mailbox.catch_up() == 2
        assert store.dump(TABLES) == {"opening": [(2, 1), (5, 1)], "opening_key": [(1, OWN.id, 5)]}
        assert await store.mailbox.catch_up() == 0
        assert await read(store.mailbox) == [MARKER, MARKER]
    for file in tmp_path.iterdir():
        assert MARKER.encode() not in file.read_bytes(), file


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
async def test_a_key_that_comes_later_is_tried_on_what_was_there_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(mailbox_module, "CHUNK", chunk)
    theirs = Feed(FRIEND)
    async with open_store(tmp_path) as store:
        await receive(store, *(theirs.append(boxed(f"message {n}", FRIEND, LATER.id)) for n in range(5)))
        await receive(store, theirs.append(boxed("for me", FRIEND, OWN.id)))
        await receive(store, theirs.append(boxed("for none of us", FRIEND, OTHER.id)))
        assert await read(store.mailbox) == ["for me"]
        both = Mailbox(store.database, KeyRing([OWN, LATER]))
        await receive(store, theirs.append(boxed("for both", FRIEND, OWN.id, LATER.id)))
        everything = [*(f"message {n}" for n in range(5)), "for me", "for both"]
        assert await read(both) == everything
        assert await both.catch_up() == 0
        rows = store.dump(TABLES)
        assert rows["opening"] == [*((at, 2) for at in range(1, 6)), (6, 1), (8, 1)]
        assert rows["opening_key"] == [(1, OWN.id, 8), (2, LATER.id, 8)]
        assert len(await both.threads()) == 7


async def test_trying_goes_on_where_it_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox_module, "CHUNK", 2)
    theirs = Feed(FRIEND)
    async with open_store(tmp_path) as store:
        await receive(store, *(theirs.append(boxed(str(n), FRIEND, OWN.id)) for n in range(20)))
        catching_up = asyncio.create_task(store.mailbox.catch_up())
        await until(lambda: len(store.dump(TABLES)["opening"]) > 0, pause=0)
        catching_up.cancel()
        await asyncio.gather(catching_up, return_exceptions=True)
        assert 0 < len(store.dump(TABLES)["opening"]) < 20
    async with open_store(tmp_path) as store:
        assert 0 < await store.mailbox.catch_up() < 20
        assert await read(store.mailbox) == [str(n) for n in range(20)]


async def test_keys_are_tried_soon_after_a_message_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox_module, "PAUSE", 0.0)
    theirs = Feed(FRIEND)
    async with open_store(tmp_path) as store:
        await receive(store, theirs.append(boxed("before", FRIEND, OWN.id)))
        following = asyncio.create_task(store.mailbox.follow(store.live))
        await until(lambda: len(store.dump(TABLES)["opening"]) == 1)
        await receive(store, theirs.append(boxed("after", FRIEND, OWN.id)))
        await until(lambda: len(store.dump(TABLES)["opening"]) == 2)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def until(condition: Callable[[], bool], *, pause: float = 0.005) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(pause)


async def test_views_made_anew_leave_alone_what_was_opened(tmp_path: Path) -> None:
    theirs = Feed(FRIEND)
    async with open_store(tmp_path) as store:
        await receive(store, theirs.append(boxed("mine", FRIEND, OWN.id)), theirs.append("AAAA.box"))
        await store.mailbox.catch_up()
        before = store.dump(TABLES), store.dump(PrivateIndex.tables)
    newer = PrivateIndex()
    newer.version += 1  # type: ignore[misc]
    async with open_store(tmp_path, views=[newer if view.name == newer.name else view for view in VIEWS]) as store:
        assert (store.dump(TABLES), store.dump(PrivateIndex.tables)) == before
        assert await store.mailbox.catch_up() == 0


async def test_a_store_under_another_identity(tmp_path: Path) -> None:
    """Rows of a key that is no longer on the ring are not shown and break nothing."""
    theirs = Feed(FRIEND)
    async with open_store(tmp_path) as store:
        await receive(store, theirs.append(boxed("for own", FRIEND, OWN.id)))
    async with open_store(tmp_path, own=OTHER) as store:
        await receive(store, theirs.append(boxed("for other", FRIEND, OTHER.id)))
        assert await read(store.mailbox) == ["for other"]
        assert [thread.root for thread in await store.mailbox.threads()] == [theirs.ids[1]]


async def test_the_cache_is_bounded_and_forgets_without_harm(tmp_path: Path) -> None:
    theirs = Feed(FRIEND)
    async with open_store(tmp_path) as store:
        await receive(store, *(theirs.append(boxed(f"{n} " + "x" * 1000, FRIEND, OWN.id)) for n in range(40)))
        small = Mailbox(store.database, KeyRing([OWN]), cache_bytes=10_000)
        everything = await read(small)
        assert [text.split()[0] for text in everything] == [str(n) for n in range(40)]
        assert 0 < small._cached_bytes <= 10_000
        assert len(small._cached) < 10
        assert await read(small) == everything
        assert await read(small, words="7 xxx") == [text for text in everything if "7" in text]


async def test_a_live_reader_sees_its_own_message_right_after_the_commit(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        for number in range(5):
            await store.ingest.publish({"type": "post", "text": str(number)}, recps=[FRIEND.id])
            assert await read(store.mailbox) == [str(n) for n in range(number + 1)]


@pytest.mark.parametrize("descending", [False, True])
async def test_pages(tmp_path: Path, descending: bool) -> None:
    theirs = Feed(FRIEND)
    async with open_store(tmp_path) as store:
        for number in range(9):
            await receive(store, theirs.append(boxed(str(number), FRIEND, OWN.id)), theirs.append({"type": "post"}))
        found: list[str] = []
        after = 0
        while page := await store.mailbox.find(Wanted(), after=after, limit=4, descending=descending):
            found += map(text_of, page)
            after = page[-1].entry.position
        assert found == sorted(map(str, range(9)), reverse=descending)


async def test_a_claimed_time_to_come_does_not_lead(tmp_path: Path) -> None:
    theirs = Feed(FRIEND)
    async with open_store(tmp_path) as store:
        root = (await store.ingest.publish({"type": "post", "text": "root"}, recps=[FRIEND.id])).id
        future = boxed("from the future", FRIEND, OWN.id, root=root)
        await receive(store, theirs.append(future, timestamp=9_000_000_000_000_000))
        await receive(store, theirs.append(boxed("now", FRIEND, OWN.id, root=root), timestamp=1_600_000_100_000))
        (thread,) = await store.mailbox.threads()
        assert {letter.claimed for letter in thread.letters} >= {9e15}
        assert max(letter.time for letter in thread.letters) < 1e13
        assert thread.latest.id == theirs.ids[1]


# --- readings ---------------------------------------------------------------------------------------------------------


def test_only_the_content_of_the_message_itself_is_taken_for_one() -> None:
    inner = boxed("hidden", FRIEND, OWN.id)
    feed = Feed(FRIEND)
    assert boxed_content(feed.append({"type": "post", "content": inner})) is None
    assert boxed_content(feed.append({"type": "quote", "text": f'"content":"{inner}"'})) is None
    assert boxed_content(feed.append(inner)) == inner
    assert boxed_content(b"{}") is None
    assert boxed_content(b'{"content":"cut') is None


def test_a_plain_content_takes_the_place_of_the_encrypted_one() -> None:
    feed = Feed(FRIEND)
    text = feed.append(boxed('a "quoted" text', FRIEND, OWN.id))
    content = boxed_content(text)
    assert content is not None
    opened = KeyRing([OWN]).open(content)
    assert opened is not None
    assert opened_value(text, opened) == text.replace(f'"{content}"'.encode(), opened.text)


json_values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8) | st.just(OWN.id),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["type", "text", "root", "branch", "recps", "channel", "mentions", "link", "x"])


@given(st.dictionaries(names, json_values, max_size=6) | json_values.filter(lambda value: value is not None))
@settings(max_examples=150, deadline=None)
def test_any_content_can_be_filtered(content: JsonValue) -> None:
    wanted = Wanted(channel="cats", mentions=OWN.id, words="a b")
    assert wanted.fits_content(content) in (True, False)
    one = OpenedEntry(ENTRY, Opened(content, b"{}", "", bytes(32)))
    letter = mailbox_module._letter(one)
    assert isinstance(letter.root, str)
    assert all(isinstance(link, str) for link in (*letter.branches, *letter.recipients))


ENTRY = Entry(1, builders.message_id(1), FRIEND.id, 1, 5, b'{"previous":null,"timestamp":7,"content":1}')


@given(st.integers(0, 2**32), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_any_thread_is_put_in_causal_order(seed: int, size: int) -> None:
    rng = random.Random(seed)
    ids = [builders.message_id(number) for number in range(size)]
    letters = []
    for number, id in enumerate(ids):
        branches = tuple(rng.sample(ids, rng.randrange(min(size, 3) + 1)) if rng.random() < 0.2 else ())
        branches += tuple(ids[rng.randrange(number)] for _ in range(rng.randrange(3)) if number)
        time = float(rng.randrange(10))
        letters.append(Letter(number + 1, id, FRIEND.id, time, time, "post", ids[0], branches, ()))
    rng.shuffle(letters)
    thread = _thread(ids[0], letters)
    assert sorted(letter.id for letter in thread.letters) == sorted(ids)
    assert thread.letters[0].id == ids[0]
    assert set(thread.tips) <= set(ids)
