"""A node that watches over its own feed: peers that show more, deliver, lie and agree; forks; files beside it."""

import asyncio
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from feeds import fork_proof, publisher_state
from feeds.errors import FeedLocked, ForkedFeed, SequenceMismatch
from feeds.formats.registry import CLASSIC
from feeds.install import mark_as_snapshot
from feeds.message import EMPTY, Tip
from feeds.publisher_state import Reason
from feeds.publishing_mark import read_mark
from node.commands.unlock import lines
from node.sbot import Sbot
from tests.node.test_sbot import follow, opened, until

POST: dict[str, Any] = {"type": "post", "text": "x"}


def branch(sbot: Sbot, tip: Tip = EMPTY) -> Any:
    """The next message of our feed as another program with the same key would make it."""
    return CLASSIC.create(sbot.keypair, tip, {"type": "post", "text": "elsewhere"}, 5.0, None)


def reason(sbot: Sbot) -> str | None:
    found = sbot.store.publishing.status()["reason"]
    return None if found is None else str(found["code"])


async def test_a_fresh_node_is_open_and_its_mark_follows(tmp_path: Path) -> None:
    async with opened(tmp_path / "a") as a:
        assert a.store.publishing.status()["state"] == "open"
        entries = await asyncio.gather(*(a.store.ingest.publish(POST) for _ in range(5)))
        mark, _ = read_mark(tmp_path / "a")
        assert mark is not None
        last = max(entries, key=lambda entry: entry.sequence)
        assert (mark.feed, mark.done, mark.intent) == (a.id, Tip(5, last.id), None)


async def test_a_claim_locks_at_once_and_a_liar_cannot_do_it_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "a") as a:
        await a.store.ingest.publish(POST)
        publishing = a.store.publishing
        publishing.shows("@liar", 1)
        assert publishing.status()["state"] == "open"
        publishing.shows("@liar", 9)
        with pytest.raises(FeedLocked, match="sbot unlock"):
            await a.store.ingest.publish(POST)
        assert reason(a) == Reason.SHOWN
        assert any("@liar" in line for line in lines(publishing.status() | {"history": []}))
        with pytest.raises(SequenceMismatch):
            await publishing.unlock(9)
        await until(lambda: publishing._recorded is not None)
    async with opened(tmp_path / "a") as a:  # a restart is no way out
        publishing = a.store.publishing
        assert reason(a) == Reason.SHOWN
        monkeypatch.setattr(publisher_state, "QUIET", 0.0)
        monkeypatch.setattr(publisher_state, "CLAIM_PATIENCE", 0.5)
        for peer, sequence in (("@one", 1), ("@two", 1), ("@liar", 9)):
            publishing.shows(peer, sequence)
        await until(lambda: publishing.status()["state"] == "open")
        publishing.shows("@liar", 99)
        assert publishing.status()["state"] == "open"
        await a.store.ingest.publish(POST)
        assert [event["kind"] for event in await publishing.history()] == ["unlocked", "locked"]
        publishing.shows("@one", 9)
        assert publishing.status()["state"] == "locked"


async def test_messages_of_ours_that_a_peer_delivers_lock(tmp_path: Path) -> None:
    async with opened(tmp_path / "a") as a:
        entry = await a.store.ingest.publish(POST)
        report = await a.store.ingest.add([branch(a, Tip(1, entry.id)).text], source="peer")
        assert report.added == 1  # taken, though nothing may be signed
        with pytest.raises(FeedLocked):
            await a.store.ingest.publish(POST)
        assert reason(a) == Reason.DELIVERED
    async with opened(tmp_path / "a") as a:
        assert a.store.publishing.status()["state"] == "locked"
        await a.store.publishing.unlock(2)
        assert (await a.store.ingest.publish(POST)).sequence == 3


async def test_a_second_branch_forks_for_good_and_is_proved(tmp_path: Path) -> None:
    async with opened(tmp_path / "a") as a:
        entry = await a.store.ingest.publish(POST)
        other = branch(a)
        await a.store.ingest.add([other.text], source="peer")
        with pytest.raises(ForkedFeed):
            await a.store.ingest.publish(POST)
        with pytest.raises(ForkedFeed):
            await a.store.publishing.unlock(1)
    async with opened(tmp_path / "a") as a:
        status = a.store.publishing.status()
        assert (status["state"], status["reason"]["code"]) == ("forked", "forked")
        fork = await a.store.log.fork(a.id)
        assert fork is not None
        proof = fork_proof.export(a.id, fork.sequence, fork.first, fork.second)
        good = fork_proof.verify(json.dumps(proof).encode())
        assert (good.feed, good.sequence, set(good.messages)) == (a.id, 1, {entry.id, other.id})


