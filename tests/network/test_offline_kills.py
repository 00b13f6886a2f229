"""kill -9 in the middle of offline work: nothing acknowledged is lost, and doing it again completes it."""

import contextlib
import http.client
import json
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.node.test_moving_in import ME, TEXTS, old_sbot
from tests.support.builders import generate
from tests.support.filling import fill
from tests.support.foreign_logs import flume
from tests.support.processes import SBOT, NodeProcess, clean_environ, run

SECONDS = 60.0


def killed_when(condition: Callable[[], bool], *words: str) -> bool:
    """Run a command and kill -9 it as soon as the condition holds; whether it was still at work then."""
    with subprocess.Popen(
        [*SBOT, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=clean_environ()
    ) as process:
        ends = time.monotonic() + SECONDS
        while process.poll() is None and time.monotonic() < ends:
            if condition():
                process.send_signal(signal.SIGKILL)
                return process.wait(10) == -signal.SIGKILL
            time.sleep(0.002)
        process.kill()
    return False


def count(path: Path, table: str = "message") -> int:
    """Rows of a table, as far as they are committed; 0 while there is no database."""
    with contextlib.suppress(sqlite3.Error):
        uri = f"{(path / 'sbot.db').absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=1)) as connection:
            return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    return 0


def sound(path: Path) -> None:
    done = run("fsck", "--full", "--path", str(path), seconds=SECONDS)
    assert done.code == 0, done.out


@pytest.fixture(name="filled", scope="module")
def _filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled") / "node"
    fill(folder, generate(6000, 30))
    return folder


@pytest.fixture(name="stick", scope="module")
def _stick(filled: Path) -> Path:
    path = filled.with_name("stick")
    assert run("export", str(path), "--path", str(filled), seconds=SECONDS).code == 0
    return path


@pytest.mark.timeout(240)
def test_an_import_is_killed_again_and_again(tmp_path: Path, stick: Path) -> None:
    there = tmp_path / "there"
    assert run("init", "--path", str(there)).code == 0
    kept = [0]
    for _ in range(3):
        more = kept[-1] + 200
        if killed_when(lambda least=more: count(there) > least, "import", str(stick), "--path", str(there)):  # type: ignore[misc]
            held = count(there)
            assert held >= kept[-1], "what was committed is there"
            kept.append(held)
    assert 0 < kept[1] < 6030, kept
    done = run("import", str(stick), "--path", str(there), seconds=SECONDS)
    assert (done.code, done.value["added"] + done.value["duplicates"]) == (0, 6030)
    assert done.value["duplicates"] >= kept[-1]
    assert count(there) == 6030
    sound(there)


@pytest.mark.timeout(240)
def test_a_node_is_killed_while_it_takes_in_an_upload(tmp_path: Path, stick: Path) -> None:
    data = stick.read_bytes()
    with NodeProcess(tmp_path / "node") as node:
        own = node.post("acknowledged before")

        def upload() -> None:
            connection = http.client.HTTPConnection(node.http.removeprefix("http://"), timeout=20)
            headers = {"Authorization": f"Bearer {node.token}", "Content-Type": "application/octet-stream"}
            with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
                connection.request("POST", "/v1/bundles/import", data, headers)
                connection.getresponse().read()

        sending = threading.Thread(target=upload)
        sending.start()
        told = 0
        ends = time.monotonic() + SECONDS
        while told < 500 and time.monotonic() < ends:
            told = int(node.get("/v1/status")[1]["log"]["position"])
        node.kill()
        sending.join(20)
        node.start()
        assert int(node.get("/v1/status")[1]["log"]["position"]) >= told >= 500
        assert node.get("/v1/whoami")[1]["state"] == "open"
        assert node.ok("get", own)
        report = node.ok("import", str(stick))
        assert report["added"] + report["duplicates"] == 6030
        assert report["duplicates"] >= told - 1
        assert node.terminate() == 0
    sound(tmp_path / "node")


@pytest.mark.timeout(240)
def test_an_export_in_parts_goes_on_where_it_was_killed(tmp_path: Path, filled: Path) -> None:
    words = ["export", str(tmp_path / "parts"), "--max-bytes", "200000", "--path", str(filled)]
    assert killed_when((tmp_path / "parts.part3").exists, *words)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("parts.part?")}
    assert before.keys() >= {"parts.part1", "parts.part2", "parts.part3"}
    done = run(*words, seconds=SECONDS)
    assert done.code == 0, done.err
    made = [Path(value["file"]) for value in done.values]
    assert not {path.name for path in made} & before.keys(), "whole parts are not made again"
    assert all((tmp_path / name).read_bytes() == data for name, data in before.items())
    parts = sorted(tmp_path.glob("parts.part*"), key=lambda path: int(path.suffix.removeprefix(".part")))
    assert not list(tmp_path.glob("*.new"))
    assert all(path.stat().st_size <= 200_000 for path in parts)
    there = tmp_path / "there"
    assert run("init", "--path", str(there)).code == 0
    reports = run("import", *map(str, parts), "--path", str(there), seconds=SECONDS).values
    assert [report["part"] for report in reports] == list(range(1, len(parts) + 1))
    assert [report["last"] for report in reports] == [False] * (len(parts) - 1) + [True]
    assert sum(report["added"] for report in reports) == 6030
    assert all((report["duplicates"], report["gaps"]) == (0, 0) for report in reports)


