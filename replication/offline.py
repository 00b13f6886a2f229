"""Bundles made of what this node holds, and taken in through the one door (docs/bundle.md).

Both ways are streams: nothing is held of a bundle but a few batches, however long it is. What comes in may as well be
JSON lines, as `createLogStream` prints them.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from feeds import canonical_json, hiding
from feeds.blobs import Blobs, BlobWriter
from feeds.database import Database
from feeds.errors import InvalidJson, InvalidRef, NotFound, TooLarge, WrongBlob
from feeds.ingest import AddReport, Ingest
from feeds.keys import Keypair, sign
from feeds.log import Log
from feeds.refs import BlobRef, FeedRef
from feeds.views.social_graph import SocialGraph
from replication import bundle
from replication.bundle import (
    BlobBegin,
    BlobPiece,
    BundleReader,
    BundleWriter,
    ClockPart,
    End,
    Header,
    Lacking,
    Slice,
)
from replication.errors import InvalidBundle

__all__ = [
    "SMALLEST_PART",
    "Bundles",
    "Contents",
    "ExportOptions",
    "ImportReport",
    "Known",
    "parse_clock",
]

SMALLEST_PART: Final = 64 * 1024
END_ROOM: Final = 16 * 1024
"""Bytes of a part that are kept for its last records."""
READ_AT_ONCE: Final = 1 << 20
FEEDS_AT_ONCE: Final = 200
TEXTS_AT_ONCE: Final = 2000
SLICE_BYTES: Final = 256 * 1024
BLOBS_NAMED: Final = 100_000
"""Blobs that one bundle may carry; more are left to the next part."""
LACKING_LISTED: Final = 100_000
BATCH_MESSAGES: Final = 2000
BATCH_BYTES: Final = 2 * 1024 * 1024
AT_ONCE: Final = 4
"""Batches on their way through the door: one being committed, two judged, one in line."""
LISTED: Final = 60
"""Bytes of a blob's id in a list."""
CLOCK_AT_ONCE: Final = 2000
EXAMPLES: Final = 20
LONGEST_LINE: Final = 1024 * 1024
CLOCK_FEEDS: Final = 1_000_000

_BLOB_ID: Final = re.compile(rb"&[A-Za-z0-9+/]{43}=\.sha256")


