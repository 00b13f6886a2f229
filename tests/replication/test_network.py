"""Which addresses this machine has, and how they are told to others."""

import pytest

from replication.address import Address, parse_address
from replication.network import is_near, own_addresses, spelled_out

KEY = "~shs:" + "A" * 43 + "="
OWN = ["192.0.2.7", "2001:db8::7"]


@pytest.mark.parametrize(
    ("bound", "own", "told"),
    [
        (f"net:127.0.0.1:8008{KEY}", OWN, [f"net:127.0.0.1:8008{KEY}"]),
        (f"net:!:!:1:8008{KEY}", OWN, [f"net:!:!:1:8008{KEY}"]),
        (f"net:0.0.0.0:8008{KEY}", OWN, [f"net:192.0.2.7:8008{KEY}"]),
        (f"net:!:!::8008{KEY}", OWN, [f"net:192.0.2.7:8008{KEY}", f"net:2001!:db8!:!:7:8008{KEY}"]),
        (f"net:!:!::8008{KEY}", [], [f"net:!:!:1:8008{KEY}"]),
        (f"net:0.0.0.0:8008{KEY}", ["2001:db8::7"], [f"net:127.0.0.1:8008{KEY}"]),
        (f"ws://[::]:8009{KEY}", OWN, [f"ws://192.0.2.7:8009{KEY}", f"ws://[2001:db8::7]:8009{KEY}"]),
        (f"ws://0.0.0.0:8009{KEY}", OWN, [f"ws://192.0.2.7:8009{KEY}"]),
    ],
)
def test_listening_everywhere_is_told_as_addresses_that_can_be_dialled(
    bound: str, own: list[str], told: list[str]
) -> None:
    assert spelled_out(bound, own) == told
    for address in told:
        assert parse_address(address).key == parse_address(bound).key


def test_own_addresses_are_addresses_of_this_machine() -> None:
    assert all(parse_address(str(Address.net(host, 1, bytes(32)))).host == host for host in own_addresses())


def test_near_is_this_machine_and_its_neighbours() -> None:
    for host, near in (("127.0.0.1", True), ("!:!:1", True), ("192.168.1.2", True), ("8.8.8.8", False)):
        assert is_near(f"net:{host}:8008{KEY}") is near
