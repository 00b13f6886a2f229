"""The network interfaces on which a node can be found, asked of the kernel each time: they come and go.

On Linux every interface is listed with its broadcast address, and with its link-local IPv6 address; elsewhere only the
IPv4 address from which this machine would speak to far ones. Point-to-point links (VPNs) are left out: nobody is near
there. Loopback is listed for a node that listens nowhere else.
"""

import ipaddress
import socket
import struct
import sys
from pathlib import Path
from typing import Final, NamedTuple

from replication.admission import is_loopback
from replication.lan_hearing import Network

ALL_NODES: Final = "ff02::1"
MAX_INTERFACES: Final = 32
_IPV6_TABLE: Final = Path("/proc/net/if_inet6")
_FLAGS, _ADDRESS, _BROADCAST, _NETMASK = 0x8913, 0x8915, 0x8919, 0x891B  # SIOCGIF... of Linux
_UP, _HAS_BROADCAST, _LOOPBACK, _RUNNING = 0x1, 0x2, 0x8, 0x40
_FAR: Final = "192.0.2.1"


class Interface(NamedTuple):
    """One way to shout: from our own address `host`, to `target`. `number` is the kernel's."""

    name: str
    number: int
    host: str
    target: str
    network: Network | None = None

    @property
    def ipv6(self) -> bool:
        """Which family it is."""
        return ":" in self.host


def list_interfaces(listening: str) -> list[Interface]:
    """Where peers can reach a node that listens on the address `listening` (`::` and empty: all, `0.0.0.0`: IPv4)."""
    found = _linux(listening) if sys.platform == "linux" else _elsewhere()
    return [each for each in found if _is_reached(each, listening)][:MAX_INTERFACES]


def _is_reached(interface: Interface, listening: str) -> bool:
    if listening in ("", "::", "0.0.0.0"):  # noqa: S104 - compared with, not bound to
        return not is_loopback(interface.host) and (not interface.ipv6 or listening != "0.0.0.0")  # noqa: S104
    return interface.host == listening.partition("%")[0]


def _linux(listening: str) -> list[Interface]:
    found = []
    specific = listening.partition("%")[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for index, name in socket.if_nameindex():
            try:
                flags = struct.unpack_from("H", _ask(probe, name, _FLAGS), 16)[0]
            except OSError:
                continue
            if flags & (_UP | _RUNNING) != _UP | _RUNNING or not flags & (_HAS_BROADCAST | _LOOPBACK):
                continue
            found += _ipv4_of(probe, index, name, loopback=bool(flags & _LOOPBACK))
            if not flags & _LOOPBACK:
                found += _ipv6_of(index, name, specific)
    return found


def _ask(probe: socket.socket, name: str, what: int) -> bytes:
    import fcntl  # not on every platform

    return fcntl.ioctl(probe, what, struct.pack("256s", name.encode()[:15]))


def _ipv4_of(probe: socket.socket, index: int, name: str, *, loopback: bool) -> list[Interface]:
    try:
        host, broadcast, netmask = (
            socket.inet_ntoa(_ask(probe, name, what)[20:24]) for what in (_ADDRESS, _BROADCAST, _NETMASK)
        )
        network = ipaddress.IPv4Network(f"{host}/{netmask}", strict=False)
    except (OSError, ValueError):
        return []  # no address at present
    if loopback or broadcast == "0.0.0.0":  # noqa: S104 - compared with, not bound to
        broadcast = str(network.broadcast_address)
    return [Interface(name, index, host, broadcast, network)]


def _ipv6_of(index: int, name: str, specific: str) -> list[Interface]:
    """The link-local address, and the one that the node listens on if it is another."""
    found = []
    try:
        lines = _IPV6_TABLE.read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        digits, _, prefix, _, _, device = line.split()
        if device != name:
            continue
        host = str(ipaddress.IPv6Address(int(digits, 16)))
        if host == specific or ipaddress.IPv6Address(host).is_link_local:
            network = ipaddress.IPv6Network(f"{host}/{int(prefix, 16)}", strict=False)
            found.append(Interface(name, index, host, ALL_NODES, network))
    return found


def _elsewhere() -> list[Interface]:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((_FAR, 9))  # sends nothing
            return [Interface("", 0, str(probe.getsockname()[0]), "255.255.255.255")]
    except OSError:
        return []
