"""How many callers may be in the middle of proving who they are, in all and from one address.

Pure bookkeeping. A newcomer always gets a place: where there is none left, the caller that has shown least
for longest must go. So a crowd that keeps silent, or that does not know the network key, cannot keep
others out, and an honest caller, who needs milliseconds, is hardly ever the one to go. Addresses of this
machine get more room, since proxies, tunnels and tests come from there. In IPv6, where everybody has as many
addresses as they like, one address is a network of 64 bits.
"""

import ipaddress
from collections import Counter
from collections.abc import Callable
from typing import Self

from replication.limits import DEFAULT_LIMITS, Limits


class Place:
    """A place that one connection holds until ``leave``; use as a context manager."""

    __slots__ = ("_admission", "drop", "host")

    def __init__(self, admission: "Admission", host: str, drop: Callable[[], None]) -> None:
        self._admission = admission
        self.host = host
        self.drop = drop

    def has_shown(self) -> None:
        """The caller has proved that it knows the network key."""
        self._admission.note_shown(self)

    def leave(self) -> None:
        """Give the place back: the caller is authenticated, or gone. Once is enough."""
        self._admission.leave_place(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()


class _Host:
    """The places of one address, oldest first, apart by what the callers have shown."""

    __slots__ = ("counted", "known", "unknown")

    def __init__(self) -> None:
        self.unknown: dict[Place, None] = {}
        self.known: dict[Place, None] = {}
        self.counted = 0

    @property
    def size(self) -> int:
        return len(self.unknown) + len(self.known) + self.counted

    def worst(self) -> Place | None:
        return next(iter(self.unknown or self.known), None)


class Admission:
    """Places for unauthenticated connections."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._hosts: dict[str, _Host] = {}
        self.total = 0
        self.breaches: Counter[str] = Counter()

    @property
    def turned_away(self) -> int:
        """Callers that got no place, or lost theirs, so far."""
        return self.breaches.total()

    def admit(self, host: str, drop: Callable[[], None]) -> Place:
        """A place for a caller from ``host``; ``drop`` is called if it must make room for another."""
        host = _counted_as(host)
        place = Place(self, host, drop)
        crowded = self._hosts.get(host)
        if crowded is not None and crowded.size >= self._room(host):
            self._make_room(crowded, self._limit_of(host))
        if self.total >= self._limits.unauthenticated:
            self._make_room(max(self._hosts.values(), key=lambda each: each.size), "unauthenticated")
        self._hosts.setdefault(host, _Host()).unknown[place] = None
        self.total += 1
        return place

    def note_shown(self, place: Place) -> None:
        at = self._hosts.get(place.host)
        if at is not None and at.unknown.pop(place, place) is None:
            at.known[place] = None

    def leave_place(self, place: Place) -> None:
        at = self._hosts.get(place.host)
        if at is not None and (at.unknown.pop(place, place) is None or at.known.pop(place, place) is None):
            self._one_less(place.host, at)

    def enter(self, host: str) -> bool:
        """Take a place that nobody can take away; False if there is none. For listeners that await one peer."""
        host = _counted_as(host)
        at = self._hosts.get(host, _Host())
        if self.total >= self._limits.unauthenticated or at.size >= self._room(host):
            self.breaches["unauthenticated" if at.size < self._room(host) else self._limit_of(host)] += 1
            return False
        self._hosts[host] = at
        at.counted += 1
        self.total += 1
        return True

    def leave(self, host: str) -> None:
        """Give back a place taken by ``enter``."""
        host = _counted_as(host)
        at = self._hosts.get(host)
        if at is None or not at.counted:
            raise ValueError(f"nobody from {host} is inside")
        at.counted -= 1
        self._one_less(host, at)

    def _room(self, host: str) -> int:
        limits = self._limits
        return limits.unauthenticated_loopback if is_loopback(host) else limits.unauthenticated_per_address

    def _limit_of(self, host: str) -> str:
        return "unauthenticated_loopback" if is_loopback(host) else "unauthenticated_per_address"

    def _make_room(self, at: _Host, limit: str) -> None:
        worst = at.worst()
        if worst is not None:
            self.breaches[limit] += 1
            worst.leave()
            worst.drop()

    def _one_less(self, host: str, at: _Host) -> None:
        self.total -= 1
        if not at.size:
            del self._hosts[host]


def _counted_as(host: str) -> str:
    """The network of an IPv6 address, but for neighbours on one link, whose addresses are all in the same."""
    if ":" not in host or is_loopback(host):
        return host
    try:
        found = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if found.ipv4_mapped is not None or found.is_link_local:
        return host
    return str(ipaddress.IPv6Network((found, 64), strict=False))


def is_loopback(host: str) -> bool:
    """Whether ``host`` (an address, not a name) is this machine."""
    return host in ("::1", "unix", "memory") or host.removeprefix("::ffff:").startswith("127.")
