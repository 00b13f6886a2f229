"""`sbot init --import DIR`: all of an old sbot's directory, verified, with nothing written there."""

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from feeds.canonical_json import parse
from feeds.keys import Keypair, format_key_file
from node.cli import main
from tests.support import builders
from tests.support.foreign_logs import bipf, blocked, flume

ME = builders.keypair("somebody who moves in")
PEER = builders.keypair("a peer that was known")
TEXTS = builders.generate(60, 4, 5)
OWN = builders.chain("somebody who moves in", 5).texts
BLOB = b"a picture" * 10_000


def old_sbot(folder: Path, *, logs: str = "both", keypair: Keypair = ME) -> Path:
    folder.mkdir()
    (folder / "secret").write_text(format_key_file(keypair))
    (folder / "secret").chmod(0o644)
    kvts: list[Any] = [{"key": "%", "value": parse(text), "timestamp": 1.5} for text in [*TEXTS, *OWN]]
    if logs in ("both", "flume"):
        (folder / "flume").mkdir()
        records = [b'{"key":"%","value":' + text + b',"timestamp":1}' for text in [*TEXTS, *OWN]]
        (folder / "flume" / "log.offset").write_bytes(flume(records))
    if logs in ("both", "db2"):
        (folder / "db2").mkdir()
        (folder / "db2" / "log.bipf").write_bytes(blocked([bipf(kvt) for kvt in kvts]))
    for data, name in ((BLOB, hashlib.sha256(BLOB).hexdigest()), (b"wrong", "ab" * 32), (b"no blob", "abx")):
        (folder / "blobs" / "sha256" / name[:2]).mkdir(parents=True, exist_ok=True)
        (folder / "blobs" / "sha256" / name[:2] / name[2:]).write_bytes(data)
    key = PEER.id[1:].removesuffix(".ed25519")
    conn = {f"net:192.0.2.1:8008~shs:{key}": {"type": "pub", "autoconnect": True}, "nonsense": {}}
    (folder / "conn.json").write_text(json.dumps(conn))
    (folder / "gossip.json").write_text(json.dumps([{"host": "192.0.2.2", "port": 8008, "key": PEER.id}]))
    return folder


def snapshot(folder: Path) -> dict[str, tuple[int, int, str]]:
    return {
        str(path): (
            path.stat().st_mtime_ns,
            path.stat().st_mode,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in [folder, *folder.rglob("*")]
    }


def move(tmp_path: Path, old: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["--path", str(tmp_path / "new"), "init", "--import", str(old), "--json"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


def test_everything_comes_along(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = old_sbot(tmp_path / "old")
    before = snapshot(old)
    report = move(tmp_path, old, capsys)
    count = len(TEXTS) + len(OWN)
    assert (report["id"], report["added"], report["duplicates"]) == (ME.id, count, count), report
    assert (report["gaps"], report["forks"], report["invalid"], report["damaged"]) == (0, 0, 0, 0)
    assert (report["blobs_added"], report["blobs_refused"], report["peers"]) == (1, 1, 2)
    assert (report["state"], report["sequence"]) == ("locked", len(OWN))
    assert snapshot(old) == before
    kept = json.loads((tmp_path / "new" / "moved-in.json").read_bytes())
    assert [(run["source"], run["added"]) for run in kept] == [(str(old), count)]
    again = move(tmp_path, old, capsys)
    assert (again["added"], again["duplicates"], again["blobs_known"], again["peers"]) == (0, 2 * count, 1, 0)
    assert again["state"] == "locked"
    assert len(json.loads((tmp_path / "new" / "moved-in.json").read_bytes())) == 2


@pytest.mark.parametrize("logs", ["flume", "db2"])
def test_a_damaged_log_gives_what_is_good(tmp_path: Path, capsys: pytest.CaptureFixture[str], logs: str) -> None:
    old = old_sbot(tmp_path / "old", logs=logs)
    path = old / ("flume/log.offset" if logs == "flume" else "db2/log.bipf")
    data = path.read_bytes().rstrip(b"\0")
    path.write_bytes(data[: len(data) * 2 // 3])
    report = move(tmp_path, old, capsys)
    assert 0 < report["added"] < len(TEXTS) + len(OWN)
    assert (report["damaged"], report["invalid"], report["gaps"]) == (1, 0, 0)
    assert report["examples"][0]["kind"] == "damage"


def test_odd_files_harm_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = old_sbot(tmp_path / "old", logs="flume")
    (old / "blobs" / "sha256" / "00").write_bytes(b"a file where a folder should be")
    (old / "db2" / "log.bipf").mkdir(parents=True)
    (old / "gossip.json").unlink()
    os.mkfifo(old / "gossip.json")
    (old / "conn.json").write_bytes(b"{")
    log = old / "flume" / "log.offset"
    other = [
        b"no json",
        b"{}",
        b'{"key":"%","value":5}',
        b'{"value":{"author":7}}',
        b"PK\x03\x04",
        b"[" * 10_000,
        b"\n\n",
    ]
    log.write_bytes(flume([*other, *(b'{"value":' + text + b"}" for text in TEXTS)]))
    report = move(tmp_path, old, capsys)
    assert (report["added"], report["peers"], report["blobs_added"]) == (len(TEXTS), 0, 1), report
    assert report["invalid"] == 6


def test_an_empty_directory_gives_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "secret").write_text(format_key_file(ME))
    report = move(tmp_path, tmp_path / "old", capsys)
    assert (report["added"], report["logs"], report["state"]) == (0, [], "locked")


def refused(tmp_path: Path, old: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["--path", str(tmp_path / "new"), "init", "--import", str(old)]) == 1
    assert not (tmp_path / "new" / "sbot.db").exists()
    return capsys.readouterr().err


def test_a_running_sbot_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = old_sbot(tmp_path / "old")
    with socket.socket(socket.AF_UNIX) as listener:
        with monkeypatch.context() as there:  # the whole path may be too long for a socket
            there.chdir(old)
            listener.bind("socket")
        listener.listen()
        assert "it answers at its socket" in refused(tmp_path, old, capsys)
    (old / "socket").unlink()

    (old / "flume" / "index").mkdir()
    lock = old / "flume" / "index" / "LOCK"
    holding = "import fcntl,sys; f=open(sys.argv[1],'r+b'); fcntl.lockf(f,2); print(flush=True); sys.stdin.read()"
    for path, code, word in (
        (old / "db2" / "log.bipf", "import sys; f=open(sys.argv[1]); print(flush=True); sys.stdin.read()", "open"),
        (lock, holding, "open" if sys.platform == "linux" else "locked"),
    ):
        lock.touch()
        if word == "open" and sys.platform != "linux":
            continue
        with subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            assert word in refused(tmp_path, old, capsys)
    assert move(tmp_path, old, capsys)["added"] > 0


def test_what_is_no_old_sbot_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no directory" in refused(tmp_path, tmp_path / "nowhere", capsys)
    (tmp_path / "empty").mkdir()
    assert "no key file" in refused(tmp_path, tmp_path / "empty", capsys)
    ours = old_sbot(tmp_path / "ours")
    (ours / "sbot.db").touch()
    assert "pysbot already" in refused(tmp_path, ours, capsys)
    old = old_sbot(tmp_path / "new")
    assert "must be apart" in refused(tmp_path, old, capsys)


def test_another_key_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--path", str(tmp_path / "new"), "init"]) == 0
    secret = (tmp_path / "new" / "secret").read_bytes()
    capsys.readouterr()
    assert "never written over" in refused(tmp_path, old_sbot(tmp_path / "old"), capsys)
    assert (tmp_path / "new" / "secret").read_bytes() == secret
