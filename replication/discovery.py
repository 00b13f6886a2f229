"""Local discovery: tells the neighbours where this node is, hears where they are (protocol.md section 15).

Both kinds of packets (`lan_beacon`) are sent on every interface on which the node can be reached, to the IPv4 broadcast
address and, boxed, to all nodes of the IPv6 link. What is heard is staged for the scheduler for ten seconds, within the
bounds of `lan_hearing`. A port that another program keeps for itself makes us deaf there until it is free, not mute; an
interface that comes or goes is noticed at the next packet.
"""

import asyncio
import logging
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Final, NamedTuple

from feeds.keys import Keypair
from replication.address import Address
from replication.admission import is_loopback
from replication.errors import InvalidAddress
from replication.lan_beacon import (
    BOXED_PORT,
    PLAIN_PORT,
    Beacon,
    InvalidBeacon,
    boxed_beacon,
    plain_beacon,
    read_boxed,
    read_plain,
)
from replication.lan_hearing import Hearing, address_of, is_neighbour
from replication.lan_interfaces import ALL_NODES, Interface, list_interfaces
from replication.limits import DEFAULT_LIMITS, Limits
from replication.socket_stream import plain_error

logger = logging.getLogger(__name__)

EAGER_SECONDS: Final = 1.0
STEADY_SECONDS: Final = 3.0
EAGER_ROUNDS: Final = 5
"""So often the packets follow quickly after the start, and after a change of the interfaces."""
DEAF_SECONDS: Final = 30.0
"""When to try again to listen on a port that another program has."""
_BUFFER: Final = 64 * 1024


class Ports(NamedTuple):
    """UDP ports of the two kinds of packets."""

    plain: int = PLAIN_PORT
    boxed: int = BOXED_PORT


