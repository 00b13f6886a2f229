"""Known addresses survive a restart, count their failures, and stay bounded."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from feeds.database import Component, Database
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


async def test_hints_are_bounded_by_whom_they_are_about_and_who_gave_them(database: Database) -> None:
    book = AddressBook(database, Ticking())
    await book.load()

    async def hint(host: str, peer: str = BOB, origin: str = ALICE) -> bool:
        return await book.hint(f"net:{host}:1~shs:x", peer, "pub", kind="pub", origin=origin)

    await book.remember("net:mine:1~shs:x", BOB, "manual", auto=True)
    assert not await hint("mine")
    assert [await hint(f"h{number}") for number in range(12)] == [True] * 12
    assert len(book.of_peer(BOB)) == 1 + address_book.MAX_HINTS_OF_PEER  # newer ones replace what never worked
    for known in book.of_peer(BOB):
        await book.succeeded(known.address)
    assert not await hint("late")  # but nothing that did
    for number in range(30):
        assert await hint(f"o{number}", peer=f"@{number}", origin=BOB)
    assert sum(known.origin == BOB for known in book.all()) == address_book.MAX_HINTS_OF_ORIGIN
    again = AddressBook(database, Ticking())
    await again.load()
    assert again.all() == book.all()
    assert not await again.hint("net:late:1~shs:x", BOB, "pub", kind="pub", origin=ALICE)


async def test_hints_are_bounded_in_all(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_book, "MAX_HINTS", 10)
    book = AddressBook(database, Ticking())
    await book.load()
    for number in range(25):
        await book.hint(f"net:h{number}:1~shs:x", f"@{number}", "pub", kind="pub", origin=f"@o{number}")
    assert [known.address for known in book.all()] == [f"net:h{number}:1~shs:x" for number in range(15, 25)]


async def test_what_a_person_asks_for_is_no_hint_any_more(database: Database) -> None:
    book = AddressBook(database, Ticking())
    await book.load()
    await book.hint("net:a:1~shs:x", ALICE, "pub", kind="pub", origin=BOB)
    await book.update(replace(book.all()[0], paused=True, next_try=9, failures=3))
    known = await book.remember("net:a:1~shs:x", ALICE, "manual", auto=True)
    assert (known.auto, known.paused, known.next_try, known.kind, known.source) == (True, False, 0, "pub", "manual")
    await book.forget(known.address)
    assert not await book.update(known)
    assert book.all() == book.of_peer(ALICE) == []


async def test_after_an_outage_what_failed_in_it_is_due(database: Database) -> None:
    book = AddressBook(database, Ticking())
    await book.load()
    for name, failed in (("old", 10), ("new", 30)):
        known = await book.remember(f"net:{name}:1~shs:x", ALICE, "pub", auto=False)
        await book.update(replace(known, next_try=10**6, last_failure=failed))
    await book.retry_since(20)
    again = AddressBook(database, Ticking())
    await again.load()
    assert again.all() == book.all()
    assert {known.address[4:7]: known.next_try for known in book.all()} == {"old": 10**6, "new": 0}


async def test_addresses_of_before_the_scheduler_are_taken_over(tmp_path: Path) -> None:
    old = Component(REPLICATION.name, REPLICATION.migrations[:1])
    database = await Database.open(tmp_path / "old.db", [FEEDS, old])
    insert = "INSERT INTO peer_address(address, peer, source, auto, added, failures) VALUES (?,?,'manual',?,1,2)"
    await database.write(lambda connection: connection.execute(insert, ("net:a:1~shs:x", ALICE, 1)).rowcount)
    await database.write(lambda connection: connection.execute(insert, ("net:b:1~shs:x", BOB, 0)).rowcount)
    await database.close()
    database = await Database.open(tmp_path / "old.db", [FEEDS, REPLICATION])
    book = AddressBook(database, Ticking())
    await book.load()
    assert [(known.peer, known.auto, known.paused, known.failures) for known in book.all()] == [
        (ALICE, True, False, 2),
        (BOB, False, True, 2),  # we had hung up on it
    ]
    await database.close()
