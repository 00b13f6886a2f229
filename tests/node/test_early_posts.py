"""`sbot read` while a first sync is under way: posts that came before their history stand among the others."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from api.client import Client
from node import keyfile
from node.cli import main
from node.directory import DataDirectory
from node.store import open_store
from tests.support.builders import Feed, keypair
from tests.support.processes import NodeProcess, clean_environ


def ending(name: str) -> Feed:
    feed = Feed(keypair(name))
    for number in range(10):
        root = {"root": feed.ids[0]} if number == 8 else {}
        feed.append({"type": "post", "text": f"{name} {number}", **root}, timestamp=1_600_000_000_000 + number)
    feed.append({"type": "about", "about": feed.id, "name": name.title()})
    return feed


async def hold(path: Path, *feeds: Feed) -> None:
    directory = DataDirectory(path)
    own = keyfile.load(directory.secret)
    assert own is not None
    async with open_store(directory.database, own, hmac_key=None, now=time.time) as store:
        for feed in feeds:
            await store.early.hold(feed.id, feed.texts[5:], first=6)


async def test_read_shows_and_marks_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    friend, other = ending("friend"), ending("other")
    node = NodeProcess(tmp_path / "node")
    with node:
        node.ok("follow", friend.id)
        body = json.dumps({"feed": other.id, "replicate": True}).encode()
        assert node.get("/v1/replication/request", body)[0] < 300
        ours = node.post("ours")
        assert node.terminate() == 0
    await hold(node.directory, friend, other)
    for name in set(os.environ) - set(clean_environ()):
        monkeypatch.delenv(name)
    monkeypatch.setenv("TERM", "dumb")
    with node:

        def read(*words: str) -> list[Any]:
            done = node.sbot("read", *words)
            assert done.code == 0, done.err
            return done.values

        with Client.for_directory(node.directory) as client:
            assert [item["key"] for item in client.early(followed=True)] == friend.ids[9:4:-1]
            assert len(list(client.early())) == 10
        assert [item["key"] for item in read()] == [*friend.ids[5:10], ours]
        assert [item["key"] for item in read("--limit", "3")] == [*friend.ids[8:10], ours]
        assert [item["key"] for item in read("--no-replies", "--limit", "3")] == [friend.ids[7], friend.ids[9], ours]
        assert {item["key"] for item in read("public")} == {*friend.ids[5:10], *other.ids[5:10], ours}
        assert all("meta" in item for item in read()[:-1])

        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        assert main(["--path", str(node.directory), "read"]) == 0
        shown = capsys.readouterr().out.splitlines()
        assert shown[-4].startswith("Friend · ")
        assert " · early, its history is on its way" in shown[-4]
        assert shown[-3].strip() == "friend 9"
        assert "early" not in shown[-2]
