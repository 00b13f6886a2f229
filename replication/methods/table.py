"""The table of everything this node serves by muxrpc. Later subjects (blobs, invites, rooms) add a file and a line."""

from replication.limits import DEFAULT_LIMITS, Limits
from replication.methods import ebt, friends, gossip, history, identity, links, messages, ping, replicate, streams
from replication.methods.services import MethodServices
from replication.rpc.methods import MethodTable


def method_table(services: MethodServices, *, limits: Limits = DEFAULT_LIMITS) -> MethodTable:
    """All methods, bound to one node's services."""
    table = MethodTable()
    for method in (
        *identity.methods(services, table.manifest),
        *messages.methods(services),
        *history.methods(services, limits),
        *streams.methods(services),
        *links.methods(services),
        *ebt.methods(services, limits),
        *replicate.methods(services),
        *friends.methods(services),
        *gossip.methods(services),
        *ping.methods(services.wall_clock),
    ):
        table.add(method)
    return table
