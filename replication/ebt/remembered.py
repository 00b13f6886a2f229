"""What each peer said it has, kept between sessions so that equal nodes have nothing to say to each other.

EBT skips a feed when our own sequence equals what the peer last said (protocol.md section 9). One compact row a peer:
pairs of a feed number and a sequence, eight bytes each; the numbers stand in a table of their own.
"""

import sqlite3
import struct
import sys
from array import array
from collections.abc import Callable, Mapping
from typing import Final

from feeds.database import Database

_PAIR: Final = struct.Struct("<Ii")
_MAX: Final = 2**31 - 1


class RememberedClocks:
    """Loads and saves the clocks. A clock that cannot be read counts as unknown: it only saves traffic."""

    def __init__(self, database: Database, wall_clock: Callable[[], float]) -> None:
        self._database = database
        self._wall_clock = wall_clock

    async def load(self, peer: str) -> dict[str, int]:
        """The peer's clock as last saved: {feed: sequence}, -1 for a feed it said not to replicate."""

        def read(connection: sqlite3.Connection) -> dict[str, int]:
            row = connection.execute("SELECT clock FROM peer_clock WHERE peer=?", (peer,)).fetchone()
            if row is None or len(row[0]) % _PAIR.size:
                return {}
            numbers = dict(_PAIR.iter_unpack(row[0]))
            refs = _refs(connection, list(numbers))
            return {refs[number]: sequence for number, sequence in numbers.items() if number in refs}

        return await self._database.read(read)

    async def of_feed(self, feed: str) -> dict[str, int]:
        """What each peer was last known to have of one feed: {peer: sequence}."""

        def read(connection: sqlite3.Connection) -> dict[str, int]:
            row = connection.execute("SELECT id FROM clock_feed WHERE ref=?", (feed,)).fetchone()
            if row is None:
                return {}
            key = struct.pack("<I", row[0])
            rows = connection.execute("SELECT peer, clock FROM peer_clock")
            return {peer: sequence for peer, clock in rows if (sequence := _entry(clock, key)) is not None}

        return await self._database.read(read)

    async def save(self, clocks: Mapping[str, Mapping[str, int]]) -> None:
        """Save the clocks of several peers in one transaction: {peer: {feed: sequence}}."""
        now = int(self._wall_clock() * 1000)
        copies = {peer: dict(clock) for peer, clock in clocks.items()}

        def write(connection: sqlite3.Connection) -> None:
            for peer, clock in copies.items():
                numbers = _numbers(connection, list(clock))
                pairs = array("i")
                for feed, sequence in clock.items():
                    pairs.append(numbers[feed])
                    pairs.append(sequence if -1 <= sequence <= _MAX else -1)
                if sys.byteorder == "big":
                    pairs.byteswap()
                connection.execute("INSERT OR REPLACE INTO peer_clock VALUES (?,?,?)", (peer, now, pairs.tobytes()))

        if copies:
            await self._database.write(write)

    async def forget(self, peer: str) -> None:
        """Drop a peer's clock, as after it was blocked."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM peer_clock WHERE peer=?", (peer,))

        await self._database.write(write)


def _entry(clock: bytes, key: bytes) -> int | None:
    """The sequence that stands behind a feed's number."""
    at = clock.find(key)
    while at >= 0 and at % _PAIR.size:
        at = clock.find(key, at + 1)
    if at < 0 or at + _PAIR.size > len(clock):
        return None
    sequence: int = _PAIR.unpack_from(clock, at)[1]
    return sequence


def _refs(connection: sqlite3.Connection, numbers: list[int]) -> dict[int, str]:
    """{number: feed id} for the given numbers."""
    if len(numbers) > 500:
        wanted = set(numbers)
        return {number: ref for number, ref in connection.execute("SELECT id, ref FROM clock_feed") if number in wanted}
    marks = ",".join("?" * len(numbers))
    return dict(connection.execute(f"SELECT id, ref FROM clock_feed WHERE id IN ({marks})", numbers))  # noqa: S608 -- question marks only


def _numbers(connection: sqlite3.Connection, feeds: list[str]) -> dict[str, int]:
    """{feed id: number} for the given feeds; new ones are numbered now."""
    connection.executemany("INSERT OR IGNORE INTO clock_feed(ref) VALUES (?)", [(feed,) for feed in feeds])
    find = "SELECT id FROM clock_feed WHERE ref=?"
    return {feed: connection.execute(find, (feed,)).fetchone()[0] for feed in feeds}
