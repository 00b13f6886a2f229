"""What a reconnect costs on the wire: two of our nodes with 1 000 feeds, nothing new and then 100 new messages.

Both nodes run in this process, and every muxrpc frame either of them decodes is counted by its body: a message, notes,
a request, what is said about blobs, something else. Bytes are those of the TCP connection, wants of blobs included; the
frames of equal nodes are those about messages.

    python -m tests.benchmarks.reconnect [--feeds 1000] [--messages 5] [--new 100]
"""

import argparse
import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson

from feeds.log import Log
from node import config
from node.sbot import Sbot
from replication.rpc import packets
from tests.benchmarks import nodes

REACH_FRAMES = 3
QUIET_SECONDS = 1.0
MOST_SECONDS = 120.0

Decode = Callable[[packets.FrameDecoder, bytes], list[packets.Run]]


class Tap:
    """Counts the frames of every decoder in this process from `reset` on."""

    def __init__(self) -> None:
        self.frames: Counter[str] = Counter()
        original = packets.FrameDecoder.decode

        def decode(decoder: packets.FrameDecoder, data: bytes) -> list[packets.Run]:
            runs = original(decoder, data)
            for run in runs:
                self.frames.update(kind_of(run.flags, body) for body in run.bodies)
            return runs

        packets.FrameDecoder.decode = decode  # type: ignore[method-assign, assignment]

    def take(self) -> dict[str, int]:
        counted, self.frames = dict(self.frames), Counter()
        return counted


def kind_of(flags: int, body: bytes) -> str:
    if flags & packets.END:
        return "end"
    if flags & packets.TYPE_MASK == 0:
        return "binary"
    value = orjson.loads(body) if flags & packets.TYPE_MASK == 2 else body.decode()
    if not isinstance(value, dict):
        return "other"
    if "author" in value and "sequence" in value:
        return "message"
    if "name" in value and "args" in value:
        return "blobs" if value["name"][0] == "blobs" else "request"
    if value and all(key.startswith("&") for key in value):
        return "blobs"
    return "notes" if all(key.startswith("@") for key in value) else "other"


def configured(folder: Path) -> config.Config:
    flags = {
        "path": str(folder / "data"),
        "host": "127.0.0.1",
        "port": "0",
        "http_port": "0",
        "network_key": nodes.NETWORK_KEY,
        "lan": "false",
    }
    return config.load(flags, {})


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(MOST_SECONDS):
        while not true():  # noqa: ASYNC110 - a measurement from outside: nothing tells
            await asyncio.sleep(0.01)


def equal(one: Log, other: Log) -> bool:
    return one.clock() == other.clock()


async def one_session(
    dialling: Sbot, answering: Sbot, tap: Tap, done: Callable[[], Awaitable[None]]
) -> dict[str, object]:
    """Connects, waits for `done` and for quiet, hangs up; what was on the wire until the quiet."""
    tap.take()
    peer = await dialling.connections.dial(answering.address)
    await done()
    await asyncio.sleep(QUIET_SECONDS)
    frames = tap.take()
    info = next(info for info in dialling.connections.peers() if info.id == peer.id)
    cost = {"bytes_sent": info.bytes_out, "bytes_received": info.bytes_in, "frames": frames}
    await dialling.connections.disconnect(peer.id)
    await until(lambda: all(info.state != "connected" for info in answering.connections.peers()))
    await asyncio.sleep(0.2)
    return cost


async def run(feed_count: int, length: int, new: int) -> dict[str, object]:
    texts = nodes.messages(feed_count * length, feed_count)
    feeds = nodes.feed_ids(feed_count)
    tap = Tap()
    with tempfile.TemporaryDirectory(prefix="pysbot-bench-") as root:
        await nodes.fill(Path(root, "one"), texts)
        async with (
            Sbot.open(configured(Path(root, "one"))) as one,
            Sbot.open(configured(Path(root, "two"))) as two,
        ):
            for sbot in (one, two):
                for feed in [*feeds, one.id, two.id]:
                    if feed != sbot.id:
                        await sbot.replicator.request(feed, True)
            logs = one.store.log, two.store.log

            async def synced() -> None:
                await until(lambda: equal(*logs))

            first = await one_session(two, one, tap, synced)
            nothing_new = await one_session(two, one, tap, synced)
            for number in range(new):
                await one.store.ingest.publish({"type": "post", "text": f"new {number}"})
            some_new = await one_session(two, one, tap, synced)
    frames = nothing_new["frames"]
    assert isinstance(frames, dict)
    return {
        "benchmark": "reconnect",
        "feeds": feed_count,
        "messages": feed_count * length,
        "first": first,
        "nothing_new": nothing_new,
        f"{new}_new": some_new,
        "frames_when_equal": sum(count for kind, count in frames.items() if kind != "blobs"),
        "reach_frames": REACH_FRAMES,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--feeds", type=int, default=1000)
    parser.add_argument("--messages", type=int, default=5, help="messages a feed")
    parser.add_argument("--new", type=int, default=100)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(run(given.feeds, given.messages, given.new))))


if __name__ == "__main__":
    main()
