"""kill -9 in the middle of adds: what was acknowledged is there, nothing is wrong, and nothing half is left."""

import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.feeds.test_blobs import blob_id, check_files, content, opened
from tests.support import blob_crashing

SEED = 5
RUNS = 6


def killed_after(folder: Path, seed: int, acknowledgements: int) -> set[int]:
    """Run the store in a process of its own and kill it after so many lines; what it acknowledged."""
    command = [sys.executable, "-m", "tests.support.blob_crashing", str(folder), str(seed)]
    said: set[int] = set()
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        guard = threading.Timer(60, process.kill)
        guard.start()
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip().isdigit() and line.endswith(b"\n"):
                said.add(int(line))
                if len(said) == acknowledgements:
                    process.kill()
        guard.cancel()
    return said


@pytest.mark.slow
async def test_no_blob_is_lost_wrong_or_half(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    acknowledged: set[int] = set()
    leftovers = 0
    for run in range(RUNS):
        acknowledged |= killed_after(tmp_path, run, rng.randint(1, 25))
        leftovers += len(list((tmp_path / "blobs" / "tmp").iterdir()))
        async with opened(tmp_path) as blobs:
            assert list((tmp_path / "blobs" / "tmp").iterdir()) == []
            check_files(tmp_path, blobs)
            for number in acknowledged:
                info = blobs.info(blob_id(blob_crashing.content(number)))
                assert info is not None, f"run {run}: {number} is lost"
                assert info.own or number % 2
    assert leftovers > 0, f"seed {SEED} is no test: it was never killed in the middle"
    async with opened(tmp_path) as blobs:
        for number in list(acknowledged)[:20]:
            data = blob_crashing.content(number)
            assert await content(blobs, blob_id(data)) == data
