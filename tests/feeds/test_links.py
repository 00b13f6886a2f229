"""Which messages point where, by the index."""

from pathlib import Path
from typing import Any

import pytest

from feeds.errors import InvalidRef
from feeds.views.links import Link, links_to
from tests.support.builders import Feed, blob_id, keypair, message_id
from tests.support.stores import Store, open_store


def found(store: Store, dest: str, **options: Any) -> list[tuple[int, str]]:
    return [
        (link.position, link.rel)
        for link in store.database.peek(lambda connection: links_to(connection, dest, **options))
    ]


async def test_links_are_found_by_destination_and_path(tmp_path: Path) -> None:
    feed, other = Feed(keypair("a")), keypair("b").id
    root, blob = message_id(1), blob_id(1)
    feed.append({"type": "post", "root": root, "branch": [root, message_id(2)], "mentions": [{"link": other}]})
    feed.append({"type": "vote", "vote": {"link": root, "value": 1}})
    feed.append({"type": "post", "text": f"only inside the text {root}"})
    feed.append({"type": "about", "about": other, "image": {"link": f"{blob}?unbox=abc"}})
    feed.append({"type": "post", "mentions": [{"link": other}, {"link": other}]})
    async with open_store(tmp_path) as store:
        await store.ingest.add(feed.texts, source="test")
        assert sorted(found(store, root)) == [(1, "branch"), (1, "root"), (2, "vote.link")]
        assert found(store, root, rel="vote") == found(store, root, rel="vote.link") == [(2, "vote.link")]
        assert found(store, root, rel="vot") == []
        assert found(store, blob) == [(4, "image.link")]
        assert found(store, other) == [(1, "mentions.link"), (4, "about"), (5, "mentions.link")]
        assert found(store, other, descending=True) == [(5, "mentions.link"), (4, "about"), (1, "mentions.link")]
        assert found(store, other, after=1, limit=1) == [(4, "about")]
        assert found(store, other, after=5, descending=True, limit=1) == [(4, "about")]
        assert found(store, message_id(9)) == []
        (link,) = store.database.peek(lambda connection: links_to(connection, message_id(2)))
        assert link == Link(1, feed.ids[0], feed.id, message_id(2), "branch")
        with pytest.raises(InvalidRef):
            found(store, "no id")


async def test_an_id_that_begins_alike_is_told_apart(tmp_path: Path) -> None:
    feed = Feed(keypair("a"))
    one = message_id(1)
    alike = one[:30] + ("A" if one[30] != "A" else "B") + one[31:]
    feed.append({"type": "post", "root": one})
    feed.append({"type": "post", "root": alike})
    async with open_store(tmp_path) as store:
        await store.ingest.add(feed.texts, source="test")
        assert found(store, one) == [(1, "root")]
        assert found(store, alike) == [(2, "root")]


async def test_ids_of_other_formats_are_found_in_any_spelling(tmp_path: Path) -> None:
    feed = Feed(keypair("a"))
    data = message_id(1)[1:45].replace("+", "-").replace("/", "_")
    feed.append({"type": "post", "root": f"ssb:message/bendybutt-v1/{data}"})
    feed.append({"type": "post", "root": f"ssb://message/bendybutt-v1/{data}"})
    async with open_store(tmp_path) as store:
        await store.ingest.add(feed.texts, source="test")
        for spelled in (f"ssb:message/bendybutt-v1/{data}", f"ssb:message:bendybutt-v1:{data}"):
            assert found(store, spelled) == [(1, "root"), (2, "root")]
