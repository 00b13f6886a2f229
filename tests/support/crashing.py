"""A process that fills a store and says what was acknowledged, to be killed at any moment.

    python -m tests.support.crashing FOLDER SEED

Prints `{"feed": id, "sequence": n}` once that much of a feed was acknowledged, a line at a time. Feeds other than its
own are `chain(name, LENGTH, seed)` of `builders`, so whoever reads the store afterwards knows what must be in it.
"""

import asyncio
import json
import random
import sys
from pathlib import Path

from tests.support.builders import Feed, chain
from tests.support.stores import Store, open_store

FEEDS = 6
LENGTH = 150


def feeds(seed: int) -> list[Feed]:
    return [chain(name, LENGTH, seed) for name in range(FEEDS)]


def say(feed: str, sequence: int) -> None:
    print(json.dumps({"feed": feed, "sequence": sequence}), flush=True)


async def deliver(store: Store, given: list[Feed], rng: random.Random) -> None:
    """Deliver random stretches of all feeds, overlapping and out of step, until everything is there."""
    while any(store.log.sequence(feed.id) < LENGTH for feed in given):
        texts = []
        for feed in rng.sample(given, rng.randint(1, FEEDS)):
            at = max(store.log.sequence(feed.id) - rng.randint(0, 5), 0)
            texts += feed.texts[at : at + rng.randint(1, 20)]
        report = await store.ingest.add(texts, source="peer")
        for grown, sequence in report.tips.items():
            say(grown, sequence)


async def publish(store: Store) -> None:
    for number in range(LENGTH):
        entry = await store.ingest.publish({"type": "post", "text": f"number {number}"})
        say(entry.author, entry.sequence)


async def main(folder: Path, seed: int) -> None:
    given = feeds(seed)
    rng = random.Random(f"{seed}:{folder}")
    async with open_store(folder) as store:
        print("ready", flush=True)
        await asyncio.gather(*(deliver(store, given, rng) for _ in range(3)), publish(store))
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
