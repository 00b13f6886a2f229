"""A peer's messages on their way to the door: in order, in large batches, never too many at once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest

from feeds.errors import FeedsError, StoreError
from feeds.ingest import AddReport, Ingest, Peeked
from replication import intake
from replication.intake import Intake


class Door:
    """Takes deliveries when it is told to, and counts what is inside."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.inside = 0
        self.most_inside = 0
        self.open = asyncio.Event()
        self.failures: list[Exception] = []

    async def add_peeked(self, peeked: Sequence[Peeked], *, source: str) -> AddReport:
        assert source == "peer"
        texts = [text for _, _, text in peeked]
        size = sum(map(len, texts))
        self.batches.append(list(texts))
        self.inside += size
        self.most_inside = max(self.most_inside, self.inside)
        try:
            await self.open.wait()
            if self.failures:
                raise self.failures.pop()
        finally:
            self.inside -= size
        return AddReport(len(texts), 0, [], {})


def peeked(*texts: bytes) -> list[Peeked]:
    return [("@feed", sequence, text) for sequence, text in enumerate(texts, 1)]


@asynccontextmanager
async def running(
    door: Door,
    on_report: Callable[[Sequence[Peeked], AddReport], None] = lambda _batch, _report: None,
    on_failure: Callable[[Sequence[Peeked], FeedsError], None] = lambda _batch, _error: None,
) -> AsyncIterator[Intake]:
    way_in = Intake(cast(Ingest, door), "peer", on_report, on_failure)
    task = asyncio.create_task(way_in.run())
    yield way_in
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_waits_goes_in_one_batch_and_in_order() -> None:
    door = Door()
    async with running(door) as way_in:
        for number in range(1000):
            await way_in.put(peeked(b"%d" % number))
        await asyncio.sleep(0.01)
        assert door.batches == [[b"%d" % number for number in range(1000)]]


async def test_batches_are_bounded_in_number_and_size() -> None:
    door = Door()
    door.open.set()
    async with running(door) as way_in:
        await way_in.put(peeked(*[b"x"] * 4500))
        await asyncio.sleep(0.01)
        assert [len(batch) for batch in door.batches] == [2000, 2000, 500]
        door.batches.clear()
        for _ in range(3):
            await way_in.put(peeked(*[bytes(1024 * 1024)] * 2))
        await asyncio.sleep(0.01)
        assert all(sum(map(len, batch)) <= intake.BATCH_BYTES for batch in door.batches)
        assert sum(map(len, door.batches)) == 6


async def test_a_slow_door_makes_the_caller_wait() -> None:
    door = Door()
    taken = 0

    async def pour(way_in: Intake) -> None:
        nonlocal taken
        for _ in range(1000):
            await way_in.put(peeked(bytes(64 * 1024)))
            taken += 64 * 1024

    async with running(door) as way_in:
        pouring = asyncio.create_task(pour(way_in))
        await asyncio.sleep(0.05)
        assert not pouring.done()
        assert taken <= intake.AT_ONCE * intake.BATCH_BYTES + intake.WAITING_BYTES + 64 * 1024
        door.open.set()
        await asyncio.wait_for(pouring, 10)
        await asyncio.sleep(0.01)
        assert door.most_inside <= intake.AT_ONCE * intake.BATCH_BYTES
        assert sum(map(len, door.batches)) == 1000


async def test_reports_and_failures_come_back_with_their_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "FAILED_SECONDS", 0.01)
    door = Door()
    door.open.set()
    door.failures.append(StoreError("the disk is full"))
    reports: list[int] = []
    failed: list[Sequence[Peeked]] = []
    async with running(
        door, lambda _batch, report: reports.append(report.added), lambda batch, _error: failed.append(batch)
    ) as way_in:
        await way_in.put(peeked(b"lost"))
        await asyncio.sleep(0.01)
        await way_in.put(peeked(b"kept", b"too"))
        await asyncio.sleep(0.05)
    assert failed == [peeked(b"lost")]
    assert reports == [2]


async def test_what_is_cut_off_can_be_told() -> None:
    door = Door()
    async with running(door) as way_in:
        await way_in.put(peeked(b"on its way"))
        await asyncio.sleep(0.01)
        for number in range(intake.AT_ONCE):
            await way_in.put(peeked(*[b"%d" % number] * intake.BATCH_MESSAGES))
        await asyncio.sleep(0.01)
        assert len(door.batches) == intake.AT_ONCE
    left = way_in.unreported()
    assert len(left) == 1 + intake.AT_ONCE * intake.BATCH_MESSAGES
    assert left[:1] == peeked(b"on its way")

    door.open.set()
    async with running(door) as way_in:
        await way_in.put(peeked(b"stored"))
        await asyncio.sleep(0.01)
    assert way_in.unreported() == []


async def test_nothing_to_put_is_nothing_to_do() -> None:
    door = Door()
    async with running(door) as way_in:
        await way_in.put([])
        await asyncio.sleep(0.01)
    assert door.batches == []
