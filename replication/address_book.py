"""Peers we know an address of: where it came from, how dialling went, and whether to dial again (design.md).

Kept in memory whole, since the hub looks at it each second, and written through to SQLite. One row an address; a peer
may have several.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from feeds.database import Database

MAX_ADDRESSES: Final = 5_000


@dataclass(frozen=True, slots=True)
class Remembered:
    """One known address. Times are integer milliseconds since the epoch, None when it never happened."""

    address: str
    """Multiserver address in its canonical spelling."""
    peer: str
    """Feed id of whoever answers there."""
    source: str
    """Where we heard of it: "manual", "config", "pub", ..."""
    auto: bool
    """Dial it without being asked, and again when the connection is lost."""
    added: int
    failures: int = 0
    """Dials that failed in a row."""
    last_success: int | None = None
    last_failure: int | None = None
    error: str | None = None
    """Why the last dial failed; None after a success."""


class AddressBook:
    """Call `load` before anything else. Writes are committed when the call returns."""

    def __init__(self, database: Database, wall_clock: Callable[[], float]) -> None:
        self._database = database
        self._wall_clock = wall_clock
        self._known: dict[str, Remembered] = {}

    async def load(self) -> None:
        """Read all rows."""

        def rows(connection: sqlite3.Connection) -> list[Remembered]:
            found = connection.execute(
                "SELECT address, peer, source, auto, added, failures, last_success, last_failure, error "
                "FROM peer_address ORDER BY added, address"
            )
            return [Remembered(row[0], row[1], row[2], bool(row[3]), *row[4:]) for row in found]

        self._known = {known.address: known for known in await self._database.read(rows)}

    def all(self) -> list[Remembered]:
        """Every known address, oldest first."""
        return list(self._known.values())

    def get(self, address: str) -> Remembered | None:
        """What is known about one address."""
        return self._known.get(address)

    def of_peer(self, peer: str) -> list[Remembered]:
        """The addresses of one peer, the one that worked last before the others."""
        found = [known for known in self._known.values() if known.peer == peer]
        return sorted(found, key=lambda known: (-(known.last_success or 0), known.failures, known.added))

    async def remember(self, address: str, peer: str, source: str, *, auto: bool) -> Remembered:
        """Add an address. Of a known one only `auto` changes, and only to true: a hint never undoes a wish."""
        known = self._known.get(address)
        if known is None:
            known = Remembered(address, peer, source, auto, self._now())
            if len(self._known) >= MAX_ADDRESSES:
                await self._make_room()
        elif auto and not known.auto:
            known = replace(known, auto=True, source=source)
        else:
            return known
        await self._store(known)
        return known

    async def forget(self, address: str) -> bool:
        """Drop an address; false if it was not known."""
        if self._known.pop(address, None) is None:
            return False
        await self._database.write(
            lambda connection: connection.execute("DELETE FROM peer_address WHERE address=?", (address,)).rowcount
        )
        return True

    async def set_auto(self, address: str, auto: bool) -> None:
        """Dial an address without being asked, or no longer."""
        known = self._known.get(address)
        if known is not None and known.auto is not auto:
            await self._store(replace(known, auto=auto))

    async def succeeded(self, address: str) -> None:
        """A dial led to a connection."""
        known = self._known.get(address)
        if known is not None:
            await self._store(replace(known, failures=0, last_success=self._now(), error=None))

    async def failed(self, address: str, error: str) -> int:
        """A dial led to nothing; gives how many did so in a row (0 for an address that is not remembered)."""
        known = self._known.get(address)
        if known is None:
            return 0
        known = replace(known, failures=known.failures + 1, last_failure=self._now(), error=error[:300])
        await self._store(known)
        return known.failures

    async def _make_room(self) -> None:
        """Drop the address that looks least useful: not dialled by itself, most failures, oldest."""
        idle = [known for known in self._known.values() if not known.auto]
        if idle:
            await self.forget(max(idle, key=lambda known: (known.failures, -known.added)).address)

    async def _store(self, known: Remembered) -> None:
        self._known[known.address] = known
        row = (
            known.address,
            known.peer,
            known.source,
            int(known.auto),
            known.added,
            known.failures,
            known.last_success,
            known.last_failure,
            known.error,
        )

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO peer_address VALUES (?,?,?,?,?,?,?,?,?)", row)

        await self._database.write(write)

    def _now(self) -> int:
        return int(self._wall_clock() * 1000)
