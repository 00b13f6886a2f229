"""gossip.ping and conn.ping: both ends send their clock in milliseconds, in turn (protocol.md section 15)."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from feeds.errors import InvalidJson
from feeds.message import JsonValue
from replication.errors import RemoteCallError, RemoteVisible, StreamEnded
from replication.rpc.bodies import Payload
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Caller, Kind, Method, Who
from replication.rpc.streams import Duplex

FIRST_PING_SECONDS: Final = 240
PING_SECONDS: Final = 300


def methods(wall_clock: Callable[[], float]) -> list[Method]:
    """The two spellings of ping; `wall_clock` gives seconds since the epoch."""

    async def ping(_caller: Caller, _args: list[JsonValue], duplex: Duplex) -> None:
        """Answer each timestamp with ours, one answer a batch, so that a flood of pings is not doubled."""
        while batch := await duplex.read_batch():
            try:
                value = batch[-1].value()
            except InvalidJson as error:
                raise RemoteVisible("expected timestamps") from error
            if not _is_number(value):
                raise RemoteVisible("expected timestamps")
            await duplex.send([str(int(wall_clock() * 1000)).encode()])

    return [Method((group, "ping"), Kind.DUPLEX, Who.ANON, ping) for group in ("gossip", "conn")]


def _is_number(value: Payload) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


async def keep_pinging(connection: RpcConnection, wall_clock: Callable[[], float]) -> None:
    """Ping the peer every few minutes, so that neither side takes a quiet connection for a dead one.

    Not at once: a connection on which nothing is new should cost nothing. Ends when the peer has no ping.
    """
    await asyncio.sleep(FIRST_PING_SECONDS)
    duplex = connection.duplex(("gossip", "ping"), [{"timeout": PING_SECONDS * 1000}])
    with suppress(RemoteCallError, StreamEnded):
        while True:
            await duplex.send([str(int(wall_clock() * 1000)).encode()])
            if not await duplex.read_batch():
                return
            await asyncio.sleep(PING_SECONDS)
