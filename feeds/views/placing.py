"""What views that order by time share: hashes of ids as keys, and the time by which a message is ordered.

A message is ordered by the earlier of the time its author claims and the time it was received: nobody puts a message on
top of everything by claiming a time to come.
"""

import json
import sqlite3
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

__all__ = ["END", "Spot", "author_numbers", "id_hash"]


class Spot(NamedTuple):
    """A place in an order by time, shared by nobody else."""

    time: int
    """Milliseconds since 1970."""
    position: int


END: Final = Spot(1 << 62, 1 << 62)
"""After every message."""


def id_hash(id: str) -> int:
    """64 bits that stand for a canonical id in an index.

    Not a piece of the id itself: anybody can write an id that begins like another one, or no id of any message, and
    so push a stranger into its place in the index.
    """
    return int.from_bytes(blake2b(id.encode(), digest_size=8).digest(), "little", signed=True)


def author_numbers(connection: sqlite3.Connection, feeds: Sequence[str]) -> list[int]:
    """Numbers by which the log knows feeds; those it does not know are left out."""
    rows = connection.execute(
        "SELECT id FROM feed WHERE ref IN (SELECT value FROM json_each(?))", (json.dumps(list(feeds)),)
    )
    return [number for (number,) in rows]
