"""createHistoryStream for everybody and createUserStream for the node's own user (protocol.md section 8)."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from weakref import WeakKeyDictionary

from feeds.message import JsonValue
from replication.errors import RemoteVisible
from replication.history import HistoryRequest, HistorySender
from replication.limits import DEFAULT_LIMITS, Limits
from replication.methods import options
from replication.methods.local import local
from replication.methods.options import Options
from replication.methods.services import MethodServices
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Caller, Kind, Method, Pool, Who
from replication.rpc.streams import Sink


def methods(services: MethodServices, limits: Limits = DEFAULT_LIMITS) -> list[Method]:
    """`limits.history_streams_served` streams are served to a peer at once; the others wait for their turn."""
    turns: WeakKeyDictionary[RpcConnection, asyncio.Semaphore] = WeakKeyDictionary()
    replicator = services.replicator

    def turn_of(caller: Caller) -> Callable[[], AbstractAsyncContextManager[object]]:
        if caller.local:
            return nullcontext
        semaphore = turns.setdefault(caller.connection, asyncio.Semaphore(limits.history_streams_served))
        if semaphore.locked():
            caller.connection.breaches["history_streams_served"] += 1
        return lambda: semaphore

    async def serve(caller: Caller, request: HistoryRequest, out: Sink) -> None:
        peer = caller.id

        def allowed() -> bool:
            return caller.local or (peer is not None and replicator.may_serve(request.feed, peer))

        if allowed():
            turn = turn_of(caller)
            sender = HistorySender(
                services.log,
                replicator.growth,
                request,
                out,
                turn=turn,
                allowed=allowed,
                skips_erased=caller.local,
            )
            await sender.run()

    async def create_history_stream(caller: Caller, args: list[JsonValue], out: Sink) -> None:
        """A feed from a sequence on. Nothing is sent to whom the feed's owner or we block: the stream just ends.

        ssb-server asks for live streams of all its feeds beside EBT; what EBT brings it is not sent a second time.
        """
        request = history_request(args)
        exchange = replicator.exchange_of(caller.connection)
        if exchange is not None:
            exchange.history_called()
            while request.live and replicator.ebt.covers(exchange.peer, request.feed):
                await replicator.ebt.without_session(exchange.peer)
        await serve(caller, request, out)

    async def create_user_stream(caller: Caller, args: list[JsonValue], out: Sink) -> None:
        """A feed between two sequences."""
        await serve(caller, user_request(options.options(args, bare="id")), out)

    return [
        Method(("createHistoryStream",), Kind.SOURCE, Who.ANON, create_history_stream, pool=Pool.HISTORY),
        local("createUserStream", Kind.SOURCE, create_user_stream),
    ]


def history_request(args: list[JsonValue]) -> HistoryRequest:
    """Read `[{id, seq | sequence, ...}]`, or the old form `[id, sequence, live]`."""
    if args and isinstance(args[0], str):
        named: dict[str, JsonValue] = dict(zip(("id", "seq", "live"), args, strict=False))
        opts: Options = named
    else:
        opts = options.options(args)
    seq, sequence = options.whole(opts, "seq"), options.whole(opts, "sequence")
    if seq is not None and sequence is not None and seq != sequence:
        raise RemoteVisible("options seq and sequence differ")
    first = seq if seq is not None else sequence if sequence is not None else 0
    return _request(opts, first=max(1, first), last=None)


def user_request(opts: Options) -> HistoryRequest:
    """Read `{id, gt, gte, lt, lte, ...}`, the bounds being sequences."""
    lower = [end for end in (_after(options.whole(opts, "gt")), options.whole(opts, "gte")) if end is not None]
    upper = [end for end in (_before(options.whole(opts, "lt")), options.whole(opts, "lte")) if end is not None]
    return _request(opts, first=max(1, *lower, 1), last=min(upper, default=None))


def _request(opts: Options, *, first: int, last: int | None) -> HistoryRequest:
    shape = options.shape(opts)
    return HistoryRequest(
        feed=options.feed(opts.get("id")),
        first=first,
        last=last,
        live=shape.live,
        old=shape.old,
        limit=shape.limit,
        keys=shape.keys,
        values=shape.values,
        reverse=shape.reverse,
    )


def _after(sequence: int | None) -> int | None:
    return None if sequence is None else sequence + 1


def _before(sequence: int | None) -> int | None:
    return None if sequence is None else sequence - 1
