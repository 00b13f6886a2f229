"""kill -9 in the middle of fetching blobs from peers: nothing half is left, and what was wanted still comes."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any, cast

import pytest

from replication.rpc.bodies import BodyType
from replication.rpc.methods import Caller, Kind, Method, Who
from replication.rpc.streams import Sink
from tests.replication.test_blob_exchange import blob_id
from tests.support.peers import Node, stranger, until
from tests.support.processes import NodeProcess

BLOBS = 4
SEED = 9


def offering(datas: dict[str, bytes], half: asyncio.Event | None) -> list[Method]:
    """A peer's methods: it has some blobs and gives them, or (with `half`) stops in the middle of each."""

    async def wants(_caller: Caller, _args: list[Any], out: Sink) -> None:
        await out.send([json.dumps({blob: len(data) for blob, data in datas.items()}).encode()])
        await asyncio.Event().wait()

    async def get(_caller: Caller, args: list[Any], out: Sink) -> None:
        data = datas[args[0]["key"]]
        await out.send(
            [data[at : at + 65536] for at in range(0, len(data) // (1 + bool(half)), 65536)], BodyType.BINARY
        )
        if half is not None:
            half.set()
            await asyncio.Event().wait()

    return [
        Method(("blobs", "createWants"), Kind.SOURCE, Who.ANON, wants),
        Method(("blobs", "get"), Kind.SOURCE, Who.ANON, get),
    ]


def files(node: NodeProcess, folder: str = "blobs") -> list[Path]:
    return [path for path in (node.directory / folder).rglob("*") if path.is_file()]


@pytest.mark.slow
async def test_a_kill_in_the_middle_of_a_transfer_leaves_nothing_half(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    datas = {blob_id(data): data for data in (rng.randbytes(1_500_000) for _ in range(BLOBS))}
    with NodeProcess(tmp_path / "node") as node:
        async with asyncio.timeout(30):
            for blob in datas:
                status, _ = await asyncio.to_thread(node.get, f"/v1/blobs/{blob.replace('/', '%2F')}")
                assert status == 404
            half = asyncio.Event()
            async with stranger(cast(Node, node), "half", offering(datas, half)):
                await half.wait()
                await until(lambda: files(node))
                node.kill()
        assert files(node), "it was not killed in the middle of anything"
        await asyncio.to_thread(node.start)
        assert files(node) == []
        async with asyncio.timeout(30), stranger(cast(Node, node), "whole", offering(datas, None)):
            await until(lambda: sum(path.stat().st_size for path in files(node, "blobs/sha256")) == BLOBS * 1_500_000)
        assert len(files(node)) == BLOBS
