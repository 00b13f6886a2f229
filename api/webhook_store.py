"""Webhooks in SQLite: what each wants, and how far it was told."""

import sqlite3
from dataclasses import dataclass
from typing import Final

from api.webhook_filter import WebhookFilter
from api.webhook_schedule import FRESH, Progress
from feeds.database import Component, Database, Migration

__all__ = ["WEBHOOKS", "Webhook", "delete", "insert", "load", "save"]

WEBHOOKS: Final = Component(
    "webhooks",
    (
        Migration(
            1,
            (
                # cursor: position of the log up to which all was acknowledged; times in seconds since 1970; the secret
                # is what deliveries are signed with, so it is needed as it is
                "CREATE TABLE webhook(id TEXT PRIMARY KEY, url TEXT NOT NULL, filter TEXT NOT NULL, "
                "secret TEXT NOT NULL, created INTEGER NOT NULL, cursor INTEGER NOT NULL, failures INTEGER NOT NULL, "
                "next_try REAL, paused INTEGER NOT NULL, error TEXT, delivered REAL) WITHOUT ROWID",
            ),
        ),
    ),
)
"""Tables of this module; the composition root opens the database with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Where to send which messages, and how far that has come."""

    id: str
    url: str
    filter: WebhookFilter
    secret: str
    created: int
    cursor: int
    progress: Progress = FRESH
    delivered: float | None = None
    """When something was last acknowledged."""


_COLUMNS: Final = "id, url, filter, secret, created, cursor, failures, next_try, paused, error, delivered"


async def load(database: Database) -> list[Webhook]:
    """All of them, the oldest first."""
    rows = await database.read(
        lambda connection: connection.execute(
            f"SELECT {_COLUMNS} FROM webhook ORDER BY created, id"  # noqa: S608 - a constant
        ).fetchall()
    )
    return [
        Webhook(
            id=id,
            url=url,
            filter=WebhookFilter.load(filter),
            secret=secret,
            created=created,
            cursor=cursor,
            progress=Progress(failures, next_try, bool(paused), error),
            delivered=delivered,
        )
        for id, url, filter, secret, created, cursor, failures, next_try, paused, error, delivered in rows
    ]


async def insert(database: Database, hook: Webhook) -> None:
    """Add one."""
    row = (hook.id, hook.url, hook.filter.dump(), hook.secret, hook.created, *_state(hook))

    def job(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO webhook VALUES(?,?,?,?,?,?,?,?,?,?,?)", row)

    await database.write(job, durable=True)


async def save(database: Database, hook: Webhook) -> None:
    """Keep how far one has come; nothing if it was deleted meanwhile."""
    row = (*_state(hook), hook.id)

    def job(connection: sqlite3.Connection) -> None:
        connection.execute(
            "UPDATE webhook SET cursor=?, failures=?, next_try=?, paused=?, error=?, delivered=? WHERE id=?", row
        )

    await database.write(job)


async def delete(database: Database, id: str) -> None:
    """Remove one."""

    def job(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM webhook WHERE id=?", (id,))

    await database.write(job, durable=True)


def _state(hook: Webhook) -> tuple[object, ...]:
    one = hook.progress
    return hook.cursor, one.failures, one.next_try, one.paused, one.error, hook.delivered
