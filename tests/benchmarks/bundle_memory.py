"""What `sbot export`, `inspect` and `import` hold in memory while a large bundle goes through them.

    python -m tests.benchmarks.bundle_memory [--messages 1000000] [--feeds 1000]

Each command is a process of its own on stores without a running node; its resident memory is looked at every quarter of
a second, alone and with the processes that judge for it. Constant memory is what counts: at the end as at a quarter.
"""

import argparse
import asyncio
import subprocess
import tempfile
import time
from pathlib import Path

from tests.benchmarks.measure import report
from tests.benchmarks.memory import fill_in_blocks
from tests.benchmarks.nodes import memory
from tests.support.processes import SBOT, clean_environ, run

PAUSE = 0.25


def watched(*words: str) -> dict[str, float]:
    """Run a command; seconds, and MB at a quarter of its time, near its end and at the highest."""
    samples: list[dict[str, float]] = []
    begun = time.monotonic()
    with subprocess.Popen([*SBOT, *words], stdout=subprocess.DEVNULL, env=clean_environ()) as process:
        while process.poll() is None:
            try:
                samples.append(memory(process.pid))
            except (OSError, KeyError):
                break
            time.sleep(PAUSE)
    seconds = time.monotonic() - begun
    if process.returncode:
        raise SystemExit(f"{words[0]} failed")
    quarter, last = samples[len(samples) // 4], samples[-min(4, len(samples))]
    return {
        "seconds": seconds,
        "quarter_mb": quarter["rss_mb"],
        "end_mb": last["rss_mb"],
        "highest_mb": max(sample["highest_rss_mb"] for sample in samples if "highest_rss_mb" in sample),
        "with_children_mb": max(sample["with_children_mb"] for sample in samples),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--feeds", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pysbot-bench-") as root:
        here, there, bundle = Path(root, "here"), Path(root, "there"), Path(root, "bundle")
        asyncio.run(fill_in_blocks(here, given.messages, given.feeds))
        if run("init", "--path", str(there)).code:
            raise SystemExit("init failed")
        exported = watched("export", str(bundle), "--path", str(here / "data"))
        inspected = watched("inspect", str(bundle))
        imported = watched("import", str(bundle), "--path", str(there))
        for name, figures in (("export", exported), ("inspect", inspected), ("import", imported)):
            report(f"bundle_memory {name}", messages=given.messages, bytes=bundle.stat().st_size, **figures)


if __name__ == "__main__":
    main()
