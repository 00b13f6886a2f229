"""Resident memory of a node with a large log, and bytes on disk a message.

    python -m tests.benchmarks.memory [--messages 100000] [--feeds 10000]

At 1 000 000 messages and 10 000 feeds (`--messages 1000000`) the reach is 256 MB. Measured when the node is ready,
after a peer has asked it for every feed (its clock compared, everything sent), and beside a node with an empty log.
"""

import argparse
import asyncio
import json
import tempfile
from pathlib import Path

from tests.benchmarks import nodes

REACH_MB = 256
BLOCK = 100_000


async def fill_in_blocks(folder: Path, messages: int, feeds: int) -> None:
    """Makes and ingests block by block, so that this process stays small; each block has feeds of its own."""
    blocks = max(1, messages // BLOCK)
    for block in range(blocks):
        texts = nodes.messages(messages // blocks, feeds // blocks, seed=1000 + block)
        await nodes.fill(folder, texts)


async def run(messages: int, feed_count: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="pysbot-bench-") as root:
        full, empty, asking = Path(root, "full"), Path(root, "empty"), Path(root, "asking")
        await fill_in_blocks(full, messages, feed_count)
        stored = nodes.disk_bytes(full)
        async with nodes.running(empty) as node:
            without = nodes.memory(node.pid)
        async with nodes.running(full) as node, nodes.running(asking) as peer:
            feeds = list(await node.clock())
            await nodes.settled(node)
            ready = nodes.memory(node.pid)
            await node.want(feeds)
            wanting = nodes.memory(node.pid)
            await peer.want(feeds)
            await peer.dial(node.address)
            await nodes.wait_for(peer, messages, timeout=3600)
            await nodes.settled(peer, timeout=3600)
            served, received = nodes.memory(node.pid), nodes.memory(peer.pid)
    return {
        "benchmark": "memory",
        "messages": messages,
        "feeds": feed_count,
        "empty": without,
        "ready": ready,
        "all_feeds_wanted": wanting,
        "after_serving_all": served,
        "after_receiving_all": received,
        "ratio_to_empty": round(served["rss_mb"] / without["rss_mb"], 2),
        "reach_mb": REACH_MB,
        "disk_bytes_a_message": round(stored / messages),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--feeds", type=int, default=10_000)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(run(given.messages, given.feeds))))


if __name__ == "__main__":
    main()
