"""Which messages name which blobs: by blob, by feed, by message, newest first."""

from pathlib import Path
from typing import Any

import pytest

from feeds.blob_links import BlobLink
from feeds.views import blob_references
from feeds.views.blob_references import REFERENCE, is_named_by, named_by, named_in, references_to
from tests.support.builders import Feed, blob_id, keypair
from tests.support.stores import Store, open_store

ONE, TWO, NOBODYS = blob_id(1), blob_id(2), blob_id(3)
KEY = "K" * 43 + "=.boxs"


def post(text: str, **members: Any) -> dict[str, Any]:
    return {"type": "post", "text": text, **members}


def feed(name: str, *contents: Any) -> Feed:
    made = Feed(keypair(name))
    for content in contents:
        made.append(content)
    return made


async def filled(store: Store) -> None:
    """Positions 1 to 7."""
    ann = feed(
        "ann",
        post(f"![a]({ONE}) and ![b]({TWO}?unbox={KEY})"),
        post("nothing"),
        {"type": "about", "about": keypair("ann").id, "image": {"link": ONE}},
        "A" * 64 + ".box",
    )
    bob = feed(
        "bob", post("look", mentions=[{"link": ONE}]), {"type": "odd", "deep": [[{"file": TWO}]]}, post(TWO[:-1])
    )
    await store.ingest.add(ann.texts, source="test")
    await store.ingest.add(bob.texts, source="test")


async def test_messages_that_name_a_blob(tmp_path: Path) -> None:
    ann, bob = keypair("ann").id, keypair("bob").id
    async with open_store(tmp_path) as store:
        await filled(store)

        def places(blob: str, **more: Any) -> list[tuple[int, str]]:
            found = store.database.peek(lambda connection: references_to(connection, blob, **more))
            assert all(reference.link.id == blob for reference in found)
            return [(reference.entry.position, reference.link.path) for reference in found]

        assert places(ONE) == [(5, "mentions.link"), (3, "image.link"), (1, "text")]
        assert places(ONE, limit=2) == [(5, "mentions.link"), (3, "image.link")]
        assert places(ONE, start=3) == [(1, "text")]
        assert places(ONE, start=1, descending=False) == [(3, "image.link"), (5, "mentions.link")]
        assert places(ONE, limit=1, descending=False) == [(1, "text")]
        assert places(ONE, author=ann) == [(3, "image.link"), (1, "text")]
        assert places(TWO) == [(6, "deep.file"), (1, "text")]
        assert places(NOBODYS) == places(ONE, author=keypair("none").id) == []

        assert store.database.peek(lambda connection: is_named_by(connection, ann, TWO))
        assert store.database.peek(lambda connection: is_named_by(connection, bob, ONE))
        assert not store.database.peek(lambda connection: is_named_by(connection, bob, NOBODYS))


async def test_blobs_that_a_feed_or_a_message_names(tmp_path: Path) -> None:
    ann = keypair("ann").id
    async with open_store(tmp_path) as store:
        await filled(store)

        def blobs(**more: Any) -> list[tuple[int, str, str | None]]:
            found = store.database.peek(lambda connection: named_by(connection, ann, **more))
            return [(reference.entry.position, reference.link.id, reference.link.unbox) for reference in found]

        assert blobs() == [(3, ONE, None), (1, ONE, None), (1, TWO, KEY)]
        assert blobs(limit=1) == [(3, ONE, None)]
        assert blobs(before=3) == [(1, ONE, None), (1, TWO, KEY)]
        peek = store.database.peek
        assert peek(lambda connection: named_by(connection, keypair("none").id)) == []
        assert peek(lambda connection: named_in(connection, 1)) == [
            BlobLink(ONE, "text", None),
            BlobLink(TWO, "text", KEY),
        ]
        assert peek(lambda connection: named_in(connection, 2)) == []
        assert peek(lambda connection: named_in(connection, 4)) == []
        assert peek(lambda connection: named_in(connection, 99)) == []


async def test_another_blob_with_the_same_hash_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_references, "id_hash", lambda _: 5)
    async with open_store(tmp_path, processes=False) as store:
        await filled(store)
        found = store.database.peek(lambda connection: references_to(connection, TWO, limit=2))
        assert [reference.entry.position for reference in found] == [6, 1]
        assert not store.database.peek(lambda connection: is_named_by(connection, keypair("ann").id, NOBODYS))
        assert store.dump(["blob_naming"])["blob_naming"] == [(1, 1), (1, 3), (2, 5), (2, 6)]


async def test_references_that_moved_on_are_found_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feeds.tiered_index.STEP", 1)
    async with open_store(tmp_path) as store:
        await filled(store)
        for number in range(20):
            await store.ingest.publish(post(f"![{number}]({ONE})"))
        assert store.dump([REFERENCE.name])[REFERENCE.name]
        found = store.database.peek(lambda connection: references_to(connection, ONE))
        assert len(found) == 23
