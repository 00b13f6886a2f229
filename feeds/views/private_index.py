"""View: where the messages with encrypted content are. Which of them are for us is found out beside it (`openings`)."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from feeds.content import FoundLink
from feeds.log_rows import VISIBLE, Entry, Extract, message_id
from feeds.message import Message

__all__ = ["PrivateIndex", "encrypted_after", "extract", "read_entries"]


def extract(message: Message, _: Sequence[FoundLink]) -> int | None:
    """Whether the content is encrypted."""
    return 1 if isinstance(message.content, str) else None


class PrivateIndex:
    """Puts positions into the table below."""

    name: Final = "private_index"
    version: Final = 1
    tables: Final = ("boxed_message",)
    schema: Final = ("CREATE TABLE boxed_message(position INTEGER PRIMARY KEY)",)

    extract = staticmethod(extract)

    def apply(self, connection: sqlite3.Connection, rows: Sequence[Extract]) -> None:
        connection.executemany("INSERT INTO boxed_message VALUES(?)", [row[:1] for row in rows])


_ENTRY: Final = (
    "SELECT m.position, m.key, f.ref, m.sequence, m.received, m.text FROM {} p "
    "JOIN message m ON m.position=p.position JOIN feed f ON f.id=m.author "
)


def encrypted_after(connection: sqlite3.Connection, position: int, limit: int) -> list[Entry]:
    """Messages after a position whose content is encrypted, in receive order."""
    return read_entries(connection, "boxed_message", "p.position>? ORDER BY p.position LIMIT ?", (position, limit))


def read_entries(connection: sqlite3.Connection, table: str, where: str, values: Iterable[int | str]) -> list[Entry]:
    """Messages at the positions of a table's rows `p` that fit."""
    rows = connection.execute(f"{_ENTRY.format(table)} WHERE {VISIBLE} AND {where}", tuple(values))
    return [
        Entry(position, message_id(key, author), author, sequence, received, text)
        for position, key, author, sequence, received, text in rows
    ]
