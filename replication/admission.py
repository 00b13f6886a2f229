"""How many callers may be in the middle of proving who they are, in all and from one address.

Pure counting; the listener asks before it spends anything on a connection. Addresses of this machine
get more room, since proxies, tunnels and tests come from there.
"""

from collections import Counter

from replication.limits import DEFAULT_LIMITS, Limits


class Admission:
    """Places for unauthenticated connections."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._inside: Counter[str] = Counter()
        self._total = 0
        self.refused = 0

    @property
    def total(self) -> int:
        """Connections inside now."""
        return self._total

    def enter(self, host: str) -> bool:
        """Take a place for a caller from ``host``; False if there is none."""
        limits = self._limits
        room = limits.unauthenticated_loopback if is_loopback(host) else limits.unauthenticated_per_address
        if self._total >= limits.unauthenticated or self._inside[host] >= room:
            self.refused += 1
            return False
        self._inside[host] += 1
        self._total += 1
        return True

    def leave(self, host: str) -> None:
        """Give the place back: the caller is authenticated, or gone."""
        if self._inside[host] <= 0:
            raise ValueError(f"nobody from {host} is inside")
        self._total -= 1
        self._inside[host] -= 1
        if not self._inside[host]:
            del self._inside[host]


def is_loopback(host: str) -> bool:
    """Whether ``host`` (an address, not a name) is this machine."""
    return host in ("::1", "unix", "memory") or host.removeprefix("::ffff:").startswith("127.")
