"""Peers we know an address of: where it came from, how dialling went, and when to dial again (design.md).

Kept in memory whole, since the scheduler looks at it all the time, and written through to SQLite. One row an address; a
peer may have several. What a person asked for is kept whatever happens; what others told us (`hint`) is bounded by
whom it is about, who said it, and in all, and gives way to newer hints while it has never worked.
"""

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from feeds.database import Database

MAX_ADDRESSES: Final = 5_000
MAX_HINTS: Final = 2_000
MAX_HINTS_OF_PEER: Final = 8
MAX_HINTS_OF_ORIGIN: Final = 20
_COLUMNS: Final = (
    "address, peer, source, auto, added, failures, last_success, last_failure, error, kind, origin, next_try, paused"
)


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
    """A person picked it: dial it before others, and again whenever the connection is lost."""
    added: int
    failures: int = 0
    """Dials that failed in a row."""
    last_success: int | None = None
    last_failure: int | None = None
    error: str | None = None
    """Why the last dial failed; None after a success."""
    kind: str = ""
    """What answers there: "pub", "room", "lan", "room-attendant", or "" for just a peer."""
    origin: str = ""
    """Who told us: the author of a message, the portal of a room; "" if nobody did."""
    next_try: int = 0
    """Not to be dialled by itself before."""
    paused: bool = False
    """A person hung up on it: not to be dialled until asked."""


