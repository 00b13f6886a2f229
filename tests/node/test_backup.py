"""Backups of a node that runs, and nodes made from them: consistent, incremental, locked, and never forked."""

import asyncio
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from feeds import backup, publisher_state
from feeds.errors import FeedLocked, StoreError
from feeds.publisher_state import Reason
from node.cli import main
from node.errors import KeyFileError
from node.sbot import Sbot
from tests.node.test_sbot import follow, opened, until

POST: dict[str, Any] = {"type": "post", "text": "x"}


async def filled(path: Path, messages: int = 3, blobs: int = 2) -> str:
    async with opened(path) as sbot:
        for _ in range(messages):
            await sbot.store.ingest.publish(POST)
        for number in range(blobs):
            await add_blob(sbot, b"blob %d" % number)
        return sbot.id


async def add_blob(sbot: Sbot, data: bytes) -> str:
    return (await sbot.store.blobs.add(data)).id


def saved(folder: Path, target: Path, feed: str, **more: Any) -> backup.Backup:
    return backup.back_up(folder, target, feed, **{"key": None, "now": 1} | more)


def reason(sbot: Sbot) -> str | None:
    found = sbot.store.publishing.status()["reason"]
    return None if found is None else str(found["code"])


async def test_a_node_is_backed_up_while_it_publishes_and_comes_back_locked_until_peers_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened(tmp_path / "a") as a, opened(tmp_path / "b") as b, opened(tmp_path / "c") as c:
        blob = await add_blob(a, b"a picture")
        for other in (b, c):
            await follow(other, a)

        async def publish() -> None:
            for _ in range(100):
                await a.store.ingest.publish(POST)

        publishing = asyncio.create_task(publish())
        sequences = []
        while not publishing.done():
            command = ["backup", str(tmp_path / "saved"), "--with-key", "--path", str(tmp_path / "a")]
            assert await asyncio.to_thread(main, command) == 0
            sequences.append(json.loads(capsys.readouterr().out)["sequence"])
        await publishing
        assert sequences == sorted(sequences)
        await asyncio.gather(b.connections.dial(a.address), c.connections.dial(a.address))
        await until(lambda: b.store.log.sequence(a.id) == c.store.log.sequence(a.id) == 100)
        feed = a.id
        await a.connections.disconnect(b.id)
    assert main(["restore", str(tmp_path / "saved"), "--path", str(tmp_path / "new")]) == 0
    assert json.loads(capsys.readouterr().out)["sequence"] == sequences[-1]
    assert not {"install", "publishing"} & {path.name for path in (tmp_path / "new").iterdir()}
    monkeypatch.setattr(publisher_state, "QUIET", 0.0)
    async with opened(tmp_path / "new") as a, opened(tmp_path / "b") as b, opened(tmp_path / "c") as c:
        assert (a.id, reason(a), a.store.log.sequence(feed)) == (feed, Reason.NO_MARK, sequences[-1])
        await a.store.blobs.mended()
        assert a.store.blobs.info(blob) is not None
        with pytest.raises(FeedLocked):
            await a.store.ingest.publish(POST)
        for other in (b, c):
            await a.connections.dial(other.address)
        await until(lambda: a.store.publishing.status()["state"] == "open")
        assert (await a.store.ingest.publish(POST)).sequence == 101
        await until(lambda: b.store.log.sequence(feed) == 101)
        for node in (a, b, c):
            assert not await node.store.log.forks()


async def test_a_second_backup_brings_only_what_is_new(tmp_path: Path) -> None:
    feed = await filled(tmp_path / "a")
    first = saved(tmp_path / "a", tmp_path / "saved", feed)
    assert (first.sequence, first.blobs, first.new_blobs, first.key) == (3, 2, 2, False)
    async with opened(tmp_path / "a") as a:
        await a.store.ingest.publish(POST)
        await add_blob(a, b"a third")
        second = await asyncio.to_thread(saved, tmp_path / "a", tmp_path / "saved", feed, key=b"k", now=2)
    assert (second.sequence, second.blobs, second.new_blobs, second.key) == (4, 3, 1, True)
    assert backup.read_backup(tmp_path / "saved") == second._replace(new_blobs=0, new_blob_bytes=0)
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {"backup.json", "backup.lock", "blobs", "config.toml", "sbot.db", "secret"}
    for path in (tmp_path / "saved").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


async def test_a_backup_opened_as_it_is_is_locked(tmp_path: Path) -> None:
    feed = await filled(tmp_path / "a")
    saved(tmp_path / "a", tmp_path / "saved", feed)
    shutil.copy(tmp_path / "saved" / "sbot.db", tmp_path / "a" / "sbot.db")
    async with opened(tmp_path / "a") as a:
        assert reason(a) == Reason.SNAPSHOT


