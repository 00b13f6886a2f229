"""replicate.*: which feeds are replicated and how far (protocol.md section 19, local methods)."""

import asyncio
import json
from collections.abc import Mapping

from feeds.message import JsonValue
from replication.errors import RemoteVisible
from replication.methods import options
from replication.methods.local import local
from replication.methods.services import MethodServices
from replication.rpc.methods import Caller, Kind, Method
from replication.rpc.streams import Sink

FEEDS_A_PIECE = 1000


def methods(services: MethodServices) -> list[Method]:
    """All for the node's own user."""
    replicator = services.replicator

    async def upto(_caller: Caller, args: list[JsonValue], out: Sink) -> None:
        """`{id, sequence}` of each wanted feed, then of each that grows if `live`."""
        shape = options.shape(options.options(args))
        grown: dict[str, int] = {}
        changed = asyncio.Event()

        def follow(feeds: Mapping[str, int]) -> None:
            grown.update((feed, at) for feed, at in feeds.items() if feed in replicator.policy.wanted)
            changed.set()

        unsubscribe = replicator.growth.subscribe(follow) if shape.live else None
        try:
            if shape.old:
                await _send(out, {feed: services.log.sequence(feed) for feed in sorted(replicator.policy.wanted)})
            while shape.live:
                await changed.wait()
                changed.clear()
                now, grown = grown, {}
                await _send(out, now)
        finally:
            if unsubscribe is not None:
                unsubscribe()

    async def request(_caller: Caller, args: list[JsonValue]) -> bool:
        """Ask for a feed by hand, or (false) refuse it; kept over a restart."""
        await replicator.request_all(requested(args))
        return True

    async def block(_caller: Caller, args: list[JsonValue]) -> bool:
        """`(from, to, blocking)`: refuse a feed here without a word to others, or no longer."""
        await blocked(services, args)
        return True

    return [
        local("replicate.upto", Kind.SOURCE, upto),
        local("replicate.request", Kind.SYNC, request),
        local("replicate.block", Kind.SYNC, block),
    ]


async def blocked(services: MethodServices, args: list[JsonValue]) -> None:
    """Do what `[from, to, blocking]` says; a block of others is read from their feeds, so `from` must be us."""
    who, whom, blocking = [*args, None, None, None][:3]
    if not isinstance(blocking, bool):
        raise RemoteVisible("expected (from, to, true or false)")
    if options.feed(who, "from") != services.me:
        raise RemoteVisible("from: expected our own id; whom others block is read from their feeds")
    feed = options.feed(whom, "to")
    if feed == services.me:
        raise RemoteVisible("to: this is our own feed")
    if blocking:
        await services.replicator.request_all({feed: False})
    elif services.replicator.policy.requests.get(feed) is False:
        await services.replicator.unrequest(feed)


def requested(args: list[JsonValue]) -> dict[str, bool]:
    """Read `[id, wanted = true]`, `[[id, ...], wanted]` or `[{id: wanted, ...}]`."""
    first = args[0] if args else None
    wanted = args[1] if len(args) > 1 and args[1] is not None else True
    if not isinstance(wanted, bool):
        raise RemoteVisible("expected true or false after the feed")
    if isinstance(first, dict):
        if not all(isinstance(value, bool) for value in first.values()):
            raise RemoteVisible("expected true or false for each feed")
        return {options.feed(feed): bool(value) for feed, value in first.items()}
    if isinstance(first, list):
        return {options.feed(feed): wanted for feed in first}
    return {options.feed(first): wanted}


async def _send(out: Sink, feeds: Mapping[str, int]) -> None:
    lines = [
        json.dumps({"id": feed, "sequence": sequence}, separators=(",", ":")).encode()
        for feed, sequence in feeds.items()
    ]
    for start in range(0, len(lines), FEEDS_A_PIECE):
        await out.send(lines[start : start + FEEDS_A_PIECE])
