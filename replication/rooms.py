"""Rooms that we are in: who else is there, and tunnels to them and from them (protocol section 17).

Each peer that we dialled is asked whether it is a room. As long as we are connected to one, whoever is in it is offered
to the scheduler, with an address that leads through the room; a dial of such an address opens a stream through it.
"""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from feeds.errors import InvalidJson
from feeds.message import JsonValue
from replication.address import Address
from replication.errors import DialFailed, InvalidAddress, RemoteCallError, RemoteError, RemoteVisible, RoomFailed
from replication.limits import DEFAULT_LIMITS, Limits
from replication.peer_info import Direction, PeerEvent, PeerInfo
from replication.room_state import (
    TRANSPORT,
    Attendance,
    Metadata,
    Moves,
    is_classic,
    read_metadata,
    read_tunnel,
    tunnel_address,
)
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Caller
from replication.rpc.streams import Duplex
from replication.transport import ByteStream
from replication.tunnel import TunnelStream

logger = logging.getLogger(__name__)

ASK_SECONDS: Final = 20.0
NO_ROOMS_KEPT: Final = 10_000
JOIN_SECONDS: Final = 15.0
DIAL_SECONDS: Final = 30.0
"""A dial through a room may have to dial the room first."""
ATTENDANT: Final = "room-attendant"


class Guests(StrEnum):
    """Who may connect to us through a room, besides whom we picked by hand."""

    ANYONE = "anyone"
    """Whoever may connect otherwise."""
    FOLLOWED = "followed"
    """Whom we follow."""
    MUTUAL = "mutual"
    """Whom we follow, and who follows us."""


class Hub(Protocol):
    """The part of `replication.connections.Connections` that rooms need; it sits some floors above."""

    def rpc_of(self, peer: str) -> RpcConnection | None: ...

    def connected(self, peer: str) -> PeerInfo | None: ...

    def subscribe(self, callback: Callable[[PeerEvent], None]) -> Callable[[], None]: ...

    def stage(
        self, address: str, *, kind: str, source: str, ttl: float | None = None, portal: str | None = None
    ) -> bool: ...

    def unstage(self, address: str) -> bool: ...

    def picked(self, peer: str) -> bool: ...

    async def reach(self, peer: str) -> PeerInfo: ...

    async def set_kind(self, address: str, kind: str) -> None: ...

    async def accept(self, stream: ByteStream, *, kind: str, admits: Callable[[str], bool]) -> None: ...


@dataclass(slots=True, eq=False)
class Session:
    """One connection with a room."""

    id: str
    address: str
    connection: RpcConnection
    metadata: Metadata
    attendance: Attendance
    refused: str = ""
    """Why the room does not tell us who is there."""
    known: asyncio.Event = field(default_factory=asyncio.Event)
    """Who is in the room has been told once, or never will be."""


@dataclass(frozen=True, slots=True)
class Present:
    """A room that we are connected to."""

    id: str
    address: str
    metadata: Metadata
    attendants: list[str]
    refused: str


