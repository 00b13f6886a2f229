"""Small integers for names that repeat, kept in a table of the view that uses them.

Numbers are given in the order of first appearance in the log, so a view rebuilt in chunks gets the same ones as a view
that was kept up to date message by message.
"""

import sqlite3
from collections.abc import Iterable

__all__ = ["intern", "storable"]


def intern(connection: sqlite3.Connection, table: str, names: Iterable[str]) -> dict[str, int]:
    """Number of every name, new ones being added to `table`(id INTEGER PRIMARY KEY, name TEXT UNIQUE)."""
    select, insert = f"SELECT id FROM {table} WHERE name=?", f"INSERT INTO {table}(name) VALUES(?)"  # noqa: S608
    numbers: dict[str, int] = {}
    for name in dict.fromkeys(names):
        row = connection.execute(select, (name,)).fetchone()
        if row is None:
            number = connection.execute(insert, (name,)).lastrowid
            assert number is not None
        else:
            (number,) = row
        numbers[name] = number
    return numbers


def storable(name: str) -> str:
    """The name as SQLite can hold it: a lone surrogate, legal in JSON, has no UTF-8."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode("utf-8")
