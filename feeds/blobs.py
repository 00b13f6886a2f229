"""The blobs of a node: added while they stream in, read in pieces, wanted, pinned, evicted (protocol.md section 10).

    async with blobs.adding() as writer:
        await writer.write(data)
        info = await writer.commit()

    async with blobs.reading(info.id) as reader:
        first = await reader.read(0, 512)

A blob is held when the table says so, and its entry is committed after its file is in place; so nobody ever sees half
of one. A file without an entry (a crash came between the two) is taken up or removed after the next start, an entry
without a file is dropped. The empty blob is always there. Files are touched in worker threads only.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection
from typing import Any, Final, Literal, NamedTuple, TypeVar

from feeds import blob_ranks, blob_table
from feeds.blob_files import BlobFiles, Draft, MissingFile
from feeds.blob_table import BLOBS, BlobInfo, BlobTotals, Kept, Want
from feeds.database import Database
from feeds.errors import FeedsError, NotFound, StoreError, TooLarge, WrongBlob
from feeds.live import Live
from feeds.refs import BlobRef

__all__ = [
    "BLOBS",
    "EMPTY",
    "PIECE",
    "BlobChange",
    "BlobInfo",
    "BlobLimits",
    "BlobReader",
    "BlobTotals",
    "BlobWriter",
    "Blobs",
    "Want",
]

T = TypeVar("T")

LOG: Final = logging.getLogger(__name__)

EMPTY: Final = "&47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=.sha256"
"""The blob of no bytes."""
PIECE: Final = 64 * 1024
"""Bytes of a blob that go over the wire in one piece, at most."""

_READ_AT_ONCE: Final = 4 * PIECE
_WRITTEN_AT_ONCE: Final = 4 * PIECE
_LOOKED_UP_AT_ONCE: Final = 500
_LOCKS: Final = 64
_TOUCH_MS: Final = 3600 * 1000
"""When a blob was last read is noted once in so many ms: enough to tell which ones are out of use."""
_TOUCHED: Final = 1000


class BlobChange(NamedTuple):
    """What happened to a blob, told once it is on the disk: size of one that is held, rank of one that is wanted."""

    kind: Literal["held", "removed", "wanted", "unwanted", "pushed"]
    blob: str
    size: int = 0
    rank: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobLimits:
    """Bounds of one node's blobs: bytes of one, bytes of all foreign ones together, and how many are wanted at once."""

    max_size: int = 5 * 1024 * 1024
    quota: int = 1024 * 1024 * 1024
    wants: int = 10_000


