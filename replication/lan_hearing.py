"""What a node believes of the packets of local discovery: whose, how many, and where it dials then. Pure.

Any program on the local network can send such packets, and on a machine without a firewall anybody on the internet. So
only neighbours are heard, each only so often; and what is dialled is where the packet came from, never a host that it
names, so that nobody can send us to somebody else.
"""

import ipaddress
from collections import Counter
from collections.abc import Collection
from typing import Final

from replication.address import Address
from replication.lan_beacon import Beacon
from replication.limits import DEFAULT_LIMITS, Limits

TTL: Final = 10.0
"""Seconds for which a packet holds, as in deployed nodes, which send every second or two."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def is_neighbour(host: str, networks: Collection[Network] = ()) -> bool:
    """Whether packets from this IP address count: a private one, or one within the networks of our interfaces."""
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if found.is_multicast or found.is_unspecified:
        return False
    return not found.is_global or any(found in network for network in networks)


def address_of(beacon: Beacon, source: str) -> str:
    """Where to dial the node: the host the packet came from, and the port it names for that host, or else its first."""
    same = [each for each in beacon.addresses if each.host == source.partition("%")[0]]
    chosen = (same or beacon.addresses)[0]
    return str(Address.net(source, chosen.port, chosen.public))


class Hearing:
    """Counts packets and nodes; times are monotonic seconds."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._window = 0
        self._packets: Counter[str] = Counter()
        self._total = 0
        self._peers: dict[str, tuple[str, float]] = {}
        self.breaches: Counter[str] = Counter()

    def hears(self, source: str, now: float) -> bool:
        """Whether one more packet from this host is looked at."""
        if int(now) != self._window:
            self._window, self._total = int(now), 0
            self._packets.clear()
        if self._packets[source] >= self._limits.lan_packets_per_source:
            self.breaches["lan_packets_per_source"] += 1
            return False
        if self._total >= self._limits.lan_packets_per_second:
            self.breaches["lan_packets_per_second"] += 1
            return False
        self._packets[source] += 1
        self._total += 1
        return True

    def believes(self, source: str, address: str, now: float) -> bool:
        """Whether there is room for this address; one that was believed of late stays."""
        known = self._peers.pop(address, None)
        if known is None:
            self._forget(now)
            of_source = sum(1 for host, _ in self._peers.values() if host == source)
            crowded = of_source >= self._limits.lan_peers_per_source
            if crowded or len(self._peers) >= self._limits.lan_peers:
                self.breaches["lan_peers_per_source" if crowded else "lan_peers"] += 1
                return False
        self._peers[address] = (source, now + TTL)
        return True

    def _forget(self, now: float) -> None:
        for address in [address for address, (_, until) in self._peers.items() if until <= now]:
            del self._peers[address]
