"""Peers that an old sbot knew: `conn.json` (ssb-conn) and `gossip.json` (ssb-gossip)."""

from typing import Final, NamedTuple

from feeds import canonical_json
from feeds.errors import InvalidJson
from feeds.message import JsonValue

__all__ = ["LARGEST_FILE", "KnownPeer", "known_peers"]

LARGEST_FILE: Final = 8 * 1024 * 1024
MOST_PEERS: Final = 2_000
"""As many as the address book has room for hints."""


class KnownPeer(NamedTuple):
    """An address as it was written there; nothing of it was checked."""

    address: str
    kind: str
    """ "pub", "room" or ""."""
    auto: bool
    """A person asked for it."""


def known_peers(data: bytes) -> list[KnownPeer]:
    """What is in either file, whichever it is; nothing for anything else."""
    try:
        value = canonical_json.parse(data)
    except InvalidJson:
        return []
    found: list[KnownPeer] = []
    rows: list[tuple[str, JsonValue]]
    rows = list(value.items()) if isinstance(value, dict) else [("", row) for row in _list(value)]
    for address, row in rows:
        if not isinstance(row, dict):
            continue
        address = address or _address(row)
        kind, auto = row.get("type"), row.get("autoconnect") is True
        if address and len(found) < MOST_PEERS:
            found.append(KnownPeer(address, str(kind) if kind in ("pub", "room") else "", auto))
    return found


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def _address(row: dict[str, JsonValue]) -> str:
    address, host, port, key = (row.get(name) for name in ("address", "host", "port", "key"))
    if isinstance(address, str) and address:
        return address
    if isinstance(host, str) and isinstance(port, int | float) and isinstance(key, str):
        return f"{host}:{canonical_json.format_number(port)}:{key}"
    return ""
