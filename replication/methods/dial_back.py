"""conn.dialBack: whether a peer can be reached where its connection comes from, tried by dialling it. Ours alone.

It lets a node's doctor ask somebody outside. Only the caller's own host is dialled, only for the caller's own key, with
an identity made up for it, and nothing is said there: whoever calls learns no more than it could find out itself.
"""

import asyncio
import ipaddress
import os
from typing import Final
from weakref import WeakKeyDictionary

from feeds.message import JsonValue
from feeds.refs import FeedRef
from replication.address import Address
from replication.errors import DialFailed, InvalidAddress, RemoteVisible
from replication.methods.services import MethodServices
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Caller, Kind, Method, Who

PAUSE_SECONDS: Final = 10.0
AT_ONCE: Final = 4


def methods(services: MethodServices) -> list[Method]:
    """For every peer."""
    asked: WeakKeyDictionary[RpcConnection, float] = WeakKeyDictionary()
    places = asyncio.Semaphore(AT_ONCE)

    async def dial_back(caller: Caller, args: list[JsonValue]) -> dict[str, JsonValue]:
        """`[port]`: `{address, reached, step, reason}` of a dial to the caller's host; once in ten seconds."""
        host, port = _host_of(caller.connection.peername), args[0] if args else None
        if host is None or caller.id is None:
            raise RemoteVisible("only peers that are connected over TCP can be dialled back")
        if type(port) is not int or not 0 < port < 65536:
            raise RemoteVisible("expected a port")
        now = asyncio.get_running_loop().time()
        if now - asked.get(caller.connection, -PAUSE_SECONDS) < PAUSE_SECONDS or places.locked():
            raise RemoteVisible("dialled back a moment ago; ask again later")
        asked[caller.connection] = now
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        address = Address.net(host, port, FeedRef.parse(caller.id).data, seed=os.urandom(32))
        async with places:
            try:
                peer = await services.hub().visit(address)
            except (DialFailed, InvalidAddress) as error:
                step = error.step if isinstance(error, DialFailed) else "connect"
                reason = error.reason if isinstance(error, DialFailed) else "no address that can be dialled"
                return {"address": where, "reached": False, "step": step, "reason": reason}
            peer.connection.abort("dialled back")
        return {"address": where, "reached": True, "step": None, "reason": None}

    return [Method(("conn", "dialBack"), Kind.ASYNC, Who.ANON, dial_back)]


def _host_of(peername: str) -> str | None:
    """The IP address of a peer, None for what is reached otherwise (through a room, by a unix socket)."""
    host = peername.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return host