class AddressBook:
    """Call `load` before anything else. Writes are committed when the call returns."""

    def __init__(self, database: Database, wall_clock: Callable[[], float]) -> None:
        self._database = database
        self._wall_clock = wall_clock
        self._known: dict[str, Remembered] = {}
        self._of_peer: dict[str, dict[str, None]] = {}
        self._hints: dict[str, dict[str, None]] = {}
        """Addresses nobody picked, by origin."""
        self._hint_count = 0

    async def load(self) -> None:
        """Read all rows."""

        def rows(connection: sqlite3.Connection) -> list[Remembered]:
            found = connection.execute(f"SELECT {_COLUMNS} FROM peer_address ORDER BY added, address")  # noqa: S608
            return [replace(Remembered(*row), auto=bool(row[3]), paused=bool(row[12])) for row in found]

        for known in await self._database.read(rows):
            self._put(known)

    def all(self) -> list[Remembered]:
        """Every known address, oldest first."""
        return list(self._known.values())

    def get(self, address: str) -> Remembered | None:
        """What is known about one address."""
        return self._known.get(address)

    def of_peer(self, peer: str) -> list[Remembered]:
        """The addresses of one peer, the one that worked last before the others."""
        found = [self._known[address] for address in self._of_peer.get(peer, ())]
        return sorted(found, key=lambda known: (-(known.last_success or 0), known.failures, known.added))

    async def remember(
        self, address: str, peer: str, source: str, *, auto: bool, kind: str = "", origin: str = ""
    ) -> Remembered:
        """Add an address. Of a known one only `auto` changes, and only to true: a hint never undoes a wish."""
        known = self._known.get(address)
        if known is None:
            known = Remembered(address, peer, source, auto, self._now(), kind=kind, origin=origin)
            if len(self._known) >= MAX_ADDRESSES:
                await self._drop_worst(self._known)
        elif auto and not known.auto:
            known = replace(known, auto=True, source=source, paused=False, next_try=0, kind=known.kind or kind)
        else:
            return known
        await self._store(known)
        return known

    async def hint(self, address: str, peer: str, source: str, *, kind: str, origin: str) -> bool:
        """Add an address that `origin` told us of, if there is room; false if it is known or found no room."""
        if address in self._known:
            return False
        crowds: tuple[tuple[Iterable[str], int], ...] = (
            ([other for other in self._of_peer.get(peer, ()) if not self._known[other].auto], MAX_HINTS_OF_PEER),
            (self._hints.get(origin, {}), MAX_HINTS_OF_ORIGIN),
            ((other for each in self._hints.values() for other in each) if self._hint_count >= MAX_HINTS else (), 0),
        )
        for crowd, limit in crowds:
            addresses = list(crowd)
            if len(addresses) >= max(limit, 1) and not await self._drop_worst(addresses, only_useless=True):
                return False
        await self.remember(address, peer, source, auto=False, kind=kind, origin=origin)
        return True

    async def forget(self, address: str) -> bool:
        """Drop an address; false if it was not known."""
        if not self._remove(address):
            return False
        await self._database.write(
            lambda connection: connection.execute("DELETE FROM peer_address WHERE address=?", (address,)).rowcount
        )
        return True

    async def set_auto(self, address: str, auto: bool) -> None:
        """Pick an address, or no longer."""
        known = self._known.get(address)
        if known is not None and known.auto is not auto:
            await self._store(replace(known, auto=auto))

    async def update(self, known: Remembered) -> bool:
        """Put down how dialling went; false if the address was forgotten in the meantime."""
        if known.address not in self._known:
            return False
        if self._known[known.address] != known:
            await self._store(known)
        return True

    async def succeeded(self, address: str) -> None:
        """A dial led to a connection."""
        known = self._known.get(address)
        if known is not None:
            await self._store(replace(known, failures=0, last_success=self._now(), error=None, next_try=0))

    async def failed(self, address: str, error: str) -> int:
        """A dial led to nothing; gives how many did so in a row (0 for an address that is not remembered)."""
        known = self._known.get(address)
        if known is None:
            return 0
        known = replace(known, failures=known.failures + 1, last_failure=self._now(), error=error[:300])
        await self._store(known)
        return known.failures

    async def retry_since(self, moment: int) -> None:
        """Let everything that failed since `moment` be dialled at once: it was our network that was gone."""
        for known in self._known.values():
            if known.next_try and (known.last_failure or 0) >= moment:
                self._known[known.address] = replace(known, next_try=0)

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE peer_address SET next_try=0 WHERE last_failure>=?", (moment,))

        await self._database.write(write)

    async def _drop_worst(self, addresses: Iterable[str], *, only_useless: bool = False) -> bool:
        """Drop the address that looks least useful: nobody picked it, most failures, oldest; false if there is none."""
        idle = [known for known in map(self._known.__getitem__, addresses) if not known.auto]
        if only_useless:
            idle = [known for known in idle if known.last_success is None]
        if not idle:
            return False
        return await self.forget(max(idle, key=lambda known: (known.failures, -known.added)).address)

    def _put(self, known: Remembered) -> None:
        self._remove(known.address, keep=True)
        self._known[known.address] = known
        self._of_peer.setdefault(known.peer, {})[known.address] = None
        if not known.auto:
            self._hints.setdefault(known.origin, {})[known.address] = None
            self._hint_count += 1

    def _remove(self, address: str, *, keep: bool = False) -> bool:
        """Take it out of the indexes; `keep`: it stays in its place in the order of all."""
        known = self._known.get(address)
        if known is None:
            return False
        if not keep:
            del self._known[address]
        for index, at in ((self._of_peer, known.peer), (self._hints, known.origin)):
            crowd = index.get(at)
            if crowd is not None and crowd.pop(address, address) is None:
                self._hint_count -= index is self._hints
                if not crowd:
                    del index[at]
        return True

    async def _store(self, known: Remembered) -> None:
        self._put(known)
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
            known.kind,
            known.origin,
            known.next_try,
            int(known.paused),
        )

        def write(connection: sqlite3.Connection) -> None:
            marks = ",".join("?" * len(row))
            connection.execute(f"INSERT OR REPLACE INTO peer_address({_COLUMNS}) VALUES ({marks})", row)  # noqa: S608

        await self._database.write(write)

    def _now(self) -> int:
        return int(self._wall_clock() * 1000)
