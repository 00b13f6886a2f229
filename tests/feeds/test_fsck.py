"""Damage of every kind is named, and nothing sound is called damaged."""

import asyncio
import hashlib
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from feeds.blob_table import BLOBS
from feeds.fsck import Part, Report, examine
from feeds.refs import BlobRef
from tests.support.builders import chain, generate, keypair
from tests.support.stores import VIEWS, open_store

BLOB = b"a picture"
FEED = keypair("one").id
KEY = hashlib.sha256(BLOB).digest()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a few feeds, a feed of our own and a blob; tests spoil copies of it."""
    folder = tmp_path_factory.mktemp("sound")
    asyncio.run(_fill(folder))
    file = blob_file(folder)
    file.parent.mkdir(parents=True)
    file.write_bytes(BLOB)
    return folder


async def _fill(folder: Path) -> None:
    async with open_store(folder, components=[BLOBS], workers=0) as store:
        await store.ingest.add(chain("one", 30).texts, source="test")
        await store.ingest.add(generate(120, 8), source="test")
        await store.ingest.publish({"type": "post", "text": "mine"})
        await store.indexer.catch_up()
        add = "INSERT INTO blob(key, size, added, used, own, pinned) VALUES(?,?,0,0,1,0)"
        await store.database.write(lambda connection: connection.execute(add, (KEY, len(BLOB))))


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return shutil.copytree(sound, tmp_path / "store")


def blob_file(folder: Path) -> Path:
    return folder / "blobs" / "sha256" / KEY.hex()[:2] / KEY.hex()[2:]


def look(folder: Path, *, full: bool) -> Report:
    return examine(folder / "sbot.db", folder / "blobs", VIEWS, full=full)


def change(folder: Path, statements: Sequence[str], *values: object) -> None:
    with sqlite3.connect(folder / "sbot.db") as connection:
        for statement in statements:
            assert connection.execute(statement, values if "?" in statement else ()).rowcount
    connection.close()


@pytest.mark.parametrize("full", [False, True], ids=["fast", "full"])
def test_a_sound_store_is_sound(folder: Path, full: bool) -> None:
    report = look(folder, full=full)
    assert report.damage == []
    assert report.behind == []
    assert (report.feeds, report.messages, report.blobs) == (10, 151, 1)
    assert sorted(file.name for file in folder.iterdir() if file.name.startswith(".fsck")) == []


AT = "author=(SELECT id FROM feed WHERE ref=?) AND sequence=17"
CHAINS = {
    "row lost": (f"DELETE FROM message WHERE {AT}", 17, False),
    "id changed": (f"UPDATE message SET key=zeroblob(32) WHERE {AT}", 17, False),
    "id cut": (f"UPDATE message SET key=x'00' WHERE {AT}", 17, False),
    "text lost": (f"UPDATE message SET text=x'' WHERE {AT}", 17, False),
    "text of another": (
        "UPDATE message SET text=(SELECT text FROM message WHERE position=3) WHERE author=("
        "SELECT id FROM feed WHERE ref=?) AND sequence=17",
        17,
        False,
    ),
    "content changed": (
        f"UPDATE message SET text=CAST(replace(CAST(text AS TEXT), '\"content\":', '\"contenu\":') AS BLOB) WHERE {AT}",
        17,
        True,
    ),
    "signature changed": (
        f"UPDATE message SET text=CAST(replace(CAST(text AS TEXT), '==.sig', 'A=.sig') AS BLOB) WHERE {AT}",
        17,
        True,
    ),
    "claimed time changed": (
        "UPDATE message SET text=CAST(replace(CAST(text AS TEXT), '\"timestamp\":15', '\"timestamp\":16') AS BLOB) "
        f"WHERE {AT}",
        17,
        True,
    ),
    "not in the index": (
        "DELETE FROM message_key_recent WHERE position=(SELECT position FROM message WHERE author=("
        "SELECT id FROM feed WHERE ref=?) AND sequence=17)",
        17,
        True,
    ),
}


@pytest.mark.parametrize("name", sorted(CHAINS))
def test_the_first_bad_message_of_a_feed_is_named(folder: Path, name: str) -> None:
    feed = FEED
    statement, sequence, only_full = CHAINS[name]
    change(folder, [statement], feed)
    for full in (False, True):
        found = [damage for damage in look(folder, full=full).damage if damage.part is Part.FEED]
        if only_full and not full:
            assert found == []
        else:  # a fast look cannot tell which end of a broken link is the bad one
            at = sequence + (name == "id changed" and not full)
            assert [(damage.subject, damage.sequence) for damage in found] == [(feed, at)]


def test_a_lost_tail_and_wrong_counts_are_told(folder: Path) -> None:
    feed = FEED
    change(folder, ["UPDATE feed SET bytes=bytes+1 WHERE ref=?"], feed)
    assert [(damage.part, damage.subject) for damage in look(folder, full=False).damage] == [(Part.COUNTS, feed)]
    change(folder, ["DELETE FROM message WHERE author=(SELECT id FROM feed WHERE ref=?) AND sequence>20"], feed)
    found = look(folder, full=False).damage
    assert (Part.FEED, feed, 21) in [(damage.part, damage.subject, damage.sequence) for damage in found]
    assert (Part.INDEX, "message_key") in [(damage.part, damage.subject) for damage in found]


def test_a_store_of_an_earlier_version_is_not_called_damaged(folder: Path) -> None:
    with sqlite3.connect(folder / "sbot.db") as connection:
        connection.execute("DROP TABLE erased")
    connection.close()
    assert [damage.subject for damage in look(folder, full=False).damage] == ["erased"]
    change(folder, ["DELETE FROM migration WHERE component='feeds' AND number=4"])
    assert look(folder, full=False).damage == []


VIEW_DAMAGE = {
    "social_graph": "UPDATE contact SET edge=-edge",
    "message_types": "DELETE FROM message_type WHERE position=5",
    "links": "DELETE FROM link_rel WHERE id=1",
    "threads": "DELETE FROM reply_recent",
    "timeline": "UPDATE timeline SET time=time+1 WHERE position=(SELECT max(position) FROM timeline)",
    "search": "INSERT INTO search(rowid, words) VALUES(100000, 'nobody said this')",
}


@pytest.mark.parametrize("view", sorted(VIEW_DAMAGE))
def test_a_damaged_view_is_named_by_a_full_look(folder: Path, view: str) -> None:
    change(folder, [VIEW_DAMAGE[view]])
    assert look(folder, full=False).damage == []
    assert {(damage.part, damage.subject) for damage in look(folder, full=True).damage} == {(Part.VIEW, view)}


def test_views_out_of_step_and_lost_tables_are_told(folder: Path) -> None:
    change(folder, ["UPDATE view SET position=100 WHERE name='search'"])
    report = look(folder, full=True)
    assert (report.behind, report.damage) == (["search"], [])
    change(folder, ["UPDATE view SET position=999 WHERE name='votes'"])
    with sqlite3.connect(folder / "sbot.db") as connection:
        connection.execute("DROP TABLE timeline")
    connection.close()
    assert {damage.subject for damage in look(folder, full=True).damage} == {"votes", "timeline"}


def test_blobs_are_measured_and_hashed(folder: Path) -> None:
    blob_file(folder).write_bytes(b"A picture")
    assert look(folder, full=False).damage == []
    (damage,) = look(folder, full=True).damage
    assert (damage.part, damage.subject) == (Part.BLOB, str(BlobRef(KEY)))
    for spoil in (lambda: blob_file(folder).write_bytes(b"short"), lambda: blob_file(folder).unlink()):
        spoil()
        (damage,) = look(folder, full=False).damage
        assert (damage.part, damage.subject) == (Part.BLOB, str(BlobRef(KEY)))


@pytest.mark.parametrize("page", range(0, 60, 6))
def test_overwritten_pages_are_told_and_never_raise(folder: Path, page: int) -> None:
    with (folder / "sbot.db").open("r+b") as file:
        size = file.seek(0, 2) // 16384
        file.seek((1 + page % (size - 1)) * 16384)
        file.write(b"\xa5" * 16384)
    assert look(folder, full=True).damage
