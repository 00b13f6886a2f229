"""gossip.* and conn.*: peers and addresses, for the node's own user (protocol.md sections 15 and 19)."""

import asyncio
import json
from dataclasses import asdict
from typing import Any

from feeds.message import JsonValue
from feeds.refs import is_feed
from replication.address import parse_address
from replication.errors import InvalidAddress, RemoteVisible
from replication.methods import options
from replication.methods.local import local
from replication.methods.services import Hub, MethodServices
from replication.peer_info import KnownPeer, PeerInfo, PeerState
from replication.rpc.methods import Caller, Kind, Method
from replication.rpc.streams import Sink

EVENTS_KEPT = 1000
STAGED_SECONDS = 1.0


def methods(services: MethodServices) -> list[Method]:
    """All for the node's own user."""
    hub = services.hub

    async def peers(_caller: Caller, _args: list[JsonValue]) -> list[dict[str, Any]]:
        """Live connections, then remembered addresses."""
        return [as_sbot(info) for info in hub().peers()]

    async def get(_caller: Caller, args: list[JsonValue]) -> dict[str, Any] | None:
        """One peer by id or address, null when it is not known."""
        wanted = _peer_of(args)
        return next((as_sbot(info) for info in hub().peers() if info.id == wanted), None)

    async def connect(_caller: Caller, args: list[JsonValue]) -> dict[str, Any]:
        """Dial; done when the handshake is."""
        return as_sbot(await hub().dial(_address(args)))

    async def disconnect(_caller: Caller, args: list[JsonValue]) -> bool:
        """Hang up on a peer given by id or address."""
        return await hub().disconnect(_peer_of(args))

    async def remember(_caller: Caller, args: list[JsonValue]) -> dict[str, Any]:
        """Keep an address, and dial it by and by."""
        known = await hub().remember(_address(args))
        return {"address": known.address, "key": known.peer, "source": known.source}

    async def forget(_caller: Caller, args: list[JsonValue]) -> bool:
        """Drop an address."""
        return await hub().forget(_address(args))

    async def changes(_caller: Caller, _args: list[JsonValue], out: Sink) -> None:
        """`{type, peer}` for each peer that connects, disconnects or cannot be dialled, from now on."""
        await _events(hub(), out, lambda kind, info: {"type": _EVENTS[kind], "peer": as_sbot(info)})

    async def stage(_caller: Caller, args: list[JsonValue]) -> bool:
        """`[address, {type}]`: offer an address to the scheduler as long as the node runs; true if it is new."""
        details = options.options(args[1:])
        return hub().stage(_address(args), kind=options.text(details, "type") or "", source="manual")

    async def unstage(_caller: Caller, args: list[JsonValue]) -> bool:
        """Take such an address back."""
        return hub().unstage(_address(args))

    async def start(_caller: Caller, _args: list[JsonValue]) -> bool:
        """Dial peers that nobody picked by hand, whatever the settings say."""
        hub().autoconnect(True)
        return True

    async def stop(_caller: Caller, _args: list[JsonValue]) -> bool:
        """Dial only peers picked by hand, until `conn.start` or the next start of the node."""
        hub().autoconnect(False)
        return True

    async def reconnect(_caller: Caller, _args: list[JsonValue]) -> bool:
        """Hang up on everybody and dial anew, as after the machine has slept."""
        await hub().reconnect()
        return True

    async def conn_peers(_caller: Caller, _args: list[JsonValue], out: Sink) -> None:
        """The list of `[address, details]` of live connections, again after each change."""

        def lines() -> list[list[Any]]:
            live = [info for info in hub().peers() if info.state is not PeerState.DISCONNECTED]
            return [[info.address, as_sbot(info)] for info in live]

        await out.send([_json(lines())])
        await _events(hub(), out, lambda _kind, _info: lines())

    async def staged_peers(_caller: Caller, _args: list[JsonValue], out: Sink) -> None:
        """The list of `[address, details]` of addresses that hold only now and are not connected, after each change."""

        def lines() -> list[list[Any]]:
            staged = [each for each in hub().known_peers() if each.staged and each.state is not PeerState.CONNECTED]
            return [[each.address, _staged(each)] for each in staged]

        said = lines()
        await out.send([_json(said)])
        while True:
            await asyncio.sleep(STAGED_SECONDS)
            if (new := lines()) != said:
                said = new
                await out.send([_json(said)])

    async def known(_caller: Caller, _args: list[JsonValue]) -> list[dict[str, Any]]:
        """Every address there is, with the scheduler's last word on it."""
        return [asdict(each) for each in hub().known_peers()]

    async def db_peers(_caller: Caller, _args: list[JsonValue]) -> list[list[Any]]:
        """`[address, details]` of each remembered address."""
        return [
            [
                known.address,
                {
                    "key": known.peer,
                    "source": known.source,
                    "autoconnect": known.auto,
                    "birth": known.added,
                    "failure": known.failures,
                    "type": known.kind or "peer",
                    "stateChange": max(known.added, known.last_success or 0, known.last_failure or 0),
                },
            ]
            for known in hub().remembered()
        ]

    return [
        local("gossip.peers", Kind.SYNC, peers),
        local("gossip.get", Kind.SYNC, get),
        local("gossip.connect", Kind.ASYNC, connect),
        local("gossip.disconnect", Kind.ASYNC, disconnect),
        local("gossip.add", Kind.SYNC, remember),
        local("gossip.remove", Kind.SYNC, forget),
        local("gossip.changes", Kind.SOURCE, changes),
        local("gossip.reconnect", Kind.SYNC, reconnect),
        local("conn.connect", Kind.ASYNC, connect),
        local("conn.disconnect", Kind.ASYNC, disconnect),
        local("conn.remember", Kind.SYNC, remember),
        local("conn.forget", Kind.SYNC, forget),
        local("conn.stage", Kind.SYNC, stage),
        local("conn.unstage", Kind.SYNC, unstage),
        local("conn.start", Kind.SYNC, start),
        local("conn.stop", Kind.SYNC, stop),
        local("conn.peers", Kind.SOURCE, conn_peers),
        local("conn.stagedPeers", Kind.SOURCE, staged_peers),
        local("conn.known", Kind.SYNC, known),
        local("conn.dbPeers", Kind.SYNC, db_peers),
    ]


