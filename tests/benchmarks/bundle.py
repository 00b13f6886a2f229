"""What a bundle costs: its import over validating the same messages, its size, and the memory of both ways.

`python -m tests.benchmarks.bundle [messages] [feeds]`

Wall time with as many threads or processes as there are cores. The same messages in as many feeds as another network
would have them; the bundle lies in a file, packed.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from api.footprint import resident_bytes
from replication.offline import ExportOptions
from tests.benchmarks.judging import by_author, validate
from tests.benchmarks.measure import report
from tests.support.builders import generate, keypair
from tests.support.islands import Island, island

REACH = 1.3
PIECE = 256 * 1024


async def main(messages: int, feeds: int) -> None:
    """Fill one store, carry it into another."""
    texts = generate(messages, feeds)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as threads:
        path = Path(folder) / "bundle"
        grouped = by_author(texts)
        begun = time.perf_counter()
        list(threads.map(validate, grouped))
        validating = time.perf_counter() - begun
        async with island(Path(folder) / "a", keypair("a"), processes=None) as here:
            for at in range(0, messages, 2000):
                await here.store.ingest.add(texts[at : at + 2000], source="benchmark")
            del texts, grouped
            begun, before = time.perf_counter(), resident_bytes()
            await write(here, path)
            exporting, export_memory = time.perf_counter() - begun, resident_bytes() - before
        async with island(Path(folder) / "b", keypair("b"), processes=None) as there:
            begun, before = time.perf_counter(), resident_bytes()
            found = await there.bundles.take_in(pieces(path))
            importing, import_memory = time.perf_counter() - begun, resident_bytes() - before
        assert found.added == messages, found.as_json()
        report(
            "bundle",
            messages=messages,
            bytes=path.stat().st_size,
            exported_per_second=messages / exporting,
            imported_per_second=messages / importing,
            over_validation=importing / validating,
            reach=REACH,
            export_mb=export_memory / 1e6,
            import_mb=import_memory / 1e6,
        )


async def write(place: Island, path: Path) -> None:
    with path.open("wb") as file:
        async for data in place.bundles.export(ExportOptions()):
            file.write(data)


async def pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    asyncio.run(main(*(arguments + [100_000, 100][len(arguments) :])))
