"""Talking to the running node: muxrpc over the unix socket in its data directory.

Where that socket is missing or cannot be reached, the node's port does as well: whoever holds its own key may call
everything (protocol.md section 15). A node that answers neither way is not running.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from feeds.canonical_json import compact
from feeds.keys import Keypair
from node import keyfile
from node.config import Config
from node.directory import DataDirectory
from node.errors import NotRunning
from replication.address import Address
from replication.errors import DialFailed
from replication.peer import Peer, PeerConfig, connect_local, connect_peer
from replication.rpc.bodies import Body, BodyType
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Kind, MethodTable

PORT_PATIENCE = 3.0
"""Seconds for the whole attempt at the port."""
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}  # noqa: S104 - compared with, not bound to
"""Where to call a node that listens on every address."""


class Node:
    """The running node, as its own user may use it."""

    def __init__(self, connection: RpcConnection) -> None:
        self._connection = connection

    async def call(self, method: str, args: Sequence[Any], *, kind: str = "async") -> Any:
        """One answer, as a JSON value. Raises RemoteCallError, ConnectionClosed, RpcProtocolError."""
        return await self._connection.call(method, list(args), kind=Kind(kind))

    async def stream(self, method: str, args: Sequence[Any]) -> AsyncIterator[list[bytes]]:
        """The items of a source as they come, as JSON texts in batches. Raises RemoteCallError, ConnectionClosed."""
        source = self._connection.source(method, list(args))
        try:
            while batch := await source.read_batch():
                yield [_as_json(body) for body in batch]
        finally:
            if not source.remote_ended:
                await source.cancel()

    async def take(self, method: str, args: Sequence[Any]) -> AsyncIterator[bytes]:
        """The items of a source of bytes. Raises RemoteCallError, ConnectionClosed."""
        source = self._connection.source(method, list(args))
        try:
            while batch := await source.read_batch():
                for body in batch:
                    yield body.data
        finally:
            if not source.remote_ended:
                await source.cancel()

    async def give(self, method: str, args: Sequence[Any], pieces: Iterable[bytes]) -> None:
        """Send bytes to a sink and wait until it has taken them all. Raises RemoteCallError, ConnectionClosed."""
        sink = self._connection.sink(method, list(args))
        for piece in pieces:
            await sink.send([piece], BodyType.BINARY)
        await sink.end()
        await sink.finished()


@asynccontextmanager
async def attach(config: Config) -> AsyncIterator[Node]:
    """Connect to the node of this data directory. Raises NotRunning if nothing answers."""
    peer = await _by_socket(config) or await _by_port(config)
    if peer is None:
        raise NotRunning(
            f"No node is running for {config.path}; start it with: sbot start --path {config.path} "
            "(or name another directory with --path)."
        )
    serving = asyncio.create_task(peer.run())
    try:
        yield Node(peer.connection)
    finally:
        await peer.close()
        await asyncio.gather(serving, return_exceptions=True)


async def _by_socket(config: Config) -> Peer | None:
    try:
        # Nobody proves anything on the socket, so any key will do.
        return await connect_local(DataDirectory(config.path).socket, PeerConfig(Keypair.generate(), MethodTable()))
    except DialFailed:
        return None


async def _by_port(config: Config) -> Peer | None:
    keypair = keyfile.load_quietly(DataDirectory(config.path).secret)
    if keypair is None or config.port == 0:
        return None
    address = Address.net(LOOPBACK.get(config.host, config.host), config.port, keypair.public)
    peer_config = PeerConfig(keypair, MethodTable(), network_key=config.network_key)
    try:
        return await connect_peer(address, peer_config, timeout=PORT_PATIENCE)
    except DialFailed:
        return None


def _as_json(body: Body) -> bytes:
    """A stream item as JSON text; messages stay exactly the bytes they are."""
    return body.data if body.kind is BodyType.JSON else compact(body.data.decode("utf-8", "replace"))