_EVENTS = {"connected": "connect", "disconnected": "disconnect", "dial-failed": "connect-failure"}


def as_sbot(info: PeerInfo) -> dict[str, Any]:
    """A peer as the old sbot describes it, with our own figures beside."""
    line: dict[str, Any] = {"address": info.address, "key": info.id, "id": info.id, "state": str(info.state)}
    try:
        address = parse_address(info.address)
        line |= {"host": address.host, "port": address.port}
    except InvalidAddress:
        pass  # an incoming connection has no address that could be dialled
    return line | {
        "source": info.source,
        "client": info.direction == "outgoing",
        "direction": str(info.direction),
        "stateChange": info.since,
        "failure": info.failures,
        "replication": info.replication,
        "bytesIn": info.bytes_in,
        "bytesOut": info.bytes_out,
        "error": info.error,
        "reason": info.reason,
    }


def _staged(known: KnownPeer) -> dict[str, Any]:
    """A staged address as the old sbot describes it."""
    line = {"key": known.id, "type": known.kind, "source": known.source, "stagingBirth": known.first_heard}
    return line | ({"room": known.origin} if known.kind == "room-attendant" else {}) | {"reason": known.reason}


def _address(args: list[JsonValue]) -> str:
    """An address as text, or as the object that the old sbot took."""
    first = args[0] if args else None
    if isinstance(first, dict):
        if isinstance(first.get("address"), str):
            first = first["address"]
        else:
            first = f"{first.get('host')}:{first.get('port')}:{first.get('key')}"
    if not isinstance(first, str):
        raise RemoteVisible("expected an address")
    return first


def _peer_of(args: list[JsonValue]) -> str:
    """A feed id, given as it is or inside an address."""
    text = _address(args)
    if is_feed(text):
        return text
    key = parse_address(text).key
    if key is None:
        raise RemoteVisible("expected a feed id or an address with a key")
    return key


async def _events(hub: Hub, out: Sink, line: Any) -> None:
    """Send a line for each event; a reader that lags far behind misses the oldest."""
    waiting: asyncio.Queue[tuple[str, PeerInfo]] = asyncio.Queue()

    def keep(event: Any) -> None:
        if waiting.qsize() >= EVENTS_KEPT:
            waiting.get_nowait()
        waiting.put_nowait((event.kind, event.info))

    unsubscribe = hub.subscribe(keep)
    try:
        while True:
            kind, info = await waiting.get()
            await out.send([_json(line(kind, info))])
    finally:
        unsubscribe()


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
