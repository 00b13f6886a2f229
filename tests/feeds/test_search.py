"""The search view: kept up in the append, left behind by much at once, the same when made anew."""

import asyncio
from pathlib import Path

import pytest

from feeds import indexer as indexer_module
from feeds.search_words import parse_query
from feeds.views.search import Search, hits, positions
from tests.support.builders import Feed, keypair
from tests.support.stores import VIEWS, Store, open_store

WORDS = ["red", "wine", "blue", "cheese", "crème", "日本"]


def feed(name: str, length: int = 40) -> Feed:
    made = Feed(keypair(name))
    for number in range(length):
        text = f"{name} {WORDS[number % 6]} {WORDS[number * 5 % 7 % 6]} number{number}"
        made.append({"type": "post", "text": text} if number % 3 else {"type": "vote"})
    return made


def found(store: Store, text: str) -> list[int]:
    query = parse_query(text)
    assert query is not None
    return store.database.peek(lambda c: positions(c, query, after=0, limit=1000, descending=False))


def vocabulary(store: Store) -> dict[str, list[int]]:
    return {word: found(store, word) for word in (*WORDS, "one", "two", *(f"number{number}" for number in range(40)))}


async def test_an_index_made_anew_equals_one_kept_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = feed("one"), feed("two")
    async with open_store(tmp_path) as store:
        for at in range(0, 40, 7):
            await store.ingest.add([*one.texts[at : at + 7], *two.texts[at : at + 7]], source="test")
        before = vocabulary(store)
        assert all(before[word] for word in (*WORDS, "one", "two"))
        assert set(found(store, "red -one")) == set(before["red"]) - set(before["one"])

    class Newer(Search):
        version = 2  # type: ignore[misc]

    monkeypatch.setattr(indexer_module, "CHUNK", 9)
    async with open_store(tmp_path, views=[*VIEWS[:-1], Newer()], catch_up=False) as store:
        assert store.indexer.behind == {"search": 80}
        assert found(store, "red") == []
        await store.indexer.catch_up()
        assert vocabulary(store) == before


async def test_much_at_once_leaves_it_behind_until_less_comes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer_module, "MUCH", 20)
    one = feed("one")
    async with open_store(tmp_path) as store:
        following = asyncio.create_task(store.indexer.follow(pause=0.02))
        try:
            await store.ingest.add(one.texts[:30], source="test")
            assert store.indexer.behind == {"search": 30}
            await store.ingest.add(one.texts[30:], source="test")
            async with asyncio.timeout(10):
                while store.indexer.behind:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.01)
            assert len(found(store, "one")) == 26
            await store.ingest.add(feed("two", 2).texts, source="test")
            assert len(found(store, "two")) == 1
            assert store.indexer.behind == {}
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def test_it_does_not_catch_up_while_much_is_on_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer_module, "MUCH", 20)
    monkeypatch.setattr(indexer_module, "CHUNK", 15)
    one = feed("one")
    coming = [0, 21, 21, 0]

    def arriving() -> int:
        return coming.pop(0) if len(coming) > 1 else coming[0]

    async with open_store(tmp_path) as store:
        assert store.ingest.arriving == 0
        adding = asyncio.create_task(store.ingest.add(one.texts, source="test"))
        await asyncio.sleep(0)
        assert store.ingest.arriving == 40
        await adding
        assert store.ingest.arriving == 0
        following = asyncio.create_task(store.indexer.follow(pause=0.01, arriving=arriving))
        try:
            async with asyncio.timeout(10):
                while len(coming) > 2:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.002)
                assert store.indexer.behind == {"search": 25}
                while store.indexer.behind:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.002)
            assert len(found(store, "one")) == 26
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def test_hits_of_an_author_and_without_some(tmp_path: Path) -> None:
    one, two = feed("one"), feed("two")
    query = parse_query("number*")
    assert query is not None
    async with open_store(tmp_path) as store:
        await store.ingest.add([*one.texts, *two.texts], source="test")
        of_one = store.database.peek(lambda c: hits(c, query, after=0, limit=99, author=one.id, descending=False))
        others = store.database.peek(lambda c: hits(c, query, after=0, limit=99, without=[one.id], descending=False))
        assert (of_one.positions, of_one.mark) == (found(store, "one"), None)
        assert (others.positions, others.mark) == (found(store, "two"), None)
        page = store.database.peek(lambda c: hits(c, query, after=81, limit=5))
        assert page.mark == page.positions[-1] == sorted(page.positions)[0]


async def test_a_large_round_is_not_even_asked_for_words_and_what_is_left_of_it_lags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feeds.validators.LARGE", 10)
    monkeypatch.setattr("feeds.ingest.MUCH", 20)
    one = feed("one")
    async with open_store(tmp_path, processes=False) as store:
        await store.ingest.add(one.texts[:15], source="test")
        await store.ingest.add(one.texts[15:30], source="test")
        assert store.indexer.behind == {}
        await store.ingest.add(one.texts[:31], source="test")  # much is judged, one of it is new
        assert store.indexer.behind == {"search": 1}
        await store.ingest.add(one.texts[31:], source="test")  # it stays behind: nothing may be left out in between
        assert store.indexer.behind == {"search": 10}
        await store.indexer.catch_up()
        assert len(found(store, "one")) == 26
        await store.ingest.add(feed("two", 2).texts, source="test")
        assert store.indexer.behind == {}
