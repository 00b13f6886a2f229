"""What one peer delivers, on its way to the one door for writing (design.md, rules 1 and 5).

Messages are gathered while earlier ones are being validated, so that a busy peer is served in large batches and a quiet
one without delay. The room is bounded: when it is full the caller waits, its stream queue fills, and the reading of the
socket stops.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from feeds.errors import FeedsError
from feeds.ingest import AddReport, Ingest, Peeked

BATCH_MESSAGES: Final = 2000
BATCH_BYTES: Final = 2 * 1024 * 1024
WAITING_BYTES: Final = 2 * 1024 * 1024
AT_ONCE: Final = 3
"""One batch being committed, one being validated, one in line, so that the worker threads never wait for the next."""
FAILED_SECONDS: Final = 1.0

OnReport = Callable[[Sequence[Peeked], AddReport], None]
OnFailure = Callable[[Sequence[Peeked], FeedsError], None]


class Intake:
    """The way in for one peer. `run` must be running for `put` to get anywhere."""

    def __init__(self, ingest: Ingest, source: str, on_report: OnReport, on_failure: OnFailure) -> None:
        self._ingest = ingest
        self._source = source
        self._on_report = on_report
        self._on_failure = on_failure
        self._waiting: deque[Peeked] = deque()
        self._carried: dict[int, list[Peeked]] = {}
        self._waiting_bytes = 0
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def put(self, texts: Sequence[Peeked]) -> None:
        """Hand over messages of any feeds, in order; waits while too much is waiting already."""
        await self._room.wait()
        self._waiting.extend(texts)
        self._waiting_bytes += sum([len(text) for _, _, text in texts])
        if self._waiting:
            self._filled.set()
        if self._waiting_bytes >= WAITING_BYTES:
            self._room.clear()

    async def run(self) -> None:
        """Carry batches through the door until cancelled: one is validated while the one before is committed."""
        async with asyncio.TaskGroup() as group:
            for carrier in range(AT_ONCE):
                group.create_task(self._carry(carrier))

    def unreported(self) -> list[Peeked]:
        """What was put and got neither report nor failure; after `run` was cancelled nobody will hear of it."""
        return [text for batch in self._carried.values() for text in batch] + list(self._waiting)

    async def _carry(self, carrier: int) -> None:
        while True:
            while not self._waiting:  # all carriers wake, the first may take everything
                await self._filled.wait()
            batch = self._carried[carrier] = self._take()
            try:
                report = await self._ingest.add_peeked(batch, source=self._source)
            except FeedsError as error:
                del self._carried[carrier]
                self._on_failure(batch, error)
                await asyncio.sleep(FAILED_SECONDS)  # the disk is full or read-only: no reason to hurry
            else:
                del self._carried[carrier]
                self._on_report(batch, report)

    def _take(self) -> list[Peeked]:
        batch: list[Peeked] = []
        size = 0
        while self._waiting and len(batch) < BATCH_MESSAGES and size < BATCH_BYTES:
            peeked = self._waiting.popleft()
            size += len(peeked[2])
            batch.append(peeked)
        self._waiting_bytes -= size
        if not self._waiting:
            self._filled.clear()
        if self._waiting_bytes < WAITING_BYTES:
            self._room.set()
        return batch
