"""This node as a small room: its peers see who else is here, and reach each other through it (protocol section 17).

Open to everybody whom the node lets in. What is carried between two peers is encrypted from end to end; of it only
pieces pass here, no faster than the slower side takes them. Off unless it is switched on.
"""

import asyncio
from collections import Counter
from typing import Any, Final

from feeds.message import JsonValue
from replication.errors import ConnectionClosed, RemoteError, RemoteVisible
from replication.limits import DEFAULT_LIMITS, Limits
from replication.rpc.bodies import BodyType, encode_json
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Caller
from replication.rpc.streams import Duplex, Sink

FEATURES: Final = ("tunnel", "room1", "room2")


class RoomServer:
    """Who is in the room, and the tunnels through it."""

    def __init__(self, me: str, name: str, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self._me = me
        self._name = name
        self._limits = limits
        self._here: dict[str, RpcConnection] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._tunnels: Counter[str] = Counter()

    @property
    def attendants(self) -> list[str]:
        """Who is here, in the order of coming."""
        return list(self._here)

    def metadata(self) -> dict[str, Any]:
        """What the room says of itself."""
        return {"name": self._name, "membership": True, "features": list(FEATURES)}

    def enter(self, caller: Caller) -> None:
        """The caller wants to be seen, until it leaves or its connection ends."""
        if caller.id is None or caller.local or caller.connection.closed.is_set():
            return
        if self._here.get(caller.id) is caller.connection:
            return
        new = caller.id not in self._here
        self._here[caller.id] = caller.connection
        watcher = asyncio.create_task(self._watch(caller.id, caller.connection), name=f"in the room: {caller.id}")
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        if new:
            self._tell()

    def leave(self, caller: Caller) -> None:
        """The caller does not want to be seen any more."""
        if caller.id is not None and self._here.pop(caller.id, None) is not None:
            self._tell()

    async def tell_attendants(self, caller: Caller, out: Sink) -> None:
        """`{type: "state", ids}`, then `joined` and `left` as it happens."""
        self.enter(caller)
        said = dict(self._here)
        await out.send([encode_json({"type": "state", "ids": list(said)})])
        while True:
            changed, now = self._changed, dict(self._here)
            moves: list[dict[str, JsonValue]] = [{"type": "left", "id": one} for one in said if one not in now]
            moves += [{"type": "joined", "id": one} for one in now if one not in said]
            said = now
            if moves:
                await out.send([encode_json(move) for move in moves])
            await changed.wait()

    async def tell_endpoints(self, caller: Caller, out: Sink) -> None:
        """The whole list, again after each change, as rooms of the first kind do."""
        self.enter(caller)
        said: list[str] | None = None
        while True:
            changed, now = self._changed, self.attendants
            if now != said:
                said = now
                ids: list[JsonValue] = list(now)
                await out.send([encode_json(ids)])
            await changed.wait()

    async def connect(self, caller: Caller, target: JsonValue, both: Duplex) -> None:
        """Join the caller to somebody who is here, until one of them ends it. Raises RemoteVisible."""
        connection = self._here.get(target) if isinstance(target, str) else None
        if connection is None or caller.id is None or target == caller.id or target == self._me:
            raise RemoteVisible(f"could not connect to:{target if isinstance(target, str) else ''}")
        if self._tunnels[caller.id] >= self._limits.tunnels:
            caller.connection.breaches["tunnels"] += 1
            raise RemoteVisible("too many tunnels at once")
        self._tunnels[caller.id] += 1
        try:
            offer: JsonValue = {"portal": self._me, "target": target, "origin": caller.id}
            await join(both, connection.duplex("tunnel.connect", [offer]))
        except ConnectionClosed:
            raise RemoteVisible(f"could not connect to:{target}") from None
        finally:
            self._tunnels[caller.id] -= 1
            if not self._tunnels[caller.id]:
                del self._tunnels[caller.id]

    async def _watch(self, peer: str, connection: RpcConnection) -> None:
        await connection.closed.wait()
        if self._here.get(peer) is connection:
            del self._here[peer]
            self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


async def join(one: Duplex, other: Duplex) -> None:
    """Carry bytes both ways until both have ended; an error on one side ends the other."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_carry(one, other))
            group.create_task(_carry(other, one))
    finally:
        await one.cancel()
        await other.cancel()


async def _carry(source: Duplex, target: Duplex) -> None:
    try:
        while batch := await source.read_batch():
            await target.send([body.data for body in batch if body.data], BodyType.BINARY)
        await target.end()
    except RemoteError as error:
        for side in (source, target):
            await side.cancel(str(error)[:200] or "the tunnel was cut")