class Blobs:
    """Made by `open`, ended by `close`; belongs to one event loop. Ids are canonical; others raise InvalidRef."""

    def __init__(
        self,
        files: BlobFiles,
        database: Database,
        *,
        limits: BlobLimits,
        now: Callable[[], float],
        is_ours: Callable[[Connection, str], bool],
    ) -> None:
        self.limits: Final = limits
        self.arrivals: Final = Live(database.peek(blob_table.last_number))
        """Grows with the numbers of blobs that arrive: how others wait for them."""
        self._files: Final = files
        self._database: Final = database
        self._now: Final = now
        self._is_ours: Final = is_ours
        self._locks: Final = [asyncio.Lock() for _ in range(_LOCKS)]
        self._touched: dict[bytes, int] = {}
        self._observers: list[Callable[[BlobChange], None]] = []
        self._tasks: Final[set[asyncio.Task[Any]]] = set()
        self._mending: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        folder: Path,
        database: Database,
        *,
        now: Callable[[], float],
        limits: BlobLimits | None = None,
        is_ours: Callable[[Connection, str], bool] = lambda _connection, _blob: False,
    ) -> "Blobs":
        """Open or make the store in `folder`; `database` was opened with `BLOBS`.

        now -- seconds since 1970; is_ours -- whether a message of our own names a blob, which is then never evicted.
        What a crash left in the folder is gone or taken up soon after. Raises StoreError.
        """
        files = BlobFiles(folder)
        await _in_thread(files.prepare)
        blobs = cls(files, database, limits=limits or BlobLimits(), now=now, is_ours=is_ours)
        blobs._mending = blobs._start(blobs._mend())
        return blobs

    async def close(self) -> None:
        """Finish what was begun. May be called twice."""
        if self._mending is not None:
            self._mending.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        touched, self._touched = self._touched, {}
        if touched:
            await self._database.write(lambda connection: blob_table.touch(connection, touched))

    async def mended(self) -> None:
        """Wait until files and entries were compared after the start."""
        if self._mending is not None:
            await asyncio.wait([self._mending])

    # --- what is held -------------------------------------------------------------------------------------------------

    def info(self, blob: str) -> BlobInfo | None:
        """The entry of a blob that is held."""
        key = _key(blob)
        if blob == EMPTY:
            return BlobInfo(0, EMPTY, 0, 0, 0, False, False)
        return self._database.peek(lambda connection: blob_table.find(connection, key))

    def has(self, blob: str) -> bool:
        """Whether a blob is held."""
        return self.info(blob) is not None

    def size(self, blob: str) -> int | None:
        """The size of a blob in bytes, None when it is not held."""
        found = self.info(blob)
        return None if found is None else found.size

    async def sizes(self, blobs: Sequence[str]) -> dict[str, int]:
        """The sizes of those among many blobs that are held."""
        keys = {_key(blob): blob for blob in blobs}
        asked = list(keys)

        def look(connection: Connection) -> dict[bytes, int]:
            found: dict[bytes, int] = {}
            for at in range(0, len(asked), _LOOKED_UP_AT_ONCE):
                found |= blob_table.sizes(connection, asked[at : at + _LOOKED_UP_AT_ONCE])
            return found

        found = await self._database.read(look)
        return {keys[key]: size for key, size in found.items()} | ({EMPTY: 0} if EMPTY in blobs else {})

    def observe(self, callback: Callable[[BlobChange], None]) -> Callable[[], None]:
        """Call back with every change from now on; returns the function that ends it."""
        self._observers.append(callback)
        return lambda: self._observers.remove(callback)

    def totals(self) -> BlobTotals:
        """How much there is."""
        return self._database.peek(blob_table.totals)

    async def page(
        self,
        after: int = 0,
        limit: int = 100,
        *,
        own: bool | None = None,
        pinned: bool | None = None,
        descending: bool = False,
    ) -> list[BlobInfo]:
        """Blobs in the order of arrival, those after a number (descending: before it, 0 from the end)."""
        return await self._database.read(
            lambda connection: blob_table.page(connection, after, limit, own=own, pinned=pinned, descending=descending)
        )

    @asynccontextmanager
    async def reading(self, blob: str) -> AsyncIterator["BlobReader"]:
        """Open a blob for reading. It stays readable while this is open, whatever becomes of it. Raises NotFound."""
        key, info = _key(blob), self.info(blob)
        if info is None:
            raise _missing(blob)
        reader = BlobReader(info)
        try:
            if info.size:
                self._touch(key, info)
                await _in_thread(reader.open, self._files, key)
            yield reader
        except MissingFile as error:
            await self._to_end(self._drop_damaged(key, str(error)))
            raise _missing(blob) from None
        finally:
            reader.close()

    async def arrived(self, blob: str) -> BlobInfo:
        """Wait until a blob is held."""
        while True:
            number = self.arrivals.position
            if (found := self.info(blob)) is not None:
                return found
            await self.arrivals.wait_beyond(number)

    # --- adding and removing ------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def adding(
        self, *, own: bool = True, expected: str | None = None, limit: int | None = None
    ) -> AsyncIterator["BlobWriter"]:
        """Take in a blob; nothing is left of it unless the writer's `commit` was reached.

        own -- it comes from the node's user and is never evicted; expected -- the id it must have; limit -- bytes, if
        less than what is allowed anyway.
        """
        bound = self.limits.max_size if limit is None else min(limit, self.limits.max_size)
        writer = BlobWriter(self, own=own, expected=None if expected is None else _key(expected), limit=bound)
        try:
            yield writer
        finally:
            await writer.discard()

    async def add(self, data: bytes, *, own: bool = True, expected: str | None = None) -> BlobInfo:
        """Take in a blob that is at hand as a whole. Raises TooLarge, WrongBlob, StoreError."""
        async with self.adding(own=own, expected=expected) as writer:
            await writer.write(data)
            return await writer.commit()

    async def remove(self, blob: str) -> bool:
        """Remove a blob, own and pinned ones too; whether it was held."""
        key = _key(blob)
        gone = await self._database.write(lambda connection: blob_table.forget(connection, key), durable=True)
        if gone:
            self._tell(BlobChange("removed", str(BlobRef(key))))
            await self._to_end(self._unlink(key))
        return gone

    async def pin(self, blob: str, pinned: bool = True) -> bool:
        """Keep a blob from being evicted, or no longer; whether it is held."""
        key, quota = _key(blob), self.limits.quota

        def job(connection: Connection) -> tuple[bool, list[bytes]]:
            held = blob_table.pin(connection, key, pinned)
            return held, blob_table.evict(connection, quota, self._is_ours) if held and not pinned else []

        held, evicted = await self._database.write(job, durable=True)
        for gone in evicted:
            await self._to_end(self._unlink(gone))
        return held or blob == EMPTY

    # --- what is wanted -----------------------------------------------------------------------------------------------

    async def want(self, blob: str, *, asked: bool = True, rank: int | None = None) -> BlobInfo | None:
        """Note that a blob is wanted, unless it is held; what is held.

        asked -- by the user, not only looked for; rank -- the smaller the sooner it is fetched.
        """
        if (found := self.info(blob)) is not None:
            return found
        order = (blob_ranks.ASKED if asked else blob_ranks.LOOKED_FOR) if rank is None else rank
        noted = self.wanted(blob)
        if noted is None or (asked and not noted.asked) or order < noted.rank:
            await self.want_all([(blob, order)], asked=asked)
        return self.info(blob)

    async def want_all(
        self, wanted: Sequence[tuple[str, int]], *, asked: bool = False, searched: int | None = None
    ) -> None:
        """`want` for many (blob, rank) at once; `searched` is noted with it, see there."""
        keys = [(_key(blob), rank) for blob, rank in wanted]
        now, limit = self._ms(), self.limits.wants

        def job(connection: Connection) -> list[bytes]:
            if searched is not None:
                blob_table.set_searched(connection, searched)
            return blob_table.want_all(connection, keys, asked=asked, now=now, limit=limit) if keys else []

        gone = await self._database.write(job, durable=asked)
        for blob, rank in wanted:
            if (noted := self.wanted(blob)) is not None:
                self._tell(BlobChange("wanted", noted.id, rank=rank))
        for key in gone:
            self._tell(BlobChange("unwanted", str(BlobRef(key))))

    def searched(self) -> int:
        """How far the log was searched for blobs that messages name: a position."""
        return self._database.peek(blob_table.searched)

    async def unwant(self, blob: str) -> bool:
        """Want a blob no longer; whether it was wanted."""
        key = _key(blob)
        gone = await self._database.write(lambda connection: blob_table.unwant(connection, key), durable=True)
        if gone:
            self._tell(BlobChange("unwanted", str(BlobRef(key))))
        return gone

    def wanted(self, blob: str) -> Want | None:
        """The want of a blob."""
        key = _key(blob)
        return self._database.peek(lambda connection: blob_table.find_want(connection, key))

    async def wants(self, after: int = 0, limit: int = 100, *, descending: bool = False) -> list[Want]:
        """What is wanted, oldest first, after a number (descending: before it, 0 from the end)."""
        return await self._database.read(
            lambda connection: blob_table.wants(connection, after, limit, descending=descending)
        )

    async def push(self, blob: str) -> None:
        """Note that a blob is to be announced until others have it. Raises NotFound."""
        key, now = _key(blob), self._ms()
        if self.info(blob) is None:
            raise _missing(blob)
        await self._database.write(lambda connection: blob_table.push(connection, key, now), durable=True)
        self._tell(BlobChange("pushed", str(BlobRef(key))))

    async def pushed(self, blob: str) -> None:
        """Note that enough others hold a blob: it need be announced no more."""
        key = _key(blob)
        await self._database.write(lambda connection: blob_table.pushed(connection, key))

    async def pushes(self) -> list[str]:
        """What is to be announced, oldest first."""
        return await self._database.read(blob_table.pushes)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _ms(self) -> int:
        return int(self._now() * 1000)

    def _tell(self, change: BlobChange) -> None:
        for callback in tuple(self._observers):
            callback(change)

    def _lock(self, key: bytes) -> asyncio.Lock:
        """Held while a blob's file and entry are made to agree."""
        return self._locks[key[0] % _LOCKS]

    def _start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _to_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something that a cancelled caller must not leave half done."""
        return await asyncio.shield(self._start(work))

    async def _keep(self, draft: Draft, key: bytes, own: bool) -> BlobInfo:
        """Put a whole draft in its place and enter it, then make room."""
        async with self._lock(key):
            held = self._find(key)
            if held is None or not await _in_thread(self._files.holds, key, held.size):
                await _in_thread(self._files.place, draft, key)
            try:
                kept = await self._enter(key, draft.size, own=own)
            except BaseException:
                if self._find(key) is None:
                    await _in_thread(self._files.remove, key)
                raise
        for gone in kept.evicted:
            await self._unlink(gone)
        if kept.is_new:
            self._arrived(kept.info)
        return kept.info

    def _arrived(self, info: BlobInfo) -> None:
        self.arrivals.notify(info.number)
        self._tell(BlobChange("held", info.id, size=info.size))

    async def _enter(self, key: bytes, size: int, *, own: bool) -> Kept:
        touched, self._touched = self._touched, {}
        now, quota, is_ours = self._ms(), self.limits.quota, self._is_ours
        return await self._database.write(
            lambda connection: blob_table.keep(
                connection, key, size, own=own, now=now, quota=quota, touched=touched, is_ours=is_ours
            ),
            durable=True,
        )

    def _find(self, key: bytes) -> BlobInfo | None:
        return self._database.peek(lambda connection: blob_table.find(connection, key))

    async def _unlink(self, key: bytes) -> None:
        """Remove the file of a blob that has no entry any more."""
        async with self._lock(key):
            if self._find(key) is None:
                await _in_thread(self._files.remove, key)

    def _touch(self, key: bytes, info: BlobInfo) -> None:
        now = self._ms()
        if not info.own and not info.pinned and now - info.used >= _TOUCH_MS and len(self._touched) < _TOUCHED:
            self._touched[key] = now

    async def _drop_damaged(self, key: bytes, reason: str) -> None:
        """Forget a blob whose file is not what it was, so that it can be fetched again."""
        async with self._lock(key):
            held = self._find(key)
            if held is not None and not await _in_thread(self._files.holds, key, held.size):
                LOG.warning("the blob %s is lost: %s", held.id, reason)
                await self._database.write(lambda connection: blob_table.forget(connection, key))
                await _in_thread(self._files.remove, key)

    async def _mend(self) -> None:
        """Make files and entries agree after a crash."""
        try:
            files = set(await _in_thread(self._files.keys))
            entries = set(await self._database.read(blob_table.keys))
            for key in entries - files:
                await self._drop_damaged(key, "its file is gone")
            for key in files - entries:
                await self._adopt(key)
        except StoreError as error:
            LOG.error("the blobs could not be looked through: %s", error)

    async def _adopt(self, key: bytes) -> None:
        """Enter a file that is what its name says; remove any other."""
        evicted: list[bytes] = []
        async with self._lock(key):
            if self._find(key) is not None:
                return
            found, size = await _in_thread(self._files.measure, key)
            if found == key and 0 < size <= self.limits.max_size:
                kept = await self._enter(key, size, own=False)
                self._arrived(kept.info)
                evicted = kept.evicted
            else:
                LOG.warning("removing a file among the blobs that is not the blob %s", BlobRef(key))
                await _in_thread(self._files.remove, key)
        for gone in evicted:
            await self._unlink(gone)


class BlobWriter:
    """A blob on its way in. Keeps at most 256 KiB of it in memory. One coroutine at a time."""

    def __init__(self, blobs: Blobs, *, own: bool, expected: bytes | None, limit: int) -> None:
        self.size = 0
        self._blobs: Final = blobs
        self._own: Final = own
        self._expected: Final = expected
        self._limit: Final = limit
        self._draft: Draft | None = None
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._committed = False

    async def write(self, data: bytes) -> None:
        """Add bytes. Raises TooLarge as soon as there are too many, StoreError."""
        self.size += len(data)
        if self.size > self._limit:
            self._pieces.clear()
            raise TooLarge(self.size, self._limit, "bytes", "the blob")
        self._pieces.append(data)
        self._waiting += len(data)
        if self._waiting >= _WRITTEN_AT_ONCE:
            await _in_thread(self._flush)

    async def commit(self) -> BlobInfo:
        """It is whole: check it, keep it, and return its entry once it is on the disk. Raises WrongBlob, StoreError."""
        assert not self._committed
        self._committed = True
        key = await _in_thread(self._flush) if self.size else BlobRef.parse(EMPTY).data
        if self._expected is not None and key != self._expected:
            raise WrongBlob(str(BlobRef(self._expected)), str(BlobRef(key)))
        if self._draft is None:
            empty = self._blobs.info(EMPTY)
            assert empty is not None
            return empty
        # From here on a caller that is cancelled does not stop it, so the draft is no longer ours to remove.
        draft, self._draft = self._draft, None
        return await self._blobs._to_end(self._keep(draft, key))

    async def discard(self) -> None:
        """Remove what there is of it, unless it was committed."""
        self._pieces.clear()
        if self._draft is not None:
            await _in_thread(self._draft.discard)

    async def _keep(self, draft: Draft, key: bytes) -> BlobInfo:
        try:
            return await self._blobs._keep(draft, key, self._own)
        finally:
            await _in_thread(draft.discard)

    def _flush(self) -> bytes:
        """Write what waits; in a worker thread."""
        if self._draft is None:
            self._draft = self._blobs._files.draft()
        pieces, self._pieces, self._waiting = self._pieces, [], 0
        self._draft.write(b"".join(pieces))
        return self._draft.key()


class BlobReader:
    """A blob opened for reading."""

    def __init__(self, info: BlobInfo) -> None:
        self.info: Final = info
        self._descriptor = -1

    def open(self, files: BlobFiles, key: bytes) -> None:
        """Open the file, in a worker thread. Raises MissingFile, StoreError."""
        self._descriptor = files.open(key, self.info.size)

    def close(self) -> None:
        """Close the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    async def read(self, offset: int, length: int) -> bytes:
        """Bytes from an offset on; fewer only where the blob ends. Raises StoreError."""
        length = min(length, self.info.size - offset)
        return await _in_thread(_read, self._descriptor, offset, length) if length > 0 else b""

    async def batches(self, start: int = 0, end: int | None = None) -> AsyncIterator[list[bytes]]:
        """The bytes of a half-open range in order, in pieces of at most `PIECE`, a few at a time."""
        end = self.info.size if end is None else min(end, self.info.size)
        while start < end:
            data = await self.read(start, min(_READ_AT_ONCE, end - start))
            start += len(data)
            yield [data[at : at + PIECE] for at in range(0, len(data), PIECE)]


def _read(descriptor: int, offset: int, length: int) -> bytes:
    pieces = []
    try:
        while length:
            piece = os.pread(descriptor, length, offset)
            if not piece:
                raise StoreError("a blob ended before its end")
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
    except OSError as error:
        raise StoreError(f"a blob cannot be read: {error.strerror}") from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _in_thread(job: Callable[..., T], *arguments: Any) -> T:
    """Run something that blocks in a worker thread, and wait for it even when cancelled: it may hold a file open."""
    running = asyncio.ensure_future(asyncio.to_thread(job, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def _key(blob: str) -> bytes:
    return BlobRef.parse(blob).data


def _missing(blob: str) -> FeedsError:
    return NotFound(f"blob not found: {blob}")