class Rooms:
    """All rooms of one node. `attach` to the hub, then `run` beside it."""

    def __init__(
        self,
        me: str,
        *,
        is_following: Callable[[str, str], bool],
        guests: Guests = Guests.MUTUAL,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """`is_following(a, b)`: does feed a follow feed b."""
        self._me = me
        self._is_following = is_following
        self._guests = guests
        self._limits = limits
        self.breaches: Counter[str] = Counter()
        """How often which limit held somebody back."""
        self._hub: Hub
        self._sessions: dict[str, Session] = {}
        self._tunnels: Counter[tuple[str, bool]] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked: dict[str, asyncio.Event] = {}
        self._no_rooms: OrderedDict[str, None] = OrderedDict()

    def attach(self, hub: Hub) -> None:
        """The hub, which is built after the methods that need the rooms."""
        self._hub = hub

    async def run(self) -> None:
        """Look at each new connection, until cancelled."""
        done = self._hub.subscribe(self._on_event)
        try:
            await asyncio.Event().wait()
        finally:
            done()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def present(self) -> list[Present]:
        """The rooms that we are connected to."""
        return [
            Present(each.id, each.address, each.metadata, each.attendance.here, each.refused)
            for each in self._sessions.values()
        ]

    async def enter(self, peer: str) -> Present:
        """The room that a connected peer is, once it has told who is there. Raises RoomFailed."""
        asked = self._asked.get(peer)
        if asked is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(JOIN_SECONDS):
                    await asked.wait()
        session = self._sessions.get(peer)
        if session is None:
            raise RoomFailed(f"{peer} is connected but is no room; to connect to a peer, use connect")
        with suppress(TimeoutError):
            async with asyncio.timeout(JOIN_SECONDS):
                await session.known.wait()
        return next(each for each in self.present() if each.id == peer)

    async def call(self, room: str, method: str, *args: JsonValue) -> JsonValue:
        """Ask a room for something; it is dialled if we are not connected. Raises RoomFailed or DialFailed."""
        connection = await self._portal(room)
        try:
            async with asyncio.timeout(ASK_SECONDS):
                answer = await connection.call(method, list(args))
        except TimeoutError:
            raise RoomFailed(f"the room did not answer {method} within {ASK_SECONDS:g} seconds") from None
        except RemoteCallError as error:
            raise RoomFailed(f"the room refused {method}: {error.message[:300]}") from None
        except RemoteError as error:
            raise RoomFailed(f"the connection with the room was lost: {error}") from None
        if isinstance(answer, bytes):
            raise RoomFailed(f"the room answered {method} with bytes")
        return answer

    # ---- tunnels

    async def dial(self, address: Address) -> ByteStream:
        """Open a stream to somebody in a room. Raises DialFailed; the caller sets the time."""
        try:
            portal, target = read_tunnel(address)
        except InvalidAddress as error:
            raise DialFailed("connect", str(error)) from None
        if portal == self._me or target == self._me:
            raise DialFailed("connect", "a tunnel from us to us")
        try:
            connection = await self._portal(portal)
            place = self._place(portal, outgoing=True)
        except RoomFailed as error:
            raise DialFailed("connect", str(error)) from None
        try:
            offer: JsonValue = {"portal": portal, "target": target}
            duplex = connection.duplex("tunnel.connect", [offer])
        except RemoteError as error:
            place()
            raise DialFailed("connect", f"the room {portal} hung up: {error}") from None
        return TunnelStream(
            duplex, portal=portal, address=tunnel_address(portal, target), limits=self._limits, on_closed=place
        )

    async def answer(self, caller: Caller, offer: JsonValue, both: Duplex) -> None:
        """Somebody calls us through a room that we are in. Raises RemoteVisible."""
        origin = offer.get("origin") if isinstance(offer, dict) else None
        if (
            not isinstance(offer, dict)
            or caller.id is None
            or caller.id not in self._sessions
            or self._sessions[caller.id].connection is not caller.connection
            or offer.get("portal") != caller.id
            or offer.get("target") != self._me
            or not isinstance(origin, str)
            or not is_classic(origin)
            or origin in (self._me, caller.id)
            or not self._welcomes(origin)
        ):
            raise RemoteVisible(f"could not connect to:{self._me}")
        try:
            place = self._place(caller.id, outgoing=False)
        except RoomFailed:
            raise RemoteVisible("too many tunnels at once") from None
        stream = TunnelStream(
            both,
            portal=caller.id,
            address=tunnel_address(caller.id, origin),
            limits=self._limits,
            on_closed=place,
        )
        try:
            await self._hub.accept(stream, kind="room", admits=lambda peer: peer == origin)
        finally:
            stream.abort()

    def _welcomes(self, peer: str) -> bool:
        if self._guests is Guests.ANYONE or self._hub.picked(peer):
            return True
        return self._is_following(self._me, peer) and (
            self._guests is Guests.FOLLOWED or self._is_following(peer, self._me)
        )

    def _place(self, portal: str, *, outgoing: bool) -> Callable[[], None]:
        """Room for one more tunnel; gives what frees it. Raises RoomFailed."""
        key = (portal, outgoing)
        if self._tunnels[key] >= self._limits.tunnels:
            self.breaches["tunnels"] += 1
            raise RoomFailed(f"{self._limits.tunnels} tunnels lead through the room already")
        self._tunnels[key] += 1

        def free() -> None:
            self._tunnels[key] -= 1
            if not self._tunnels[key]:
                del self._tunnels[key]

        return free

    async def _portal(self, room: str) -> RpcConnection:
        """A connection with a room, which is dialled if there is none. Raises RoomFailed or DialFailed."""
        connection = self._hub.rpc_of(room)
        if connection is None:
            try:
                await self._hub.reach(room)
            except InvalidAddress as error:
                raise RoomFailed(str(error)) from None
            connection = self._hub.rpc_of(room)
        if connection is None:
            raise RoomFailed(f"the connection with the room {room} was lost")
        return connection

    # ---- one room

    def _on_event(self, event: PeerEvent) -> None:
        info = event.info
        if event.kind != "connected" or info.direction is not Direction.OUTGOING:
            return
        if info.address.startswith(f"{TRANSPORT}:"):
            return
        connection = self._hub.rpc_of(info.id)
        if connection is None or info.id in self._no_rooms:
            return
        asked = self._asked[info.id] = asyncio.Event()
        task = asyncio.create_task(self._attend(info.id, info.address, connection, asked), name=f"room {info.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attend(self, peer: str, address: str, connection: RpcConnection, asked: asyncio.Event) -> None:
        """Find out whether a peer is a room and, if so, follow who is there until the connection ends."""
        try:
            try:
                metadata = await self._ask(connection)
                if metadata is None:
                    self._note_no_room(peer, connection)
                    return
                session = Session(peer, address, connection, metadata, Attendance(self._me, peer))
                self._sessions[peer] = session
            finally:
                asked.set()
                if self._asked.get(peer) is asked:
                    del self._asked[peer]
            logger.info("in the room %s (%s)", metadata.name or peer, address)
            try:
                await self._hub.set_kind(address, "room")
                await self._follow(session)
                session.known.set()
                await connection.closed.wait()
            finally:
                session.known.set()
                if self._sessions.get(peer) is session:  # else a newer connection tells who is there
                    self._stage(session, session.attendance.clear())
                    del self._sessions[peer]
        except RemoteError as error:
            logger.debug("the room %s: %s", peer, error)
        except Exception:
            logger.exception("following the room %s failed", peer)

    def _note_no_room(self, peer: str, connection: RpcConnection) -> None:
        """Do not ask this peer again while the node runs: equal nodes reconnect without a word too many."""
        if connection.closed.is_set():
            return  # it had no time to answer
        self._no_rooms[peer] = None
        if len(self._no_rooms) > NO_ROOMS_KEPT:
            self._no_rooms.popitem(last=False)

    async def _ask(self, connection: RpcConnection) -> Metadata | None:
        """What a peer says of itself as a room; None if it is none."""
        for method, version in (("room.metadata", 2), ("tunnel.isRoom", 1)):
            with suppress(RemoteCallError, TimeoutError):
                async with asyncio.timeout(ASK_SECONDS):
                    answer = await connection.call(method)
                    found = read_metadata(answer, version=version)
                    if found is not None:
                        return found
        return None

    async def _follow(self, session: Session) -> None:
        """Take up who comes and goes; returns when the room tells no more."""
        ways = [("room.attendants", session.attendance.take_event), ("tunnel.endpoints", session.attendance.take_list)]
        for method, take in ways if session.metadata.version == 2 else ways[1:]:
            source = session.connection.source(method)
            try:
                async for item in source:
                    session.refused = ""
                    self._stage(session, take(item))
                    session.known.set()
                return
            except RemoteCallError as error:
                session.refused = error.message[:300]
            except InvalidJson:
                session.refused = "the room told of its attendants in no readable way"
                await source.cancel()
        logger.info("the room %s does not tell who is there: %s", session.id, session.refused)

    def _stage(self, session: Session, moves: Moves) -> None:
        for peer in moves.left:
            self._hub.unstage(tunnel_address(session.id, peer))
        for peer in moves.joined:
            self._hub.stage(tunnel_address(session.id, peer), kind=ATTENDANT, source="room", portal=session.id)
