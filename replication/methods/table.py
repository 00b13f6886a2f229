"""The table of everything this node serves by muxrpc. Later subjects (invites, rooms) add a file and a line."""

from collections.abc import Callable, Iterator

from replication.limits import DEFAULT_LIMITS, Limits
from replication.methods import (
    blobs,
    care,
    dial_back,
    ebt,
    friends,
    gossip,
    history,
    http_auth,
    identity,
    invites,
    lan,
    links,
    messages,
    names,
    partial,
    ping,
    private,
    publishing,
    query,
    replicate,
    rooms,
    streams,
    threads,
)
from replication.methods.services import MethodServices
from replication.rpc.methods import Caller, Manifest, Method, MethodTable


def all_methods(
    services: MethodServices, manifest_for: Callable[[Caller], Manifest], *, limits: Limits = DEFAULT_LIMITS
) -> Iterator[Method]:
    """Every method, bound to one node's services; `manifest_for(caller)` is what the table they go into answers."""
    yield from identity.methods(services, manifest_for)
    yield from messages.methods(services)
    yield from private.methods(services)
    yield from publishing.methods(services)
    yield from history.methods(services, limits)
    yield from streams.methods(services)
    yield from links.methods(services)
    yield from query.methods(services)
    yield from names.methods(services)
    yield from threads.methods(services)
    yield from ebt.methods(services, limits)
    yield from partial.methods(services)
    yield from replicate.methods(services)
    yield from friends.methods(services)
    yield from blobs.methods(services)
    yield from care.methods(services)
    yield from gossip.methods(services)
    yield from lan.methods(services)
    yield from dial_back.methods(services)
    yield from http_auth.methods(services)
    yield from rooms.methods(services)
    yield from invites.methods(services)
    yield from ping.methods(services.wall_clock)


def method_table(services: MethodServices, *, limits: Limits = DEFAULT_LIMITS) -> MethodTable:
    """The table with all methods."""
    table = MethodTable()
    for method in all_methods(services, table.manifest, limits=limits):
        table.add(method)
    return table
