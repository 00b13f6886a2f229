"""ebt.replicate and ebt.clock for peers; peerStatus, request and block for the node's own user (protocol.md 9, 19)."""

from typing import Any

from feeds.message import JsonValue
from replication.ebt.state import PairStatus
from replication.errors import RemoteVisible
from replication.limits import DEFAULT_LIMITS, Limits
from replication.methods import options
from replication.methods.local import local
from replication.methods.replicate import blocked, requested
from replication.methods.services import MethodServices
from replication.rpc.methods import Caller, Kind, Method, Who
from replication.rpc.streams import Duplex

NO_FORMATS = "method:ebt,replicateFormat is not in list of allowed methods"
"""In these words deployed peers understand that we lack what they ask for, and go on with classic feeds alone."""
WRONG_VERSION = "expected ebt.replicate({version: 3})"


def methods(services: MethodServices, limits: Limits = DEFAULT_LIMITS) -> list[Method]:
    """The methods under `ebt`."""
    replicator = services.replicator

    async def replicate(caller: Caller, args: list[JsonValue], duplex: Duplex) -> None:
        """The EBT stream of one peer."""
        check_options(args)
        exchange = replicator.exchange_of(caller.connection)
        if exchange is None:
            raise RemoteVisible("ebt.replicate is for other nodes")
        await exchange.serve_ebt(duplex)

    async def replicate_format(caller: Caller, args: list[JsonValue], duplex: Duplex) -> None:
        """The same under the name that has the format as an option; `classic` is the only one here."""
        opts = args[0] if args else None
        if isinstance(opts, dict) and opts.get("format") not in (None, "classic"):
            raise RemoteVisible(NO_FORMATS)
        await replicate(caller, args, duplex)

    async def clock(caller: Caller, _args: list[JsonValue]) -> dict[str, int]:
        """The last sequence of each feed that we replicate and the caller may have."""
        wanted = replicator.policy.wanted
        return {
            feed: sequence
            for feed, sequence in services.log.clock().items()
            if feed in wanted and (caller.local or (caller.id and replicator.may_serve(feed, caller.id)))
        }

    async def peer_status(_caller: Caller, args: list[JsonValue]) -> dict[str, Any]:
        """What each connected peer says it has of a feed, and who sends it to whom."""
        feed = options.feed_argument(args) if args else services.me
        status = replicator.ebt.state.feed_status(feed)
        return {
            "id": feed,
            "seq": services.log.sequence(feed),
            "peers": {peer: _as_sbot(pair) for peer, pair in status.peers.items()},
        }

    async def request(_caller: Caller, args: list[JsonValue]) -> bool:
        """Ask for a feed by hand, or (false) refuse it."""
        await replicator.request_all(requested(args))
        return True

    async def block(_caller: Caller, args: list[JsonValue]) -> bool:
        """`(from, to, blocking)`: refuse a feed here without a word to others, or no longer."""
        await blocked(services, args)
        return True

    return [
        Method(("ebt", "replicate"), Kind.DUPLEX, Who.ANON, replicate, max_json=limits.ebt_frame),
        Method(("ebt", "replicateFormat"), Kind.DUPLEX, Who.ANON, replicate_format, max_json=limits.ebt_frame),
        Method(("ebt", "clock"), Kind.ASYNC, Who.ANON, clock),
        local("ebt.peerStatus", Kind.SYNC, peer_status),
        local("ebt.request", Kind.SYNC, request),
        local("ebt.block", Kind.SYNC, block),
    ]


def check_options(args: list[JsonValue]) -> None:
    """Version 3 of the classic format, or an error in the words deployed peers use."""
    opts = args[0] if args else None
    if not isinstance(opts, dict) or opts.get("version") != 3:
        raise RemoteVisible(WRONG_VERSION)
    if opts.get("format") not in (None, "classic"):
        raise RemoteVisible("ebt.replicate: only the format classic is replicated here")


def _as_sbot(pair: PairStatus) -> dict[str, Any]:
    """One peer's line as the old sbot prints it."""
    return {
        "seq": pair.claim,
        "replicating": {
            "tx": pair.sending,
            "rx": pair.receiving,
            "sent": pair.sent,
            "requested": pair.told,
        },
    }
