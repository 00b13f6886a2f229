"""`sbot retention` and `sbot delete --erase`, with and without a running node, and the rules of the settings."""

import asyncio
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from feeds.retention_rules import parse_rules
from node import keyfile
from node.cli import main
from node.retaining import Retaining
from node.store import open_store
from tests.support.builders import Feed, keypair
from tests.support.filling import fill
from tests.support.processes import NodeProcess


def feed_of_posts() -> Feed:
    feed = Feed(keypair("one"))
    for number in range(12):
        feed.append({"type": "post", "text": f"post {number}"})
    return feed


ONE = feed_of_posts()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled") / "node"
    fill(folder, ONE.texts)
    return folder


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("SBOT_"):
            monkeypatch.delenv(name)


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Path:
    return shutil.copytree(filled, tmp_path / "node")


def sbot(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> tuple[int, Any]:
    code = main([*words, "--path", str(folder)])
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if captured.out else captured.err


def test_without_a_node(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code, planned = sbot(capsys, folder, "retention", "hops=1", "age=1d", "--dry-run")
    assert (code, planned["dry_run"], planned["messages"]) == (0, True, 11)
    code, done = sbot(capsys, folder, "retention", "hops=1 age=1d")
    assert (code, done["messages"], done["bytes"]) == (0, 11, planned["bytes"])
    assert sbot(capsys, folder, "retention", "hops=1")[1]["messages"] == 0
    code, report = sbot(capsys, folder, "fsck", "--full")
    assert (code, report["ok"], report["behind"]) == (0, True, [])


def test_rules_come_from_the_settings(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, error = sbot(capsys, folder, "retention", "--dry-run")
    assert (code, "There are no rules" in error) == (2, True)
    (folder / "config.toml").write_text('retention = "hops=1 type=post"\n')
    assert sbot(capsys, folder, "retention", "--dry-run")[1]["rules"][0]["rule"] == "hops=1 type=post"
    monkeypatch.setenv("SBOT_RETENTION", "hops=nowhere")
    code, error = sbot(capsys, folder, "retention", "--dry-run")
    assert (code, "SBOT_RETENTION" in error, "hops" in error) == (2, True, True)


def test_bad_rules_are_a_usage_error(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code, error = sbot(capsys, folder, "retention", "hops=3", "weight=7")
    assert (code, "weight=7" in error) == (2, True)


def test_in_a_running_node(folder: Path) -> None:
    with NodeProcess(folder) as node:
        gone = node.sbot("delete", ONE.ids[2], "--erase")
        assert json.loads(gone.out)["erased"] == 1
        assert node.sbot("get", ONE.ids[2]).code == 4
        planned = json.loads(node.sbot("retention", "hops=1", "--dry-run").out)
        assert planned["messages"] == 10
        done = json.loads(node.sbot("retention", "hops=1").out)
        assert done["messages"] == 10
        history = node.sbot("hist", ONE.id, "--no-keys").out.splitlines()
        assert [json.loads(line)["sequence"] for line in history] == [12]
        assert json.loads(node.sbot("delete", ONE.id, "--undo").out) == {"id": ONE.id, "anew": True}
        assert node.sbot("hist", ONE.id).out == b""


async def test_the_node_carries_them_out_by_itself(folder: Path) -> None:
    keys = keyfile.load(folder / "secret")
    assert keys is not None
    async with open_store(folder / "sbot.db", keys, hmac_key=None, now=time.time) as store:
        retaining = Retaining(store.retention, parse_rules("hops=1"), now=time.time)
        running = asyncio.create_task(retaining.run(first=0.01))
        erased = asyncio.Event()
        store.log.when_thinned(lambda _: erased.set())
        await asyncio.wait_for(erased.wait(), 60)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert await store.log.range(ONE.id, 0, 100) == []
        assert store.log.sequence(ONE.id) == 12
