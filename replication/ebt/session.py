"""One EBT stream with one peer: moves frames between the stream, the EBT machine, the log and the intake.

Follows protocol.md section 9. The machine (`replication.ebt.state`) decides; this file reads, groups, reads ranges from
the log and writes. Receiving never waits for sending and sending never for receiving, or two busy nodes would wait for
each other for ever.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count, repeat
from typing import Final

from feeds.errors import InvalidJson, InvalidMessage
from feeds.formats.base import FeedFormat
from feeds.ingest import Peeked
from feeds.log import Log
from replication.ebt.notes import is_message
from replication.ebt.state import EbtState, SendNotes, SendRange
from replication.errors import StreamEnded
from replication.intake import Intake
from replication.rpc.bodies import Body, BodyType
from replication.rpc.streams import Duplex

logger = logging.getLogger(__name__)

MESSAGES_AT_ONCE: Final = 1000
READ_BYTES: Final = 1024 * 1024
_USUAL_HEADS: Final = (b'{"previous":', b'{"author":', b'{"sequence":')


class Replaced(Exception):
    """The same peer has opened a newer session."""


class Doubtful(Exception):
    """The session took the place of another one, so the peer may have lost it; it is begun anew."""


class Breached(Exception):
    """The peer breaks the rules of EBT; the connection is to be closed."""


class Session:
    """Runs until either side ends the stream.

    `pump` is called after each event given to the machine, `spoke` when the peer has sent something. `allowed(feed)` is
    asked before messages are sent: a block that came with the very messages it forbids may not have reached the machine
    yet.
    """

    def __init__(
        self,
        peer: str,
        duplex: Duplex,
        *,
        state: EbtState,
        log: Log,
        intake: Intake,
        feed_format: FeedFormat,
        allowed: Callable[[str], bool],
        pump: Callable[[], None],
        spoke: Callable[[], None],
        now: Callable[[], float],
    ) -> None:
        self.peer = peer
        self.active = True
        """Something was said since the peer's clock was last saved."""
        self.heard = False
        """The peer has sent at least one frame, so it does speak EBT."""
        self.doubted_at: float | None = None
        """When it is to be begun anew, if it took the place of another one."""
        self.over = asyncio.Event()
        """Set by the driver when the session has ended."""
        self._duplex = duplex
        self._state = state
        self._log = log
        self._intake = intake
        self._format = feed_format
        self._allowed = allowed
        self._pump = pump
        self._spoke = spoke
        self._now = now
        self._wake = asyncio.Event()
        self._stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        """The machine has something to send."""
        self._wake.set()

    def stop(self, reason: Exception) -> None:
        """End the session with `Replaced`, `Doubtful` or `Breached`."""
        if not self._stop.done():
            self._stop.set_exception(reason)

    async def run(self) -> None:
        """Returns when the peer ends the stream cleanly; raises what ended it otherwise."""
        tasks = [asyncio.create_task(self._receive()), asyncio.create_task(self._send())]
        try:
            done, _ = await asyncio.wait([*tasks, self._stop], return_when=asyncio.FIRST_COMPLETED)
            if self._stop in done:
                self._stop.result()
            for ended in done:
                ended.result()
        finally:
            self._stop.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # ---- what arrives

    async def _receive(self) -> None:
        while bodies := await self._duplex.read_batch():
            self.heard = self.active = True
            texts = self._sort(bodies)
            self._spoke()
            self._pump()
            if texts:
                await self._intake.put(texts)

    def _sort(self, bodies: Sequence[Body]) -> list[Peeked]:
        """Give notes and runs of messages to the machine; returns the messages it wants ingested."""
        wanted: list[Peeked] = []
        run: list[bytes] = []
        author, first, expected = "", 0, 0
        peek = self._format.peek
        for kind, data in bodies:
            if kind is BodyType.JSON and (data.startswith(_USUAL_HEADS) or is_message(data)):
                try:
                    peeked = peek(data)
                except InvalidMessage:
                    peeked = None
                if peeked is not None:
                    if peeked[1] == expected and peeked[0] == author:
                        run.append(data)
                        expected += 1
                        continue
                    self._run_received(author, first, run, wanted)
                    author, first = peeked
                    run = [data]
                    expected = first + 1
                    continue
            self._run_received(author, first, run, wanted)
            run, expected = [], 0
            self._notes(kind, data)
        self._run_received(author, first, run, wanted)
        return wanted

    def _run_received(self, author: str, first: int, run: list[bytes], wanted: list[Peeked]) -> None:
        if not run:
            return
        start = self._state.received_run(self.peer, author, first, first + len(run) - 1, self._now())
        if start:
            wanted.extend(zip(repeat(author), count(start), run[start - first :], strict=False))

    def _notes(self, kind: BodyType, data: bytes) -> None:
        value: object = None
        if kind is BodyType.JSON:
            with suppress(InvalidJson):
                value = Body(kind, data).value()
        self._state.notes_received(self.peer, value, self._now())

    # ---- what is sent

    async def _send(self) -> None:
        with suppress(StreamEnded):
            while True:
                await self._wake.wait()
                self._wake.clear()
                while batch := self._state.outgoing(self.peer, MESSAGES_AT_ONCE):
                    self.active = True
                    await self._write(batch)
        await asyncio.Event().wait()  # the peer has ended its half; the receiving side sees how

    async def _write(self, batch: Sequence[SendNotes | SendRange]) -> None:
        ranges: list[tuple[str, int, int]] = []
        for effect in batch:
            match effect:
                case SendNotes(_, notes):
                    await self._duplex.send([json.dumps(notes, separators=(",", ":")).encode()])
                case SendRange(_, feed, after, upto) if self._allowed(feed):
                    ranges.append((feed, after, upto - after))
        while ranges:
            texts = await self._log.ranges(ranges, READ_BYTES)
            bodies = [text for piece in texts for text in piece]
            if not bodies:
                break
            await self._duplex.send(bodies)
            ranges = [
                (feed, after + len(piece), count - len(piece))
                for (feed, after, count), piece in zip(ranges, texts, strict=True)
                if len(piece) < count
            ]
