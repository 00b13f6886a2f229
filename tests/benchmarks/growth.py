"""Whether writing stays as fast as the log grows: eight blocks of 100 000 messages, the last against the first.

`python -m tests.benchmarks.growth [messages a block] [feeds]`

Messages are made up (random ids, no signatures), in batches of 5 000 as a sync delivers them: stretches of a hundred
messages of feeds picked at random. CPU seconds of the writing thread, commits included; wall seconds beside them.
"""

import random
import sqlite3
import sys
import time
from typing import cast

from feeds.database import Database
from feeds.indexer import Indexer
from feeds.log import Log, Run, key8, message_id
from feeds.message import EMPTY, Tip
from tests.benchmarks.ingest import BATCH, Batch, connected
from tests.benchmarks.measure import report
from tests.support.stores import VIEWS

BLOCKS = 8
STRETCH = 100
SIZE = 650
REACH = 1.4
TYPES = ("vote", "post", "contact", "about")
RELS = ("vote.link", "root", "branch", "mentions.link", "about")


class Source:
    """Endless batches that extend feeds of made-up messages."""

    def __init__(self, feeds: int) -> None:
        self.rng = random.Random(1)
        self.ids = [f"@{number:043d}=.ed25519" for number in range(feeds)]
        self.tips = [EMPTY] * feeds
        self.texts = [self.rng.randbytes(SIZE) for _ in range(100)]
        self.keys = [self.rng.randbytes(32) for _ in range(1000)]

    def batch(self, views: bool) -> Batch:
        picked = sorted(self.rng.sample(range(len(self.ids)), BATCH // STRETCH))
        return [self.run(number, views) for number in picked]

    def run(self, number: int, views: bool) -> Run:
        rng = self.rng
        keys = [rng.randbytes(32) for _ in range(STRETCH)]
        author, base = self.ids[number], self.tips[number]
        self.tips[number] = Tip(base.sequence + STRETCH, message_id(keys[-1], author))
        extracts: list[list[object]] = [[None] * STRETCH for _ in VIEWS]
        if views:
            extracts[0] = [(rng.choice(self.ids), 1) if rng.random() < 0.08 else None for _ in keys]
            extracts[1] = [rng.choice(TYPES) for _ in keys]
            extracts[2] = [
                [(key8(rng.choice(self.keys)), rng.choice(RELS)) for _ in range(rng.randint(0, 3))] for _ in keys
            ]
        for key in keys[::7]:
            self.keys[rng.randrange(1000)] = key
        return Run(author, base, keys, [1.7e12] * STRETCH, rng.choices(self.texts, k=STRETCH), extracts)


def grow(block: int, feeds: int, views: bool) -> tuple[list[float], list[float], int]:
    """CPU and wall seconds of each block, and bytes on disk in the end."""
    source = Source(feeds)
    cpu, wall = [], []
    with connected() as connection:
        for _ in range(BLOCKS):
            spent = waited = 0.0
            for _ in range(block // BATCH):
                batch = source.batch(views)
                begun, at = time.thread_time(), time.perf_counter()
                write(connection, batch, views)
                spent += time.thread_time() - begun
                waited += time.perf_counter() - at
            cpu.append(spent)
            wall.append(waited)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    return cpu, wall, pages * size


def write(connection: sqlite3.Connection, batch: Batch, views: bool) -> None:
    connection.execute("BEGIN IMMEDIATE")
    appended = Log.append(connection, batch, 1)
    assert not appended.stale
    if views:
        Indexer(cast(Database, None), VIEWS, {}, 0).apply(connection, appended)
    connection.execute("COMMIT")


def main(block: int, feeds: int) -> None:
    for name, views in (("growth", False), ("growth, all views", True)):
        cpu, wall, size = grow(block, feeds, views)
        report(
            name,
            block=block,
            blocks=BLOCKS,
            feeds=feeds,
            first_us=cpu[0] / block * 1e6,
            last_us=cpu[-1] / block * 1e6,
            bytes_a_message=round(size / block / BLOCKS),
            ratio=cpu[-1] / cpu[0],
            wall_ratio=wall[-1] / wall[0],
            reach=REACH,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
