"""kill -9 at random moments: what was acknowledged is there, what is there is whole, and the next start goes on."""

import json
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from feeds.log import Log
from tests.feeds.test_ingest import check_whole
from tests.support import crashing
from tests.support.stores import open_store

SEED = 7
RUNS = 10


def killed_after(folder: Path, acknowledgements: int) -> tuple[dict[str, int], bool]:
    """Run a store in a process of its own and kill it after so many lines; what it acknowledged, and if it was done."""
    command = [sys.executable, "-m", "tests.support.crashing", str(folder), str(SEED)]
    acknowledged: dict[str, int] = {}
    done = False
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        guard = threading.Timer(60, process.kill)
        guard.start()
        assert process.stdout is not None
        left = acknowledgements
        for line in process.stdout:
            if line.startswith(b"{") and line.endswith(b"\n"):
                said = json.loads(line)
                acknowledged[said["feed"]] = max(said["sequence"], acknowledged.get(said["feed"], 0))
                left -= 1
                if left == 0:
                    process.kill()  # what it still says before it dies counts as well
            done = done or line == b"done\n"
        guard.cancel()
    return acknowledged, done


@pytest.mark.slow
async def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    texts = {feed.id: feed.texts for feed in crashing.feeds(SEED)}
    held: dict[str, int] = {}
    done = False
    runs = 0
    while runs < RUNS and not done:
        runs += 1
        acknowledged, done = killed_after(tmp_path, rng.randint(1, 90))
        async with open_store(tmp_path) as store:
            await check_whole(store)
            clock = store.log.clock()
            for feed, sequence in [*acknowledged.items(), *held.items()]:
                assert clock.get(feed, 0) >= sequence, f"run {runs}: {feed} lost messages"
            for feed, sequence in clock.items():
                if feed in texts:
                    assert await store.log.range(feed, 0, 999, max_bytes=1 << 30) == texts[feed][:sequence]
            assert store.log.feed_state(store.own.id) == "open"
            held = clock
    assert sum(held.values()) > 100
    assert runs >= 5, f"seed {SEED} is no test: all was done after {runs} runs"


@pytest.mark.slow
async def test_a_store_that_was_killed_mid_way_reads_as_one_that_was_closed(tmp_path: Path) -> None:
    killed_after(tmp_path, 40)
    async with open_store(tmp_path) as store:
        first = (store.log.clock(), await store.log.entries_after(0, 10_000), store.graph.edges())
    async with open_store(tmp_path) as store:
        again = (store.log.clock(), await store.log.entries_after(0, 10_000), store.graph.edges())
        assert (await Log.open(store.database)).clock() == first[0]
    assert first == again