@pytest.mark.timeout(240)
def test_a_backup_that_is_killed_leaves_the_one_before(tmp_path: Path, filled: Path) -> None:
    node, saved = shutil.copytree(filled, tmp_path / "node"), tmp_path / "saved"
    words = ["backup", str(saved), "--with-key", "--path", str(node)]
    first = run(*words, seconds=SECONDS).value
    killed = 0
    for _ in range(5):
        killed += killed_when((saved / "sbot.db.new").exists, *words)
        assert run("restore", str(saved), "--path", str(tmp_path / f"old {killed}"), seconds=SECONDS).code == 0
        shutil.rmtree(tmp_path / f"old {killed}")
    assert killed
    again = run(*words, seconds=SECONDS)
    assert (again.code, again.value["sequence"]) == (0, first["sequence"])
    assert not (saved / "sbot.db.new").exists()
    restored = run("restore", str(saved), "--path", str(tmp_path / "new"), seconds=SECONDS)
    assert (restored.code, restored.value["key"]) == (0, True)
    assert count(tmp_path / "new") == 6030
    sound(tmp_path / "new")


@pytest.mark.timeout(240)
def test_moving_in_is_killed_and_completed(tmp_path: Path) -> None:
    old = old_sbot(tmp_path / "old", logs="flume")
    texts = [*TEXTS, *generate(5000, 20, 9)]
    (old / "flume" / "log.offset").write_bytes(flume([b'{"value":' + text + b"}" for text in texts]))
    new = tmp_path / "new"
    words = ["init", "--import", str(old), "--json", "--path", str(new)]
    assert killed_when(lambda: count(new) > 100, *words)
    held = count(new)
    assert 100 < held < len(texts)
    done = run(*words, seconds=SECONDS)
    assert (done.code, done.value["id"], done.value["state"]) == (0, ME.id, "locked")
    assert done.value["duplicates"] >= held
    assert done.value["added"] + done.value["duplicates"] == len(texts)
    sound(new)


@pytest.mark.timeout(240)
def test_a_vacuum_and_a_rebuild_are_killed_and_harm_nothing(tmp_path: Path, filled: Path) -> None:
    node = shutil.copytree(filled, tmp_path / "node")
    with contextlib.closing(sqlite3.connect(node / "sbot.db")) as connection:
        connection.execute("CREATE TABLE waste AS SELECT randomblob(20000000)")
        connection.execute("DROP TABLE waste")
        connection.commit()
    wal = node / "sbot.db-wal"
    assert killed_when(lambda: wal.exists() and wal.stat().st_size > 1_000_000, "vacuum", "--path", str(node))
    sound(node)
    assert run("vacuum", "--path", str(node), seconds=SECONDS).code == 0
    sound(node)

    def under_way() -> bool:
        return count(node, "timeline") < rows and count(node, "view WHERE position=0") == 0

    rows = count(node, "timeline")
    assert killed_when(under_way, "rebuild", "--path", str(node))
    assert count(node) == 6030
    looked = run("fsck", "--path", str(node), seconds=SECONDS).value
    assert looked["behind"]
    assert run("doctor", "--fix", "--path", str(node), seconds=SECONDS).code == 1  # only because no node runs
    assert run("fsck", "--path", str(node), seconds=SECONDS).value["behind"] == []
    assert count(node, "timeline") == rows
    sound(node)


def test_an_export_that_is_killed_leaves_no_half_file_under_its_name(tmp_path: Path, filled: Path) -> None:
    draft = tmp_path / "bundle.new"
    (tmp_path / "bundle").write_text(json.dumps("an older file"))
    words = ["export", str(tmp_path / "bundle"), "--path", str(filled)]
    assert killed_when(lambda: draft.exists() and draft.stat().st_size > 1000, *words)
    assert (tmp_path / "bundle").read_text() == '"an older file"'
    assert run(*words, seconds=SECONDS).code == 0
    assert not draft.exists()
    assert run("inspect", str(tmp_path / "bundle")).value["messages"] == 6030
