"""Tokens of programs beside the node's own: random, kept as hashes, each with a name, scopes and perhaps an end.

A token is looked up by its hash in the database for each request, so that one which is revoked opens nothing from that
moment on, also after a restart.
"""

import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from api.errors import Problem
from api.scopes import Grant, TokenScope
from feeds.database import Component, Database, Migration

__all__ = ["MAX_SECONDS", "MAX_TOKENS", "TOKENS", "Token", "Tokens"]

TOKENS: Final = Component(
    "http_tokens",
    (
        Migration(
            1,
            (
                # hash is the SHA-256 of the token; scopes are separated by blanks; times in seconds since 1970
                "CREATE TABLE http_token(id TEXT PRIMARY KEY, name TEXT NOT NULL, hash BLOB NOT NULL UNIQUE, "
                "scopes TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER) WITHOUT ROWID",
            ),
        ),
    ),
)
"""Tables of this module; the composition root opens the database with them."""

MAX_TOKENS: Final = 1000
MAX_SECONDS: Final = 100 * 365 * 24 * 60 * 60
PREFIX: Final = "sbot_"
"""By this people and scanners of secrets know what they see."""
LONGEST: Final = 512


class Token(NamedTuple):
    """A token without its secret. Times are seconds since 1970."""

    id: str
    name: str
    scopes: tuple[TokenScope, ...]
    created: int
    expires: int | None


class Tokens:
    """All tokens of one node. now -- seconds since 1970."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database: Final = database
        self._now: Final = now

    async def create(self, name: str, scopes: Collection[TokenScope], expires_in: int | None) -> tuple[Token, str]:
        """A new token, and its secret, which is kept nowhere. Raises Problem too-many-tokens."""
        secret = PREFIX + secrets.token_urlsafe(32)
        created = int(self._now())
        token = Token(
            secrets.token_hex(8),
            name,
            tuple(scope for scope in TokenScope if scope in scopes),
            created,
            None if expires_in is None else created + expires_in,
        )
        row = (token.id, name, _digest(secret.encode()), " ".join(token.scopes), created, token.expires)

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM http_token WHERE expires<=?", (created,))
            (count,) = connection.execute("SELECT count(*) FROM http_token").fetchone()
            if count >= MAX_TOKENS:
                raise Problem("too-many-tokens", f"There are {MAX_TOKENS} tokens already; revoke some.")
            connection.execute("INSERT INTO http_token VALUES(?,?,?,?,?,?)", row)

        await self._database.write(insert, durable=True)
        return token, secret

    async def revoke(self, token: str) -> bool:
        """End a token; whether there was one."""

        def delete(connection: sqlite3.Connection) -> bool:
            return connection.execute("DELETE FROM http_token WHERE id=?", (token,)).rowcount > 0

        return await self._database.write(delete, durable=True)

    def all(self) -> list[Token]:
        """Those that are not over, the oldest first."""
        now = self._now()
        rows = self._database.peek(
            lambda connection: connection.execute(
                "SELECT id, name, scopes, created, expires FROM http_token "
                "WHERE expires IS NULL OR expires>? ORDER BY created, id",
                (now,),
            ).fetchall()
        )
        return [_token(*row) for row in rows]

    def grant(self, secret: bytes) -> Grant | None:
        """What a secret that somebody sent allows; None when it is no token of ours, or no longer."""
        if not secret.startswith(PREFIX.encode()) or len(secret) > LONGEST:
            return None
        digest = _digest(secret)
        # The lookup goes by a hash of what was sent: how long it takes tells nothing about the tokens themselves.
        row = self._database.peek(
            lambda connection: connection.execute(
                "SELECT id, hash, scopes, expires FROM http_token WHERE hash=?", (digest,)
            ).fetchone()
        )
        if row is None:
            return None
        id, known, scopes, expires = row
        if not hmac.compare_digest(known, digest) or self._is_over(expires):
            return None
        return Grant(_scopes(scopes), id)

    def holds(self, grant: Grant) -> bool:
        """Whether what was granted once still is: asked by answers that never end."""
        if grant.token is None:
            return True
        found = ("SELECT expires FROM http_token WHERE id=?", (grant.token,))
        row = self._database.peek(lambda connection: connection.execute(*found).fetchone())
        return row is not None and not self._is_over(row[0])

    def _is_over(self, expires: int | None) -> bool:
        return expires is not None and self._now() >= expires


def _token(id: str, name: str, scopes: str, created: int, expires: int | None) -> Token:
    known = _scopes(scopes)
    return Token(id, name, tuple(scope for scope in TokenScope if scope in known), created, expires)


def _scopes(text: str) -> frozenset[TokenScope]:
    """Scopes as they are stored; one that a newer version knows counts for nothing here."""
    return frozenset(scope for scope in TokenScope if scope in text.split())


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()
