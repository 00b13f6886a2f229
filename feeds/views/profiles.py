"""View: what each author says at present about feeds, messages and blobs, field by field.

The newest message of an author that has a field replaces what it said of that field before. Short values are kept in
the table, the others are read from the stored message.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from feeds.bulk_insert import BulkInsert
from feeds.canonical_json import parse
from feeds.content import FoundLink
from feeds.log_rows import Extract, entries_at
from feeds.message import JsonValue, Message
from feeds.names import Said, as_json, folded_name, read_about
from feeds.views.interning import intern, storable

__all__ = ["Claim", "Profiles", "claims_about", "extract", "said_of", "subjects_named"]

MAX_VALUE: Final = 320
"""Characters of JSON that are kept in the table; a longer value stays in its message alone."""
MAX_FOLDED: Final = 64
_VISIBLE: Final = (
    "c.position NOT IN (SELECT position FROM hidden_message) AND c.author NOT IN (SELECT feed FROM hidden_feed)"
)
"""Leaves out claims `c` in messages that were deleted here."""
_INSERT: Final = BulkInsert("INSERT OR REPLACE INTO profile_claim", 6)


class Claim(NamedTuple):
    """What an author says at present of one field; position is that of its message."""

    field: str
    value: JsonValue
    author: str
    position: int


def extract(message: Message, _: Sequence[FoundLink]) -> tuple[str, list[tuple[str, str | None, str | None]]] | None:
    """Subject of an about message, and name, value (JSON) and folded name of each field."""
    about = read_about(message.content)
    if about is None:
        return None
    fields = []
    for name, value in about.fields.items():
        text = as_json(value)
        folded = storable(folded_name(value)[:MAX_FOLDED]) if name == "name" and isinstance(value, str) else None
        fields.append((storable(name), text if len(text) <= MAX_VALUE else None, folded))
    return about.subject, fields


class Profiles:
    """Puts claims into the tables below."""

    name: Final = "profiles"
    version: Final = 1
    tables: Final = ("profile_claim", "profile_subject", "profile_field")
    schema: Final = (
        "CREATE TABLE profile_subject(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        "CREATE TABLE profile_field(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        "CREATE TABLE profile_claim(subject INTEGER NOT NULL, field INTEGER NOT NULL, author INTEGER NOT NULL, "
        "position INTEGER NOT NULL, value TEXT, folded TEXT, PRIMARY KEY(subject, field, author)) WITHOUT ROWID",
        "CREATE INDEX profile_claim_by_name ON profile_claim(folded) WHERE folded IS NOT NULL",
    )
    extract = staticmethod(extract)

    def apply(self, connection: sqlite3.Connection, rows: Sequence[Extract]) -> None:
        subjects = intern(connection, "profile_subject", (row[2][0] for row in rows))
        fields = intern(connection, "profile_field", (name for row in rows for name, _, _ in row[2][1]))
        newest: dict[tuple[int, int, int], tuple[object, ...]] = {}
        for position, _, (subject, found), author, _ in rows:
            for name, value, folded in found:
                key = subjects[subject], fields[name], author
                newest[key] = (*key, position, value, folded)
        _INSERT(connection, [newest[key] for key in sorted(newest)])


def claims_about(
    connection: sqlite3.Connection, subject: str, *, first: Iterable[str] = (), limit: int = 1000
) -> list[Claim]:
    """What is said of an id (canonical), nothing taken back.

    The fields that every profile has come first, whatever else is said; then the words of some authors; then the
    newest.
    """
    rows = connection.execute(
        "SELECT p.name, c.value, a.ref, c.position FROM profile_subject s JOIN profile_claim c ON c.subject=s.id "  # noqa: S608 - a constant
        "JOIN profile_field p ON p.id=c.field JOIN feed a ON a.id=c.author "
        f"WHERE s.name=? AND c.value IS NOT 'null' AND {_VISIBLE} "
        "ORDER BY p.name IN ('name', 'image', 'description', 'publicWebHosting') DESC, "
        "a.ref IN (SELECT value FROM json_each(?)) DESC, c.position DESC, p.id LIMIT ?",
        (subject, json.dumps(list(first)), limit),
    ).fetchall()
    long = _long_values(connection, [position for _, value, _, position in rows if value is None])
    return [
        Claim(field, long.get((position, field)) if value is None else json.loads(value), author, position)
        for field, value, author, position in rows
    ]


def _long_values(connection: sqlite3.Connection, positions: Sequence[int]) -> dict[tuple[int, str], JsonValue]:
    found: dict[tuple[int, str], JsonValue] = {}
    for entry in entries_at(connection, sorted(set(positions))):
        value = parse(entry.text)
        content = value.get("content") if isinstance(value, dict) else None
        about = read_about(content) if isinstance(content, dict) else None
        if about is not None:
            found |= {(entry.position, storable(field)): value for field, value in about.fields.items()}
    return found


def said_of(connection: sqlite3.Connection, subjects: Iterable[str], field: str = "name") -> dict[str, list[Said]]:
    """Texts that are given to some ids as one field, by id; ids that nobody gave any are left out."""
    said: dict[str, list[Said]] = {}
    for subject, author, value in connection.execute(
        "SELECT s.name, a.ref, c.value FROM profile_subject s "  # noqa: S608 - a constant
        "JOIN profile_claim c ON c.subject=s.id AND c.field=(SELECT id FROM profile_field WHERE name=?) "
        "JOIN feed a ON a.id=c.author "
        "WHERE s.name IN (SELECT value FROM json_each(?)) AND c.value IS NOT 'null' AND c.value IS NOT NULL "
        f"AND {_VISIBLE} "
        "ORDER BY s.name, c.position",
        (field, json.dumps(list(subjects))),
    ):
        text = json.loads(value)
        if isinstance(text, str):
            said.setdefault(subject, []).append(Said(author, text))
    return said


def subjects_named(connection: sqlite3.Connection, prefix: str, *, limit: int = 1000) -> list[str]:
    """Feeds that anybody gives a name that begins so, without regard to case and accents."""
    folded = storable(folded_name(prefix)[:MAX_FOLDED])
    rows = connection.execute(
        "SELECT DISTINCT s.name FROM profile_claim c JOIN profile_subject s ON s.id=c.subject "  # noqa: S608 - a constant
        "WHERE c.folded>=?1 AND substr(c.folded, 1, length(?1))=?1 AND c.folded<?1 || char(1114111) "
        f"AND (s.name GLOB '@*' OR s.name GLOB 'ssb:feed*') AND {_VISIBLE} ORDER BY c.folded, s.name LIMIT ?2",
        (folded, limit),
    )
    return [subject for (subject,) in rows]
