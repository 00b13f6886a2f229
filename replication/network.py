"""Whether this machine has a way out at all, asked of the kernel without sending anything."""

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from replication.address import Address, parse_address
from replication.errors import InvalidAddress

_EVERYWHERE: Final = ("::", "0.0.0.0")  # noqa: S104 - compared with, not bound to
_FAR: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses for documentation: nobody is there, but a machine with a network has a route."""


def has_route() -> bool:
    """Whether there is a route to far addresses of either family."""
    for family, host in _FAR:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((host, 9))
        except OSError:
            continue
        return True
    return False


def own_addresses() -> list[str]:
    """The addresses from which this machine would speak to far ones, of either family; nothing is sent."""
    found = []
    for family, host in _FAR:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((host, 9))
                found.append(str(probe.getsockname()[0]))
        except OSError:
            continue
    return found


def spelled_out(address: str, own: Sequence[str]) -> list[str]:
    """An address as others can dial it. One that stands for every address of this machine becomes one for each of
    `own` that it takes, and that of this machine for itself if there are none."""
    bound = parse_address(address)
    host = bound.host
    if host not in _EVERYWHERE:
        return [address]
    hosts = [each for each in own if host == "::" or ":" not in each] or ["::1" if host == "::" else "127.0.0.1"]
    return [str(replace(bound, data=_data_for(bound, each))) for each in hosts]


def _data_for(bound: Address, host: str) -> tuple[str, ...]:
    if bound.transport == "net":
        return (host, str(bound.port))
    shown = f"[{host}]" if ":" in host else host
    return tuple(f"//{shown}:{bound.port}".split(":"))


def is_near(address: str) -> bool:
    """Whether an address leads to this machine or its neighbours, so that it may work without a way out."""
    try:
        target = parse_address(address)
    except InvalidAddress:
        return False
    if target.transport not in ("net", "ws", "wss"):
        return False
    host = target.host.partition("%")[0].removeprefix("[").removesuffix("]")
    if host == "localhost" or host.endswith(".local"):
        return True
    return not is_public(host, names=True)


def is_public(host: str, *, names: bool) -> bool:
    """Whether an IP address is one that anybody can reach; for a host name the answer is `names`."""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return names
    return found.is_global and not found.is_multicast
