"""Comparing contenders fairly on a machine that does other things too.

Contenders take turns in short rounds, so that whatever else runs hits all of them alike, and what is reported is the
median over the rounds of one contender's time divided by another's in the same round.
"""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Times", "interleave", "micros", "ratio", "report"]

Times = Mapping[str, list[float]]
"""Seconds of each round, by contender."""


def interleave(
    contenders: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 9,
    clock: Callable[[], float] = time.thread_time,
) -> Times:
    """Runs every contender once to warm up, then in turn. Use a wall clock where contenders use several threads."""
    for run in contenders.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = clock()
            run()
            times[name].append(clock() - start)
    return times


def ratio(times: Times, name: str, base: str) -> float:
    """How many times as long as base a contender took."""
    return statistics.median(a / b for a, b in zip(times[name], times[base], strict=True))


def micros(times: Times, name: str, items: int) -> float:
    """Microseconds an item in the median round."""
    return statistics.median(times[name]) / items * 1e6


def report(benchmark: str, **figures: Any) -> None:
    """Prints one line of JSON, floats with three decimals."""
    rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in figures.items()}
    print(json.dumps({"benchmark": benchmark, **rounded}), flush=True)
