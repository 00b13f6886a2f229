"""room.* and tunnel.*: being called through a room, and the room that this node may be (protocol section 17)."""

from feeds.message import JsonValue
from replication.errors import RemoteVisible
from replication.methods.services import MethodServices
from replication.room_server import RoomServer
from replication.rpc.methods import Caller, Kind, Method, Who
from replication.rpc.streams import Duplex, Sink


def methods(services: MethodServices) -> list[Method]:
    """`tunnel.connect` is both: called on us as a target, and on the room that we are."""
    rooms, server = services.rooms, services.room_server

    async def connect(caller: Caller, args: list[JsonValue], both: Duplex) -> None:
        """`[{portal, target, origin}]`: a stream of bytes in which a whole connection of its own runs."""
        offer = args[0] if args else None
        if server is not None and isinstance(offer, dict) and offer.get("portal") == services.me:
            await server.connect(caller, offer.get("target"), both)
        elif rooms is not None:
            await rooms.answer(caller, offer, both)
        else:
            raise RemoteVisible("could not connect to:" + services.me)

    async def ping(_caller: Caller, _args: list[JsonValue]) -> int:
        """Milliseconds since the epoch."""
        return int(services.wall_clock() * 1000)

    found = [
        Method(("tunnel", "connect"), Kind.DUPLEX, Who.ANON, connect),
        Method(("tunnel", "ping"), Kind.SYNC, Who.ANON, ping),
    ]
    return found if server is None else found + _served(server)


def _served(server: RoomServer) -> list[Method]:
    async def metadata(_caller: Caller, _args: list[JsonValue]) -> JsonValue:
        """What the room says of itself."""
        return server.metadata()

    async def attendants(caller: Caller, _args: list[JsonValue], out: Sink) -> None:
        """Who is here and who comes and goes; the caller is here from now on."""
        await server.tell_attendants(caller, out)

    async def endpoints(caller: Caller, _args: list[JsonValue], out: Sink) -> None:
        """The same as whole lists, for clients of rooms of the first kind."""
        await server.tell_endpoints(caller, out)

    async def announce(caller: Caller, _args: list[JsonValue]) -> bool:
        """The caller is here."""
        server.enter(caller)
        return True

    async def leave(caller: Caller, _args: list[JsonValue]) -> bool:
        """The caller is here no more."""
        server.leave(caller)
        return True

    return [
        Method(("room", "metadata"), Kind.ASYNC, Who.ANON, metadata),
        Method(("room", "attendants"), Kind.SOURCE, Who.ANON, attendants),
        Method(("tunnel", "isRoom"), Kind.ASYNC, Who.ANON, metadata),
        Method(("tunnel", "endpoints"), Kind.SOURCE, Who.ANON, endpoints),
        Method(("tunnel", "announce"), Kind.SYNC, Who.ANON, announce),
        Method(("tunnel", "leave"), Kind.SYNC, Who.ANON, leave),
    ]
