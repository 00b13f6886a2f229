"""lan.*: discovery on the local network, for the node's own user (protocol.md sections 15 and 19)."""

import asyncio
import json

from feeds.message import JsonValue
from replication.discovery import Discovery
from replication.errors import RemoteVisible
from replication.methods.local import local
from replication.methods.services import MethodServices
from replication.rpc.methods import Caller, Kind, Method
from replication.rpc.streams import Sink

LOOK_SECONDS = 0.5


def methods(services: MethodServices) -> list[Method]:
    """All of them."""

    def discovery() -> Discovery:
        found = services.discovery()
        if found is None:
            raise RemoteVisible("discovery on the local network is off; start the node with --lan")
        return found

    async def start(_caller: Caller, _args: list[JsonValue]) -> bool:
        """Tell neighbours of this node again, and look for them."""
        discovery().resume()
        return True

    async def stop(_caller: Caller, _args: list[JsonValue]) -> bool:
        """Neither tell nor look, until `lan.start` or the next start of the node."""
        discovery().pause()
        return True

    async def discovered(_caller: Caller, _args: list[JsonValue], out: Sink) -> None:
        """`{address, verified}` of each neighbour, and of each that comes."""
        known: set[str] = set()
        while True:
            here = [each.address for each in services.hub().known_peers() if each.staged and each.kind == "lan"]
            new = [address for address in here if address not in known]
            known = set(here)
            if new:
                await out.send([json.dumps({"address": address, "verified": True}).encode() for address in new])
            await asyncio.sleep(LOOK_SECONDS)

    return [
        local("lan.start", Kind.SYNC, start),
        local("lan.stop", Kind.SYNC, stop),
        local("lan.discoveredPeers", Kind.SOURCE, discovered),
    ]
