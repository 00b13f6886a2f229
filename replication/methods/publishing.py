"""publishing.*: whether our own feed may be written to, why not, and opening it by hand. For the node's own user."""

from typing import Any

from feeds import fork_proof
from feeds.message import JsonValue
from feeds.publishing import Publishing
from replication.errors import RemoteVisible
from replication.methods import options
from replication.methods.local import local
from replication.methods.services import MethodServices
from replication.rpc.methods import Caller, Kind, Method


def methods(services: MethodServices) -> list[Method]:
    """The methods under `publishing`, and the evidence of forked feeds."""

    def watch() -> Publishing:
        if services.publishing is None:
            raise RemoteVisible("this node does not watch over its feed")
        return services.publishing

    async def status(_caller: Caller, _args: list[JsonValue]) -> dict[str, Any]:
        """State, reason and what is missing, with what became of earlier locks."""
        return watch().status() | {"history": await watch().history()}

    async def unlock(_caller: Caller, args: list[JsonValue]) -> dict[str, Any]:
        """Open the feed by hand: `[sequence of its last message]`."""
        sequence = args[0] if args else None
        if type(sequence) is not int or sequence < 0:
            raise RemoteVisible("publishing.unlock: expected the sequence of the last message of our feed")
        await watch().unlock(sequence)
        return watch().status()

    async def proof(_caller: Caller, args: list[JsonValue]) -> dict[str, Any]:
        """The proof that a feed is forked."""
        feed = options.feed_argument(args) if args else services.me
        fork = await services.log.fork(feed)
        if fork is None:
            raise RemoteVisible(f"not found: no fork of {feed} is known here")
        return fork_proof.export(feed, fork.sequence, fork.first, fork.second)

    return [
        local("publishing.status", Kind.ASYNC, status),
        local("publishing.unlock", Kind.ASYNC, unlock),
        local("publishing.proof", Kind.ASYNC, proof),
    ]
