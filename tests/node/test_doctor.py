"""The doctor: sound nodes, each kind of damage, dialling oneself with the failing step named, and the command."""

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from feeds.keys import format_key_file
from node import file_checks
from node.config import load
from node.directory import DataDirectory
from node.doctor import examine, offline
from node.file_checks import check_database, check_directory, check_disk, check_key, check_lock
from node.findings import Finding, State, ok
from node.lock import DirectoryLock
from node.sbot import Sbot
from replication.address import Address
from tests.support.builders import keypair
from tests.support.processes import NodeProcess, run

QUIET = {"host": "127.0.0.1", "port": "0", "http_port": "0", "lan": "false"}


async def checks(node: Sbot) -> dict[str, dict[str, Any]]:
    client, writer = await asyncio.open_connection(*node.http.url.removeprefix("http://").split(":"))
    token = node.directory.http_token()
    writer.write(f"GET /v1/doctor HTTP/1.0\r\nAuthorization: Bearer {token}\r\nHost: localhost\r\n\r\n".encode())
    head, _, body = (await client.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b" 200 " in head, head
    return {found["check"]: found for found in json.loads(body)["checks"]}


async def test_a_sound_node(tmp_path: Path) -> None:
    async with Sbot.open(load({**QUIET, "path": str(tmp_path / "node")}, {})) as node:
        found = await checks(node)
        states = {name: one["state"] for name, one in found.items() if name != "network"}
        assert states == {
            "directory": "ok",
            "key": "ok",
            "token": "ok",
            "settings": "ok",
            "lock": "ok",
            "database": "ok",
            "disk": "ok",
            "manifest": "ok",
            "write-ahead log": "ok",
            "clock": "ok",
            "listening": "ok",
            "reach-here": "ok",
            "reach-outside": "skipped",
            "dial-back": "skipped",
            "peers": "skipped",
            "index": "ok",
            "feed": "ok",
        }
        assert "--external" in found["reach-outside"]["advice"]


async def test_the_step_that_fails_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        closed = silent.getsockname()[1]
    async with (
        Sbot.open(load({**QUIET, "path": str(tmp_path / "a"), "external": f"127.0.0.1:{closed}"}, {})) as node,
        Sbot.open(load({**QUIET, "path": str(tmp_path / "b"), "strangers": "followed"}, {})) as other,
    ):
        outside = (await checks(node))["reach-outside"]
        assert outside["state"] == "failed"
        assert "TCP connection failed" in outside["detail"]
        assert f"port {closed}" in outside["advice"]

        port = int(other.address.split(":")[2].split("~")[0])
        wrong = await _reach(node, Address.net("127.0.0.1", port, node.keypair.public))
        assert wrong.state is State.FAILED
        assert "handshake" in wrong.detail
        assert (await checks(other))["reach-here"]["state"] == "ok", "the firewall does not keep us from ourselves"

        await node.connections.remember(str(Address.net("127.0.0.1", closed, keypair("gone").public)), auto=False)
        assert (await checks(node))["peers"]["state"] == "failed"


async def _reach(node: Sbot, address: Address) -> Finding:
    from node.doctor import Doctor

    doctor = Doctor(
        node.directory,
        me=node.id,
        store=node.store,
        connections=node.connections,
        inviting=None,  # type: ignore[arg-type]
        settings=node.config.config,
        manifest=b"",
    )
    return await doctor._reach(address, "look")


def test_damage_to_files(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "node")
    assert check_directory(directory).state is State.FAILED
    directory.make()
    assert check_directory(directory).state is State.OK
    directory.root.chmod(0o755)
    assert "chmod 0700" in str(check_directory(directory).advice)

    assert "no key file" in check_key(directory).detail
    ann = keypair("ann")
    directory.secret.write_text(format_key_file(ann))
    directory.secret.chmod(0o400)
    assert check_key(directory).state is State.OK
    assert "runs as" in check_key(directory, keypair("bob").id).detail
    directory.secret.chmod(0o600)
    directory.secret.write_text("{}")
    assert check_key(directory).state is State.FAILED

    assert check_lock(directory).state is State.OK
    lock = DirectoryLock.acquire(directory.lock)
    assert check_lock(directory, os.getpid()).state is State.OK
    assert "second node" in str(check_lock(directory, os.getpid() + 1).advice)
    directory.lock.rename(directory.root / "away")
    assert check_lock(directory, os.getpid()).state is State.FAILED
    (directory.root / "away").rename(directory.lock)
    assert check_lock(directory).state is State.FAILED
    lock.release()
    assert check_lock(directory).state is State.OK

    assert check_database(directory.database).state is State.SKIPPED
    directory.database.write_bytes(os.urandom(8192))
    assert "damaged" in check_database(directory.database).detail
    assert check_disk(directory).state is State.OK
    assert check_disk(directory, low=1 << 60).state is State.FAILED


async def test_no_check_holds_up_or_hides_the_others() -> None:
    async def slow() -> Finding:
        await asyncio.sleep(60)
        raise AssertionError

    async def broken() -> Finding:
        raise RuntimeError("secret of the inside")

    async def sound() -> Finding:
        return ok("fine")

    found = await examine([("slow", slow), ("broken", broken), ("sound", sound)], seconds=0.05)
    assert [one["state"] for one in found] == ["skipped", "failed", "ok"]
    assert "secret" not in json.dumps(found)


def test_the_command_with_and_without_a_running_node(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "node") as node:
        done = node.sbot("doctor")
        found = {one["check"]: one["state"] for one in done.values}
        assert found["reach-here"] == "ok"
        assert done.code == int("failed" in found.values())
    stopped = run("doctor", "--path", str(tmp_path / "node"))
    states = {one["check"]: one["state"] for one in stopped.values}
    assert {name for name, state in states.items() if state != "ok"} == {"node"}
    assert states.keys() >= {"directory", "key", "lock", "database", "disk", "leftovers", "write-ahead log", "views"}
    assert stopped.code == 1
    assert run("doctor", "now", "--path", str(tmp_path / "node")).code == 2


def test_a_database_that_takes_too_long_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    monkeypatch.setattr(file_checks, "_STEPS", 1)
    path = tmp_path / "big.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE a(b)")
        database.executemany("INSERT INTO a VALUES (?)", [(number,) for number in range(1000)])
    database.close()
    ticks = iter(range(1_000_000))
    assert check_database(path, seconds=1, now=lambda: float(next(ticks))).state is State.SKIPPED


async def test_files_are_looked_at_without_a_node(tmp_path: Path) -> None:
    found = await examine(offline(DataDirectory(tmp_path / "nothing"), tmp_path / "nothing" / "config.toml"))
    assert {one["check"] for one in found} >= {"directory", "key", "lock", "database", "disk"}
    assert found[0]["state"] == "failed"
    assert not (tmp_path / "nothing").exists()


async def test_a_peer_dials_back_and_the_step_that_fails_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        closed = silent.getsockname()[1]
    async with (
        Sbot.open(load({**QUIET, "path": str(tmp_path / "a")}, {})) as node,
        Sbot.open(load({**QUIET, "path": str(tmp_path / "b"), "external": f"127.0.0.1:{closed}"}, {})) as wrong,
        Sbot.open(load({**QUIET, "path": str(tmp_path / "c")}, {})) as peer,
    ):
        for each in (node, wrong):
            await each.connections.dial(peer.address)
        found = (await checks(node))["dial-back"]
        assert (found["state"], peer.id in found["detail"]) == ("ok", True)
        found = (await checks(wrong))["dial-back"]
        assert found["state"] == "failed"
        assert f"127.0.0.1:{closed}: the TCP connection failed" in found["detail"]
        assert f"port {closed}" in found["advice"]