class Discovery:
    """`run` until cancelled."""

    def __init__(
        self,
        keypair: Keypair,
        network_key: bytes,
        *,
        listening: tuple[str, int],
        stage: Callable[[str], bool],
        random: Callable[[], float],
        now: Callable[[], float] = time.monotonic,
        interfaces: Callable[[str], Sequence[Interface]] = list_interfaces,
        ports: Ports = Ports(),  # noqa: B008 - a value, never changed
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """`listening` is the host and port on which peers can connect; `stage` takes the address of a neighbour."""
        self._keypair = keypair
        self._network_key = network_key
        self._host, self._port = listening
        self._stage = stage
        self._random = random
        self._now = now
        self._list = interfaces
        self._ports = ports
        self._hearing = Hearing(limits)
        self.breaches = self._hearing.breaches
        self._interfaces: list[Interface] = []
        self._ears: dict[tuple[bool, int], asyncio.DatagramTransport] = {}
        self._deaf: set[tuple[bool, int]] = set()
        self._mute: set[Interface] = set()
        self._on = asyncio.Event()
        self._on.set()

    def pause(self) -> None:
        """Neither tell nor hear, until `resume`."""
        self._on.clear()

    def resume(self) -> None:
        """Tell and hear again."""
        self._on.set()

    async def run(self) -> None:
        """Tell and listen."""
        rounds, listen_at = 0, self._now()
        try:
            while True:
                await self._on.wait()
                found = self._look()
                if found != self._interfaces:
                    self._interfaces, rounds = found, 0
                    listen_at = self._now()  # the IPv6 group is joined on each interface
                if self._now() >= listen_at:
                    await self._listen()
                    listen_at = self._now() + DEAF_SECONDS
                for interface in found:
                    self._tell(interface)
                rounds += 1
                pause = EAGER_SECONDS if rounds < EAGER_ROUNDS else STEADY_SECONDS
                await asyncio.sleep(pause * (0.75 + self._random() / 2))
        finally:
            for ear in self._ears.values():
                ear.close()

    def _look(self) -> list[Interface]:
        try:
            return list(self._list(self._host))
        except OSError as error:  # no descriptors left, for one
            logger.debug("cannot list the network interfaces: %s", plain_error(error))
            return []

    # ---- telling

    def _tell(self, interface: Interface) -> None:
        """Send the packets on one interface; a socket lives for one round, so none outlives its interface."""
        address = str(Address.net(interface.host, self._port, self._keypair.public))
        packets = [(boxed_beacon(address, self._keypair, self._network_key), self._ports.boxed)]
        if not interface.ipv6:  # deployed nodes hear plain text on IPv4 only
            packets.append((plain_beacon(address), self._ports.plain))
        family = socket.AF_INET6 if interface.ipv6 else socket.AF_INET
        try:
            with closing(socket.socket(family, socket.SOCK_DGRAM)) as mouth:
                mouth.setblocking(False)
                if interface.ipv6:
                    mouth.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface.number)
                    mouth.bind((interface.host, 0, 0, interface.number))
                else:
                    mouth.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                    mouth.bind((interface.host, 0))
                for packet, port in packets:
                    scope = (0, interface.number) if interface.ipv6 else ()
                    mouth.sendto(packet, (interface.target, port, *scope))
        except OSError as error:
            if interface not in self._mute:
                logger.info("cannot announce this node on %s: %s", interface.name or interface.host, plain_error(error))
            self._mute = {each for each in self._mute if each in self._interfaces} | {interface}
        else:
            self._mute.discard(interface)

    # ---- hearing

    async def _listen(self) -> None:
        """Open what is not open, and join the IPv6 group on every interface."""
        for ear in ((False, self._ports.boxed), (False, self._ports.plain), (True, self._ports.boxed)):
            if ear not in self._ears:
                await self._open(*ear)
        for (ipv6, _), transport in self._ears.items():
            if ipv6:
                self._join(transport)

    async def _open(self, ipv6: bool, port: int) -> None:
        boxed = port == self._ports.boxed
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Ear(lambda packet, source: self._hear(packet, source, boxed=boxed)), sock=_ear(port, ipv6=ipv6)
            )
        except OSError as error:
            if (ipv6, port) not in self._deaf and (not ipv6 or any(each.ipv6 for each in self._interfaces)):
                self._deaf.add((ipv6, port))
                logger.warning("cannot hear neighbours on UDP port %d: %s", port, plain_error(error))
            return
        self._deaf.discard((ipv6, port))
        self._ears[ipv6, port] = transport

    def _join(self, transport: asyncio.DatagramTransport) -> None:
        sock = transport.get_extra_info("socket")
        for interface in self._interfaces:
            if interface.ipv6:
                group = socket.inet_pton(socket.AF_INET6, ALL_NODES) + struct.pack("@I", interface.number)
                try:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
                except OSError as error:  # joined already, or the interface has gone
                    logger.debug("joining %s on %s: %s", ALL_NODES, interface.name, plain_error(error))

    def _hear(self, packet: bytes, source: str, *, boxed: bool) -> None:
        networks = [each.network for each in self._interfaces if each.network is not None]
        now = self._now()
        if not self._on.is_set():
            return
        if not is_neighbour(source, networks) or (is_loopback(self._host) and not is_loopback(source)):
            return
        if not self._hearing.hears(source, now):
            return
        try:
            beacon: Beacon = read_boxed(packet, self._network_key) if boxed else read_plain(packet)
        except InvalidBeacon as error:
            logger.debug("a packet from %s tells of no neighbour: %s", source, error)
            return
        if beacon.peer == self._keypair.id:
            return
        address = address_of(beacon, source)
        if not self._hearing.believes(source, address, now):
            return
        try:
            if self._stage(address):
                logger.debug("%s is a neighbour, at %s", beacon.peer, address)
        except InvalidAddress as error:
            logger.debug("a packet from %s tells of no address that can be dialled: %s", source, error)


class _Ear(asyncio.DatagramProtocol):
    """Hands packets on, with the host they came from (an IPv6 link-local one with its interface)."""

    def __init__(self, on_packet: Callable[[bytes, str], None]) -> None:
        self._on_packet = on_packet

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        self._on_packet(data, _host_of(addr))

    def error_received(self, exc: Exception) -> None:
        logger.debug("listening for neighbours: %s", exc)


def _host_of(addr: tuple[str | int, ...]) -> str:
    host = str(addr[0]).partition("%")[0]
    scope = addr[3] if len(addr) > 3 else 0
    if not scope:
        return host
    try:
        return f"{host}%{socket.if_indextoname(int(scope))}"
    except OSError:
        return host  # the interface has gone meanwhile


def _ear(port: int, *, ipv6: bool) -> socket.socket:
    """A socket that shares its port with other nodes of this machine."""
    sock = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        if ipv6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(("::" if ipv6 else "", port))
    except OSError:
        sock.close()
        raise
    return sock
