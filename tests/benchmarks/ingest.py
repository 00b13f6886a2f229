"""What the log costs over a bare table, what the views cost over the log, and what the door costs over validation.

`python -m tests.benchmarks.ingest [messages] [feeds]`

The first two are measured on one thread without validation, in batches of 5 000 grouped by author as ingest writes
them. The third is wall time with as many threads or processes as there are cores.
"""

import asyncio
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from feeds.content import links
from feeds.database import Database, _prepare
from feeds.formats.registry import CLASSIC
from feeds.indexer import Indexer
from feeds.indexer import _prepare as prepare_views
from feeds.log import Log, Run
from feeds.message import EMPTY, Message, Tip
from feeds.migrations import FEEDS
from tests.benchmarks.judging import by_author, validate
from tests.benchmarks.measure import micros, ratio, report
from tests.support.builders import generate
from tests.support.stores import VIEWS, open_store

BATCH = 5000
REACH_LOG = 1.6
REACH_VIEWS = 2.5
REACH_DOOR = 1.25
BARE = "CREATE TABLE bare(position INTEGER PRIMARY KEY, author, sequence, key, received, timestamp, text)"

Batch = list[Run]


def batches(texts: Sequence[bytes]) -> list[Batch]:
    """Runs of each author in each stretch of 5 000 messages, with what the views keep of them."""
    ends: dict[str, Tip] = {}
    made = []
    for at in range(0, len(texts), BATCH):
        by_author: dict[str, list[Message]] = {}
        for text in texts[at : at + BATCH]:
            message = CLASSIC.prepare(text)
            by_author.setdefault(message.author, []).append(message)
        batch = []
        for author, messages in by_author.items():
            batch.append(run_of(author, ends.get(author, EMPTY), messages))
            ends[author] = Tip(messages[-1].sequence, messages[-1].id)
        made.append(batch)
    return made


def run_of(author: str, base: Tip, messages: Sequence[Message]) -> Run:
    return Run(
        author,
        base,
        [message.key for message in messages],
        [message.timestamp for message in messages],
        [message.text for message in messages],
        [[view.extract(message, links(message.content)) for message in messages] for view in VIEWS],
    )


@contextmanager
def connected() -> Iterator[sqlite3.Connection]:
    """A fresh file with the settings of `Database`."""
    with tempfile.TemporaryDirectory(prefix="pysbot-bench-") as folder:
        connection = sqlite3.connect(Path(folder, "sbot.db"), isolation_level=None)
        _prepare(connection, [FEEDS])
        prepare_views(connection, VIEWS)
        connection.execute(BARE)
        try:
            yield connection
        finally:
            connection.close()


def fill(made: Sequence[Batch], write: Callable[[sqlite3.Connection, Batch], None]) -> float:
    """CPU seconds of writing all batches into the file, commits and the checkpoint included."""
    with connected() as connection:
        begun = time.thread_time()
        for batch in made:
            connection.execute("BEGIN IMMEDIATE")
            write(connection, batch)
            connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return time.thread_time() - begun


class Bare:
    """The same rows into a table without indexes."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.position = 0

    def __call__(self, connection: sqlite3.Connection, batch: Batch) -> None:
        for run in batch:
            author = self.numbers.setdefault(run.author, len(self.numbers))
            first = self.position + 1
            rows = [
                (at, author, at - first + run.base.sequence + 1, key, 1, timestamp, text)
                for at, (key, timestamp, text) in enumerate(
                    zip(run.keys, run.timestamps, run.texts, strict=True), first
                )
            ]
            self.position += len(rows)
            connection.executemany("INSERT INTO bare VALUES(?,?,?,?,?,?,?)", rows)


def log_only(connection: sqlite3.Connection, batch: Batch) -> None:
    appended = Log.append(connection, batch, 1)
    assert not appended.stale


def with_views(connection: sqlite3.Connection, batch: Batch) -> None:
    indexer = Indexer(cast(Database, None), VIEWS, {}, 0)  # what it applies goes to the connection that it is given
    effects = indexer.apply(connection, Log.append(connection, batch, 1))
    assert len(effects) == sum(not getattr(view, "may_lag", False) for view in VIEWS)


def main(count: int, authors: int) -> None:
    texts = generate(count, authors)
    made = batches(texts)
    seconds: dict[str, list[float]] = {"bare": [], "log": [], "views": []}
    for _ in range(7):
        seconds["bare"].append(fill(made, Bare()))
        seconds["log"].append(fill(made, log_only))
        seconds["views"].append(fill(made, with_views))
    each = {f"{name}_us": micros(seconds, name, count) for name in seconds}
    report("ingest", messages=count, batch=BATCH, **each, ratio=ratio(seconds, "log", "bare"), reach=REACH_LOG)
    report("ingest, all views", messages=count, **each, ratio=ratio(seconds, "views", "log"), reach=REACH_VIEWS)
    door(texts)


def door(texts: Sequence[bytes]) -> None:
    """`Ingest.add` against validating the same messages with as many threads and nothing else."""
    feeds = by_author(texts)
    threads = os.cpu_count() or 1
    pool = ThreadPoolExecutor(threads)

    seconds: dict[str, list[float]] = {"validate": [], "add": []}
    for _ in range(5):
        begun = time.perf_counter()
        all(pool.map(validate, feeds))
        seconds["validate"].append(time.perf_counter() - begun)
        seconds["add"].append(asyncio.run(add(texts)))
    pool.shutdown()
    report(
        "ingest, add",
        messages=len(texts),
        feeds=len(feeds),
        threads=threads,
        add_us=micros(seconds, "add", len(texts)),
        validate_us=micros(seconds, "validate", len(texts)),
        ratio=ratio(seconds, "add", "validate"),
        best_ratio=min(seconds["add"]) / min(seconds["validate"]),
        reach=REACH_DOOR,
    )


async def add(texts: Sequence[bytes]) -> float:
    """Seconds to add everything in one delivery, views and all; starting the worker processes is part of it."""
    with tempfile.TemporaryDirectory(prefix="pysbot-bench-") as folder:
        async with open_store(Path(folder)) as store:
            begun = time.perf_counter()
            done = await store.ingest.add(texts, source="benchmark")
            seconds = time.perf_counter() - begun
            assert done.added == len(texts)
    return seconds


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000, int(sys.argv[2]) if len(sys.argv) > 2 else 100)
