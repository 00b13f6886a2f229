"""Who follows and who blocks whom: the edges that contact messages make, and distances over them.

The rules are those of ssb-friends and layered-graph as deployed (protocol.md section 11): the newest contact message of
a source about a destination replaces what the one before said, wholly; distances spread over follows only.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Final

__all__ = ["ContactGraph", "Edge"]


class Edge(IntEnum):
    """What a source last said about a destination; the numbers are those other programs show."""

    FOLLOW = 1
    BLOCK = -1
    NONE = -2
    """An explicit "neither": unfollowed or unblocked."""


class ContactGraph:
    """The graph in memory. Feed ids are interned: each is kept once, edges are pairs of small integers."""

    def __init__(self) -> None:
        self._numbers: Final[dict[str, int]] = {}
        self._names: Final[list[str]] = []
        self._edges: Final[list[dict[int, int]]] = []

    def set(self, source: str, destination: str, edge: Edge) -> bool:
        """Replace the edge between two feeds; True when it is another than before."""
        edges, number = self._edges[self._number(source)], self._number(destination)
        if edges.get(number) == edge:
            return False
        edges[number] = int(edge)
        return True

    def clear(self) -> None:
        """Forget every edge."""
        for edges in self._edges:
            edges.clear()

    def edge(self, source: str, destination: str) -> Edge | None:
        """What source last said about destination; None when it never said anything."""
        numbers = self._numbers
        if source not in numbers or destination not in numbers:
            return None
        value = self._edges[numbers[source]].get(numbers[destination])
        return None if value is None else Edge(value)

    def destinations(self, source: str, edge: Edge) -> list[str]:
        """Feeds that source has this edge to."""
        number = self._numbers.get(source)
        if number is None:
            return []
        return [self._names[other] for other, value in self._edges[number].items() if value == edge]

    def sources(self, destination: str, edge: Edge) -> list[str]:
        """Feeds that have this edge to destination."""
        number = self._numbers.get(destination)
        if number is None:
            return []
        return [self._names[other] for other, edges in enumerate(self._edges) if edges.get(number) == edge]

    def items(self) -> Iterator[tuple[str, str, Edge]]:
        """Every edge."""
        for source, edges in enumerate(self._edges):
            for destination, value in edges.items():
                yield self._names[source], self._names[destination], Edge(value)

    def hops(self, me: str, maximum: int) -> dict[str, int]:
        """Distances from me: 0 me, n reached over n follows.

        Negative: -n is blocked by a feed at distance n - 1, or explicitly not followed by one at distance n - 2. The
        smaller absolute number wins, at a tie the positive one; only positive ones below `maximum` spread further.
        Absent: not reached.
        """
        start = self._numbers.get(me)
        if start is None:
            return {me: 0}
        reached = {start: 0}
        frontier = [start]
        refused: list[int] = []  # explicit "neither" edges count as two steps, so they wait for one turn
        for distance in range(1, maximum + 1):
            following: list[int] = []
            blocked = refused
            refused = []
            for source in frontier:
                for destination, edge in self._edges[source].items():
                    if destination in reached:
                        continue
                    if edge == Edge.FOLLOW:
                        reached[destination] = distance
                        following.append(destination)
                    elif edge == Edge.BLOCK:
                        blocked.append(destination)
                    else:
                        refused.append(destination)
            for destination in blocked:
                reached.setdefault(destination, -distance)
            frontier = following
        for destination in refused:
            reached.setdefault(destination, -maximum - 1)
        return {self._names[number]: distance for number, distance in reached.items()}

    def _number(self, name: str) -> int:
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self._names)
            self._names.append(name)
            self._edges.append({})
        return number