async def test_a_backup_that_is_opened_live_is_locked(tmp_path: Path) -> None:
    async with opened(tmp_path / "a") as a:
        await a.store.ingest.publish(POST)
    with sqlite3.connect(tmp_path / "a" / "sbot.db") as connection:
        mark_as_snapshot(connection)
    connection.close()
    async with opened(tmp_path / "a") as a:
        assert reason(a) == Reason.SNAPSHOT


async def test_what_peers_were_known_to_have_locks_at_the_start(tmp_path: Path) -> None:
    async with opened(tmp_path / "a") as a, opened(tmp_path / "b") as b:
        await follow(b, a)
        await a.store.ingest.publish(POST)
        await b.connections.dial(a.address)
        await until(lambda: a.store.publishing.reported(1) == 1)
        await until(lambda: b.store.publishing.reported(1) == 0)
        assert a.store.publishing.status()["reported_by"] == 1
        assert a.store.publishing.status()["state"] == b.store.publishing.status()["state"] == "open"
    async with opened(tmp_path / "a") as a:
        assert a.store.publishing.reported(1) == 1  # remembered
        a.store.publishing.remember({"@another": 7})
        assert reason(a) == Reason.SHOWN


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"feed":1}', "[" * 9000, '{"feed":"@","epoch":"e"}'])
async def test_a_damaged_mark_locks_and_unlocking_writes_a_good_one(tmp_path: Path, text: str) -> None:
    async with opened(tmp_path / "a"):
        pass
    (tmp_path / "a" / "publishing").write_text(text)
    async with opened(tmp_path / "a") as a:
        assert reason(a) == Reason.BAD_MARK
        await a.store.publishing.unlock(0)
        await a.store.ingest.publish(POST)
    async with opened(tmp_path / "a") as a:
        assert a.store.publishing.status()["state"] == "open"


async def test_nothing_is_published_when_the_mark_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from feeds import publishing_mark
    from feeds.errors import StoreError

    async with opened(tmp_path / "a") as a:
        await a.store.ingest.publish(POST)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patches:
            patches.setattr(publishing_mark, "replace_file", full)
            with pytest.raises(StoreError, match=r"nothing was published.*No space"):
                await a.store.ingest.publish(POST)
        assert a.store.log.sequence(a.id) == 1
        assert (await a.store.ingest.publish(POST)).sequence == 2


@pytest.mark.parametrize("trusted", [True, False], ids=["own pub", "two peers"])
async def test_an_older_database_opens_when_real_peers_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, trusted: bool
) -> None:
    monkeypatch.setattr(publisher_state, "QUIET", 1.0)
    async with opened(tmp_path / "b") as b, opened(tmp_path / "c") as c:
        async with opened(tmp_path / "a") as a:
            for friend in (b, c):
                await follow(friend, a)
            await a.store.ingest.publish(POST)
        shutil.copy2(tmp_path / "a" / "sbot.db", tmp_path / "old.db")
        async with opened(tmp_path / "a") as a:
            for friend in (b, c):
                await friend.connections.dial(a.address)
            await a.store.ingest.publish(POST)
            await until(lambda: b.store.log.sequence(a.id) == c.store.log.sequence(a.id) == 2)
        shutil.copy2(tmp_path / "old.db", tmp_path / "a" / "sbot.db")
        async with opened(tmp_path / "a", **({"own_pubs": b.id} if trusted else {})) as a:
            assert reason(a) == Reason.STORE_OLD
            await a.connections.dial(b.address)
            if not trusted:
                await until(lambda: a.store.publishing.status()["sequence"] == 2)
                await asyncio.sleep(1.5)
                assert a.store.publishing.status()["state"] == "locked"
                await a.connections.dial(c.address)
            await until(lambda: a.store.publishing.status()["state"] == "open")
            assert (await a.store.ingest.publish(POST)).sequence == 3
