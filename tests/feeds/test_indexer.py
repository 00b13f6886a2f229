"""Views keep in step with the log: in the append transaction, or in chunks after a change of version."""

import asyncio
import os
import sqlite3
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feeds import indexer as indexer_module
from feeds.content import links
from feeds.errors import StoreError
from feeds.formats.registry import CLASSIC
from feeds.indexer import View
from feeds.log import Extract
from feeds.message import Message
from feeds.migrations import FEEDS
from feeds.tiered_index import TieredIndex
from feeds.views.blob_references import REFERENCE
from feeds.views.links import LINK, Links
from feeds.views.message_types import MessageTypes
from feeds.views.social_graph import Contacts
from feeds.views.threads import REPLY
from feeds.views.votes import VOTE
from tests.support.builders import Feed, chain, generate, keypair
from tests.support.stores import VIEWS, Store, open_store

TABLES = [table for view in VIEWS for table in view.tables if table != "search"]  # that one shows no rows
TIERED = (LINK, REPLY, VOTE, REFERENCE)


def shown(store: Store) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every view; the two tiers of an index count as one."""
    tiered = {table for index in TIERED for table in index.tables}
    rows = store.dump([table for table in TABLES if table not in tiered])
    return rows | {index.name: everything_in(store, index) for index in TIERED}


def everything_in(store: Store, index: TieredIndex) -> list[tuple[object, ...]]:
    return sorted(store.database.peek(lambda c: c.execute(f"SELECT * FROM {index.either}").fetchall()))


class Newer:
    """A view whose code is one version further."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.name, self.tables, self.schema, self.extract = view.name, view.tables, view.schema, view.extract
        self.version = view.version + 1

    def apply(self, connection: sqlite3.Connection, rows: Sequence[Extract]) -> object:
        return self._view.apply(connection, rows)


async def fill(store: Store, *feeds: Feed, at_once: int = 7) -> None:
    """Add feeds in turn, in batches of several sizes."""
    longest = max(len(feed.texts) for feed in feeds)
    for at in range(0, longest, at_once):
        await store.ingest.add([text for feed in feeds for text in feed.texts[at : at + at_once]], source="test")


