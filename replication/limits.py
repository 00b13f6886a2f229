"""Every bound that keeps one peer from harming the node.

The figures are promises (what is refused, what is cut off), so they live on one page, can be
configured by their names (``adjusted``), and are handed to whoever enforces them. Whenever one holds
somebody back, that is counted under its name. Sizes are bytes, times are seconds. What the protocols
themselves fix (bodies of 4096 bytes, JSON 64 deep outside of messages, EBT notes below 2^31) is where they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

KIB = 1024
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits for one node; the defaults suit a node on the open internet."""

    # box stream: in a row
    empty_packets: int = 16

    # muxrpc bodies, checked from the frame header before anything is buffered
    json_frame: int = 64 * KIB
    ebt_frame: int = 4 * MIB
    binary_frame: int = 1 * MIB
    blob_piece: int = 64 * KIB
    websocket_frame: int = 128 * KIB
    websocket_hollow_frames: int = 1000

    # calls and streams a peer may have open
    open_streams: int = 64
    history_streams: int = 2000
    history_streams_served: int = 8
    calls_in_flight: int = 1000
    calls_in_flight_size: int = 1 * MIB
    calls_per_second: float = 100.0
    call_burst: int = 500

    # buffers
    stream_queue: int = 1 * MIB
    peer_buffers: int = 8 * MIB
    outbound_high: int = 2 * MIB
    outbound_low: int = 512 * KIB

    # patience
    handshake_timeout: float = 10.0
    dial_timeout: float = 15.0
    socks_timeout: float = 60.0
    half_frame_timeout: float = 60.0
    silence_timeout: float = 600.0
    stall_timeout: float = 30.0
    close_timeout: float = 2.0

    # connections
    unauthenticated: int = 200
    unauthenticated_per_address: int = 10
    unauthenticated_loopback: int = 50
    inbound: int = 100
    outbound: int = 10
    connections_per_key: int = 2

    # rooms: tunnels through one room in each direction, and through us for one peer
    tunnels: int = 16

    # EBT
    ebt_feeds_per_note: int = 1000
    ebt_feeds_remembered: int = 5000
    ebt_feeds_heard_of: int = 10_000
    ebt_bad_entries: int = 100

    # feeds of which the last refused message is remembered
    feed_failures: int = 1000

    # counts of a day for budgets
    budget_keys: int = 1000

    # blobs: what peers want and have, a peer and all together, and gets
    blob_wants: int = 1000
    blob_wants_total: int = 10_000
    blob_wants_per_second: float = 10.0
    blob_haves: int = 10_000
    blob_haves_total: int = 50_000
    blob_notes_per_second: float = 2000.0
    blob_notes_burst: int = 20_000
    blob_notes_pending: int = 5000
    blob_wants_frame: int = 1 * MIB
    blob_gets: int = 4
    blob_get_timeout: float = 180.0
    blob_failures: int = 10_000
    blob_lies: int = 16
    blob_pushed_to: int = 3

    # packets of local discovery: looked at, from all neighbours and from one, and nodes believed within ten seconds
    lan_packets_per_second: int = 200
    lan_packets_per_source: int = 20
    lan_peers: int = 100
    lan_peers_per_source: int = 16

    # the local HTTP API: body of a request, event streams open at once
    http_body: int = 1 * MIB
    http_streams: int = 64


DEFAULT_LIMITS = Limits()

# For programs of the node's own user (unix socket, or the node's own key): they may ask as much as they like.
LOCAL_LIMITS = Limits(
    json_frame=16 * MIB,
    binary_frame=16 * MIB,
    open_streams=1024,
    calls_in_flight=20_000,
    calls_in_flight_size=64 * MIB,
    calls_per_second=1e9,
    call_burst=1_000_000,
    stream_queue=32 * MIB,
    peer_buffers=64 * MIB,
    silence_timeout=float("inf"),
)

_LOWEST: Final = {
    "json_frame": 64 * KIB,
    "ebt_frame": 64 * KIB,
    "binary_frame": 64 * KIB,
    "websocket_frame": 8 * KIB,
    "blob_wants_frame": 64 * KIB,
    "http_body": 16 * KIB,
}
"""Less would turn away what honest peers and programs send."""
_LARGER: Final = 1000
_FIXED: Final = ("blob_piece", "outbound_low")

ADJUSTABLE: Final[Mapping[str, tuple[int, int]]] = {
    each.name: (_LOWEST.get(each.name, 1), int(getattr(DEFAULT_LIMITS, each.name) * _LARGER))
    for each in fields(Limits)
    if each.name not in _FIXED
}
"""The limits that a person may set by name, with the lowest and the highest value."""


def adjusted(changes: Mapping[str, int]) -> Limits:
    """The default limits with some set otherwise. Raises ValueError, in words, for a name or value that cannot be."""
    for name, value in changes.items():
        if name not in ADJUSTABLE:
            raise ValueError(f"there is no limit {name}")
        lowest, highest = ADJUSTABLE[name]
        if not lowest <= value <= highest:
            raise ValueError(f"{name} must be from {lowest} to {highest}")
    chosen: dict[str, Any] = dict(changes)
    if "outbound_high" in chosen:
        chosen["outbound_low"] = max(1, chosen["outbound_high"] // 4)
    return replace(DEFAULT_LIMITS, **chosen)
