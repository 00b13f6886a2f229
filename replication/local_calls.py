"""Calling this node's own muxrpc methods from inside it, with the rights of its user.

Each caller gets a connection of its own: two `RpcConnection`s joined in memory, so that kinds, checks, streams and
back-pressure are those that a program on the unix socket meets. Whatever was under way ends with it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final, cast

from replication.limits import DEFAULT_LIMITS, MIB, Limits
from replication.memory_stream import memory_pair
from replication.rpc.calls import Kind, Name
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Caller, MethodTable

__all__ = ["LocalCalls"]

LARGEST: Final = 64 * MIB
"""Bytes of one value: nobody but this process sends here."""


class LocalCalls:
    """The methods of one node, for its own user."""

    def __init__(self, table: MethodTable, limits: Limits = DEFAULT_LIMITS) -> None:
        self._table: Final = table
        self._limits: Final = replace(
            limits, json_frame=LARGEST, calls_in_flight_size=LARGEST, silence_timeout=float("inf")
        )
        self._nothing: Final = MethodTable()

    def kind(self, name: Name) -> Kind:
        """How a method is called. Raises RemoteVisible when there is none of this name."""
        user = Caller(id=None, local=True, connection=cast(RpcConnection, None))  # asked only what it may
        return self._table.find(name, user).kind

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[RpcConnection]:
        """A connection to call over; on leaving, its calls are cancelled."""
        near, far = memory_pair(self._limits)
        caller = RpcConnection(near, self._nothing, remote_id=None, is_client=True, limits=self._limits)
        server = RpcConnection(far, self._table, remote_id=None, local=True, limits=self._limits)
        running = [asyncio.create_task(connection.run()) for connection in (server, caller)]
        try:
            yield caller
        finally:
            caller.abort()
            await asyncio.gather(*running, return_exceptions=True)
