"""`sbot fsck`, `du` and `vacuum`, with and without a running node."""

import asyncio
import json
import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from feeds.errors import StoreError
from node import keyfile
from node.cli import main
from node.store import open_store
from tests.support.builders import chain, generate, keypair
from tests.support.filling import fill
from tests.support.processes import NodeProcess

ONE = chain("one", 20)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled") / "node"
    fill(folder, [*ONE.texts, *generate(60, 5)])
    return folder


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("SBOT_"):
            monkeypatch.delenv(name)


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Path:
    """The data directory of a stopped node with some feeds."""
    return shutil.copytree(filled, tmp_path / "node")


def sbot(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> tuple[int, Any]:
    code = main([*words, "--path", str(folder)])
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if captured.out else captured.err


def change(folder: Path, *statements: str) -> None:
    with sqlite3.connect(folder / "sbot.db") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def rows(folder: Path) -> list[tuple[object, ...]]:
    """Everything that is known of messages, feeds and their lock."""
    with closing(sqlite3.connect(folder / "sbot.db")) as connection:
        tables = ("message", "feed", "publishing_event", "own_store")
        return [row for table in tables for row in connection.execute(f"SELECT * FROM {table}")]


def test_a_sound_store(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["fsck"], ["fsck", "--full"], ["fsck", "--repair"]):
        code, report = sbot(capsys, folder, *words)
        assert (code, report["ok"], report["damage"], report["more"]) == (0, True, [], 0)
        assert (report["messages"], report["feeds"]) == (80 + 6, 7)


def test_a_damaged_view_is_made_anew_and_the_rest_is_left(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder, "UPDATE contact SET edge=-edge")
    code, report = sbot(capsys, folder, "fsck", "--full")
    (damage,) = report["damage"]
    assert (code, damage["part"], damage["subject"], damage["mended"]) == (1, "view", "social_graph", False)
    assert "--repair" in damage["advice"]
    code, report = sbot(capsys, folder, "fsck", "--repair")
    assert (code, [damage["mended"] for damage in report["damage"]]) == (0, [True])
    assert sbot(capsys, folder, "fsck", "--full")[0] == 0


LOST = f"author=(SELECT id FROM feed WHERE ref='{ONE.id}') AND sequence"
SPOIL = {
    "row lost": f"DELETE FROM message WHERE {LOST}=7",
    "id changed": f"UPDATE message SET key=zeroblob(32) WHERE {LOST}=7",
    "text changed": "UPDATE message SET text=CAST(replace(CAST(text AS TEXT), '==.sig', 'A=.sig') AS BLOB) "
    f"WHERE {LOST}=7",
    "tail lost": f"DELETE FROM message WHERE {LOST}>6",
}


@pytest.mark.parametrize("name", sorted(SPOIL))
def test_a_damaged_tail_is_dropped_and_comes_again(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    change(folder, SPOIL[name], "INSERT INTO peer_clock VALUES('@somebody', 1, x'00')")
    code, report = sbot(capsys, folder, "fsck", "--repair")
    assert code == 0
    assert (ONE.id, 7, False) in [(entry["subject"], entry["sequence"], entry["own"]) for entry in report["damage"]]
    code, report = sbot(capsys, folder, "fsck", "--full")
    assert (code, report["damage"], report["behind"], report["messages"]) == (0, [], [], 86 - 14)
    with closing(sqlite3.connect(folder / "sbot.db")) as connection:
        assert connection.execute("SELECT count(*) FROM peer_clock").fetchone() == (0,)
    assert asyncio.run(_given_again(folder)) == ONE.texts
    code, report = sbot(capsys, folder, "fsck", "--full")
    assert (code, report["damage"], report["messages"]) == (0, [], 86)


async def _given_again(folder: Path) -> list[bytes]:
    """What the log holds of the feed after a peer has sent it whole."""
    keys = keyfile.load(folder / "secret")
    assert keys is not None
    async with open_store(folder / "sbot.db", keys, hmac_key=None, now=time.time) as store:
        assert store.log.sequence(ONE.id) == 6
        assert (await store.ingest.add(ONE.texts, source="test")).added == 14
        await store.indexer.catch_up()
        return list((await store.log.texts_at({ONE.id: range(1, 30)}))[ONE.id].values())


def test_wrong_sums_are_mended(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = rows(folder)
    change(folder, f"UPDATE feed SET bytes=1, messages=2, key=zeroblob(32) WHERE ref='{ONE.id}'")
    assert sbot(capsys, folder, "fsck", "--repair")[0] == 0
    assert rows(folder) == before


def test_our_own_feed_is_never_touched(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = keyfile.identity(folder / "secret")
    change(folder, f"DELETE FROM message WHERE author=(SELECT id FROM feed WHERE ref='{own}') AND sequence>4")
    change(folder, SPOIL["row lost"])
    before = rows(folder)
    for words in (["fsck"], ["fsck", "--repair"]):
        code, report = sbot(capsys, folder, *words)
        assert not any(entry["mended"] for entry in report["damage"])
        (damage,) = [entry for entry in report["damage"] if entry["subject"] == own]
        assert (code, damage["own"], damage["sequence"], damage["mended"]) == (1, True, 5, False)
        assert "Publish nothing" in damage["advice"]
    assert rows(folder) == before


def test_our_own_feed_under_another_name_is_not_taken_for_somebody_elses(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = keyfile.identity(folder / "secret")
    change(folder, f"UPDATE feed SET ref='{keypair('nobody').id}' WHERE ref='{own}'")
    before = rows(folder)
    code, said = sbot(capsys, folder, "fsck", "--repair")
    assert code == 1
    assert "messages of our own feed" in said
    assert rows(folder) == before


def test_a_repair_that_is_cut_short_is_ended_by_whoever_opens_the_views(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(_path: Path) -> None:
        raise StoreError("the power is gone")

    change(folder, SPOIL["row lost"])
    with monkeypatch.context() as patched:
        patched.setattr("node.store.open_indexer", cut)
        assert sbot(capsys, folder, "fsck", "--repair")[0] == 1
    assert sbot(capsys, folder, "fsck")[1]["behind"]
    assert asyncio.run(_given_again(folder)) == ONE.texts
    code, report = sbot(capsys, folder, "fsck", "--full")
    assert (code, report["damage"], report["behind"], report["messages"]) == (0, [], [], 86)


def test_a_store_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("fsck", "du", "vacuum"):
        code, said = sbot(capsys, tmp_path, command)
        assert (code, said.startswith("sbot: There is no database")) == (1, True)
    (tmp_path / "sbot.db").write_bytes(b"no database at all" * 2000)
    code, report = sbot(capsys, tmp_path, "fsck")
    assert code == 1
    assert report["damage"]
    assert not report["ok"]
    assert sbot(capsys, tmp_path, "du")[0] == 1


def test_what_takes_how_much_room(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, usage = sbot(capsys, folder, "du")
    assert code == 0
    assert usage["messages"] == 86
    (one,) = [share for share in usage["feeds"] if share["name"] == ONE.id]
    assert one == {"name": ONE.id, "messages": 20, "bytes": sum(map(len, ONE.texts))}
    assert usage["message_bytes"] == sum(share["bytes"] for share in usage["feeds"])
    assert {"post", "contact"} <= {share["name"] for share in usage["types"]}
    assert usage["database_bytes"] == (folder / "sbot.db").stat().st_size
    if usage["tables"] is not None:
        assert sum(share["bytes"] for share in usage["tables"]) + usage["free_bytes"] == usage["database_bytes"]


def test_the_file_becomes_small_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder, "CREATE TABLE waste AS SELECT randomblob(1000000)", "DROP TABLE waste")
    before = (folder / "sbot.db").stat().st_size
    code, answer = sbot(capsys, folder, "vacuum")
    assert code == 0
    assert answer["freed_bytes"] >= 900_000
    assert (folder / "sbot.db").stat().st_size <= before - 900_000
    assert sbot(capsys, folder, "fsck", "--full")[0] == 0


def test_beside_a_running_node(folder: Path) -> None:
    with NodeProcess(folder) as node:
        looked = node.sbot("fsck", "--full")
        assert (looked.code, looked.value["ok"]) == (0, True)
        assert node.sbot("du").value["messages"] == 86
        assert node.sbot("vacuum").value["freed_bytes"] >= 0
        refused = node.sbot("fsck", "--repair")
        assert refused.code == 1
        assert "is in use by process" in refused.err
        assert node.sbot("whoami").code == 0
