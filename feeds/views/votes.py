"""View: who thinks what of a message. The last vote of an author about a message counts, 0 takes it back."""

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from feeds.content import FoundLink
from feeds.conversation import read_vote
from feeds.log_rows import VISIBLE, Extract, message_id
from feeds.message import Message
from feeds.tiered_index import TieredIndex
from feeds.views.interning import intern, storable
from feeds.views.placing import id_hash

__all__ = ["VOTE", "CastVote", "Votes", "extract", "votes_of"]

VOTE: Final = TieredIndex("vote", ("link", "position", "value", "expression"))


class CastVote(NamedTuple):
    """The vote of an author that counts. Times are milliseconds since 1970."""

    position: int
    id: str
    author: str
    value: int
    expression: str
    timestamp: int | float
    """As claimed."""
    received: int


def extract(message: Message, _: Sequence[FoundLink]) -> tuple[int, int, str] | None:
    """Hash of the id of what is voted on, value and expression."""
    vote = read_vote(message.content)
    return None if vote is None else (id_hash(vote.link), vote.value, storable(vote.expression))


class Votes:
    """Puts votes into the tables below."""

    name: Final = "votes"
    version: Final = 1
    tables: Final = (*VOTE.tables, "vote_expression")
    schema: Final = (*VOTE.schema, "CREATE TABLE vote_expression(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)")
    extract = staticmethod(extract)

    def apply(self, connection: sqlite3.Connection, rows: Sequence[Extract]) -> None:
        numbers = intern(connection, "vote_expression", (row[2][2] for row in rows))
        VOTE.insert(
            connection,
            [(link, position, value, numbers[expression]) for position, _, (link, value, expression), _, _ in rows],
        )
        # As in the links view: a step that falls on a message without a vote is made up for the next time round.
        VOTE.settle(connection, rows[0][0] - 1, rows[-1][0])


def votes_of(connection: sqlite3.Connection, message: str) -> list[CastVote]:
    """Votes about a message (canonical id) that count, those taken back left out, in receive order.

    A feed is received in its own order, so the last one received of an author is its last.
    """
    last: dict[str, CastVote] = {}
    for position, key, author, value, expression, timestamp, received in connection.execute(
        "SELECT v.position, m.key, f.ref, v.value, e.name, m.timestamp, m.received "  # noqa: S608
        f"FROM {VOTE.either} v JOIN message m ON m.position=v.position JOIN feed f ON f.id=m.author "
        f"JOIN vote_expression e ON e.id=v.expression WHERE v.link=? AND {VISIBLE} ORDER BY v.position",
        (id_hash(message),),
    ):
        last[author] = CastVote(position, message_id(key, author), author, value, expression, timestamp, received)
    return sorted(vote for vote in last.values() if vote.value)