async def test_a_reader_never_waits_for_a_view(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        feed = chain("one", 60)
        for text in feed.texts:
            await store.ingest.add([text], source="test")
            assert store.indexer.behind == {}
        positions = store.dump(["view"])["view"]
        assert positions == sorted((view.name, view.version, 60) for view in VIEWS)


@pytest.mark.parametrize("chunk", [1, 13, 1000])
async def test_a_rebuilt_view_equals_one_kept_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(indexer_module, "CHUNK", chunk)
    monkeypatch.setattr("feeds.tiered_index.STEP", 10)
    async with open_store(tmp_path) as store:
        await fill(store, chain("one", 50), chain("two", 31), chain("three", 5))
        await store.ingest.publish({"type": "post", "text": "to myself"}, recps=[store.own.id])
        await store.ingest.publish({"type": "channel", "channel": "ssb", "subscribed": True})
        before = shown(store)
        edges = store.graph.edges()
        assert all(before.values())
    async with open_store(tmp_path, views=[Newer(view) for view in VIEWS], catch_up=False) as store:
        assert store.indexer.behind == {view.name: 88 for view in VIEWS}
        assert store.graph.edges() == {}
        await store.indexer.catch_up()
        assert store.indexer.behind == {}
        assert shown(store) == before
        assert store.graph.edges() == edges
    async with open_store(tmp_path, views=[Newer(view) for view in VIEWS], catch_up=False) as store:
        assert store.indexer.behind == {}
        assert store.graph.edges() == edges


def words(store: Store) -> list[tuple[object, ...]]:
    """Every word of the search view with every message that it stands in."""

    def read(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
        connection.execute("CREATE VIRTUAL TABLE temp.words USING fts5vocab('main', 'search', 'instance')")
        try:
            return connection.execute("SELECT term, doc FROM temp.words ORDER BY term, doc").fetchall()
        finally:
            connection.execute("DROP TABLE temp.words")

    with sqlite3.connect(store.database.path) as connection:
        return read(connection)


@pytest.mark.parametrize("count", [int(os.environ.get("SBOT_TEST_REBUILD", "2000"))])
async def test_a_rebuild_on_demand_gives_the_same_bytes_and_the_search_the_same_words(
    tmp_path: Path, count: int
) -> None:
    texts = generate(count, 40)
    async with open_store(tmp_path) as store:
        for at in range(0, count, 700):
            await store.ingest.add(texts[at : at + 700], source="test")
        await store.ingest.publish({"type": "post", "text": "to myself"}, recps=[store.own.id])
        await store.ingest.publish({"type": "channel", "channel": "ssb", "subscribed": True})
        await store.indexer.catch_up()
        before, said, edges, revision = shown(store), words(store), store.graph.edges(), store.graph.revision
        assert all(before.values())
        assert len(said) > count
        assert await store.indexer.rebuild() == [view.name for view in VIEWS]
        assert set(store.indexer.behind.values()) == {count + 2}
        assert not any(shown(store).values())
        assert store.graph.edges() == edges
        await store.indexer.catch_up()
        assert shown(store) == before
        assert words(store) == said
        assert store.graph.edges() == edges
        assert store.graph.revision == revision


async def test_damage_is_mended_in_tables_and_memory_and_only_where_asked_for(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await fill(store, chain("one", 50), chain("two", 31))
        before, edges = shown(store), store.graph.edges()
        damage = [
            "UPDATE contact SET edge=-edge",
            "INSERT INTO contact VALUES(2,1,1,1)",
            "DELETE FROM message_type WHERE type=1",
        ]
        await store.database.write(lambda connection: [connection.execute(statement) for statement in damage])
    async with open_store(tmp_path) as store:
        assert store.graph.edges() != edges
        revision = store.graph.revision
        assert await store.indexer.rebuild(["social_graph"]) == ["social_graph"]
        assert list(store.indexer.behind) == ["social_graph"]
        await store.indexer.catch_up()
        assert store.graph.edges() == edges
        assert store.graph.revision == revision + 1
        assert shown(store)["contact"] == before["contact"]
        assert shown(store)["message_type"] != before["message_type"]
        await store.indexer.rebuild(["message_types", "message_types"])
        await store.indexer.catch_up()
        assert shown(store) == before
        with pytest.raises(KeyError):
            await store.indexer.rebuild(["nonsense"])


async def test_whom_we_block_stays_blocked_while_the_graph_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer_module, "CHUNK", 3)
    other = keypair("other").id
    async with open_store(tmp_path) as store:
        own = store.own.id
        for number in range(10):
            await store.ingest.publish({"type": "contact", "contact": other, "following": not number % 2})
        await store.ingest.publish({"type": "contact", "contact": other, "blocking": True})
        seen: list[bool] = []
        store.graph.subscribe(lambda: seen.append(store.graph.is_blocking(own, other)))
        whole = asyncio.Event()
        store.indexer.when_rebuilt("search", whole.set)
        following = asyncio.create_task(store.indexer.follow(pause=60))
        await store.indexer.rebuild()
        for number in range(5):
            await store.ingest.publish({"type": "post", "text": f"meanwhile {number}"})
            assert store.graph.is_blocking(own, other)
        await asyncio.wait_for(whole.wait(), 10)
        following.cancel()
        assert seen == []
        assert store.graph.is_blocking(own, other)
        await store.ingest.publish({"type": "contact", "contact": other, "blocking": False})
        assert seen == [False]


async def test_an_empty_log_is_rebuilt_at_once(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await store.indexer.rebuild()
        assert store.indexer.behind == {}
        await fill(store, chain("one", 50))
        assert store.graph.edges()


async def test_only_the_changed_view_is_made_anew_and_the_node_goes_on_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer_module, "CHUNK", 5)
    one, two = chain("one", 40), chain("two", 40)
    async with open_store(tmp_path) as store:
        await fill(store, one)
    async with open_store(tmp_path, views=[Contacts(), Newer(MessageTypes()), *VIEWS[2:]], catch_up=False) as store:
        assert store.indexer.behind == {"message_types": 40}
        await store.ingest.add(two.texts[:10], source="test")
        assert store.indexer.behind == {"message_types": 50}
        catching_up = asyncio.create_task(store.indexer.catch_up())
        for text in two.texts[10:]:
            await store.ingest.add([text], source="test")
        await catching_up
        assert store.indexer.behind == {}
        behind = shown(store)
    (tmp_path / "again").mkdir()
    async with open_store(tmp_path / "again") as store:
        await fill(store, one)
        await fill(store, two)
        assert shown(store) == behind


async def test_a_crash_between_chunks_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexer_module, "CHUNK", 10)
    async with open_store(tmp_path) as store:
        await fill(store, chain("one", 35))
        whole = shown(store)
    newer = [Newer(view) for view in VIEWS]
    async with open_store(tmp_path, views=newer, catch_up=False) as store:
        await store.database.write(store.indexer._chunk, after_commit=store.indexer._progressed)
        assert store.indexer.behind == {view.name: 25 for view in VIEWS}
    async with open_store(tmp_path, views=newer, catch_up=False) as store:
        assert store.indexer.behind == {view.name: 25 for view in VIEWS}
        await store.indexer.catch_up()
        assert shown(store) == whole


async def test_a_failing_view_fails_the_append_whole(tmp_path: Path) -> None:
    class Failing(Contacts):
        def apply(self, connection: sqlite3.Connection, rows: Sequence[Extract]) -> Any:
            super().apply(connection, rows)
            raise sqlite3.OperationalError("made to fail")

    feed = Feed(keypair("one"))
    feed.append({"type": "contact", "contact": keypair("two").id, "following": True})
    async with open_store(tmp_path, views=[Failing(), MessageTypes(), Links()]) as store:
        with pytest.raises(StoreError):
            await store.ingest.add(feed.texts, source="test")
        assert store.log.position == 0
        assert store.dump(["message", "contact", "message_type"]) == {"message": [], "contact": [], "message_type": []}
        assert store.graph.revision == 0


async def test_a_message_that_cannot_be_read_back_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    feed = chain("one", 5)
    async with open_store(tmp_path) as store:
        await fill(store, feed)
        await store.database.write(lambda c: c.execute("UPDATE message SET text=x'7b7d' WHERE position=3").rowcount)
    async with open_store(tmp_path, views=[Newer(MessageTypes())]) as store:
        assert store.indexer.behind == {}
        assert 3 not in {position for _, position in store.dump(["message_type"])["message_type"]}
    assert "position 3" in caplog.text


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=8)
    | st.sampled_from(
        [keypair("x").id, "%" + "A" * 43 + "=.sha256", "&" + "A" * 43 + "=.sha256?unbox=x", "ssb:x", "\ud800"]
    ),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(), max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)
