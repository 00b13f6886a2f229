"""Local discovery on loopback: two nodes find each other, hostile packets, taken ports, interfaces that come and go."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count

import pytest

from replication import discovery
from replication.discovery import Discovery, Ports
from replication.lan_beacon import boxed_beacon, plain_beacon
from replication.lan_interfaces import Interface, list_interfaces
from replication.limits import Limits
from replication.secret_handshake import MAIN_NETWORK
from tests.support import builders
from tests.support.peers import until

LOOPBACK = Interface("lo", 1, "127.0.0.1", "127.255.255.255")


@pytest.fixture
def ports() -> Ports:
    """Ports that nobody has, so that nothing but this test is heard."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return Ports(one.getsockname()[1], other.getsockname()[1])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EAGER_SECONDS", "STEADY_SECONDS", "DEAF_SECONDS"):
        monkeypatch.setattr(discovery, name, 0.05)


class Party:
    """A node's discovery without the node: what it staged."""

    def __init__(
        self,
        name: str,
        ports: Ports,
        *,
        network_key: bytes = MAIN_NETWORK,
        port: int = 8008,
        interfaces: Callable[[str], Sequence[Interface]] = lambda _: [LOOPBACK],
        limits: Limits | None = None,
    ) -> None:
        self.keypair = builders.keypair(name)
        self.staged: list[str] = []
        self.address = f"net:127.0.0.1:{port}~shs:{self.keypair.id[1:-8]}"
        self.discovery = Discovery(
            self.keypair,
            network_key,
            listening=("127.0.0.1", port),
            stage=self._stage,
            random=lambda: 0.5,
            interfaces=interfaces,
            ports=ports,
            limits=limits or Limits(),
        )

    def _stage(self, address: str) -> bool:
        self.staged.append(address)
        return True


@contextmanager
def running(*parties: Party) -> Iterator[None]:
    tasks = [asyncio.create_task(party.discovery.run()) for party in parties]
    try:
        yield
    finally:
        assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()


def send(packet: bytes, port: int, source: str = "127.0.0.1") -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.sendto(packet, ("127.0.0.1", port))


async def test_two_nodes_find_each_other_and_not_themselves(ports: Ports) -> None:
    a, b = Party("a", ports, interfaces=list_interfaces), Party("b", ports, port=8010, interfaces=list_interfaces)
    with running(a, b):
        await until(lambda: len(a.staged) > 3 and len(b.staged) > 3)
    assert (set(a.staged), set(b.staged)) == ({b.address}, {a.address})


async def test_the_boxed_packet_alone_is_enough_and_another_network_is_not_heard_in_it(ports: Ports) -> None:
    a, b = Party("a", ports), Party("b", Ports(1, ports.boxed))  # no packet of b comes to where a hears plain text
    c = Party("c", Ports(2, ports.boxed), network_key=bytes(32))
    with running(a, b, c):
        await until(lambda: len(a.staged) > 3)
    assert (set(a.staged), c.staged) == ({b.address}, [])


async def test_hostile_packets_harm_nobody_and_name_no_host(ports: Ports) -> None:
    a, friend = Party("a", ports), builders.keypair("friend")
    key = friend.id[1:-8]
    with running(a):
        await until(lambda: a.discovery._ears)
        for packet in (b"", b"\xff" * 1000, b"net:", bytes(9000), f"net:127.0.0.1%x;:1~shs:{key}".encode()):
            send(packet, ports.plain)
            send(packet, ports.boxed)
        send(plain_beacon(f"net:victim.example:25~shs:{key}"), ports.plain)
        await until(lambda: a.staged)
    assert set(a.staged) == {f"net:127.0.0.1:25~shs:{key}"}


async def test_a_flood_of_packets_and_of_nodes_is_bounded(ports: Ports) -> None:
    limits = Limits(lan_packets_per_source=30, lan_packets_per_second=50, lan_peers=6, lan_peers_per_source=4)
    a = Party("a", ports, limits=limits)
    crowd = [builders.keypair(f"crowd {number}") for number in range(20)]
    with running(a):
        await until(lambda: a.discovery._ears)
        for number in range(200):
            each = crowd[number % len(crowd)]
            address = f"net:127.0.0.1:1~shs:{each.id[1:-8]}"
            source = f"127.0.0.{2 + number % 3}"
            send(boxed_beacon(address, each, MAIN_NETWORK), ports.boxed, source)
        await asyncio.sleep(0.2)
    assert len(set(a.staged)) == 6
    assert set(a.discovery.breaches) <= {name for name in Limits.__slots__ if name.startswith("lan_")}
    assert a.discovery.breaches.total() >= 100
    assert len(a.staged) <= 2 * limits.lan_packets_per_second  # the flood may lie in two seconds


async def test_a_taken_port_is_told_once_and_heard_when_free(ports: Ports, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "replication.discovery")
    a, b = Party("a", ports), Party("b", ports)
    taken = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in ports]
    for sock, port in zip(taken, ports, strict=True):
        sock.bind(("", port))  # for itself alone
    try:
        with running(a):
            await asyncio.sleep(0.4)
            warned = [record.message for record in caplog.records if "cannot hear" in record.message]
            assert len(warned) == 2, warned
            assert await asyncio.to_thread(taken[0].recv, 2000) == plain_beacon(a.address)  # still announced
            for sock in taken:
                sock.close()
            with running(b):
                await until(lambda: a.staged and b.staged)
    finally:
        for sock in taken:
            sock.close()


async def test_interfaces_come_and_go(ports: Ports, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "replication.discovery")
    rounds = count()
    gone = Interface("gone0", 9999, "192.0.2.77", "192.0.2.255")
    gone6 = Interface("gone1", 9998, "fe80::77", "ff02::1")

    def interfaces(_: str) -> list[Interface]:
        return [[], [gone, gone6], [gone, LOOPBACK]][min(next(rounds) // 3, 2)]

    a, b = Party("a", ports, interfaces=interfaces), Party("b", ports)
    with running(a, b):
        await until(lambda: a.staged and b.staged)
    told = [record.message for record in caplog.records if "cannot announce" in record.message]
    assert len(told) == 2, told


async def test_interfaces_that_cannot_be_listed_are_asked_for_again(ports: Ports) -> None:
    rounds = count()

    def interfaces(_: str) -> list[Interface]:
        if next(rounds) < 3:
            raise OSError(24, "too many open files")
        return [LOOPBACK]

    a, b = Party("a", ports, interfaces=interfaces), Party("b", ports)
    with running(a, b):
        await until(lambda: a.staged and b.staged)


async def test_paused_discovery_neither_tells_nor_hears_until_it_is_resumed(ports: Ports) -> None:
    alice, bob = Party("alice", ports, port=8101), Party("bob", ports, port=8102)
    with running(alice, bob):
        await until(lambda: alice.staged and bob.staged)
        alice.discovery.pause()
        await asyncio.sleep(0.1)
        alice.staged.clear()
        bob.staged.clear()
        await asyncio.sleep(0.3)
        assert (alice.staged, bob.staged) == ([], [])
        alice.discovery.resume()
        await until(lambda: alice.staged and bob.staged)
