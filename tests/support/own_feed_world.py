"""A world in which one key lives on several disks: restored, copied, cut off at any step, among peers that may lie.

Real are the files (`install`, `publishing`, with their numbers and births), the tables, the mark, the judge, the way
out and who wires them (`feeds.publishing`). Simulated are signing, time, the network and the machine's id.
"""

import random
import shutil
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from feeds import install, log_writing, publisher_state, publishing_mark
from feeds.database import Guard
from feeds.errors import FeedLocked, FeedsError
from feeds.formats.registry import CLASSIC
from feeds.install import PUBLISHING
from feeds.log_rows import message_id
from feeds.log_writing import Own
from feeds.message import Tip
from feeds.migrations import FEEDS
from feeds.publisher import Publisher
from feeds.publishing import Publishing, begin_install
from feeds.publishing_mark import MarkKeeper
from feeds.tips import new_feed, read_tip
from tests.support import builders

T = TypeVar("T")
OWN = builders.keypair("own")
ME = OWN.id
STEP = 30.0
"""Seconds between two looks at a lock."""


class Killed(BaseException):
    """The process ends here, as by kill -9."""


class Cutter:
    """Ends the process at one of the places that it passes."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.template: bytes | None = None
        """An empty database."""

    def here(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise Killed


def now_done(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    raise AssertionError("it waits")


class SimDatabase:
    """The writer of `feeds.database`, with a place to be cut off between any two of its steps."""

    def __init__(self, path: Path, cutter: Cutter) -> None:
        template = cutter.template
        if template is not None and not path.exists():
            path.write_bytes(template)
        new = not path.exists()
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=MEMORY")
        self.connection.execute("PRAGMA synchronous=OFF")
        self._cutter = cutter
        if new:
            for component in (FEEDS, PUBLISHING):
                for migration in component.migrations:
                    for statement in migration.statements:
                        self.connection.execute(statement)
            cutter.template = path.read_bytes()

    async def read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        return job(self.connection)

    async def write(
        self,
        job: Callable[[sqlite3.Connection], T],
        *,
        durable: bool = False,
        guard: Guard | None = None,
    ) -> T:
        self._cutter.here()
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            result = job(self.connection)
            if guard is not None:
                guard.before_commit(self.connection)
            self._cutter.here()
            self.connection.execute("COMMIT")
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self._cutter.here()
        if guard is not None:
            guard.after_commit()
        self._cutter.here()
        return result


class SimLog:
    """Our feed in the store: real rows with random ids."""

    def __init__(self, database: SimDatabase) -> None:
        self._connection = database.connection
        self._known: tuple[int, Own] | None = None

    read_own = staticmethod(log_writing.read_own)

    def sequence(self, feed: str) -> int:
        return self.tip(feed).sequence

    def tip(self, feed: str) -> Tip:
        return self._own(feed).tip

    def feed_state(self, feed: str) -> str:
        return self._own(feed).state

    def _own(self, feed: str) -> Own:
        changes = self._connection.total_changes
        if self._known is None or self._known[0] != changes:
            self._known = changes, log_writing.read_own(self._connection, feed)
        return self._known[1]

    def ids(self) -> list[bytes]:
        return [key for (key,) in self._connection.execute("SELECT key FROM message ORDER BY sequence")]

    async def id_at(self, feed: str, sequence: int) -> str | None:
        ids = self.ids()
        return message_id(ids[sequence - 1], feed) if 0 < sequence <= len(ids) else None


def append(connection: sqlite3.Connection, key: bytes) -> None:
    row = read_tip(connection, ME) or new_feed(connection, ME)
    columns = (row.number, row.sequence + 1, key, 0, 0, b"{}")
    connection.execute(
        "INSERT INTO message(author, sequence, key, received, timestamp, text) VALUES(?,?,?,?,?,?)", columns
    )
    connection.execute("UPDATE feed SET sequence=?, key=? WHERE id=?", (row.sequence + 1, key, row.number))


@dataclass
class Peer:
    """What a peer has of our feed; a liar says something else."""

    name: str
    has: list[bytes] = field(default_factory=list)
    lies: bool = False


class SimNode:
    """A running node on one disk."""

    def __init__(self, world: "World", disk: "Disk") -> None:
        self.world, self.disk = world, disk
        world.machine = disk.machine
        if not disk.key:
            begin_install(disk.folder, ME)
            world.cutter.here()
            disk.key = True
            world.cutter.here()
        self.database = SimDatabase(disk.folder / "sbot.db", world.cutter)
        self.log = SimLog(self.database)
        self.mark = MarkKeeper(disk.folder, ME)
        self.publisher = Publisher(OWN, CLASSIC, mark=self.mark)
        self.connected: list[Peer] = []
        self.publishing: Publishing = now_done(
            Publishing.open(
                disk.folder,
                self.database,  # type: ignore[arg-type]
                self.log,  # type: ignore[arg-type]
                self.publisher,
                self.mark,
                now=lambda: world.now,
                wall=lambda: world.now,
            )
        )
        world.cutter.here()

    @property
    def open(self) -> bool:
        return self.publisher.lock is None and self.log.feed_state(ME) == "open"

    def publish(self) -> bool:
        """Whether a message was published; it is visible from then on."""
        self.world.machine = self.disk.machine
        key = self.world.rng.randbytes(32)

        def job(connection: sqlite3.Connection) -> None:
            self.publisher.check(log_writing.read_own(connection, ME).state == "forked")
            append(connection, key)
            self.world.last_publisher = self.disk  # also if it is cut off before anybody is told

        try:
            now_done(self.database.write(job, durable=True, guard=self.publisher.mark))
        except FeedLocked:
            return False
        self.world.visible(self.log.sequence(ME), key)
        for peer in self.connected:
            self.world.deliver(peer, self.log.ids())
        return True

    def meet(self, peer: Peer) -> None:
        """Connect with a peer, hear what it shows, and send each other what is missing."""
        self.world.machine = self.disk.machine
        if peer not in self.connected:
            self.connected.append(peer)
        self.disk.met = True
        held = self.log.sequence(ME)
        shown = (
            self.world.rng.choice([held + self.world.rng.randint(1, 9), len(peer.has), 0])
            if peer.lies
            else len(peer.has)
        )
        self.publishing.shows(peer.name, shown)
        if peer.lies:
            return
        ours = self.log.ids()
        if peer.has[: len(ours)] == ours and len(peer.has) > len(ours):
            self.take(peer.has[len(ours) :])
        self.world.deliver(peer, self.log.ids())

    def take(self, keys: list[bytes]) -> None:
        """Messages of ours that a peer delivers: as the door for writing does it."""

        def job(connection: sqlite3.Connection) -> None:
            for key in keys:
                append(connection, key)
            self.publisher.delivered(int(self.world.now * 1000))

        now_done(self.database.write(job))

    def wait(self, seconds: int) -> None:
        """Let time pass, with a look each few seconds; peers go on telling what they have."""
        for _ in range(-(-seconds // int(STEP))):
            self.world.machine = self.disk.machine
            self.world.now += STEP
            for peer in self.connected:
                if not peer.lies and len(peer.has) > self.log.sequence(ME):
                    self.meet(peer)
                elif not peer.lies:
                    self.publishing.shows(peer.name, len(peer.has))
            now_done(self.publishing._look())

    def end(self) -> None:
        """Stopped, or killed: closing writes nothing."""
        self.database.connection.close()


@dataclass
class Disk:
    """A data directory on some machine; a copy of it is another one."""

    folder: Path
    machine: str
    key: bool = False
    """Whether the key file is there."""
    met: bool = False
    """A node on it has met a peer."""


class World:
    """Everything, and the one thing that must not happen: two visible messages at one place."""

    def __init__(self, folder: Path, seed: int, cutter: Cutter | None = None) -> None:
        self.rng = random.Random(seed)
        self.folder = folder
        self.now = 1_000_000.0
        self.machine = "machine 0"
        self.cutter = cutter or Cutter()
        self.peers = [Peer(f"@honest {number}") for number in range(3)]
        self.liars = [Peer("@liar", lies=True)]
        self.seen: dict[int, bytes] = {}
        self.forks: list[int] = []
        self.folders = 0
        self.last_publisher: Disk | None = None
        self.disks = [Disk(self.new_folder(), self.machine)]
        self.backups: list[Disk] = []

    def new_folder(self) -> Path:
        self.folders += 1
        folder = self.folder / f"disk {self.folders}"
        folder.mkdir()
        return folder

    def visible(self, sequence: int, key: bytes) -> None:
        if self.seen.setdefault(sequence, key) != key:
            self.forks.append(sequence)

    def deliver(self, peer: Peer, keys: list[bytes]) -> None:
        """A peer takes what continues its branch; honest peers have no secrets from each other."""
        for sequence, key in enumerate(keys, 1):
            self.visible(sequence, key)
        if not peer.lies:
            for other in self.peers:
                if keys[: len(other.has)] == other.has:
                    other.has = list(keys)

    def start(self, disk: Disk) -> SimNode | None:
        with suppress(Killed, FeedsError):
            return SimNode(self, disk)
        return None

    def patch(self, monkeypatch: Any) -> None:
        """Put the places to be cut off into the writing of files, and the machine's id under our command."""
        original = install.replace_file

        def cut(path: Path, text: Callable[[int], bytes]) -> None:
            self.cutter.here()
            if self.cutter.left == 0:  # cut off with the draft half written
                (path.with_name(f".{path.name}.new")).write_bytes(b"{")
                self.cutter.here()
            original(path, text)
            self.cutter.here()

        monkeypatch.setattr(install, "replace_file", cut)
        monkeypatch.setattr(publishing_mark, "replace_file", cut)
        monkeypatch.setattr(install, "_machine", lambda: self.machine)
        monkeypatch.setattr("os.fsync", lambda _: None)
        monkeypatch.setattr(publisher_state, "LONGEST_STEP", STEP)


def copy_over(source: Path, target: Path, names: tuple[str, ...]) -> None:
    """Overwrite files in place, as `cp` does: the target keeps its numbers and births."""
    for name in names:
        if (source / name).exists():
            with (
                (source / name).open("rb") as data,
                (target / name).open("r+b" if (target / name).exists() else "wb") as file,
            ):
                file.truncate()
                shutil.copyfileobj(data, file)
