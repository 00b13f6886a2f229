"""Invite codes, and under which address others can reach this node (protocol.md section 16).

What is bound and what is told to others are two things: behind a router or a proxy only the person who set it up knows
the address that leads here.
"""

import base64
import re
from collections.abc import Iterable

from replication.address import Address, parse_address
from replication.errors import InvalidAddress, NoPublicAddress
from replication.network import is_public

__all__ = ["HOW_TO", "advertised", "format_code", "parse_external"]

HOW_TO = (
    "This node knows no address under which others can reach it. If it has one (a server, or a forwarded port), start "
    "it with --external HOST or HOST:PORT, or name the host with the invite; without one, use the invite of a pub or "
    "a room."
)
_HOST = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
_BRACKETED = re.compile(r"\[(?P<host>[0-9A-Fa-f:.]+)\](:(?P<port>[0-9]{1,5}))?")
_LONGEST = 253


def parse_external(text: str) -> tuple[str, int | None]:
    """Host, and port if there is one, of `host`, `host:port`, `[v6]:port` or a bare IPv6 address.

    Raises InvalidAddress.
    """
    text = text.strip()
    if found := _BRACKETED.fullmatch(text):
        host, port = found["host"], found["port"]
    elif text.count(":") > 1:
        host, port = text, None
    else:
        host, _, digits = text.partition(":")
        port = digits if ":" in text else None
    fits = (re.fullmatch(r"[0-9A-Fa-f:.]+", host) and ":" in host) or _HOST.fullmatch(host)
    if not fits or len(host) > _LONGEST:
        raise InvalidAddress(f"{text[:300]!r} is no host; expected HOST or HOST:PORT, as in pub.example.org:8008")
    if port is None:
        return host, None
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65_536:
        raise InvalidAddress(f"{text[:300]!r}: the port must be a number from 1 to 65535")
    return host, int(port)


def advertised(bound: Iterable[str], external: str, public: bytes, routed: Iterable[str] = ()) -> Address:
    """The address to tell others.

    bound -- addresses as bound; external -- what a person says ("" if nothing), with the bound port unless it names
    one; public -- our key; routed -- addresses of this machine, which count where all of them are listened on.
    Raises NoPublicAddress with a way out, InvalidAddress for an external one that is none.
    """
    listening = [address for address in map(parse_address, bound) if address.transport == "net"]
    if external:
        host, port = parse_external(external)
        if port is None and not listening:
            raise NoPublicAddress(HOW_TO)
        return Address.net(host, port or listening[0].port, public)
    for address in listening:
        everywhere = address.host in ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
        for host in routed if everywhere else (address.host,):
            if is_public(host, names=True):
                return Address.net(host, address.port, public)
    raise NoPublicAddress(HOW_TO)


def format_code(address: Address, seed: bytes, *, modern: bool = False) -> str:
    """The code. IPv6 addresses always have the modern form: the old one has no place for their colons."""
    if modern or ":" in address.host:
        return str(Address(address.transport, address.data, address.public, seed))
    return f"{address.host}:{address.port}:{address.key}~{base64.b64encode(seed).decode()}"
