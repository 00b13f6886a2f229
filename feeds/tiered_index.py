"""An index over keys without order (hashes) whose cost of writing stays level as it grows.

Every insert into a large b-tree of random keys touches a page of its own, so at a million entries a batch rewrites the
whole tree. Here new entries go to a small table first and move to the large one a sixteenth of the key range at a time,
sorted, each time the log has grown by a fixed number of positions. Readers look in both.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from feeds.bulk_insert import BulkInsert

__all__ = ["TieredIndex"]

SLICES: Final = 16
STEP: Final = 8192
_SPAN: Final = (1 << 64) // SLICES


class TieredIndex:
    """Two tables with the same columns, `name` and `name_recent`; the first column is a 64-bit signed integer."""

    def __init__(self, name: str, columns: Sequence[str]) -> None:
        self.name: Final = name
        self.tables: Final = (name, f"{name}_recent")
        listed, first = ", ".join(columns), columns[0]
        declared = ", ".join(f"{column} INTEGER NOT NULL" for column in columns)
        self.schema: Final = tuple(
            f"CREATE TABLE {table}({declared}, PRIMARY KEY({listed})) WITHOUT ROWID" for table in self.tables
        )
        self._insert: Final = BulkInsert(f"INSERT OR IGNORE INTO {name}_recent", len(columns))
        self._move: Final = (
            f"INSERT OR IGNORE INTO {name} SELECT {listed} FROM {name}_recent "  # noqa: S608
            f"WHERE {first} BETWEEN ? AND ? ORDER BY {listed}"
        )
        self._clear: Final = f"DELETE FROM {name}_recent WHERE {first} BETWEEN ? AND ?"  # noqa: S608
        chosen = " AND ".join(f"{column}=?" for column in columns)
        self._remove: Final = tuple(f"DELETE FROM {table} WHERE {chosen}" for table in self.tables)  # noqa: S608
        self.either: Final = f"(SELECT {listed} FROM {name}_recent UNION ALL SELECT {listed} FROM {name})"  # noqa: S608
        """For FROM: both tables as one; SQLite looks a key up in each."""

    def insert(self, connection: sqlite3.Connection, rows: Iterable[tuple[int, ...]]) -> None:
        """Add entries; one that is there already is left alone."""
        self._insert(connection, sorted(rows))

    def remove(self, connection: sqlite3.Connection, rows: Sequence[tuple[int, ...]]) -> None:
        """Take entries out, wherever they are."""
        for statement in self._remove:
            connection.executemany(statement, rows)

    def settle(self, connection: sqlite3.Connection, before: int, position: int) -> None:
        """Move on what is due after the log has grown from `before` to `position`."""
        for step in range(max(before // STEP, position // STEP - SLICES) + 1, position // STEP + 1):
            low = (step % SLICES) * _SPAN - (1 << 63)
            bounds = low, low + _SPAN - 1
            connection.execute(self._move, bounds)
            connection.execute(self._clear, bounds)
