"""Moving in: stores that both JavaScript stacks wrote, imported with equal clocks, ids and private messages."""

import asyncio
import hashlib
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.interop.conftest import Lab
from tests.interop.dataset import Dataset
from tests.interop.js_peer import Stack
from tests.interop.our_node import OurNode
from tests.support import builders
from tests.support.processes import clean_environ

FRIEND = builders.keypair("somebody to write to").id
ODD: dict[str, Any] = {"seed": "moving in", "feeds": 2, "each": 24, "loneSurrogates": False}


async def sbot(ours: OurNode, *words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "node",
        *words,
        "--path",
        str(ours.path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environ(),
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def snapshot(folder: Path) -> dict[str, tuple[int, str]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files}


@pytest.mark.parametrize("stack", ["server", "db2"])
async def test_a_store_of_a_javascript_node(lab: Lab, one_thousand: Dataset, stack: Stack, tmp_path: Path) -> None:
    peer = await lab.js(stack)
    await peer.load(one_thousand.file)
    await peer.call("makeOdd", **ODD)
    blob = await peer.add_blob(b"a picture" * 5000)
    for number in range(3):
        await peer.publish({"type": "post", "text": f"public {number}"})
    content = {"type": "post", "text": "psst", "recps": [peer.id, FRIEND]}
    private = await peer.publish(content, recps=[peer.id, FRIEND])
    await peer.call("settled")
    clock, digest = await peer.clock(), await peer.digest()
    ours = OurNode(tmp_path / "ours", lab.network_key)
    moving = ("init", "--import", str(peer.data), "--json")

    code, _, error = await sbot(ours, *moving)
    assert code == 1, error
    assert "An sbot runs in" in error

    await peer.stop()
    before = snapshot(peer.data)
    code, out, error = await sbot(ours, *moving)
    assert code == 0, error
    report: dict[str, Any] = json.loads(out)
    assert (report["id"], report["added"], report["state"]) == (peer.id, sum(clock.values()), "locked"), report
    assert (report["gaps"], report["invalid"], report["damaged"], report["blobs_added"]) == (0, 0, 0, 1), report
    assert snapshot(peer.data) == before

    try:
        await ours.open()
        assert ours.id == peer.id
        assert await ours.clock() == clock
        assert await ours.digest() == digest
        assert await ours.blob(blob) == b"a picture" * 5000
        path = f"/v1/messages/{quote(private['key'], safe='')}"
        shown = (await ours.request("GET", path, params={"private": 1})).json()
        assert shown["value"]["content"] == content
        who = (await ours.request("GET", "/v1/whoami")).json()
        assert who["state"] == "locked", who
    finally:
        await ours.stop()
