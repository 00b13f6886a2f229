"""Syncing from one node to another against validating the same messages alone.

Two processes of our node on loopback: one holds the messages, the other asks for their feeds and dials. Wall time from
the dial until the second one holds everything, as its HTTP API tells it, divided by the time that `feeds.admission`
alone needs for the same messages with as many threads as there are cores. Both are measured in turn; the medians count.
The CPU seconds (both nodes with their child processes, against the validation) tell the same on a machine that is busy.

    python -m tests.benchmarks.replicate [--messages 50000] [--feeds 100] [--repeat 3]
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.benchmarks import nodes
from tests.benchmarks.judging import by_author, validate

REACH = 1.5


def validate_all(texts: Sequence[bytes], threads: int) -> dict[str, float]:
    """Validates everything: feeds dealt out to the threads. Seconds by the clock, and of CPU."""
    feeds = by_author(texts)
    with ThreadPoolExecutor(threads) as pool:
        begun, cpu = time.perf_counter(), time.process_time()
        all(pool.map(validate, feeds))
        return {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu}


async def sync_once(source: Path, target: Path, messages: int, feeds: Sequence[str]) -> dict[str, float]:
    async with nodes.running(source) as from_node, nodes.running(target) as to_node:
        await asyncio.gather(from_node.want(feeds), to_node.want(feeds))
        await nodes.settled(from_node)
        begun = time.perf_counter()
        before = {node.pid: nodes.cpu_seconds(node.pid) for node in (from_node, to_node)}
        await to_node.dial(from_node.address)
        await nodes.wait_for(to_node, messages)
        seconds = time.perf_counter() - begun
        peer = (await to_node.peers())[0]
        used = {node.pid: nodes.cpu_seconds(node.pid) - before[node.pid] for node in (from_node, to_node)}
        await nodes.settled(to_node)
        return {
            "seconds": seconds,
            "seconds_with_all_views": time.perf_counter() - begun,
            "source_cpu": used[from_node.pid],
            "target_cpu": used[to_node.pid],
            "target_mb": nodes.memory(to_node.pid)["with_children_mb"],
            "bytes_in": peer["bytes_in"],
            "bytes_out": peer["bytes_out"],
        }


async def run(messages: int, feed_count: int, repeat: int) -> dict[str, object]:
    texts = nodes.messages(messages, feed_count)
    feeds = nodes.feed_ids(feed_count)
    threads = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="pysbot-bench-") as root:
        source = Path(root, "source")
        ingest_seconds = await nodes.fill(source, texts)
        validated, synced = [], []
        for _ in range(repeat):
            validated.append(validate_all(texts, threads))
            target = Path(root, "target")
            synced.append(await sync_once(source, target, messages, feeds))
            shutil.rmtree(target)
    alone = statistics.median(one["seconds"] for one in validated)
    alone_cpu = statistics.median(one["cpu"] for one in validated)
    median = sorted(synced, key=lambda result: result["seconds"])[len(synced) // 2]
    sync_cpu = statistics.median(one["source_cpu"] + one["target_cpu"] for one in synced)
    return {
        "benchmark": "replicate",
        "messages": messages,
        "feeds": feed_count,
        "threads": threads,
        "validate_seconds": round(alone, 3),
        "sync_seconds": round(median["seconds"], 3),
        "ratio": round(median["seconds"] / alone, 3),
        "reach": REACH,
        "validate_cpu_seconds": round(alone_cpu, 3),
        "sync_cpu_seconds": round(sync_cpu, 3),
        "cpu_ratio": round(sync_cpu / alone_cpu, 3),
        "messages_per_second": round(messages / median["seconds"]),
        "ingest_alone_seconds": round(ingest_seconds, 3),
        "median_run": {name: round(value, 2) for name, value in median.items()},
        "all_validate_seconds": [round(one["seconds"], 3) for one in validated],
        "all_sync_seconds": [round(one["seconds"], 3) for one in synced],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--feeds", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(run(given.messages, given.feeds, given.repeat))))


if __name__ == "__main__":
    main()
