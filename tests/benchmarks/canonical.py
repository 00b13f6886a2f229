"""Preparing a message (decode, canonical form, id, every check but chain and signature) against the bare minimum:
orjson reads, prints with indent 2, and SHA-256 hashes.  `python -m tests.benchmarks.canonical [messages]`
"""

import hashlib
import sys

import orjson

from feeds.canonical_json import indented, parse
from feeds.formats.registry import CLASSIC
from tests.benchmarks.measure import interleave, micros, ratio, report
from tests.support.builders import generate

REACH = 3.0


def main(count: int) -> None:
    texts = generate(count, 20)

    def least() -> None:
        for text in texts:
            hashlib.sha256(orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2)).digest()

    def prepare() -> None:
        for text in texts:
            CLASSIC.prepare(text)

    few = texts[: count // 10]

    def exact() -> None:
        for text in few:
            indented(parse(text))

    times = interleave({"least": least, "prepare": prepare, "exact": exact}, rounds=15)
    report(
        "canonical",
        messages=count,
        prepare_us=micros(times, "prepare", count),
        least_us=micros(times, "least", count),
        exact_printing_us=micros(times, "exact", len(few)),
        ratio=ratio(times, "prepare", "least"),
        reach=REACH,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3000)
