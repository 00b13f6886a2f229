"""From exec to the ready line, with a full database.

    python -m tests.benchmarks.start [--messages 100000] [--feeds 1000] [--repeat 5]

The other side of the ratio is a start of the same interpreter that does nothing but import the node.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks import nodes

REACH_SECONDS = 2.0


def start_once(folder: Path) -> float:
    ports = ["--host", "127.0.0.1", "--port", "0", "--http-port", "0", "--no-lan"]
    flags = ["--path", str(folder / "data"), "--network-key", nodes.NETWORK_KEY, *ports]
    begun = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "node", "start", *flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - begun
        process.terminate()
        if process.wait(10) != 0 or json.loads(line)["event"] != "ready":
            raise SystemExit("the node did not start and stop cleanly")
    return seconds


def import_once() -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import node.sbot, api.app"], check=True)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--feeds", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    texts = nodes.messages(given.messages, given.feeds)
    with tempfile.TemporaryDirectory(prefix="pysbot-bench-") as root:
        full, empty = Path(root, "full"), Path(root, "empty")
        asyncio.run(nodes.fill(full, texts))
        asyncio.run(nodes.fill(empty, []))
        seconds, without, imports = [], [], []
        for _ in range(given.repeat):
            seconds.append(start_once(full))
            without.append(start_once(empty))
            imports.append(import_once())
    result = {
        "benchmark": "start",
        "messages": given.messages,
        "feeds": given.feeds,
        "ready_seconds": round(statistics.median(seconds), 3),
        "reach_seconds": REACH_SECONDS,
        "empty_ready_seconds": round(statistics.median(without), 3),
        "import_seconds": round(statistics.median(imports), 3),
        "ratio_to_empty": round(statistics.median(seconds) / statistics.median(without), 3),
        "all_ready": [round(value, 3) for value in seconds],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
