"""friends.*: who follows and blocks whom, and how far away they are (protocol.md sections 11 and 19, local methods)."""

import asyncio
import json
from typing import Any

from feeds.message import JsonObject, JsonValue
from replication.errors import RemoteVisible
from replication.methods import options
from replication.methods.local import local
from replication.methods.services import MethodServices
from replication.policy import DEFAULT_HOPS
from replication.rpc.bodies import RawJson
from replication.rpc.methods import Caller, Kind, Method
from replication.rpc.streams import Sink

MAX_HOPS = 16


def methods(services: MethodServices) -> list[Method]:
    """All for the node's own user."""
    graph, me = services.graph, services.me

    def distances(opts: options.Options) -> dict[str, int]:
        start = opts.get("start")
        most = options.whole(opts, "max")
        hops = DEFAULT_HOPS if most is None else max(0, min(most, MAX_HOPS))
        return graph.hops(me if start is None else options.feed(start, "start"), hops)

    async def hops(_caller: Caller, args: list[JsonValue]) -> dict[str, int]:
        """`{feed: distance}` from us (or `start`) up to `max`; negative for blocked and unfollowed feeds."""
        return distances(options.options(args, bare="start"))

    async def is_following(_caller: Caller, args: list[JsonValue]) -> bool:
        """Whether `source` (we, if missing) follows `dest`."""
        return graph.is_following(*pair(args))

    async def is_blocking(_caller: Caller, args: list[JsonValue]) -> bool:
        """Whether `source` (we, if missing) blocks `dest`."""
        return graph.is_blocking(*pair(args))

    def pair(args: list[JsonValue]) -> tuple[str, str]:
        opts = options.options(args, bare="dest")
        source = opts.get("source")
        return (me if source is None else options.feed(source, "source"), options.feed(opts.get("dest"), "dest"))

    async def follow(_caller: Caller, args: list[JsonValue]) -> RawJson:
        """Publish that we follow a feed, or (`{state: false}`) no longer do."""
        feed, state = declared(args)
        return await publish({"type": "contact", "contact": feed, "following": state})

    async def block(_caller: Caller, args: list[JsonValue]) -> RawJson:
        """Publish that we block a feed, or (`{state: false}`) no longer do."""
        feed, state = declared(args)
        return await publish({"type": "contact", "contact": feed, "blocking": state})

    def declared(args: list[JsonValue]) -> tuple[str, bool]:
        feed = options.feed_argument(args)
        if feed == me:
            raise RemoteVisible("this is our own feed")
        opts = args[1] if len(args) > 1 and isinstance(args[1], dict) else {}
        return feed, options.flag(opts, "state", True)

    async def publish(content: JsonObject) -> RawJson:
        return RawJson((await services.ingest.publish(content)).as_kvt())

    async def edges(_caller: Caller, _args: list[JsonValue]) -> dict[str, dict[str, int]]:
        """The whole graph: `{source: {dest: 1 | -1 | -2}}`."""
        return graph.edges()

    async def get(_caller: Caller, args: list[JsonValue]) -> Any:
        """The old question: `{source, dest}` gives an answer, one of them a list of answers, none the whole graph."""
        opts = options.options(args)
        source, dest = opts.get("source"), opts.get("dest")
        found = graph.edges()
        if source is not None:
            row = {feed: _as_answer(edge) for feed, edge in found.get(options.feed(source, "source"), {}).items()}
            return row if dest is None else row.get(options.feed(dest, "dest"))
        if dest is not None:
            wanted = options.feed(dest, "dest")
            return {feed: _as_answer(row[wanted]) for feed, row in found.items() if wanted in row}
        return {feed: {other: _as_answer(edge) for other, edge in row.items()} for feed, row in found.items()}

    async def graph_stream(_caller: Caller, args: list[JsonValue], out: Sink) -> None:
        """The graph as one object, then, if `live`, objects of the edges that changed."""
        await _changes(services, options.options(args), out, graph.edges, _edge_changes)

    async def hop_stream(_caller: Caller, args: list[JsonValue], out: Sink) -> None:
        """Distances as one object, then, if `live`, objects of those that changed."""
        opts = options.options(args)
        await _changes(services, opts, out, lambda: dict(distances(opts)), _hop_changes)

    async def friend_stream(_caller: Caller, args: list[JsonValue], out: Sink) -> None:
        """Ids within `hops` (3) of `start`, or `{id, hops}` of each with `meta`; new ones too if `live`."""
        opts = options.options(args)
        most, meta = options.whole(opts, "hops"), options.flag(opts, "meta", False)
        asked = {**opts, "max": DEFAULT_HOPS if most is None else most}
        told: set[str] = set()
        changed = asyncio.Event()
        unsubscribe = graph.subscribe(changed.set)
        try:
            while True:
                changed.clear()
                near = sorted((hops, feed) for feed, hops in distances(asked).items() if hops >= 0 and feed not in told)
                told.update(feed for _, feed in near)
                if near:
                    await out.send([_json({"id": feed, "hops": hops} if meta else feed) for hops, feed in near])
                if not options.flag(opts, "live", False):
                    return
                await changed.wait()
        finally:
            unsubscribe()

    return [
        local("friends.createFriendStream", Kind.SOURCE, friend_stream),
        local("friends.hops", Kind.ASYNC, hops),
        local("friends.isFollowing", Kind.ASYNC, is_following),
        local("friends.isBlocking", Kind.ASYNC, is_blocking),
        local("friends.follow", Kind.ASYNC, follow),
        local("friends.block", Kind.ASYNC, block),
        local("friends.graph", Kind.ASYNC, edges),
        local("friends.get", Kind.ASYNC, get),
        local("friends.stream", Kind.SOURCE, graph_stream),
        local("friends.graphStream", Kind.SOURCE, graph_stream),
        local("friends.hopStream", Kind.SOURCE, hop_stream),
    ]


def _as_answer(edge: int) -> bool | None:
    """An edge as ssb-friends used to tell it: true follows, false blocks, null neither."""
    return {1: True, -1: False}.get(edge)


async def _changes(services: MethodServices, opts: options.Options, out: Sink, read: Any, compare: Any) -> None:
    """Send what `read` gives, then, if live, what differs after each change of the graph."""
    changed = asyncio.Event()
    unsubscribe = services.graph.subscribe(changed.set)
    try:
        known = read()
        if options.flag(opts, "old", True):
            await out.send([_json(known)])
        while options.flag(opts, "live", False):
            await changed.wait()
            changed.clear()
            now = read()
            if difference := compare(known, now):
                await out.send([_json(difference)])
            known = now
    finally:
        unsubscribe()


def _edge_changes(old: dict[str, dict[str, int]], new: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    found = {}
    for source, row in new.items():
        before = old.get(source, {})
        if changed := {dest: edge for dest, edge in row.items() if before.get(dest) != edge}:
            found[source] = changed
    return found


def _hop_changes(old: dict[str, int], new: dict[str, int]) -> dict[str, int]:
    """Distances that differ; -1 for feeds that are no longer reached."""
    changed = {feed: hops for feed, hops in new.items() if old.get(feed) != hops}
    return changed | {feed: -1 for feed in old if feed not in new}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
