"""`sbot doctor --fix`: what is mended, in a stopped and in a running node, and what is never touched."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from node import store_checks
from node.cli import main
from node.directory import DataDirectory
from node.doctor import mend, offline
from node.lock import DirectoryLock
from tests.support.builders import generate
from tests.support.filling import fill
from tests.support.processes import NodeProcess

UNTOUCHED = ("secret", "install", "publishing")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled") / "node"
    fill(folder, generate(60, 5))
    return folder


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Path:
    """The data directory of a stopped node."""
    return shutil.copytree(filled, tmp_path / "node")


def fixed(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> dict[str, dict[str, Any]]:
    main(["doctor", *words, "--path", str(folder)])
    return {check["check"]: check for check in map(json.loads, capsys.readouterr().out.splitlines())}


def kept(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in UNTOUCHED}


def log_and_feeds(folder: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / "sbot.db")) as connection:
        tables = ("message", "feed", "own_store", "publishing_event")
        return [row for table in tables for row in connection.execute(f"SELECT * FROM {table}")]


def spoil(folder: Path) -> None:
    """Everything that is mended in a stopped node, at once."""
    folder.chmod(0o755)
    (folder / "secret").chmod(0o644)
    (folder / "http-token").write_text("short")
    (folder / "http-token").chmod(0o644)
    (folder / "config.toml").unlink(missing_ok=True)
    (folder / "lock").write_text("99999999\n")
    (folder / "ready.json").write_text('{"pid":99999999}')
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(folder)  # the whole path may be too long for a socket
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
    (folder / "manifest.json").write_text("{half")
    (folder / ".http-token.7.new").write_text("draft")
    (folder / "blobs" / "tmp").mkdir(parents=True, exist_ok=True)
    (folder / "blobs" / "tmp" / "draft").write_bytes(b"half a blob")
    (folder / ".fsck-old").mkdir()
    os.utime(folder / ".fsck-old", (1, 1))
    (folder / ".fsck-new").mkdir()
    for name in UNTOUCHED:
        (folder / f".{name}.new").write_bytes(b"draft of " + name.encode())
    with sqlite3.connect(folder / "sbot.db") as connection:
        connection.execute("DROP TABLE timeline")
        connection.execute("UPDATE view SET position=999999 WHERE name='votes'")
        connection.execute("UPDATE view SET position=10 WHERE name='search'")
    connection.close()


def test_a_stopped_node_is_mended_and_nothing_of_ours_is_touched(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(folder)
    before, rows = kept(folder), log_and_feeds(folder)
    looked = fixed(capsys, folder)
    expected = {"directory", "key", "token", "settings", "leftovers", "views"}
    assert {name for name, check in looked.items() if check["fixable"]} == expected
    assert looked["views"]["state"] == "failed"
    assert (folder / "secret").stat().st_mode & 0o777 == 0o644, "only looked at"
    done = fixed(capsys, folder, "--fix")
    assert {name for name, check in done.items() if check["fixed"]} == expected
    assert {name for name, check in done.items() if check["state"] == "failed"} == {"node"}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "secret").stat().st_mode & 0o777 == 0o600
    assert not any(check["fixable"] for check in fixed(capsys, folder).values())
    assert (folder / "http-token").stat().st_mode & 0o777 == 0o600
    assert len((folder / "http-token").read_text()) > 30
    assert (folder / "config.toml").exists()
    for gone in ("ready.json", "socket", "manifest.json", ".http-token.7.new", "blobs/tmp/draft", ".fsck-old"):
        assert not (folder / gone).exists(), gone
    assert (folder / ".fsck-new").exists(), "an fsck may be at work there"
    assert kept(folder) == before
    assert all((folder / f".{name}.new").exists() for name in UNTOUCHED)
    assert log_and_feeds(folder) == rows
    assert main(["fsck", "--full", "--path", str(folder)]) == 0
    with NodeProcess(folder) as node:
        status, who = node.get("/v1/whoami")
        assert (status, who["id"]) == (200, node.id)


def test_what_a_killed_writer_left_is_folded_in(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    killed = "import os,sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.execute('CREATE TABLE x(y)'); os._exit(9)"
    subprocess.run([sys.executable, "-c", killed, str(folder / "sbot.db")], check=False)
    wal = folder / "sbot.db-wal"
    assert wal.stat().st_size > 0
    assert fixed(capsys, folder)["write-ahead log"]["fixable"]
    assert store_checks.check_log_size(DataDirectory(folder), large=1000).state == "failed"
    assert "folded" in fixed(capsys, folder, "--fix")["write-ahead log"]["fixed"]
    assert not wal.exists() or wal.stat().st_size == 0


async def test_under_somebody_elses_lock_only_rights_are_mended(folder: Path) -> None:
    spoil(folder)
    lock = DirectoryLock.acquire(folder / "lock")
    try:
        found = {check["check"]: check for check in await mend(offline(DataDirectory(folder), folder / "config.toml"))}
    finally:
        lock.release()
    assert found["directory"]["fixed"]
    assert found["key"]["fixed"]
    for name in ("leftovers", "views"):
        assert found[name]["fixed"] is None
        assert found[name]["state"] == "failed"
        assert "in use by process" in found[name]["detail"]
    assert (folder / "socket").exists()


def test_a_running_node_mends_itself(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    fill(folder, generate(60, 5))
    with NodeProcess(folder) as node:
        rows = log_and_feeds(folder)
        (folder / "secret").chmod(0o640)
        (folder / "http-token").chmod(0o604)
        (folder / "manifest.json").write_text("{}")
        (folder / "config.toml").unlink()
        with sqlite3.connect(folder / "sbot.db", timeout=10) as connection:
            connection.execute("DROP TABLE channel_message")
        connection.close()
        status, found = node.get("/v1/doctor", seconds=40)
        fixable = {check["check"] for check in found["checks"] if check["fixable"]}
        assert (status, fixable) == (200, {"key", "token", "settings", "manifest", "index"})
        done = {check["check"]: check for check in node.sbot("doctor", "--fix").values}
        assert {name for name, check in done.items() if check["fixed"]} == fixable
        assert {done[name]["state"] for name in fixable} == {"ok"}
        assert "publish" in json.loads((folder / "manifest.json").read_bytes())
        assert log_and_feeds(folder) == rows
        assert node.post("it publishes on")
        looked = node.sbot("fsck", "--full")
        assert looked.code == 0, looked.out
        assert node.terminate() == 0
