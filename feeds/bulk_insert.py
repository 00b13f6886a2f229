"""Inserting many rows with few statements.

A statement with a few hundred rows takes a third less time than as many runs of one for a single row, and gives up the
interpreter's lock once for all of them, so that other threads do not make each row wait.
"""

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Final

__all__ = ["BulkInsert"]

ROWS: Final = 256


class BulkInsert:
    """An INSERT (or INSERT OR …) into a table with so many columns."""

    def __init__(self, statement: str, columns: int) -> None:
        """statement -- everything before VALUES."""
        row = f"({','.join('?' * columns)})"
        self._one: Final = f"{statement} VALUES{row}"
        self._many: Final = f"{statement} VALUES{','.join([row] * ROWS)}"

    def __call__(self, connection: sqlite3.Connection, rows: Sequence[Sequence[object]]) -> None:
        whole = len(rows) - len(rows) % ROWS
        for at in range(0, whole, ROWS):
            connection.execute(self._many, list(chain.from_iterable(rows[at : at + ROWS])))
        if whole < len(rows):
            connection.executemany(self._one, rows[whole:])
