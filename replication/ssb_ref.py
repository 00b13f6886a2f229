"""Addresses and invites exactly as the JavaScript module ssb-ref reads them.

Deployed peers decide with these rules what an address in a ``pub`` message or an invite means, so whoever
reads their data asks here; our own code uses ``replication.address``. The rules have quirks that are kept on
purpose: a port of 65536 passes, a missing one is 8008 in the old form and 0 in the new one, ``wss://::1`` is
taken for port 1, and the test for IPv6 addresses is loose.
"""

import re
from typing import NamedTuple

from replication.address import DEFAULT_PORT, Protocol, decode_layers

PORT_MAX = 65536
_FEED = re.compile(r"@[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=.(?:ed25519|sha256)")
_SEED = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
_IPV4 = re.compile(r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}")
_LOOSE_IPV6 = re.compile(r"(?=[0-9a-f:.]{1,45}$)[0-9a-f.]{0,15}(?::{1,2}[0-9a-f.]{0,15}){0,8}", re.IGNORECASE)
_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_UNESCAPED_TILDE = re.compile(r"[^!]~")
_LENGTH_MAX = 4096


class HostPortKey(NamedTuple):
    """What ssb-ref makes of an address; ``port`` is None where it finds something that is no number."""

    host: str
    port: int | None
    key: str


class ParsedInvite(NamedTuple):
    """What ssb-ref makes of an invite: its normal form, the address without the secret, the pub's id."""

    invite: str
    remote: str
    key: str
    redirect: str | None


def is_address(text: str) -> bool:
    """ssb-ref's ``isAddress``: any multiserver address with two layers, or HOST:PORT:@KEY."""
    if _is_multiserver(text):
        return True
    host, port, key = _split_old_form(text)
    return is_host(host) and is_port(_number(port)) and bool(_FEED.fullmatch(key))


def parse_address(text: str) -> HostPortKey | None:
    """ssb-ref's ``parseAddress``; None where it answers false. Without a ``~`` nothing is checked."""
    if "~" in text:
        return _parse_multiserver(text)
    host, port, key = _split_old_form(text)
    return HostPortKey(host, _number(port) if port else DEFAULT_PORT, key)


def key_from_address(text: str) -> str | None:
    """ssb-ref's ``getKeyFromAddress``: the feed id in a multiserver address."""
    for layers in _decode(text) or ():
        for layer in layers:
            if layer.name == "shs" and layer.data:
                return f"@{layer.data[0]}.ed25519"
    return None


def is_invite(text: str) -> bool:
    """ssb-ref's ``isInvite``, either form."""
    return parse_invite(text) is not None


def is_legacy_invite(text: str) -> bool:
    """ssb-ref's ``isLegacyInvite``: HOST:PORT:@KEY.ed25519~SEED."""
    return _parse_legacy_invite(text) is not None


def is_multiserver_invite(text: str) -> bool:
    """ssb-ref's ``isMultiServerInvite``; it does not ask for a seed."""
    return _parse_multiserver_invite(text) is not None


def parse_invite(text: str) -> ParsedInvite | None:
    """ssb-ref's ``parseInvite``; None where it finds no invite."""
    return _parse_legacy_invite(text) or _parse_multiserver_invite(text)


def is_host(host: str) -> bool:
    """ssb-ref's ``isHost``: localhost, an IP address, or a domain name of two labels or more."""
    host = re.sub(r"^wss?://", "", host)
    if host == "localhost" or _IPV4.fullmatch(host) or (":" in host and _LOOSE_IPV6.fullmatch(host)):
        return True
    labels = host.split(".")
    return len(labels) > 1 and len(host) <= 253 and all(_LABEL.fullmatch(label) for label in labels)


def is_port(port: int | None) -> bool:
    """ssb-ref's ``isPort``, which allows 65536."""
    return port is not None and 0 <= port <= PORT_MAX


def _is_multiserver(text: str) -> bool:
    return _decode(text) is not None and bool(_UNESCAPED_TILDE.search(text))


def _parse_multiserver(text: str) -> HostPortKey | None:
    for layers in _decode(text) or ():
        if len(layers) < 2 or layers[0].name not in ("net", "ws", "wss", "onion") or layers[1].name[:3] != "shs":
            continue
        transport, identity = layers[:2]
        if not transport.data or not identity.data:
            return None
        *host_parts, port = transport.data
        host = ":".join(host_parts)
        if transport.name in ("ws", "wss"):
            host = f"{transport.name}:{host}"
        found = HostPortKey(host, _number(port), f"@{identity.data[0]}.ed25519")
        return found if is_host(host) and is_port(found.port) and _FEED.fullmatch(found.key) else None
    return None


def _parse_legacy_invite(text: str) -> ParsedInvite | None:
    text, redirect = _split_redirect(text)
    address, tilde, seed = text.partition("~")
    host, port, key = _split_old_form(address)
    if not tilde or not _SEED.fullmatch(seed) or _is_multiserver(text):
        return None
    if not (is_host(host) and is_port(_number(port)) and _FEED.fullmatch(key)):
        return None
    remote = _remote(HostPortKey(host, _number(port) or DEFAULT_PORT, key))
    return ParsedInvite(f"{remote}:{seed}", remote, key, redirect)


def _parse_multiserver_invite(text: str) -> ParsedInvite | None:
    text, redirect = _split_redirect(text)
    found = _parse_multiserver(text)
    return None if found is None else ParsedInvite(text, _remote(found), found.key, redirect)


def _remote(address: HostPortKey) -> str:
    host, port, key = address
    if not host.startswith(("ws:", "wss:")):
        host = f"onion:{host}" if host.endswith(".onion") else f"net:{host}"
    return f"{host}:{port}~shs:{key[1:45]}"


def _split_redirect(text: str) -> tuple[str, str | None]:
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    text, mark, redirect = text.partition("#")
    return text, mark + redirect if mark else None


def _split_old_form(text: str) -> tuple[str, str, str]:
    """(host, port, key), taken from the end."""
    *host, port, key = ["", *text.split(":")] if ":" not in text else text.split(":")
    return ":".join(host), port, key


def _number(text: str) -> int | None:
    if not text:
        return 0
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else None


def _decode(text: str) -> list[list[Protocol]] | None:
    return decode_layers(text) if len(text) <= _LENGTH_MAX else None
