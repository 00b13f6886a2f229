"""`sbot init --import DIR`: take over an old sbot's key, messages, blobs and peers.

Every message goes through the one door and every blob is hashed; the feed starts locked, since the old sbot may have
published more than what its directory still shows. An import that was interrupted is completed by running it again.
Where everything came from is kept in the file `moved-in.json`.
"""

import asyncio
import base64
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from feeds.errors import StoreError, TooLarge, WrongBlob
from feeds.foreign.logs import Damage
from feeds.install import replace_file
from node import keyfile
from node.config import Config
from node.directory import DataDirectory
from node.errors import NodeError
from node.offline_store import opened_store
from node.old_directory import OldDirectory, OldLog
from node.store import Store
from replication.address import parse_address
from replication.address_book import AddressBook
from replication.errors import InvalidAddress
from replication.offline import ImportReport

__all__ = ["PROVENANCE", "Moved", "Progress", "check", "move_in"]

PROVENANCE: Final = "moved-in.json"
SOURCE: Final = "moved-in"
LINES_AT_ONCE: Final = 256 * 1024
EXAMPLES: Final = 20
KEPT_RUNS: Final = 100
TRANSPORTS: Final = ("net", "ws", "wss", "onion")

Progress = Callable[[str], None]


@dataclass(slots=True)
class Moved:
    """What became of an import."""

    source: str
    id: str
    started: int
    """Milliseconds since 1970."""
    finished: int | None = None
    logs: list[dict[str, Any]] = field(default_factory=list)
    added: int = 0
    duplicates: int = 0
    gaps: int = 0
    forks: int = 0
    invalid: int = 0
    damaged: int = 0
    """Places of the logs that could not be read."""
    blobs_added: int = 0
    blobs_known: int = 0
    blobs_refused: int = 0
    peers: int = 0
    state: str = ""
    """Whether our feed may be published to: "locked"."""
    sequence: int = 0
    """Where our feed ends in what was found."""
    examples: list[dict[str, Any]] = field(default_factory=list)


def check(config: Config, old: OldDirectory) -> None:
    """Raise NodeError unless the import may go on: nobody runs there, and the two directories are apart."""
    ours, theirs = config.path.resolve(), old.root.resolve()
    if ours == theirs or ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
        raise NodeError(f"{old.root} and {config.path} must be apart; choose another directory with --path.")
    user = old.used_by()
    if user is not None:
        raise NodeError(
            f"An sbot runs in {old.root}: {user}. Stop it first, and never start it again: "
            "two programs that publish with one key break the feed for good."
        )


def move_in(config: Config, old: OldDirectory, progress: Progress) -> Moved:
    """Bring everything into the data directory, which has the key already. Raises NodeError, StoreError."""
    directory = DataDirectory(config.path)
    identity = keyfile.identity(directory.secret) or ""
    moved = Moved(str(old.root.resolve()), identity, _ms())
    with opened_store(config) as (runner, store):
        for log in old.logs():
            runner.run(_take_log(store, log, moved, progress))
        runner.run(_take_blobs(store, old, moved, progress))
        runner.run(_take_peers(store, old, moved))
        moved.state, moved.sequence = store.ingest.own_state.value, store.log.sequence(identity)
        moved.finished = _ms()
        _note(directory.root / PROVENANCE, moved)
    return moved


async def _take_log(store: Store, log: OldLog, moved: Moved, progress: Progress) -> None:
    lines = _Lines(log, moved)

    def say(report: ImportReport) -> None:
        progress(f"{log.path.name}: {report.messages} messages read, {report.added} added")

    try:
        report = await store.bundles.take_in(_in_thread(lines.pieces()), progress=say)
    except OSError as error:
        raise NodeError(f"{log.path} cannot be read: {error.strerror}.") from None
    moved.added += report.added
    moved.duplicates += report.duplicates
    moved.gaps += report.gaps
    moved.forks += report.forks
    moved.invalid += report.invalid
    moved.examples += report.examples[: max(0, EXAMPLES - len(moved.examples))]
    moved.logs.append(
        {
            "file": str(log.path),
            "format": log.format,
            "bytes": log.size,
            "messages": report.messages,
            "damaged": lines.damaged,
        }
    )


class _Lines:
    """A log as JSON lines in large pieces; what is damaged is counted."""

    def __init__(self, log: OldLog, moved: Moved) -> None:
        self._log: Final = log
        self._moved: Final = moved
        self.damaged = 0

    def pieces(self) -> Iterator[bytes]:
        waiting: list[bytes] = []
        size = 0
        for line in self._log.lines():
            if isinstance(line, Damage):
                self._damage(line)
                continue
            waiting.append(line)
            size += len(line) + 1
            if size >= LINES_AT_ONCE:
                yield b"\n".join(waiting) + b"\n"
                waiting, size = [], 0
        if waiting:
            yield b"\n".join(waiting) + b"\n"

    def _damage(self, damage: Damage) -> None:
        self.damaged += 1
        self._moved.damaged += 1
        if len(self._moved.examples) < EXAMPLES:
            reason = f"{self._log.path.name} at byte {damage.offset}: {damage.reason}"
            self._moved.examples.append({"kind": "damage", "reason": reason})


async def _in_thread(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


async def _take_blobs(store: Store, old: OldDirectory, moved: Moved, progress: Progress) -> None:
    for digest, path in old.blobs():
        blob = f"&{base64.b64encode(digest).decode()}.sha256"
        if store.blobs.has(blob):
            moved.blobs_known += 1
            continue
        try:
            await _take_blob(store, blob, path)
            moved.blobs_added += 1
        except (WrongBlob, TooLarge) as error:
            _refuse(moved, blob, str(error))
        except OSError as error:
            _refuse(moved, blob, f"{path} cannot be read: {error.strerror}")
        progress(f"{moved.blobs_added} blobs added")


async def _take_blob(store: Store, blob: str, path: Path) -> None:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > store.blobs.limits.max_size:
            raise TooLarge(size, store.blobs.limits.max_size, "bytes", "the blob")
        async with store.blobs.adding(own=False, expected=blob) as writer:
            while piece := await asyncio.to_thread(file.read, LINES_AT_ONCE):
                await writer.write(piece)
            await writer.commit()


def _refuse(moved: Moved, blob: str, reason: str) -> None:
    moved.blobs_refused += 1
    if len(moved.examples) < EXAMPLES:
        moved.examples.append({"kind": "blob", "id": blob, "reason": reason})


async def _take_peers(store: Store, old: OldDirectory, moved: Moved) -> None:
    book = AddressBook(store.database, time.time)
    await book.load()
    for known in old.peers():
        try:
            address = parse_address(known.address)
        except InvalidAddress:
            continue
        key = address.key
        if key is None or key == moved.id or address.seed is not None or address.transport not in TRANSPORTS:
            continue
        if book.get(str(address)) is not None:
            continue
        await book.remember(str(address), key, SOURCE, auto=known.auto, kind=known.kind)
        moved.peers += 1


def _note(path: Path, moved: Moved) -> None:
    """Keep where everything came from, for each run."""
    try:
        before = json.loads(path.read_bytes())
    except (OSError, ValueError):
        before = []
    runs = [*(before if isinstance(before, list) else []), asdict(moved)][-KEPT_RUNS:]
    try:
        replace_file(path, lambda _descriptor: json.dumps(runs, indent=2, ensure_ascii=False).encode() + b"\n")
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from None


def _ms() -> int:
    return int(time.time() * 1000)