@dataclass(frozen=True, slots=True)
class Known:
    """What a receiver has and wants: the content of a clock file."""

    clock: Mapping[str, int] = field(default_factory=dict)
    blobs: Collection[str] = ()
    """Blobs it holds."""
    wants: Collection[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What a bundle shall carry. Feeds that are forked or deleted here are never in one."""

    known: Known = Known()
    feeds: Sequence[str] | None = None
    """Only these; None: all."""
    hops: int | None = None
    """Only feeds so near to us in the follow graph."""
    blobs: bool = True
    max_bytes: int | None = None
    """Bytes of the bundle; what finds no room is left to the next part."""
    packed: bool = True
    part: int = 1
    series: str = ""


@dataclass(slots=True)
class ImportReport:
    """What became of what was read; grows while an import goes on."""

    format: str = "unknown"
    """ "bundle" or "jsonl"."""
    bytes: int = 0
    messages: int = 0
    added: int = 0
    duplicates: int = 0
    gaps: int = 0
    forks: int = 0
    invalid: int = 0
    skipped: int = 0
    """Messages of feeds that were deleted here."""
    feeds: dict[str, int] = field(default_factory=dict)
    """Feeds of which something was added or here already, and their last sequence now."""
    blobs_added: int = 0
    blobs_known: int = 0
    blobs_refused: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)
    """The first refusals, for people."""
    sender: str | None = None
    created: int | None = None
    part: int | None = None
    complete: bool = False
    last: bool = True
    signed: bool | None = None
    """Whether the sender's signature is right; None where none was found."""
    problem: str | None = None
    """Why reading stopped early."""

    def as_json(self) -> dict[str, Any]:
        """A JSON value."""
        value = {name: getattr(self, name) for name in self.__slots__ if name != "feeds"}
        return {**value, "feeds": len(self.feeds), "blobs": self.blobs_added}


@dataclass(slots=True)
class Contents:
    """What a bundle says that it holds (`inspect`). Nothing of it was verified but the signature."""

    format: str = "bundle"
    bytes: int = 0
    unpacked: int = 0
    packed: bool = False
    header: Header | None = None
    feeds: dict[str, tuple[int, int]] = field(default_factory=dict)
    """First and last sequence carried of each feed."""
    clock: dict[str, int] = field(default_factory=dict)
    messages: int = 0
    blobs: dict[str, int] = field(default_factory=dict)
    lacking: list[str] = field(default_factory=list)
    complete: bool = False
    last: bool = True
    signed: bool | None = None
    problem: str | None = None

    def as_json(self) -> dict[str, Any]:
        """A JSON value, with at most a thousand feeds and blobs."""
        header = self.header
        return {
            "format": self.format,
            "sender": None if header is None else header.sender,
            "created": None if header is None else header.created,
            "part": None if header is None else header.part,
            "series": None if header is None else header.series,
            "complete": self.complete,
            "last": self.last,
            "signed": self.signed,
            "problem": self.problem,
            "packed": self.packed,
            "bytes": self.bytes,
            "unpacked": self.unpacked,
            "messages": self.messages,
            "feeds": len(self.feeds),
            "blobs": len(self.blobs),
            "blob_bytes": sum(self.blobs.values()),
            "sender_feeds": len(self.clock),
            "slices": {feed: [*span] for feed, span in list(self.feeds.items())[:1000]},
            "blob_sizes": dict(list(self.blobs.items())[:1000]),
        }


def parse_clock(data: bytes) -> Known:
    """A clock file: what `sbot clock` prints, or only an object of feeds and sequences. Raises InvalidBundle."""
    try:
        value = canonical_json.parse(data)
    except InvalidJson as error:
        raise InvalidBundle(f"the clock file is not JSON ({error.reason}); make it with: sbot clock") from None
    return known_of(value)


def known_of(value: object) -> Known:
    """The same from a parsed value. Raises InvalidBundle."""
    if not isinstance(value, dict):
        raise InvalidBundle("the clock file must hold an object; make it with: sbot clock")
    plain = not isinstance(value.get("clock"), dict)
    clock = {} if plain and set(value) <= {"id", "blobs", "wants"} else value if plain else value["clock"]
    blobs, wants = ([], []) if plain and clock else (value.get("blobs", []), value.get("wants", []))
    if len(clock) > CLOCK_FEEDS or not isinstance(blobs, list) or not isinstance(wants, list):
        raise InvalidBundle("the clock file has a wrong form; make it with: sbot clock")
    try:
        known = {str(FeedRef.parse(feed)): sequence for feed, sequence in clock.items()}
        held = {str(BlobRef.parse(blob)) for blob in blobs}
        wanted = list(dict.fromkeys(str(BlobRef.parse(blob)) for blob in wants))
    except (InvalidRef, TypeError, AttributeError):
        raise InvalidBundle("the clock file names something that is no id; make it with: sbot clock") from None
    for feed, sequence in known.items():
        if type(sequence) not in (int, float) or not 0 <= sequence <= bundle.LARGEST_NUMBER or sequence % 1:
            raise InvalidBundle(f"the clock file has no sequence for {feed}; make it with: sbot clock")
    return Known({feed: int(sequence) for feed, sequence in known.items()}, held, wanted)


class Bundles:
    """Export, inspection and import for one node."""

    def __init__(
        self,
        *,
        database: Database,
        log: Log,
        ingest: Ingest,
        blobs: Blobs,
        graph: SocialGraph,
        keypair: Keypair,
        now: Callable[[], float],
    ) -> None:
        """now -- seconds since 1970."""
        self._database: Final = database
        self._log: Final = log
        self._ingest: Final = ingest
        self._blobs: Final = blobs
        self._graph: Final = graph
        self._keypair: Final = keypair
        self._now: Final = now

    async def clock(self) -> dict[str, Any]:
        """What we have and want: a JSON value for a clock file."""
        held: list[str] = []
        wants: list[str] = []
        after = 0
        while len(held) < BLOBS_NAMED and (page := await self._blobs.page(after, 1000)):
            held += [info.id for info in page]
            after = page[-1].number
        after = 0
        while len(wants) < BLOBS_NAMED and (missing := await self._blobs.wants(after, 1000)):
            wants += [want.id for want in missing]
            after = missing[-1].number
        return {"id": self._keypair.id, "clock": self._log.clock(), "blobs": held, "wants": wants}

    # Export.

    async def export(self, options: ExportOptions) -> AsyncGenerator[bytes, None]:
        """The bytes of one bundle, as they are made. Raises FeedsError."""
        header = Header(
            self._keypair.id,
            int(self._now() * 1000),
            options.part,
            options.series,
            {"feeds": len(options.feeds or ()), "hops": options.hops, "blobs": options.blobs},
        )
        exporting = _Exporting(BundleWriter(header, packed=options.packed), options, self._log, self._blobs)
        clock = self._log.clock()
        yield exporting.writer.header()
        for data in exporting.clock(clock):
            yield data
        async for data in exporting.messages(clock, await self._chosen(clock, options)):
            yield data
        if options.blobs:
            async for data in exporting.carried_blobs(await self._blobs.pushes()):
                yield data
        for data in exporting.rest():
            yield data
        manifest = exporting.writer.manifest(last=not exporting.full)
        yield exporting.writer.end(manifest, sign(self._keypair, exporting.writer.to_sign(manifest)))

    async def json_lines(self, options: ExportOptions) -> AsyncGenerator[bytes, None]:
        """The messages as `createLogStream` prints them: one {key, value, timestamp} a line, in order of arrival."""
        clock = self._log.clock()
        chosen = set(await self._chosen(clock, options))
        known = options.known.clock
        position, end = 0, self._log.position
        while position < end:
            entries = await self._log.entries_after(position, 500, whole=True)
            if not entries:
                return
            position = entries[-1].position
            wanted = [e for e in entries if e.author in chosen and e.sequence > known.get(e.author, 0)]
            if wanted:
                yield b"".join(entry.as_kvt() + b"\n" for entry in wanted)

    async def _chosen(self, clock: Mapping[str, int], options: ExportOptions) -> list[str]:
        """Feeds to carry, ours first: a bundle that is cut keeps what is nearest."""
        me = self._keypair.id
        wanted: Iterable[str] = clock
        if options.feeds is not None:
            wanted = dict.fromkeys(options.feeds)
        if options.hops is not None:
            near = self._graph.hops(me, options.hops)
            wanted = [feed for feed in wanted if feed == me or feed in near]
        deleted = set(await self._database.read(hiding.deleted_feeds))
        usable = [
            feed for feed in wanted if feed in clock and feed not in deleted and self._log.feed_state(feed) != "forked"
        ]
        hops = self._graph.hops(me, options.hops or 3)
        return sorted(usable, key=lambda feed: (feed != me, hops.get(feed, 1000)))

    # Inspection and import.

    async def inspect(self, pieces: AsyncIterator[bytes]) -> Contents:
        """What a bundle says that it holds. Never raises for what is in the file."""
        return await inspect(pieces)

    async def take_in(
        self,
        pieces: AsyncIterator[bytes],
        *,
        max_bytes: int = bundle.MAX_BUNDLE,
        progress: Callable[[ImportReport], None] | None = None,
    ) -> ImportReport:
        """Bring a bundle or JSON lines through the door. Damage is in the report; raises StoreError.

        progress -- called after each batch. Whatever a report counts as added is committed.
        """
        report = ImportReport()
        deleted = set(await self._database.read(hiding.deleted_feeds))
        door = _Door(self._ingest, report, deleted, progress)
        head = b""
        try:
            async for piece in pieces:
                report.bytes += len(piece)
                head += piece
                if len(head) >= 4:
                    break
            if not head.strip():
                report.problem = "the file is empty"
            elif bundle.looks_like_bundle(head):
                report.format = "bundle"
                await self._take_bundle(head, pieces, door, BundleReader(max_bytes=max_bytes))
            else:
                report.format = "jsonl"
                await _take_lines(head, pieces, door)
            await door.close()
        finally:
            await door.abandon()
        if report.format == "jsonl" and report.problem is None and report.invalid >= report.messages:
            report.complete, report.problem = False, "none of its lines is a valid message"
        return report

    async def _take_bundle(
        self, head: bytes, pieces: AsyncIterator[bytes], door: "_Door", reader: BundleReader
    ) -> None:
        report = door.report
        async with AsyncExitStack() as stack:
            taking = _BlobTaking(self._blobs, report, stack)
            try:
                async for piece in _after(head, pieces, report):
                    for event in reader.feed(piece):
                        match event:
                            case Slice(feed, _, texts):
                                await door.put(texts, feed)
                            case BlobBegin(blob, size):
                                await taking.begin(blob, size)
                            case BlobPiece(data, last):
                                await taking.piece(data, last=last)
                            case Header(sender, created, part):
                                report.sender, report.created, report.part = sender, created, part
                            case End(_, last, signed):
                                report.signed, report.last, report.complete = signed, last, True
                reader.finish()
            except InvalidBundle as error:
                report.problem = str(error)
                report.complete = False
        if report.signed is False and report.problem is None:
            report.problem = "its content is not what its sender signed; what is good of it was taken"


class _Exporting:
    """One bundle in the making."""

    def __init__(self, writer: BundleWriter, options: ExportOptions, log: Log, blobs: Blobs) -> None:
        self.writer: Final = writer
        self.full = False
        self._log: Final = log
        self._blobs: Final = blobs
        self._options: Final = options
        self._limit: Final = options.max_bytes
        self._named: Final[dict[str, None]] = {}
        self._lacking: Final[list[str]] = []
        self._had: Final = frozenset(options.known.blobs)

    def _room(self) -> int:
        """Bytes left for messages and blobs, what is yet to be said about blobs being set aside."""
        if self._limit is None:
            return READ_AT_ONCE
        return self._limit - END_ROOM - self.writer.size - LISTED * len(self._named)

    def clock(self, clock: Mapping[str, int]) -> Iterator[bytes]:
        """The sender's clock, in the first part and where it does not take too much of it."""
        items = list(islice(clock.items(), bundle.MAX_LISTED - BLOBS_NAMED))
        if self._options.part == 1 and (self._limit is None or len(items) * 70 < self._limit // 4):
            for at in range(0, len(items), CLOCK_AT_ONCE):
                yield self.writer.clock(dict(items[at : at + CLOCK_AT_ONCE]))

    async def messages(self, clock: Mapping[str, int], feeds: Sequence[str]) -> AsyncIterator[bytes]:
        """The slices of what the receiver lacks."""
        known = self._options.known.clock
        waiting = deque((feed, known.get(feed, 0)) for feed in feeds if known.get(feed, 0) < clock[feed])
        while waiting:
            asked = [waiting.popleft() for _ in range(min(len(waiting), FEEDS_AT_ONCE))]
            requests = [(feed, after, min(clock[feed] - after, TEXTS_AT_ONCE)) for feed, after in asked]
            found = await self._log.ranges(requests, READ_AT_ONCE)
            left = []
            for place, ((feed, after), texts) in enumerate(zip(asked, found, strict=True)):
                for first, run in _runs(texts, after + 1):
                    async for data in self._slice(feed, first, run):
                        yield data
                    if self.full:
                        return
                after += len(texts)
                if after < clock[feed] and (texts or place):  # the first is always read, so nothing there is the end
                    left.append((feed, after))
            waiting.extendleft(reversed(left))

    async def _slice(self, feed: str, first: int, texts: list[bytes]) -> AsyncIterator[bytes]:
        """A slice, or as much of it as there is room for."""
        while texts:
            fitting = texts
            if self._limit is not None:
                fitting = list(_fitting(texts, self._room()))
                if not fitting:
                    self.full = True
                    return
            if self._options.blobs:
                self._note(fitting)
            yield self.writer.slice(feed, first, fitting)
            if self._limit is not None:
                yield self.writer.flush()
            first += len(fitting)
            texts = texts[len(fitting) :]

    def _note(self, texts: Iterable[bytes]) -> None:
        for blob in _BLOB_ID.findall(b"\n".join(texts)):
            if len(self._named) < BLOBS_NAMED:
                self._named.setdefault(blob.decode())

    async def carried_blobs(self, pushed: Sequence[str]) -> AsyncIterator[bytes]:
        """Blobs that the receiver wants, that the messages name, and that their authors pushed."""
        whole = self._options.feeds is None and self._options.hops is None
        for blob in dict.fromkeys([*self._options.known.wants, *self._named, *(pushed if whole else ())]):
            size = self._blobs.size(blob)
            if size is None or blob in self._had:
                continue
            if self._limit is not None and size + size // 500 + 1024 > self._room():
                if size + size // 500 + 1024 + 2 * END_ROOM <= self._limit:  # it fits into a part of its own
                    self.full = True
                    if blob in self._named:
                        self._lacking.append(blob)
                continue
            async for data in self._blob(blob):
                yield data

    async def _blob(self, blob: str) -> AsyncIterator[bytes]:
        try:
            async with self._blobs.reading(blob) as reader:
                yield self.writer.blob(blob, reader.info.size)
                async for pieces in reader.batches():
                    for piece in pieces:
                        for small in bundle.pieces_of(piece):
                            yield self.writer.piece(small)
        except NotFound:
            return  # removed a moment ago
        if self._limit is not None:
            yield self.writer.flush()

    def rest(self) -> Iterator[bytes]:
        """What the next part must carry besides what the receiver wants."""
        for at in range(0, len(self._lacking), 1000):
            yield self.writer.lacking(self._lacking[at : at + 1000])


class _Door:
    """Batches on their way through `ingest.add`, in order, a few at a time."""

    def __init__(
        self,
        ingest: Ingest,
        report: ImportReport,
        skipped: Collection[str],
        progress: Callable[[ImportReport], None] | None,
    ) -> None:
        self.report: Final = report
        self._ingest: Final = ingest
        self._skipped: Final = skipped
        self._progress: Final = progress
        self._batch: list[bytes] = []
        self._size = 0
        self._under_way: Final[deque[asyncio.Task[AddReport]]] = deque()

    async def put(self, texts: Iterable[bytes], feed: str | None = None) -> None:
        """Hand over messages; waits while enough are on their way."""
        for text in texts:
            self.report.messages += 1
            if feed in self._skipped:
                self.report.skipped += 1
                continue
            self._batch.append(text)
            self._size += len(text)
            if len(self._batch) >= BATCH_MESSAGES or self._size >= BATCH_BYTES:
                await self._send()

    async def close(self) -> None:
        """Wait for everything. Raises StoreError."""
        await self._send()
        while self._under_way:
            await self._receive()

    async def abandon(self) -> None:
        """After an error: leave nothing running."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        self._under_way.clear()

    async def _send(self) -> None:
        if not self._batch:
            return
        batch, self._batch, self._size = self._batch, [], 0
        source = f"bundle of {self.report.sender}" if self.report.sender else "a file"
        self._under_way.append(asyncio.create_task(self._ingest.add(batch, source=source)))
        while len(self._under_way) >= AT_ONCE:
            await self._receive()

    async def _receive(self) -> None:
        done = await self._under_way[0]
        self._under_way.popleft()
        report = self.report
        report.added += done.added
        report.duplicates += done.duplicates
        report.feeds.update(done.tips)
        for rejection in done.rejections:
            match rejection.kind:
                case "gap":
                    report.gaps += 1
                case "fork":
                    report.forks += 1
                case _:
                    report.invalid += 1
            if len(report.examples) < EXAMPLES:
                report.examples.append(
                    {
                        "kind": rejection.kind,
                        "author": rejection.author,
                        "sequence": rejection.sequence,
                        "reason": rejection.reason[:300],
                    }
                )
        if self._progress is not None:
            self._progress(report)


class _BlobTaking:
    """Blobs as they come in pieces; what has not the right hash is left out."""

    def __init__(self, blobs: Blobs, report: ImportReport, stack: AsyncExitStack) -> None:
        self._blobs: Final = blobs
        self._report: Final = report
        self._outer: Final = stack
        self._own = AsyncExitStack()
        self._writer: BlobWriter | None = None
        self._id = ""
        stack.push_async_callback(self._abandon)

    async def begin(self, blob: str, size: int) -> None:
        self._id = blob
        if self._blobs.has(blob):
            self._report.blobs_known += 1
        elif size > self._blobs.limits.max_size:
            self._refuse(f"it has {size} bytes, and {self._blobs.limits.max_size} are allowed")
        else:
            self._writer = await self._own.enter_async_context(self._blobs.adding(own=False, expected=blob))
        if size == 0:
            await self._finish()

    async def piece(self, data: bytes, *, last: bool) -> None:
        if self._writer is not None:
            try:
                await self._writer.write(data)
            except TooLarge as error:
                self._refuse(str(error))
                await self._abandon()
        if last:
            await self._finish()

    async def _finish(self) -> None:
        if self._writer is not None:
            try:
                await self._writer.commit()
                self._report.blobs_added += 1
            except WrongBlob as error:
                self._refuse(str(error))
        await self._abandon()

    def _refuse(self, reason: str) -> None:
        self._report.blobs_refused += 1
        if len(self._report.examples) < EXAMPLES:
            self._report.examples.append({"kind": "blob", "id": self._id, "reason": reason})

    async def _abandon(self) -> None:
        self._writer = None
        await self._own.aclose()


async def inspect(pieces: AsyncIterator[bytes], *, max_bytes: int = bundle.MAX_BUNDLE) -> Contents:
    """What a bundle says that it holds; needs no store. What is wrong with it is in `problem`."""
    contents = Contents()
    reader = BundleReader(max_bytes=max_bytes)
    try:
        async for piece in pieces:
            contents.bytes += len(piece)
            for event in reader.feed(piece):
                _note_content(contents, event)
        reader.finish()
    except InvalidBundle as error:
        contents.problem = str(error)
        contents.complete = False
    contents.unpacked, contents.packed = reader.unpacked, reader.packed
    if contents.signed is False and contents.problem is None:
        contents.problem = "its content is not what its sender signed"
    return contents


def _note_content(contents: Contents, event: bundle.Event) -> None:
    match event:
        case Slice(feed, first, texts):
            low, high = contents.feeds.get(feed, (first, 0))
            if feed in contents.feeds or len(contents.feeds) < CLOCK_FEEDS:
                contents.feeds[feed] = (min(low, first), max(high, first + len(texts) - 1))
            contents.messages += len(texts)
        case ClockPart(clock) if len(contents.clock) < CLOCK_FEEDS:
            contents.clock.update(clock)
        case BlobBegin(blob, size) if len(contents.blobs) < CLOCK_FEEDS:
            contents.blobs[blob] = size
        case Lacking(blobs) if len(contents.lacking) < LACKING_LISTED:
            contents.lacking += blobs
        case Header():
            contents.header = event
        case End(_, last, signed):
            contents.signed, contents.last, contents.complete = signed, last, True
        case _:
            pass


async def _after(head: bytes, pieces: AsyncIterator[bytes], report: ImportReport) -> AsyncIterator[bytes]:
    yield head
    async for piece in pieces:
        report.bytes += len(piece)
        yield piece


async def _take_lines(head: bytes, pieces: AsyncIterator[bytes], door: _Door) -> None:
    """JSON lines: messages, or {key, value, timestamp} around them."""
    report, held, skipping = door.report, b"", False
    async for piece in _after(head, pieces, report):
        *complete, held = (held + piece).split(b"\n")
        for line in complete:
            if skipping:
                skipping = False
            else:
                await _take_line(line, door)
        if len(held) > LONGEST_LINE:
            report.invalid += not skipping
            held, skipping = b"", True
    if not skipping:
        await _take_line(held, door)
    report.complete = report.messages > 0
    if not report.messages:
        report.problem = "this is neither a bundle nor JSON lines of messages"


async def _take_line(line: bytes, door: _Door) -> None:
    if not line.strip():
        return
    try:
        value = canonical_json.parse(line)
        if isinstance(value, dict) and isinstance(value.get("value"), dict) and "author" not in value:
            value = value["value"]
        if not isinstance(value, dict) or "author" not in value:
            raise InvalidJson("no message")
        text = canonical_json.compact(value)
    except InvalidJson:
        door.report.invalid += 1
        return
    author = value["author"]
    await door.put([text], author if isinstance(author, str) else None)


def _runs(texts: Sequence[bytes], first: int) -> Iterator[tuple[int, list[bytes]]]:
    """Texts in slices of about `SLICE_BYTES`."""
    run: list[bytes] = []
    size = 0
    for text in texts:
        if run and size + len(text) > SLICE_BYTES:
            yield first, run
            first, run, size = first + len(run), [], 0
        run.append(text)
        size += len(text)
    if run:
        yield first, run


def _fitting(texts: Iterable[bytes], room: int) -> Iterator[bytes]:
    """As many from the beginning as surely find room, packed or not."""
    room -= 256
    for text in texts:
        room -= len(text) + 8
        if room < 0:
            return
        yield text
