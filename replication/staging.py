"""Addresses that hold only for now: heard on the local network, or of peers that are in a room at this moment.

They are offered to the scheduler like those of the address book, and vanish when whoever put them here takes them back
or, with a time to live, when they are not heard again. What is remembered of them a while longer is how dialling went,
so that a beacon that comes and goes does not undo a back-off.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

from replication.address_book import Remembered

MAX_STAGED: Final = 1_000
KEPT_SECONDS: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class Staged:
    """`until`: when it vanishes if it is not heard again, None: when it is taken back. Seconds since the epoch."""

    known: Remembered
    until: float | None


class Staging:
    """All staged addresses of one node."""

    def __init__(self) -> None:
        self._staged: dict[str, Staged] = {}

    def put(self, known: Remembered, *, now: float, ttl: float | None) -> bool:
        """Stage an address, or hear of it again; true if it was not staged."""
        old = self._staged.pop(known.address, None)
        if old is not None:
            known = replace(old.known, kind=known.kind, source=known.source, origin=known.origin)
        elif len(self._staged) >= MAX_STAGED:
            self._make_room(now)
        self._staged[known.address] = Staged(known, None if ttl is None else now + ttl)
        return old is None or not _is_here(old, now)

    def take_back(self, address: str, *, now: float) -> bool:
        """It is gone; false if it was not staged."""
        staged = self._staged.get(address)
        if staged is None or not _is_here(staged, now):
            return False
        self._staged[address] = replace(staged, until=now)
        return True

    def here(self, now: float) -> list[Remembered]:
        """What is staged now; forgets what has been gone for long."""
        for address in [address for address, each in self._staged.items() if _is_long_gone(each, now)]:
            del self._staged[address]
        return [each.known for each in self._staged.values() if _is_here(each, now)]

    def get(self, address: str) -> Remembered | None:
        """What is known of an address that is staged, or was not long ago."""
        staged = self._staged.get(address)
        return None if staged is None else staged.known

    def update(self, known: Remembered) -> bool:
        """Put down how dialling went; false if the address is not known here."""
        staged = self._staged.get(known.address)
        if staged is None:
            return False
        self._staged[known.address] = replace(staged, known=known)
        return True

    def next_end(self, now: float) -> float | None:
        """When the next one vanishes."""
        return min(
            (each.until for each in self._staged.values() if each.until is not None and each.until > now), default=None
        )

    def _make_room(self, now: float) -> None:
        """Drop one: of those that are gone, or else the oldest of whoever staged most."""
        gone = next((address for address, each in self._staged.items() if not _is_here(each, now)), None)
        if gone is None:
            crowds = Counter((each.known.source, each.known.origin) for each in self._staged.values())
            crowd = max(crowds, key=lambda one: crowds[one])
            gone = next(a for a, each in self._staged.items() if (each.known.source, each.known.origin) == crowd)
        del self._staged[gone]


def _is_here(staged: Staged, now: float) -> bool:
    return staged.until is None or now < staged.until


def _is_long_gone(staged: Staged, now: float) -> bool:
    return staged.until is not None and now >= staged.until + KEPT_SECONDS
