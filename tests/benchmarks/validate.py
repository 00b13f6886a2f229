"""Full validation of feeds against libsodium's verification of the same signatures alone, on one thread and on two.

`python -m tests.benchmarks.validate [messages] [feeds]`
"""

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from feeds.formats.registry import CLASSIC
from feeds.keys import Signed, public_from_id, verify_many
from tests.benchmarks.judging import Feed, by_author, validate
from tests.benchmarks.measure import interleave, micros, ratio, report
from tests.support.builders import generate

REACH_ONE = 1.2
REACH_TWO = 1.3

T = TypeVar("T")


def main(count: int, authors: int) -> None:
    feeds = by_author(generate(count, authors))
    signed = [signatures(feed) for feed in feeds]
    pool = ThreadPoolExecutor(2)

    def on_two(work: Callable[[T], bool], parts: Sequence[T]) -> Callable[[], bool]:
        return lambda: all(pool.map(work, parts))

    one = interleave(
        {
            "libsodium": lambda: all(map(verify, signed)),
            "full": lambda: all(map(validate, feeds)),
        }
    )
    report(
        "validate, 1 thread",
        messages=count,
        full_us=micros(one, "full", count),
        libsodium_us=micros(one, "libsodium", count),
        ratio=ratio(one, "full", "libsodium"),
        reach=REACH_ONE,
    )
    two = interleave(
        {"libsodium": on_two(verify, signed), "full": on_two(validate, feeds)}, clock=time.perf_counter, rounds=15
    )
    report(
        "validate, 2 threads",
        messages=count,
        full_us=micros(two, "full", count),
        libsodium_us=micros(two, "libsodium", count),
        ratio=ratio(two, "full", "libsodium"),
        reach=REACH_TWO,
    )
    pool.shutdown()


def signatures(feed: Feed) -> list[Signed]:
    public = public_from_id(feed[0])
    return [(message.signature, message.signed, public) for message in map(CLASSIC.prepare, feed[1])]


def verify(items: list[Signed]) -> bool:
    if verify_many(items) != -1:
        raise SystemExit("a good signature was refused")
    return True


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 6000, int(sys.argv[2]) if len(sys.argv) > 2 else 60)
