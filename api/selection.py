"""Messages chosen by what they point to or are about: the filters of a list that go by an index of their own."""

import sqlite3
from dataclasses import dataclass
from typing import Final

from api.answers import unpacked
from feeds.content import links as links_in
from feeds.log import Entry, entries_at
from feeds.message import JsonValue
from feeds.search_words import Query
from feeds.views import channels, links, search, threads

__all__ = ["Selection", "has_link"]

_ALIKE: Final = 11
"""Characters that all ids have in common whose first eight bytes are the same."""
BOTH_LIMIT: Final = 200_000
"""Messages that each of several filters may find before what they share is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Filters that all have to fit; None is no filter. Ids are canonical, a channel may be in any spelling."""

    channel: str | None
    root: str | None
    mentions: str | None
    query: Query | None = None

    def read(self, connection: sqlite3.Connection, position: int, limit: int, *, descending: bool) -> list[Entry]:
        """Messages in receive order after a position (descending: before it); `is_named_in` has the last word.

        Fewer than `limit` are all there are.
        """
        entries: list[Entry] = []
        while (wanted := limit - len(entries)) > 0:  # what is deleted makes room for more
            found = self._positions(connection, position, wanted, descending=descending)
            entries += entries_at(connection, found)
            if len(found) < wanted:
                break
            position = found[-1]
        return entries

    def _positions(self, connection: sqlite3.Connection, position: int, limit: int, *, descending: bool) -> list[int]:
        filters = (self.channel, self.root, self.mentions, self.query)
        at_most = limit if sum(one is not None for one in filters) == 1 else BOTH_LIMIT
        found: list[list[int]] = []
        if self.channel is not None:
            found.append(
                channels.positions(connection, self.channel, after=position, limit=at_most, descending=descending)
            )
        if self.root is not None:
            found.append(threads.positions(connection, self.root, after=position, limit=at_most, descending=descending))
        if self.mentions is not None:
            found.append(self._mentioning(connection, position, at_most, descending=descending))
        if self.query is not None:
            found.append(search.positions(connection, self.query, after=position, limit=at_most, descending=descending))
        shared = set(found[0]).intersection(*found[1:])
        return sorted(shared, reverse=descending)[:limit]

    def _mentioning(self, connection: sqlite3.Connection, position: int, limit: int, *, descending: bool) -> list[int]:
        assert self.mentions is not None
        positions: dict[int, None] = {}
        after = (position, 0 if descending else 1 << 62)
        while len(positions) < limit:  # a message may mention the same in two ways
            wanted = limit - len(positions)
            page = links.backlinks(
                connection, self.mentions, rel="mentions", after=after, limit=wanted, descending=descending
            )
            positions.update(dict.fromkeys(link.position for link in page))
            if len(page) < wanted:
                break
            after = page[-1].position, page[-1].number
        return list(positions)

    def is_named_in(self, text: bytes) -> bool:
        """Whether a stored text truly holds what is asked for.

        The indices go by hashes and by how ids begin, and by words in whatever order.
        """
        return (
            (self.root is None or self.root[0] == "s" or self.root.encode() in text)
            and (self.mentions is None or has_link(text, self.mentions, "mentions"))
            and (self.query is None or self.query.fits(_content(text)))
        )


def _content(text: bytes) -> JsonValue:
    value = unpacked(text)
    return value.get("content") if isinstance(value, dict) else None


def has_link(text: bytes, target: str, rel: str) -> bool:
    """Whether a stored message that the index of links gave for a canonical id and `rel` truly has that link.

    The index holds the first eight bytes of ids: only a text with two ids that begin alike needs to be read.
    """
    if target[0] != "s":
        id = target.encode()
        times = text.count(id)
        if not times or text.count(id[:_ALIKE]) == times:
            return times > 0
    content = _content(text)
    found = links_in(content) if isinstance(content, dict) else []
    return any(link.target == target and f"{link.path}.".startswith(f"{rel}.") for link in found)
