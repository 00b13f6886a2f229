"""Data directories with content, made without a process: an identity, feeds of others, and follows of them all."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from feeds.formats.registry import CLASSIC
from node import keyfile
from node.directory import DataDirectory
from node.store import open_store

BATCH = 2000


def fill(path: Path, texts: Sequence[bytes], *, follow: Sequence[str] = ()) -> str:
    """Make the directory hold `texts` and follow their authors (and `follow`); returns the id of its identity."""
    return asyncio.run(_fill(DataDirectory(path), texts, follow))


async def _fill(directory: DataDirectory, texts: Sequence[bytes], follow: Sequence[str]) -> str:
    directory.make()
    keypair = keyfile.load_or_create(directory.secret)
    async with open_store(directory.database, keypair, hmac_key=None, now=time.time) as store:
        authors = dict.fromkeys([*(CLASSIC.peek(text)[0] for text in texts), *follow])
        for author in authors:
            await store.ingest.publish({"type": "contact", "contact": author, "following": True})
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            report = await store.ingest.add(batch, source="test")
            assert report.added == len(batch), report.rejections[:3]
    return keypair.id
