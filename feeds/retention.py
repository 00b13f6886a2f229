"""Which messages of others this node need not keep: rules of its user, what they come to, and carrying them out.

A rule is written as words: `hops=3 age=1y`, `type=vote age=90d`, `hops=2 bytes=500M`; several stand between `;`. A
message goes by a rule if all of its conditions fit: its feed is at least so many follows away (or not reached at all),
it is so old by the earlier of its claimed and its received time, its public type is one of these. With `bytes`, the
oldest of those go until the rest has no more than that. What goes is erased (`feeds.erasing`): its feed can still be
verified and it is not fetched again.

Whatever the rules say, these stay: our own feed, the last message of each feed, contact messages (the graph is made of
them), abouts unless a rule names that type, and private messages that we can read.
"""

import json
import math
import sqlite3
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from feeds.database import Database
from feeds.erasing import Erased, Erasing
from feeds.errors import Busy
from feeds.indexer import Indexer
from feeds.log_rows import HELD, last_position
from feeds.mailbox import Mailbox
from feeds.retention_rules import KEPT, NEEDED, Rule

__all__ = ["Outcome", "Retention", "Share"]


class Share(NamedTuple):
    """What one rule takes of messages that no rule before it takes; bytes of stored texts."""

    rule: str
    messages: int
    bytes: int
    feeds: int


class Outcome(NamedTuple):
    """What rules come to: in all, and rule by rule."""

    messages: int
    bytes: int
    rules: list[Share]
    kept_bytes: int
    """Bytes of all texts that stay, ours included."""


@dataclass(slots=True)
class _Plan:
    positions: "array[int]" = field(default_factory=lambda: array("q"))
    shares: list[Share] = field(default_factory=list)
    bytes: int = 0
    total: int = 0


class Retention:
    """Plans and carries out rules on one store, on which a node may work meanwhile."""

    def __init__(
        self,
        database: Database,
        indexer: Indexer,
        erasing: Erasing,
        mailbox: Mailbox,
        *,
        own: str,
        distances: Callable[[], Mapping[str, float]],
    ) -> None:
        """own -- our feed; distances -- of feeds in follows; those that are not in it are out of reach."""
        self._database: Final = database
        self._indexer: Final = indexer
        self._erasing: Final = erasing
        self._mailbox: Final = mailbox
        self._own: Final = own
        self._distances: Final = distances
        self._running = False

    async def plan(self, rules: Sequence[Rule], *, now: int) -> Outcome:
        """What the rules would erase now; nothing is changed. now -- ms since 1970. Raises Busy, StoreError."""
        return _outcome(await self._plan(rules, now))

    async def apply(self, rules: Sequence[Rule], *, now: int) -> Outcome:
        """Erase what the rules say. Raises Busy, StoreError; what was erased before stays so."""
        if self._running:
            raise Busy("the rules are being carried out already")
        self._running = True
        try:
            plan = await self._plan(rules, now)
            erased = await self._erasing.erase(plan.positions, now=now)
            if erased.messages:
                await self._mailbox.forget()
            return _outcome(plan, erased)
        finally:
            self._running = False

    async def _plan(self, rules: Sequence[Rule], now: int) -> _Plan:
        if "message_types" in self._indexer.behind:
            raise Busy("the types of messages are being looked through; try again when the views are ready")
        await self._mailbox.catch_up()  # what nobody has tried to open yet might be for us
        distances = self._distances()
        return await self._database.read(lambda connection: _planned(connection, rules, self._own, distances, now))


def _outcome(plan: _Plan, erased: Erased | None = None) -> Outcome:
    messages, size = (len(plan.positions), plan.bytes) if erased is None else erased
    return Outcome(messages, size, plan.shares, plan.total - size)


def _planned(
    connection: sqlite3.Connection, rules: Sequence[Rule], own: str, known: Mapping[str, float], now: int
) -> _Plan:
    feeds = connection.execute("SELECT id, ref FROM feed WHERE messages>0").fetchall()
    distances = {number: known.get(feed, math.inf) for number, feed in feeds if feed != own}
    plan = _Plan(total=connection.execute("SELECT coalesce(sum(bytes), 0) FROM feed").fetchone()[0])
    taken = bytearray(last_position(connection) // 8 + 1)
    for rule in rules:
        numbers = [number for number, hops in distances.items() if rule.hops is None or hops >= rule.hops]
        messages = size = 0
        authors: set[int] = set()
        left = rule.keep
        for position, author, length in _fitting(connection, rule, numbers, now):
            bit = 1 << (position & 7)
            if taken[position >> 3] & bit:
                continue
            if left is not None and length <= left:
                left -= length
                continue
            if left is not None:
                left = 0  # everything older goes, however short
            taken[position >> 3] |= bit
            plan.positions.append(position)
            authors.add(author)
            messages += 1
            size += length
        plan.shares.append(Share(rule.text, messages, size, len(authors)))
        plan.bytes += size
    return plan


def _fitting(
    connection: sqlite3.Connection, rule: Rule, feeds: Sequence[int], now: int
) -> Iterator[tuple[int, int, int]]:
    """Position, author, length of the messages of some feeds that a rule may take; the newest first if it keeps any."""
    of_types = (
        "(SELECT t.position FROM message_type t JOIN message_type_name n ON n.id=t.type "
        "WHERE n.name IN (SELECT value FROM json_each(?)))"
    )
    kept = [NEEDED] if rule.types is not None else [NEEDED, KEPT]
    where = [
        HELD,
        "m.sequence>0",
        "m.sequence<f.sequence",
        "m.author IN (SELECT value FROM json_each(?))",
        "m.position NOT IN (SELECT position FROM opening)",
        f"m.position NOT IN {of_types}",
    ]
    values: list[str | int] = [json.dumps(feeds), json.dumps(kept)]
    if rule.types is not None:
        where.append(f"m.position IN {of_types}")
        values.append(json.dumps(rule.types))
    if rule.age is not None:
        where.append("min(m.timestamp, m.received)<?")
        values.append(now - rule.age)
    order = "" if rule.keep is None else " ORDER BY min(m.timestamp, m.received) DESC, m.position DESC"
    rows: Iterator[tuple[int, int, int]] = connection.execute(
        "SELECT m.position, m.author, length(m.text) FROM message m JOIN feed f ON f.id=m.author "  # noqa: S608
        f"WHERE {' AND '.join(where)}{order}",
        values,
    )
    return rows
