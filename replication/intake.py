"""What one peer delivers, on its way to the one door for writing (design.md, rules 1 and 5).

Messages are gathered while earlier ones are being validated, so that a busy peer is served in large batches and a quiet
one without delay. The room is bounded: when it is full the caller waits, its stream queue fills, and the reading of the
socket stops.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from feeds.errors import FeedsError
from feeds.ingest import AddReport, Ingest

BATCH_MESSAGES: Final = 2000
BATCH_BYTES: Final = 2 * 1024 * 1024
WAITING_BYTES: Final = 2 * 1024 * 1024
AT_ONCE: Final = 3
"""One batch being committed, one being validated, one in line, so that the worker threads never wait for the next."""
FAILED_SECONDS: Final = 1.0

OnReport = Callable[[Sequence[bytes], AddReport], None]
OnFailure = Callable[[Sequence[bytes], FeedsError], None]


class Intake:
    """The way in for one peer. `run` must be running for `put` to get anywhere."""

    def __init__(self, ingest: Ingest, source: str, on_report: OnReport, on_failure: OnFailure) -> None:
        self._ingest = ingest
        self._source = source
        self._on_report = on_report
        self._on_failure = on_failure
        self._waiting: deque[bytes] = deque()
        self._carried: dict[int, list[bytes]] = {}
        self._waiting_bytes = 0
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def put(self, texts: Iterable[bytes]) -> None:
        """Hand over messages of any feeds, in order; waits while too much is waiting already."""
        await self._room.wait()
        for text in texts:
            self._waiting.append(text)
            self._waiting_bytes += len(text)
        if self._waiting:
            self._filled.set()
        if self._waiting_bytes >= WAITING_BYTES:
            self._room.clear()

    async def run(self) -> None:
        """Carry batches through the door until cancelled: one is validated while the one before is committed."""
        async with asyncio.TaskGroup() as group:
            for carrier in range(AT_ONCE):
                group.create_task(self._carry(carrier))

    def unreported(self) -> list[bytes]:
        """What was put and got neither report nor failure; after `run` was cancelled nobody will hear of it."""
        return [text for batch in self._carried.values() for text in batch] + list(self._waiting)

    async def _carry(self, carrier: int) -> None:
        while True:
            while not self._waiting:  # all carriers wake, the first may take everything
                await self._filled.wait()
            batch = self._carried[carrier] = self._take()
            try:
                report = await self._ingest.add(batch, source=self._source)
            except FeedsError as error:
                del self._carried[carrier]
                self._on_failure(batch, error)
                await asyncio.sleep(FAILED_SECONDS)  # the disk is full or read-only: no reason to hurry
            else:
                del self._carried[carrier]
                self._on_report(batch, report)

    def _take(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        while self._waiting and len(batch) < BATCH_MESSAGES and size < BATCH_BYTES:
            text = self._waiting.popleft()
            size += len(text)
            batch.append(text)
        self._waiting_bytes -= size
        if not self._waiting:
            self._filled.clear()
        if self._waiting_bytes < WAITING_BYTES:
            self._room.set()
        return batch
