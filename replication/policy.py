"""Which feeds to replicate, and with whom. Pure: social graph, blocks and explicit requests in, decisions out.

Rules (protocol sections 9, 11 and 15), the first that fits decides:

1. Our own feed is wanted, from anyone.
2. A feed that we block is never replicated, whatever else is said of it.
3. An explicit request, by hand, decides: yes or no.
4. A feed within ``max_hops`` of us by follows is wanted (0 = us, 1 = we follow). Negative distances are feeds that
   somebody at that distance blocks or unfollowed, and that nobody as near follows: not wanted.

The owner of a feed may block a peer: its messages are then never sent to that peer, nor asked of it. A peer that we
block is refused in the handshake and served nothing.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, NamedTuple

DEFAULT_HOPS: Final = 3
FURTHEST: Final = 1 << 30
"""More hops than any feed is away."""
_NOBODY: Final[frozenset[str]] = frozenset()


class Reason(Enum):
    """Why a feed is wanted or not; the value is for people."""

    OWN = "it is our own feed"
    BLOCKED = "we block it"
    REQUESTED = "it was requested by hand"
    REFUSED = "its replication was switched off by hand"
    WITHIN_HOPS = "it is within reach of our follows"
    BLOCKED_BY_FOLLOWS = "people we follow block it, and nobody as near follows it"
    UNFOLLOWED = "we unfollowed it"
    TOO_FAR = "it is further away than our follows reach"
    UNKNOWN = "nobody within reach follows it"

    @property
    def wanted(self) -> bool:
        """Whether a feed with this reason is replicated."""
        return self in _WANTED


_WANTED = frozenset({Reason.OWN, Reason.REQUESTED, Reason.WITHIN_HOPS})

_ADVICE = {
    Reason.OWN: None,
    Reason.BLOCKED: "unblock it",
    Reason.REQUESTED: "take the request back",
    Reason.REFUSED: "request it",
    Reason.WITHIN_HOPS: None,
    Reason.BLOCKED_BY_FOLLOWS: "follow it, or request it",
    Reason.UNFOLLOWED: "follow it, or request it",
    Reason.TOO_FAR: "follow it, request it, or raise the number of hops",
    Reason.UNKNOWN: "follow it, or request it",
}


class Strangers(StrEnum):
    """Who may connect to us, besides our own key, whom we picked by hand, and guests."""

    ANYONE = "anyone"
    HOPS = "hops"
    """Whose feed we replicate."""
    FOLLOWED = "followed"
    """Whom we follow ourselves."""


class Explanation(NamedTuple):
    """Why a feed is, or is not, replicated.

    ``path`` leads from us to the feed along follows ([] if there is no such path), ``hops`` is its distance (None:
    not reached), ``limit`` the number of hops we replicate, ``would_change`` what a person could do about a refusal.
    """

    feed: str
    wanted: bool
    reason: Reason
    path: list[str]
    hops: int | None
    limit: int
    would_change: str | None


class Change(NamedTuple):
    """What differs between two policies. Nearer feeds come first in ``wanted``; pairs are (feed, peer)."""

    wanted: list[str]
    unwanted: list[str]
    blocked: list[tuple[str, str]]
    unblocked: list[tuple[str, str]]
    refused_peers: list[str]
    """Peers that we block from now on: hang up on them."""

    def __bool__(self) -> bool:
        return any(self)


@dataclass(frozen=True, slots=True)
class Policy:
    """The decisions that follow from one state of the graph; made by ``evaluate``, never changed."""

    me: str
    hops: Mapping[str, int]
    blocks: Mapping[str, frozenset[str]]
    requests: Mapping[str, bool]
    max_hops: int
    wanted: frozenset[str]

    def reason(self, feed: str) -> Reason:
        """The rule that decides about ``feed``."""
        distance = self.hops.get(feed)
        if feed == self.me:
            return Reason.OWN
        if feed in self.blocks.get(self.me, _NOBODY) or distance == -1:
            return Reason.BLOCKED
        request = self.requests.get(feed)
        if request is not None:
            return Reason.REQUESTED if request else Reason.REFUSED
        if distance is None:
            return Reason.UNKNOWN
        if distance > self.max_hops:
            return Reason.TOO_FAR
        if distance >= 0:
            return Reason.WITHIN_HOPS
        blocked = any(feed in targets and self.hops.get(owner, -1) >= 0 for owner, targets in self.blocks.items())
        return Reason.BLOCKED_BY_FOLLOWS if blocked else Reason.UNFOLLOWED

    def explain(self, feed: str, followers: Callable[[str], Iterable[str]]) -> Explanation:
        """Why ``feed`` is, or is not, replicated; ``followers(x)`` gives the feeds that follow ``x``."""
        reason = self.reason(feed)
        distance = self.hops.get(feed)
        path = [] if distance is None or distance < 0 else self._path(feed, followers)
        return Explanation(feed, reason.wanted, reason, path, distance, self.max_hops, _ADVICE[reason])

    def _path(self, feed: str, followers: Callable[[str], Iterable[str]]) -> list[str]:
        """A shortest way along follows; each step goes to a follower that is one hop nearer to us."""
        path = [feed]
        while path[-1] != self.me:
            nearer = self.hops[path[-1]] - 1
            step = min((f for f in followers(path[-1]) if self.hops.get(f) == nearer), default=None)
            if step is None:
                return []
            path.append(step)
        return path[::-1]

    def allows_peer(self, peer: str) -> bool:
        """Whether a connection with ``peer`` is wanted at all; asked during the handshake."""
        return peer not in self.blocks.get(self.me, _NOBODY)

    def admits(self, peer: str, strangers: Strangers) -> bool:
        """Whether a peer that calls us is let in; asked during the handshake."""
        if not self.allows_peer(peer):
            return False
        match strangers:
            case Strangers.ANYONE:
                return True
            case Strangers.HOPS:
                return peer in self.wanted
            case Strangers.FOLLOWED:
                return peer == self.me or self.hops.get(peer) == 1

    def may_serve(self, feed: str, peer: str) -> bool:
        """Whether messages of ``feed`` may be sent to ``peer``, by whatever way they are asked for."""
        mine = self.blocks.get(self.me, _NOBODY)
        return peer not in mine and feed not in mine and peer not in self.blocks.get(feed, _NOBODY)

    def blocked_peers(self, feed: str) -> frozenset[str]:
        """Peers kept apart from a wanted feed by its owner; empty for a feed that is not wanted."""
        return self.blocks.get(feed, _NOBODY) if feed in self.wanted else _NOBODY


def evaluate(
    me: str,
    *,
    hops: Mapping[str, int],
    blocks: Mapping[str, Collection[str]],
    requests: Mapping[str, bool],
    max_hops: int = DEFAULT_HOPS,
) -> Policy:
    """Decide from a state of the graph, of which copies are kept.

    ``hops`` is the distance of each feed reached (negative: see the rules; deeper ones than ``max_hops`` are allowed
    and help ``explain``), ``blocks`` whom each feed blocks (itself does not count), ``requests`` what was asked for by
    hand.
    """
    apart = {owner: frozenset(targets).difference((owner,)) for owner, targets in blocks.items()}
    own_blocks = apart.get(me, _NOBODY)
    wanted = {feed for feed, distance in hops.items() if 0 <= distance <= max_hops}
    wanted.update(feed for feed, request in requests.items() if request)
    wanted.difference_update(feed for feed, request in requests.items() if not request)
    wanted.difference_update(own_blocks)
    wanted.difference_update(feed for feed, request in requests.items() if request and hops.get(feed) == -1)
    wanted.add(me)
    return Policy(
        me=me,
        hops=dict(hops),
        blocks={owner: targets for owner, targets in apart.items() if targets},
        requests=dict(requests),
        max_hops=max_hops,
        wanted=frozenset(wanted),
    )


def nothing(me: str) -> Policy:
    """The policy before anything is decided: nothing is wanted, nobody blocked. A start for ``compare``."""
    return Policy(me, {}, {}, {}, 0, frozenset())


def compare(old: Policy, new: Policy) -> Change:
    """What to do to get from ``old`` to ``new``; fast when little has changed."""
    added = sorted(new.wanted - old.wanted)
    added.sort(key=lambda feed: _nearness(new, feed))
    blocked: list[tuple[str, str]] = []
    unblocked: list[tuple[str, str]] = []
    for owner in old.blocks.keys() | new.blocks.keys():
        before, after = old.blocked_peers(owner), new.blocked_peers(owner)
        if before is not after and before != after:
            blocked.extend((owner, peer) for peer in after - before)
            unblocked.extend((owner, peer) for peer in before - after)
    refused = new.blocks.get(new.me, _NOBODY) - old.blocks.get(old.me, _NOBODY)
    return Change(added, sorted(old.wanted - new.wanted), sorted(blocked), sorted(unblocked), sorted(refused))


def _nearness(policy: Policy, feed: str) -> int:
    """Order in which feeds are taken up: ours, then the nearest; those asked for by hand with those we follow."""
    return 0 if feed == policy.me else 1 if feed in policy.requests else policy.hops[feed]
