"""The order in which a thread is read: every message after those it answers (protocol.md section 11).

Messages form a graph: each names the tips its author saw. The order is topological, and where that leaves a choice the
earlier claimed time goes first, then the smaller id, so that everybody who holds the same messages reads the same. Ids
are hashes, so honest graphs have no cycles; a hostile text can still look like one, and is then cut at the message that
would come first by time.
"""

import heapq
from collections.abc import Iterable, Mapping
from typing import NamedTuple

__all__ = ["Place", "Placed", "order"]


class Place(NamedTuple):
    """A message to be put in order."""

    id: str
    parents: tuple[str, ...]
    """Ids that it comes after, in any order; those that are not among the messages are missing."""
    timestamp: int | float


class Placed(NamedTuple):
    """A message in its place."""

    id: str
    missing: tuple[str, ...]
    """Its parents that are not among the messages, in the order it names them."""


def order(places: Iterable[Place], *, root: str | None = None) -> list[Placed]:
    """Every message once, parents first. root -- goes before all others when it is among them.

    An id that comes twice counts once, as it was given first. Takes n log n steps for any input.
    """
    by_id: dict[str, Place] = {}
    for place in places:
        by_id.setdefault(place.id, place)
    waiting_for: dict[str, int] = {}
    children: dict[str, list[str]] = {}
    missing: dict[str, tuple[str, ...]] = {}
    for place in by_id.values():
        parents = [parent for parent in dict.fromkeys(place.parents) if parent != place.id]
        missing[place.id] = tuple(parent for parent in parents if parent not in by_id)
        present = set() if place.id == root else {parent for parent in parents if parent in by_id}
        if root in by_id and place.id != root:
            present.add(root)
        waiting_for[place.id] = len(present)
        for parent in present:
            children.setdefault(parent, []).append(place.id)
    return [Placed(id, missing[id]) for id in _sorted(by_id, waiting_for, children)]


def _sorted(by_id: Mapping[str, Place], waiting_for: dict[str, int], children: Mapping[str, list[str]]) -> list[str]:
    """Kahn's algorithm with a heap; where a cycle stops it, the first message by time goes on."""
    by_time = sorted((place.timestamp, place.id) for place in by_id.values())
    ready = [entry for entry in by_time if not waiting_for[entry[1]]]  # sorted, so a heap
    done: dict[str, None] = {}
    for cut in (None, *by_time):
        if cut is not None and cut[1] not in done:
            ready.append(cut)  # nothing else is ready
        while ready:
            _, id = heapq.heappop(ready)
            if id in done:
                continue
            done[id] = None
            for child in children.get(id, ()):
                waiting_for[child] -= 1
                if not waiting_for[child] and child not in done:
                    heapq.heappush(ready, (by_id[child].timestamp, child))
    return list(done)
