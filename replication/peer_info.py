"""What the node can tell about a peer: plain data for the API, the local RPC methods and the logs."""

from dataclasses import dataclass
from enum import StrEnum


class Direction(StrEnum):
    """Who opened the connection."""

    INCOMING = "incoming"
    OUTGOING = "outgoing"


class PeerState(StrEnum):
    """Where a peer stands. Only `CONNECTED` ones have a live connection."""

    DIALLING = "dialling"
    CONNECTED = "connected"
    CLOSING = "closing"
    DISCONNECTED = "disconnected"


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """One connection, or one remembered address without a connection.

    Times are integer milliseconds since the epoch; `failures` counts the dials that failed in a row; `redial_in` is
    the number of seconds until the next dial, None when none is planned; `replication` is "ebt", "history" or None.
    """

    id: str
    address: str
    direction: Direction
    state: PeerState
    since: int
    local: bool = False
    source: str = ""
    replication: str | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    failures: int = 0
    redial_in: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class PeerEvent:
    """Something happened to a peer; `info` is its state right after."""

    kind: str  # "connected", "disconnected" or "dial-failed"
    info: PeerInfo
