"""Hostile bundles at the door and for `inspect`: each ends soon with a report, and nothing invalid is stored."""

import base64
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from replication.offline import inspect
from tests.support import builders, hostile_bundles
from tests.support.hostile_bundles import FORKED, GOOD
from tests.support.islands import Island, chunks, island, stream

SECONDS = 10.0
"""Of CPU, so that what else the machine does is not counted; both ways together."""
FILES = dict(hostile_bundles.files())


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Island]:
    async with island(tmp_path / "a", builders.keypair("here")) as opened:
        yield opened


async def stored(place: Island) -> list[bytes]:
    """All texts of the log."""
    return [entry.text for entry in await place.store.log.entries_after(0, 500, whole=True)]


async def test_each_ends_soon_with_a_report_and_stores_nothing_invalid(place: Island) -> None:
    allowed = {*GOOD.texts, *FORKED.texts}
    for name, data in FILES.items():
        begun = time.process_time()
        report = await place.take_in(data, 60_000)
        assert report.problem, name
        assert len(report.problem) < 300, name
        assert (
            report.messages
            == (report.added + report.duplicates + report.gaps + report.forks + report.invalid + report.skipped)
            or report.format == "jsonl"
        ), (name, report)
        assert report.blobs_added == 0 or name in ("bytes after the end", "twice the same bundle", "two zstd frames")
        contents = await inspect(chunks(data, 60_000))
        assert contents.problem, name
        assert time.process_time() - begun < SECONDS, name
    assert set(await stored(place)) <= allowed
    assert place.store.log.sequence(GOOD.id) == 6
    assert place.store.log.feed_state(FORKED.id) == "forked"
    assert not place.blobs.has(hostile_bundles.BLOB)


@pytest.mark.parametrize("packed", [False, True])
async def test_cut_at_every_byte(place: Island, packed: bool) -> None:
    data = hostile_bundles.small(packed=packed)
    before = 0
    for length in range(len(data)):
        report = await place.take_in(data[:length], 200)
        assert report.problem
        assert not report.complete
        held = place.store.log.sequence(GOOD.id)
        assert before <= held <= 2
        before = held
        contents = await inspect(chunks(data[:length], 200))
        assert contents.problem
        assert not contents.complete
    assert (await place.take_in(data)).problem is None
    assert await stored(place) == GOOD.texts[:2]


@pytest.mark.parametrize("packed", [False, True])
async def test_flipped_bits(place: Island, packed: bool) -> None:
    """Every seventh bit here, every third in the codec's test."""
    data = hostile_bundles.small(packed=packed)
    for bit in range(len(data) % 7, len(data) * 8, 7):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        report = await place.take_in(bytes(flipped), 500)
        contents = await inspect(chunks(bytes(flipped), 500))
        assert (report.problem is None) == (contents.problem is None), bit
    assert set(await stored(place)) <= set(GOOD.texts)
    for info in await place.blobs.page(0, 10):
        async with place.blobs.reading(info.id) as reader:
            digest = hashlib.sha256(b"".join([b"".join(batch) async for batch in reader.batches()])).digest()
        assert info.id == f"&{base64.b64encode(digest).decode()}.sha256"


async def test_an_endless_blob_is_not_kept(place: Island, tmp_path: Path) -> None:
    begun = time.process_time()
    report = await place.bundles.take_in(stream(hostile_bundles.endless_blob(60)))
    assert report.problem
    assert report.blobs_refused == 1
    assert time.process_time() - begun < SECONDS
    assert not [path for path in (tmp_path / "a" / "blobs").rglob("*") if path.is_file()]
