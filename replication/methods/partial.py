"""partialReplication.*: parts of feeds for peers that do not want them whole (protocol.md sections 18 and 19).

`getSubset` takes queries of both languages: ssb-ql-0, `{author, type}`, and ssb-ql-1, `{op, feed | string | args}`. A
stranger may ask, so what an answer costs is bounded: one at a time for each peer, and a pause after each page that
brought little. Encrypted messages are in no subset.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from feeds.errors import InvalidJson
from feeds.log import Entry
from feeds.message import JsonValue
from feeds.thread_reading import read_thread
from replication.errors import RemoteVisible
from replication.history import rendered
from replication.methods import options
from replication.methods.services import MethodServices
from replication.rpc.bodies import decode_json
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Caller, Kind, Method, Who
from replication.rpc.streams import Sink

AT_ONCE: Final = 200
PARTS_MAX: Final = 64
DEPTH_MAX: Final = 200
PAUSE_SECONDS: Final = 0.05
_THREAD_PAGE: Final = 200

Test = Callable[[str, str], bool]
"""Whether a public message with this author and type belongs to a subset."""


class Subset(NamedTuple):
    """A query, read: what it lets through, and the author and type that everything in it has, if there are such."""

    holds: Test
    author: str | None = None
    type: str | None = None


def parse_query(query: JsonValue) -> Subset:
    """Read a query of either language. Raises RemoteVisible."""
    if isinstance(query, str):
        try:
            query = decode_json(query.encode("utf-8", "surrogatepass"))
        except InvalidJson as error:
            raise RemoteVisible(f"the query is not JSON: {error}") from None
    if not isinstance(query, dict):
        raise RemoteVisible("expected a query, an object")
    return _compound(query, [0]) if "op" in query else _simple(query)


def _simple(query: options.Options) -> Subset:
    if options.flag(query, "private", False):
        raise RemoteVisible("private messages are in no subset")
    author = None if query.get("author") is None else options.feed(query["author"], "author")
    kind = options.text(query, "type")
    return Subset(lambda who, what: author in (None, who) and kind in (None, what), author, kind)


def _compound(query: JsonValue, count: list[int]) -> Subset:
    count[0] += 1
    if count[0] > PARTS_MAX:
        raise RemoteVisible(f"a query has at most {PARTS_MAX} parts")
    if not isinstance(query, dict):
        raise RemoteVisible("expected a part of a query, an object with op")
    match query.get("op"):
        case "author":
            author = options.feed(query.get("feed"), "feed")
            return Subset(lambda who, _what: who == author, author=author)
        case "type":
            kind = options.text(query, "string")
            if not kind:
                raise RemoteVisible("option string: expected a type of messages")
            return Subset(lambda _who, what: what == kind, type=kind)
        case "and" | "or" as op:
            args = query.get("args")
            if not isinstance(args, list) or not args:
                raise RemoteVisible("option args: expected a list of parts")
            parts = [_compound(part, count) for part in args]
            if op == "or":
                return Subset(lambda who, what: any(part.holds(who, what) for part in parts))
            return Subset(
                lambda who, what: all(part.holds(who, what) for part in parts),
                next((part.author for part in parts if part.author), None),
                next((part.type for part in parts if part.type), None),
            )
    raise RemoteVisible("option op: expected author, type, and, or or")


def methods(services: MethodServices) -> list[Method]:
    """For every peer."""
    turns: WeakKeyDictionary[RpcConnection, asyncio.Semaphore] = WeakKeyDictionary()

    def turn_of(caller: Caller) -> AbstractAsyncContextManager[object]:
        return nullcontext() if caller.local else turns.setdefault(caller.connection, asyncio.Semaphore(1))

    def may_have(caller: Caller, author: str) -> bool:
        return caller.local or (caller.id is not None and services.replicator.may_serve(author, caller.id))

    async def get_subset(caller: Caller, args: list[JsonValue], out: Sink) -> None:
        """`[query, {descending, keys, pageLimit}]`: public messages, by `{author, type}` or `{op, …}`."""
        subset, opts = parse_query(args[0] if args else None), options.options(args[1:])
        descending = options.flag(opts, "descending", False)
        keys = options.flag(opts, "keys", True)
        left = options.whole(opts, "pageLimit")
        if left is not None and left < 0:
            left = None
        position = 0
        async with turn_of(caller):
            while left != 0:
                entries = await services.log.entries_after(
                    position, AT_ONCE, author=subset.author, type=_indexed(services, subset.type), descending=descending
                )
                found = [
                    entry
                    for entry in entries
                    if (kind := _type_of(entry)) is not None
                    and subset.holds(entry.author, kind)
                    and may_have(caller, entry.author)
                ]
                found = found if left is None else found[:left]
                left = None if left is None else left - len(found)
                if found:
                    await out.send([rendered(entry, keys=keys, values=True) for entry in found])
                if len(entries) < AT_ONCE:
                    return
                position = entries[-1].position
                await asyncio.sleep(0 if caller.local or len(found) > AT_ONCE // 2 else PAUSE_SECONDS)

    async def get_tangle(caller: Caller, args: list[JsonValue], out: Sink) -> None:
        """The public messages of a thread by its root's id, each after those that it answers."""
        opts = options.options(args, bare="root")
        root = options.message(opts.get("root", opts.get("id")), "root")
        keys = options.flag(opts, "keys", True)
        async with turn_of(caller):
            thread = await services.database.read(lambda connection: read_thread(connection, root))
            turns_ = () if thread is None else thread.turns
            found = [turn.entry for turn in turns_ if may_have(caller, turn.entry.author)]
            public = [entry for entry in found if _type_of(entry) is not None]
            for start in range(0, len(public), _THREAD_PAGE):
                page = public[start : start + _THREAD_PAGE]
                await out.send([rendered(entry, keys=keys, values=True) for entry in page])

    return [
        Method(("partialReplication", "getSubset"), Kind.SOURCE, Who.ANON, get_subset),
        Method(("partialReplication", "getTangle"), Kind.SOURCE, Who.ANON, get_tangle),
    ]


def _indexed(services: MethodServices, kind: str | None) -> str | None:
    """The type to look up, unless its index is just being made anew."""
    return None if "message_types" in services.indexer.behind else kind


def _type_of(entry: Entry) -> str | None:
    """The type of a message, None for an encrypted one."""
    try:
        value = decode_json(entry.text, depth=DEPTH_MAX)
    except InvalidJson:
        return None
    content = value.get("content") if isinstance(value, dict) else None
    kind = content.get("type") if isinstance(content, dict) else None
    return kind if isinstance(kind, str) else None
