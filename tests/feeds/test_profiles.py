"""The profiles view: the newest word of each author about each field of each id."""

import sqlite3
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from feeds.formats.registry import CLASSIC
from feeds.migrations import FEEDS
from feeds.names import Said
from feeds.views.profiles import Profiles, claims_about, extract, said_of, subjects_named
from tests.support.builders import Feed, keypair
from tests.support.stores import Store, open_store

ANN = keypair("ann").id
LONG = "a long story \u00e9 " * 100


def feed(name: str, *about: dict[str, Any]) -> Feed:
    made = Feed(keypair(name))
    for members in about:
        made.append({"type": "about", "about": ANN} | members)
    return made


async def add(store: Store, *feeds: Feed) -> None:
    for one in feeds:
        report = await store.ingest.add(one.texts, source="test")
        assert not report.rejections


def claims(store: Store, subject: str = ANN, **options: Any) -> list[tuple[str, Any, str]]:
    found = store.database.peek(lambda connection: claims_about(connection, subject, **options))
    return [(claim.field, claim.value, claim.author) for claim in found]


async def test_the_newest_word_replaces_what_was_said_before_field_by_field(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        bob = feed("bob", {"name": "a", "description": LONG}, {"name": "b"}, {"x": {"y": [1]}}, {"name": 5})
        await add(store, bob, feed("ann", {"name": "Ann"}, {"name": None}))
        who = bob.id
        assert claims(store) == [("name", "b", who), ("description", LONG, who), ("x", {"y": [1]}, who)]


async def test_some_authors_come_first(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await add(store, feed("ann", {"name": "Ann"}), feed("bob", {"name": "b"}), feed("cid", {"name": "c"}))
        assert claims(store, first=[ANN], limit=2) == [("name", "Ann", ANN), ("name", "c", keypair("cid").id)]


async def test_names_of_many(tmp_path: Path) -> None:
    bob, cid = keypair("bob").id, keypair("cid").id
    async with open_store(tmp_path) as store:
        await add(store, feed("bob", {"name": "b"}, {"about": cid, "name": "c"}), feed("cid", {"name": "x"}))
        found = store.database.peek(lambda connection: said_of(connection, [ANN, bob, cid]))
        assert found == {ANN: [Said(bob, "b"), Said(cid, "x")], cid: [Said(bob, "c")]}


async def test_looking_up_by_the_beginning_of_a_name(tmp_path: Path) -> None:
    bob, cid = keypair("bob").id, keypair("cid").id
    message = "%" + "A" * 43 + "=.sha256"
    async with open_store(tmp_path) as store:
        await add(
            store,
            feed("ann", {"name": "Äpfel"}, {"about": bob, "name": "apfelbaum"}, {"about": cid, "name": "Birne"}),
            feed("bob", {"about": message, "name": "apfelkuchen"}, {"about": cid, "name": "\U0010ffff"}),
        )
        for prefix, subjects in [
            ("apf", [ANN, bob]),
            ("@APFELB", [bob]),
            ("\U0010ffff", [cid]),
            ("%", []),
            ("", [ANN, bob, cid]),
        ]:
            found = store.database.peek(lambda connection, p=prefix: subjects_named(connection, p))  # type: ignore[misc]
            assert sorted(found) == sorted(subjects), prefix


async def test_a_name_that_is_replaced_is_no_longer_found(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await add(store, feed("bob", {"name": "old"}, {"name": "new"}))
        assert store.database.peek(lambda connection: subjects_named(connection, "old")) == []
        assert store.database.peek(lambda connection: subjects_named(connection, "new")) == [ANN]


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=6) | st.sampled_from([ANN, "\ud800", "\0", "x" * 999]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["link", "remove", "\udfff"]), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = st.sampled_from(["about", "name", "image", "description", "publicWebHosting", "\ud800", "\0", ""])


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(FIELDS, VALUES, max_size=6), st.booleans())
def test_no_content_makes_it_raise(members: Any, is_usable: bool) -> None:
    content = {"type": "about", **members} | ({"about": ANN} if is_usable else {})
    message = CLASSIC.prepare(feed("ann", {"name": "x"}).texts[0])._replace(content=content)
    connection = sqlite3.connect(":memory:")
    try:
        for statement in (*(s for step in FEEDS.migrations for s in step.statements), *Profiles.schema):
            connection.execute(statement)
        connection.execute("INSERT INTO feed VALUES(1, ?, 1, x'', 1, 1, 0)", (ANN,))
        connection.execute("INSERT INTO message VALUES(1, 1, 1, ?, 5, 5, ?)", (message.key, message.text))
        value = extract(message, [])
        if value is not None:
            Profiles().apply(connection, [(1, message.author, value, 1, 5)])
            assert len(claims_about(connection, value[0])) == sum(text != "null" for _, text, _ in value[1])
            subjects_named(connection, "\ud800")
            said_of(connection, [ANN, "\0"], "\0")
    finally:
        connection.close()