NAMES = st.sampled_from(["type", "contact", "following", "blocking", "flagged", "root", "vote", "\ud800", "\0", ""])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(NAMES, JSON, max_size=6) | st.text(max_size=5), st.integers(0, 20))
def test_no_content_makes_a_view_raise(content: Any, depth: int) -> None:
    for _ in range(depth):
        content = {"type": "post", "in": [content]}
    message = CLASSIC.prepare(chain("one", 1).texts[0])._replace(content=content)
    connection = sqlite3.connect(":memory:")
    try:
        for statement in FEEDS.migrations[0].statements:
            connection.execute(statement)
        connection.execute("INSERT INTO message VALUES(1, 1, 1, ?, 5, 5, ?)", (message.key, message.text))
        for view in VIEWS:
            for statement in view.schema:
                connection.execute(statement)
            value = view.extract(message, links(message.content))
            if value is not None:
                view.apply(connection, [(1, message.author, value, 1, 5)])
    finally:
        connection.close()


def test_extractors_can_be_found_by_name() -> None:
    """A child process gets them as module and name."""
    for view in VIEWS:
        extract = view.extract
        assert extract.__module__.startswith("feeds.views.")
        assert getattr(import_module(extract.__module__), extract.__qualname__) is extract


def test_messages_without_anything_to_keep() -> None:
    boxed = CLASSIC.prepare(chain("one", 1).texts[0])._replace(content="A" * 64 + ".box")
    assert isinstance(boxed, Message)
    for view in VIEWS:
        assert view.extract(boxed, links(boxed.content)) == (1 if view.name == "private_index" else None), view.name
