"""Who and what this node is: manifest, whoami, address, version, status (protocol.md section 19)."""

from collections.abc import Callable
from typing import Any

from feeds.message import JsonValue
from replication.methods.local import local
from replication.methods.services import MethodServices
from replication.network import own_addresses, spelled_out
from replication.rpc.methods import Caller, Kind, Manifest, Method, Who


def methods(services: MethodServices, manifest_for: Callable[[Caller], Manifest]) -> list[Method]:
    """`manifest_for(caller)` is the finished table's own answer."""

    async def manifest(caller: Caller, _args: list[JsonValue]) -> Manifest:
        """The methods this caller may use."""
        return manifest_for(caller)

    async def whoami(_caller: Caller, _args: list[JsonValue]) -> dict[str, str]:
        """Our feed id."""
        return {"id": services.me}

    async def address(_caller: Caller, _args: list[JsonValue]) -> str | None:
        """Our addresses joined with `;`, null when we do not listen."""
        own = own_addresses()
        return ";".join(each for bound in services.hub().addresses() for each in spelled_out(bound, own)) or None

    async def version(_caller: Caller, _args: list[JsonValue]) -> str:
        """This program's version."""
        return services.version

    async def status(_caller: Caller, _args: list[JsonValue]) -> dict[str, Any]:
        """The log, the views, our own feed, the peers and how far replication is."""
        peers, traffic = services.hub().peers(), services.hub().traffic()
        return {
            "id": services.me,
            "version": services.version,
            "state": str(services.ingest.own_state),
            "sequence": services.log.sequence(services.me),
            "publishing": None if services.publishing is None else services.publishing.status(),
            "log": {"position": services.log.position, "feeds": len(services.log.clock())},
            "index": {"ready": not services.indexer.behind, "behind": services.indexer.behind},
            "peers": {
                "connected": sum(1 for peer in peers if peer.state == "connected"),
                "known": len({peer.id for peer in peers}),
            },
            "limits": {"refused": traffic.refused, "breaches": dict(traffic.breaches)},
            "sync": services.replicator.status(),
        }

    async def progress(_caller: Caller, _args: list[JsonValue]) -> dict[str, Any]:
        """Replication as a progress bar: messages held of wanted feeds, against what peers say there is."""
        totals = services.replicator.summary()["messages"]
        return {"ebt": {"start": 0, "current": totals["held"], "target": totals["held"] + totals["missing"]}}

    return [
        Method(("manifest",), Kind.SYNC, Who.ANON, manifest),
        Method(("whoami",), Kind.SYNC, Who.ANON, whoami),
        local("address", Kind.SYNC, address),
        local("multiserver.address", Kind.SYNC, address),
        local("version", Kind.SYNC, version),
        local("status", Kind.SYNC, status),
        local("progress", Kind.SYNC, progress),
    ]
