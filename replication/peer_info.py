"""What the node can tell about a peer: plain data for the API, the local RPC methods and the logs."""

from collections.abc import Mapping
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
    reason: str = ""
    """Why it is dialled, or is not; empty for connections that others opened."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went over all connections since the start, those that are over included."""

    bytes_in: int
    bytes_out: int
    connections: int
    """Connections with peers that came about."""
    refused: int
    """Callers that were turned away in or before the handshake."""
    breaches: Mapping[str, int]
    """How often which limit held a peer back."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What the scheduler last decided about an address: "dial", "wait", "hang-up" or "forget".

    Milliseconds since the epoch: `at` when it came to that, `until` when time alone changes it.
    """

    what: str
    reason: str
    at: int
    until: int | None = None


@dataclass(frozen=True, slots=True)
class KnownPeer:
    """An address that we know, connected or not. Times are integer milliseconds since the epoch.

    `group` is the quota in which a connection counts; with `autoconnect` a person picked it; `staged` ones are known
    only for now. `decision`, `reason` and `decided` are the scheduler's last word.
    """

    id: str
    address: str
    source: str
    kind: str
    origin: str
    group: str
    autoconnect: bool
    staged: bool
    state: PeerState
    hops: int | None
    failures: int
    first_heard: int
    last_success: int | None
    last_failure: int | None
    next_try: int | None
    error: str | None
    decision: str
    reason: str
    decided: int | None


@dataclass(frozen=True, slots=True)
class PeerEvent:
    """Something happened to a peer; `info` is its state right after."""

    kind: str  # "connected", "disconnected" or "dial-failed"
    info: PeerInfo
