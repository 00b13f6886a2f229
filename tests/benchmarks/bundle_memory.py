"""What `sbot import`, `inspect` and `export` hold in memory while a large bundle goes through them.

    python -m tests.benchmarks.bundle_memory [--messages 1000000] [--feeds 1000]

A bundle is written block by block, taken in by a fresh store, looked at, and made once more from that store. Each
command is a process of its own without a running node; its resident memory is looked at every quarter of a second,
alone and with the processes that judge for it. Constant memory is what counts: at the end as at a quarter.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

from feeds.keys import sign
from replication.bundle import BundleWriter, Header
from tests.benchmarks.measure import report
from tests.benchmarks.nodes import memory
from tests.support.builders import generate, keypair
from tests.support.processes import SBOT, clean_environ, run

PAUSE = 0.25
BLOCK = 50_000
SLICE = 400
"""Messages in one slice: about what an export puts there."""


def write(path: Path, messages: int, feeds: int) -> None:
    """A packed bundle; each block has feeds of its own, one after another."""
    keys = keypair("sender")
    writer = BundleWriter(Header(keys.id, 1), packed=True)
    blocks = max(1, messages // BLOCK)
    each = feeds // blocks
    with path.open("wb") as file:
        file.write(writer.header())
        for block in range(blocks):
            texts = generate(messages // blocks, each, seed=1000 + block)
            for number in range(each):
                mine = texts[number::each]
                author = keypair(number, 1000 + block).id
                for at in range(0, len(mine), SLICE):
                    file.write(writer.slice(author, at + 1, mine[at : at + SLICE]))
        manifest = writer.manifest(last=True)
        file.write(writer.end(manifest, sign(keys, writer.to_sign(manifest))))


def watched(*words: str) -> dict[str, float]:
    """Run a command; seconds, and MB at a quarter of its time, near its end and at the highest."""
    samples: list[dict[str, float]] = []
    begun = time.monotonic()
    with subprocess.Popen([*SBOT, *words], stdout=subprocess.DEVNULL, env=clean_environ()) as process:
        while process.poll() is None:
            try:
                samples.append(memory(process.pid))
            except OSError:
                break
            time.sleep(PAUSE)
    seconds = time.monotonic() - begun
    if process.returncode:
        raise SystemExit(f"{words[0]} failed")
    samples = [sample for sample in samples if "rss_mb" in sample]
    quarter, half, last = (samples[min(len(samples) - 1, len(samples) * part // 40)] for part in (10, 20, 39))
    return {
        "seconds": seconds,
        "quarter_mb": quarter["rss_mb"],
        "half_mb": half["rss_mb"],
        "end_mb": last["rss_mb"],
        "highest_mb": max(sample["highest_rss_mb"] for sample in samples),
        "with_children_mb": max(sample["with_children_mb"] for sample in samples),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--feeds", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pysbot-bench-") as root:
        there, bundle, again = Path(root, "there"), Path(root, "bundle"), Path(root, "again")
        write(bundle, given.messages, given.feeds)
        if run("init", "--path", str(there)).code:
            raise SystemExit("init failed")
        for name, made, words in (
            ("import", bundle, ["import", str(bundle), "--path", str(there)]),
            ("inspect", bundle, ["inspect", str(bundle)]),
            ("export", again, ["export", str(again), "--path", str(there)]),
        ):
            figures = watched(*words)
            report(f"bundle_memory {name}", messages=given.messages, bytes=made.stat().st_size, **figures)


if __name__ == "__main__":
    main()
