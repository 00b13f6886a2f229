"""`Idempotency-Key`: the message that a key published is kept for a day, over restarts too.

The record is written in the transaction that appends the message. So a crash leaves both or neither, and of two
requests with one key at the same time only one publishes; what the other wrote is undone and it gets the first answer.
"""

import hashlib
import sqlite3
from collections.abc import Callable
from typing import Final

from api.errors import Problem
from api.parameters import Reading, Unfit
from feeds.database import Component, Database, Migration
from feeds.log import Entry

__all__ = ["IDEMPOTENCY", "FirstAnswers", "KeyTaken", "key_header"]

IDEMPOTENCY: Final = Component(
    "http_idempotency",
    (
        Migration(
            1,
            (
                # body is the SHA-256 of the request's body, at in seconds since 1970
                "CREATE TABLE http_first_answer(key TEXT PRIMARY KEY, body BLOB NOT NULL, message TEXT NOT NULL, "
                "at INTEGER NOT NULL) WITHOUT ROWID",
                "CREATE INDEX http_first_answer_by_age ON http_first_answer(at)",
            ),
        ),
    ),
)
"""Tables of this module; the composition root opens the database with them."""

KEPT_SECONDS: Final = 24 * 60 * 60
LONGEST_KEY: Final = 255


class KeyTaken(Exception):
    """Another request with the same key was first; raised inside the transaction, which undoes the second message."""


class FirstAnswers:
    """What was published under which key. now -- seconds since the epoch."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database: Final = database
        self._now: Final = now

    def find(self, key: str, body: bytes) -> str | None:
        """The id of the message that this key published, None if none did within the last day.

        Raises Problem idempotency-key-reused when the body was another one.
        """
        since = int(self._now()) - KEPT_SECONDS
        row = self._database.peek(
            lambda connection: connection.execute(
                "SELECT body, message FROM http_first_answer WHERE key=? AND at>?", (key, since)
            ).fetchone()
        )
        if row is None:
            return None
        first, message = row
        if first != _digest(body):
            raise Problem("idempotency-key-reused", "This Idempotency-Key came with another body before.")
        return str(message)

    def recorder(self, key: str, body: bytes) -> Callable[[sqlite3.Connection, Entry], None]:
        """What to run in the publishing transaction; it raises KeyTaken when the key has a message already."""
        now, digest = int(self._now()), _digest(body)

        def record(connection: sqlite3.Connection, entry: Entry) -> None:
            connection.execute("DELETE FROM http_first_answer WHERE at<=?", (now - KEPT_SECONDS,))
            try:
                connection.execute("INSERT INTO http_first_answer VALUES(?,?,?,?)", (key, digest, entry.id, now))
            except sqlite3.IntegrityError:
                raise KeyTaken(key) from None

        return record


def key_header() -> Reading[str]:
    """How the header's value is read."""

    def read(given: str) -> str:
        key = given.strip()
        if not 0 < len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable():
            raise Unfit(f"must be 1 to {LONGEST_KEY} printable ASCII characters")
        return key

    return Reading(read, {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": "^[!-~]+$"})


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()
