"""Real nodes for benchmarks: data folders filled without the network, and processes as users run them."""

import asyncio
import base64
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from node import keyfile
from node.directory import DataDirectory
from node.store import open_store
from tests.interop.our_node import OurNode
from tests.support import builders

NETWORK_KEY = base64.b64encode(b"pysbot benchmarks, loopback only").decode()
BATCH = 5000
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def messages(count: int, feeds: int, seed: int = 1) -> list[bytes]:
    return builders.generate(count, feeds, seed)


def feed_ids(feeds: int, seed: int = 1) -> list[str]:
    """The ids of the feeds that `messages` makes."""
    return [builders.keypair(number, seed).id for number in range(feeds)]


async def fill(folder: Path, texts: Sequence[bytes]) -> float:
    """Puts messages into the data folder of a node that is not running; the seconds the ingest took."""
    directory = DataDirectory(folder / "data")
    directory.make()
    keypair = keyfile.load_or_create(directory.secret)
    async with open_store(directory.database, keypair, hmac_key=None, now=time.time) as store:
        begun = time.perf_counter()
        for batch in batches(texts, BATCH):
            report = await store.ingest.add(batch, source="benchmark")
            if report.added != len(batch):
                raise SystemExit(f"only {report.added} of {len(batch)} messages were taken: {report.rejections[:1]}")
        return time.perf_counter() - begun


def batches(texts: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(texts), size):
        yield texts[start : start + size]


@asynccontextmanager
async def running(folder: Path, *options: str) -> AsyncIterator[OurNode]:
    node = OurNode(folder, NETWORK_KEY, *options)
    try:
        yield await node.open()
    finally:
        await node.stop()


async def wait_for(node: OurNode, messages: int, timeout: float = 600.0) -> None:
    """Returns when the node has received this many messages (its own included)."""
    async with asyncio.timeout(timeout):
        while (await node.request("GET", "/v1/status")).json()["log"]["position"] < messages:  # noqa: ASYNC110
            await asyncio.sleep(0.03)


async def settled(node: OurNode, timeout: float = 600.0) -> None:
    """Returns when no view of the node is behind its log: heavy ones catch up after a bulk of messages."""
    async with asyncio.timeout(timeout):
        while (await node.request("GET", "/v1/status")).json()["index"]["behind"]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def family(pid: int) -> list[int]:
    """A process and everything it started that still runs (Linux)."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += family(int(child))
    return found


def memory(pid: int) -> dict[str, float]:
    """Memory in MB (Linux): the process alone now and at its highest, and with its children, shared pages once."""
    fields: dict[str, float] = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            fields["rss_mb" if name == "VmRSS" else "highest_rss_mb"] = round(int(rest.split()[0]) / 1024, 1)
    together = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
            together += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return {**fields, "with_children_mb": round(together / 1024, 1)}


def cpu_seconds(pid: int) -> float:
    """User and system time so far of a process, its threads and its children, running and ended (Linux)."""
    total = 0.0
    for member in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15])) / CLOCK_TICKS
    return total


def disk_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
