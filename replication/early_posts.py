"""Newest posts before history: whose last messages a peer is asked for out of order. Pure.

A peer's EBT notes say how far it has each feed, and every deployed peer serves a feed from a sequence on
(`createHistoryStream`, OBSERVED.md 4.4). So while much is missing, the last messages of near feeds can be asked for
beside the replication that brings them in order. It is one try for each feed in a session, of a few messages.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from feeds.message import JsonValue

__all__ = ["AT_ONCE", "EARLY_HOPS", "LAST", "Ask", "Asking", "Offer", "wakes_old_replication"]

EARLY_HOPS: Final = 2
"""Feeds up to so far away are asked for."""
MANY: Final = 1000
"""So many messages of those feeds must be missing; fewer are here before anybody has looked."""
BEHIND: Final = 50
"""So many messages of a feed, at least, must be missing."""
LAST: Final = 20
"""Messages of a feed that are asked for."""
SHARE: Final = 20
"""So many times as much must be missing as is asked for, since all of it comes a second time."""
FEEDS: Final = 200
BYTES: Final = 4 * 1024 * 1024
"""What a session asks for at most."""
AT_ONCE: Final = 8
OLD_PEERS_FEEDS: Final = 300


class Offer(NamedTuple):
    """What a peer has of a feed that we lack: sequences that we hold, that it claims, that was looked at early."""

    feed: str
    held: int
    claimed: int
    seen: int


class Ask(NamedTuple):
    """Ask for so many messages of a feed, from a sequence on."""

    feed: str
    first: int
    most: int


class Asking:
    """What one session was asked."""

    def __init__(self) -> None:
        self._asked: set[str] = set()
        self._missing = 0
        self._bytes = 0

    def received(self, size: int) -> None:
        """So many bytes came for it."""
        self._bytes += size

    @property
    def over(self) -> bool:
        """Whether the session is asked for nothing more."""
        return len(self._asked) >= FEEDS or self._bytes >= BYTES

    def choose(self, offers: Iterable[Offer]) -> list[Ask]:
        """What to ask for next, of all offers, the nearest feeds first."""
        offers = list(offers)
        self._missing = max(self._missing, sum(offer.claimed - offer.held for offer in offers))
        chosen: list[Ask] = []
        if self._missing < MANY:
            return chosen
        for feed, held, claimed, seen in offers:
            spent = (len(self._asked) + 1) * LAST * SHARE > self._missing
            if len(chosen) == AT_ONCE or spent or self.over:
                break
            if claimed - held > BEHIND and claimed > seen and feed not in self._asked:
                self._asked.add(feed)
                chosen.append(Ask(feed, max(held, seen, claimed - LAST) + 1, LAST))
        return chosen


def wakes_old_replication(manifest: JsonValue, feeds: int) -> bool:
    """Whether a peer with this manifest, that replicates so many feeds, had better not be asked.

    In ssb-server the first history stream that a peer asks for makes ssb-replicate ask it in turn for every feed, at
    once and live, beside EBT. With more feeds than `OLD_PEERS_FEEDS` that passes what a peer may call in a burst, and
    everything else would wait.
    """
    plugin = manifest.get("replicate") if isinstance(manifest, dict) else None
    return isinstance(plugin, dict) and "upto" in plugin and feeds > OLD_PEERS_FEEDS