@pytest.mark.parametrize("across_disks", [False, True])
async def test_blobs_are_linked_or_copied_and_restored_ones_are_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, across_disks: bool
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    feed = await filled(tmp_path / "a")
    if across_disks:
        monkeypatch.setattr(os, "link", refuse)
    saved(tmp_path / "a", tmp_path / "saved", feed)
    files = [path for path in (tmp_path / "saved" / "blobs" / "sha256").rglob("*") if path.is_file()]
    assert {path.stat().st_nlink for path in files} == {1 if across_disks else 2}
    files[0].unlink()
    files[1].unlink()  # not written to: it may be the node's own
    files[1].write_bytes(b"other bytes")
    files[0].symlink_to("/dev/zero")
    restored = backup.restore(tmp_path / "saved", tmp_path / "new")
    assert (restored.blobs, restored.blobs_damaged) == (0, 2)
    assert not [path for path in (tmp_path / "new" / "blobs").rglob("*") if path.is_file()]
    saved(tmp_path / "a", tmp_path / "again", feed)
    assert backup.restore(tmp_path / "again", tmp_path / "whole").blobs == 2
    monkeypatch.undo()
    with pytest.raises(KeyFileError, match="without the key"):  # no new identity is made over an old store
        async with opened(tmp_path / "whole"):
            pass
    shutil.copy(tmp_path / "a" / "secret", tmp_path / "whole" / "secret")
    async with opened(tmp_path / "whole") as node:
        assert (node.id, reason(node)) == (feed, Reason.NO_MARK)
        await node.store.blobs.mended()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def link_away(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("sbot.db", cut),
        ("sbot.db", flip),
        ("sbot.db", Path.unlink),
        ("sbot.db", link_away),
        ("sbot.db", make_pipe),
        ("backup.json", cut),
        ("backup.json", Path.unlink),
        ("backup.json", lambda path: path.write_text("[" * 9000)),
        ("backup.json", lambda path: path.write_text('{"type":"pysbot-backup","version":9}')),
        ("backup.json", lambda path: path.write_text('{"type":"pysbot-backup","version":1,"feed":3}')),
    ],
)
async def test_a_damaged_backup_is_refused_with_a_sentence(
    tmp_path: Path, name: str, harm: Callable[[Path], object]
) -> None:
    feed = await filled(tmp_path / "a", blobs=0)
    saved(tmp_path / "a", tmp_path / "saved", feed)
    harm(tmp_path / "saved" / name)
    with pytest.raises(StoreError):
        backup.restore(tmp_path / "saved", tmp_path / "new")
    assert not (tmp_path / "new").exists() or not any((tmp_path / "new").iterdir())


async def test_what_is_there_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    feed, other = await filled(tmp_path / "a"), await filled(tmp_path / "b")
    saved(tmp_path / "a", tmp_path / "saved", feed)
    with pytest.raises(StoreError, match="another feed"):
        saved(tmp_path / "b", tmp_path / "saved", other)
    for target in (tmp_path / "a", tmp_path / "b"):
        with pytest.raises(StoreError, match="holds no backup"):
            saved(tmp_path / "a", target, feed)
    assert main(["restore", str(tmp_path / "saved"), "--path", str(tmp_path / "b")]) == 1
    assert "not empty" in capsys.readouterr().err
    assert main(["backup", str(tmp_path / "x"), "--path", str(tmp_path / "nowhere")]) == 1
    assert main(["restore", str(tmp_path / "a"), "--path", str(tmp_path / "new")]) == 1
    assert main(["backup", "--path", str(tmp_path / "a")]) == 2
    assert backup.read_backup(tmp_path / "saved").feed == feed


async def test_cut_off_between_the_two_last_steps_the_backup_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = await filled(tmp_path / "a")
    saved(tmp_path / "a", tmp_path / "saved", feed)
    async with opened(tmp_path / "a") as a:
        await a.store.ingest.publish(POST)
    replace = Path.replace
    for stop in ("sbot.db", "backup.json"):  # the disk ends just before each of them

        def fail(self: Path, target: Path, stop: str = stop) -> Path:
            if target.name == stop:
                raise OSError(28, "No space left on device")
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(StoreError, match="No space left"):
            saved(tmp_path / "a", tmp_path / "saved", feed)
        monkeypatch.undo()
        restored = backup.restore(tmp_path / "saved", tmp_path / f"new {stop}")
        assert restored.backup.sequence == (3 if stop == "sbot.db" else 4)
    (tmp_path / "saved" / "sbot.db.new-journal").write_bytes(b"left")
    assert saved(tmp_path / "a", tmp_path / "saved", feed).sequence == 4
    (tmp_path / "saved" / "backup.json.new").write_text('{"half')
    assert backup.restore(tmp_path / "saved", tmp_path / "new").backup.sequence == 4
    with pytest.raises(StoreError, match="not empty"):
        backup.restore(tmp_path / "saved", tmp_path / "new")


def test_what_is_no_plain_file_is_not_read(tmp_path: Path) -> None:
    for make in (os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")):
        path = tmp_path / "odd"
        make(path)
        with pytest.raises((StoreError, OSError)):
            backup._copy(path, tmp_path / "copy")
        assert not (tmp_path / "copy").exists()
        path.rmdir() if path.is_dir() else path.unlink()


async def test_only_one_backup_into_a_folder_at_a_time(tmp_path: Path) -> None:
    feed = await filled(tmp_path / "a")
    with backup._held(tmp_path / "saved"), pytest.raises(StoreError, match="under way"):
        saved(tmp_path / "a", tmp_path / "saved", feed)
    with sqlite3.connect(tmp_path / "plain.db") as connection:
        connection.execute("CREATE TABLE x(y)")
    connection.close()
    (tmp_path / "other").mkdir()
    shutil.move(tmp_path / "plain.db", tmp_path / "other" / "sbot.db")
    with pytest.raises(StoreError, match="another program"):
        saved(tmp_path / "other", tmp_path / "saved", feed)
