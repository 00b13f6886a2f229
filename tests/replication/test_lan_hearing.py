"""Whom we believe on the local network, and how often."""

import ipaddress

import pytest

from replication.lan_beacon import read_plain
from replication.lan_hearing import TTL, Hearing, address_of, is_neighbour
from replication.limits import Limits
from tests.replication.test_lan_beacon import KEY

LIMITS = Limits(lan_packets_per_second=5, lan_packets_per_source=3, lan_peers=4, lan_peers_per_source=2)


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("192.168.1.7", True),
        ("10.0.0.1", True),
        ("169.254.3.4", True),
        ("127.0.0.1", True),
        ("fe80::1%eth0", True),
        ("fd00::1", True),
        ("8.8.8.8", False),
        ("2600::1", False),
        ("131.114.0.9", True),  # of our own network, though anybody can reach it
        ("224.0.0.1", False),
        ("ff02::1", False),
        ("0.0.0.0", False),
        ("somewhere", False),
        ("", False),
    ],
)
def test_neighbours(host: str, near: bool) -> None:
    assert is_neighbour(host, [ipaddress.IPv4Network("131.114.0.0/24"), ipaddress.IPv6Network("fe80::/64")]) is near


@pytest.mark.parametrize(
    ("text", "source", "address"),
    [
        ("net:192.168.1.7:8010~shs:K", "192.168.1.7", "net:192.168.1.7:8010~shs:K"),
        ("net:victim.example:25~shs:K", "192.168.1.7", "net:192.168.1.7:25~shs:K"),
        ("net:10.0.0.1:1~shs:K;net:192.168.1.7:2~shs:K", "192.168.1.7", "net:192.168.1.7:2~shs:K"),
        ("net:10.0.0.1:1~shs:K;net:10.0.0.2:2~shs:K", "192.168.1.7", "net:192.168.1.7:1~shs:K"),
        ("net:fe80!:!:1:8~shs:K", "fe80::1%eth0", "net:fe80!:!:1%eth0:8~shs:K"),
    ],
)
def test_what_is_dialled_is_where_the_packet_came_from(text: str, source: str, address: str) -> None:
    assert address_of(read_plain(text.replace("K", KEY).encode()), source) == address.replace("K", KEY)


def test_packets_are_counted_by_second_and_source() -> None:
    hearing = Hearing(LIMITS)
    assert [hearing.hears("a", 1.0) for _ in range(4)] == [True, True, True, False]
    assert [hearing.hears("b", 1.9) for _ in range(3)] == [True, True, False]  # all together
    assert hearing.hears("a", 2.0)


def test_peers_are_counted_while_they_are_heard() -> None:
    hearing = Hearing(LIMITS)
    assert [hearing.believes("a", name, 1.0) for name in "123"] == [True, True, False]
    assert [hearing.believes("b", name, 1.0) for name in "45"] == [True, True]
    assert not hearing.believes("c", "6", 1.0)
    assert hearing.believes("a", "1", 9.0)  # heard again: it stays
    assert hearing.believes("c", "6", 1.0 + TTL)  # the others have gone
    assert [hearing.believes("a", name, 1.0 + TTL) for name in "178"] == [True, True, False]
