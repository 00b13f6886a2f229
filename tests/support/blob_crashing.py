"""A process that adds blobs and says which were acknowledged, to be killed at any moment.

    python -m tests.support.blob_crashing FOLDER SEED

Prints the number of each blob once it was acknowledged; `content(number)` is what is in it.
"""

import asyncio
import random
import sys
from pathlib import Path

from feeds.blobs import BLOBS, Blobs
from feeds.database import Database

COUNT = 400


def content(number: int) -> bytes:
    return random.Random(number).randbytes(1 + number * 7919 % 600_000)


async def main(folder: Path, seed: int) -> None:
    numbers = list(range(COUNT))
    random.Random(seed).shuffle(numbers)
    database = await Database.open(folder / "sbot.db", [BLOBS])
    blobs = await Blobs.open(folder / "blobs", database, now=lambda: 1e9)
    print("ready", flush=True)

    async def work() -> None:
        while numbers:
            number = numbers.pop()
            data = content(number)
            async with blobs.adding(own=number % 2 == 0) as writer:
                for at in range(0, len(data), 50_000):
                    await writer.write(data[at : at + 50_000])
                    await asyncio.sleep(0)
                await writer.commit()
            print(number, flush=True)

    await asyncio.gather(*(work() for _ in range(4)))
    print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
