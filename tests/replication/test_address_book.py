"""Known addresses survive a restart, count their failures, and stay bounded."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from feeds.database import Database
from feeds.migrations import FEEDS
from replication import address_book
from replication.address_book import AddressBook
from replication.migrations import REPLICATION
from tests.support.stores import Ticking

ALICE = "@" + "a" * 43 + "=.ed25519"
BOB = "@" + "b" * 43 + "=.ed25519"


@pytest_asyncio.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "sbot.db", [FEEDS, REPLICATION])
    yield database
    await database.close()


async def test_everything_known_is_there_again_after_a_restart(database: Database) -> None:
    book = AddressBook(database, Ticking())
    await book.load()
    await book.remember("net:a:1~shs:x", ALICE, "manual", auto=True)
    await book.remember("net:b:1~shs:y", BOB, "pub", auto=False)
    await book.failed("net:b:1~shs:y", "connect: nobody there")
    await book.succeeded("net:a:1~shs:x")

    again = AddressBook(database, Ticking())
    await again.load()

    assert again.all() == book.all()
    assert [known.address for known in again.all()] == ["net:a:1~shs:x", "net:b:1~shs:y"]
    assert again.get("net:b:1~shs:y").error == "connect: nobody there"  # type: ignore[union-attr]


async def test_failures_count_up_and_a_success_clears_them(database: Database) -> None:
    book = AddressBook(database, Ticking())
    await book.load()
    await book.remember("net:a:1~shs:x", ALICE, "manual", auto=True)

    assert [await book.failed("net:a:1~shs:x", "no") for _ in range(3)] == [1, 2, 3]
    await book.succeeded("net:a:1~shs:x")

    known = book.get("net:a:1~shs:x")
    assert known is not None
    assert (known.failures, known.error) == (0, None)
    assert known.last_success is not None
    assert known.last_failure is not None
    assert known.last_success > known.last_failure
    assert await book.failed("net:nobody:1~shs:x", "no") == 0
    assert book.get("net:nobody:1~shs:x") is None


async def test_a_hint_does_not_undo_the_users_wish(database: Database) -> None:
    book = AddressBook(database, Ticking())
    await book.load()
    await book.remember("net:a:1~shs:x", ALICE, "manual", auto=True)
    assert (await book.remember("net:a:1~shs:x", ALICE, "pub", auto=False)).auto
    assert (await book.remember("net:a:1~shs:x", ALICE, "pub", auto=False)).source == "manual"
    await book.remember("net:b:1~shs:y", BOB, "pub", auto=False)
    assert (await book.remember("net:b:1~shs:y", BOB, "manual", auto=True)).auto


async def test_forgetting_is_for_good(database: Database) -> None:
    book = AddressBook(database, Ticking())
    await book.load()
    await book.remember("net:a:1~shs:x", ALICE, "manual", auto=True)
    assert await book.forget("net:a:1~shs:x")
    assert not await book.forget("net:a:1~shs:x")
    again = AddressBook(database, Ticking())
    await again.load()
    assert again.all() == []


async def test_of_two_addresses_the_one_that_worked_comes_first(database: Database) -> None:
    book = AddressBook(database, Ticking())
    await book.load()
    await book.remember("net:old:1~shs:x", ALICE, "pub", auto=True)
    await book.remember("net:new:1~shs:x", ALICE, "pub", auto=True)
    await book.succeeded("net:new:1~shs:x")
    assert [known.address for known in book.of_peer(ALICE)] == ["net:new:1~shs:x", "net:old:1~shs:x"]
    assert book.of_peer(BOB) == []


async def test_the_book_is_bounded_and_keeps_what_the_user_dials(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address_book, "MAX_ADDRESSES", 4)
    book = AddressBook(database, Ticking())
    await book.load()
    await book.remember("net:mine:1~shs:x", ALICE, "manual", auto=True)
    for number in range(10):
        await book.remember(f"net:h{number}:1~shs:x", BOB, "pub", auto=False)
    assert len(book.all()) == 4
    assert book.get("net:mine:1~shs:x") is not None
    assert book.get("net:h9:1~shs:x") is not None
