"""Every bound that keeps one peer from harming the node.

The figures are promises (what is refused, what is cut off), so they live on one page, can be
configured, and are handed to whoever enforces them. Sizes are bytes, times are seconds.
"""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits for one node; the defaults suit a node on the open internet."""

    # box stream
    box_body: int = 4096
    empty_packets: int = 16

    # muxrpc bodies, checked from the frame header before anything is buffered
    json_frame: int = 64 * KIB
    ebt_frame: int = 4 * MIB
    binary_frame: int = 1 * MIB
    blob_piece: int = 64 * KIB
    websocket_frame: int = 128 * KIB
    websocket_hollow_frames: int = 1000
    json_depth: int = 64

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
    ebt_note_max: int = 2**31 - 1
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
