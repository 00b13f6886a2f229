"""Care of the store: rebuild."""

from feeds.message import JsonValue
from replication.errors import RemoteVisible
from replication.methods.local import local
from replication.methods.services import MethodServices
from replication.rpc.methods import Caller, Kind, Method


def methods(services: MethodServices) -> list[Method]:
    """All for the node's own user."""
    indexer = services.indexer

    async def rebuild(_caller: Caller, args: list[JsonValue]) -> dict[str, JsonValue]:
        """Make views anew (a list of names, or all); answers at once, the status tells how far it is."""
        wanted = args[0] if args else None
        if wanted is None:
            wanted = list(indexer.names)
        names = [name for name in wanted if isinstance(name, str)] if isinstance(wanted, list) else []
        if not names or names != wanted or not set(names) <= set(indexer.names):
            raise RemoteVisible(f"rebuild: expected a list of views, of {', '.join(indexer.names)}")
        begun = await indexer.rebuild(names)
        return {"views": list[JsonValue](begun), "messages": services.log.position}

    return [local("rebuild", Kind.ASYNC, rebuild)]
