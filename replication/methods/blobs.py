"""blobs.*: what is held may be read by anybody who was let in; adding, removing and wanting are for the node's own user
(protocol.md sections 10 and 19). What peers want of each other is in `replication.blob_exchange`."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

from feeds.blobs import BlobInfo, Blobs
from feeds.errors import InvalidRef, NotFound, TooLarge
from feeds.message import JsonValue
from feeds.refs import BlobRef
from replication.blob_exchange import BlobExchange
from replication.errors import RemoteVisible
from replication.methods import options
from replication.methods.local import local
from replication.methods.services import MethodServices
from replication.rpc.bodies import BodyType
from replication.rpc.connection import RpcConnection
from replication.rpc.methods import Caller, Kind, Method, Who
from replication.rpc.streams import Sink, Source

LISTED_A_PIECE = 500
ALL_OF_IT = 2**53


def methods(services: MethodServices) -> list[Method]:
    """All of them."""
    blobs, adds = services.blobs, _Adds()
    others = [*_reading(blobs, services.blob_exchange), *_listing(blobs), _removing(blobs), *_wanting(blobs)]
    others += _exchanging(blobs, services.blob_exchange)
    return [_adding(blobs, adds), *(replace(method, handler=adds.first(method.handler)) for method in others)]


class _Adds:
    """Adds under way, by connection.

    JavaScript takes a sink for done as soon as everything was sent: old programs add a blob and ask for
    it in the next call, which must not overtake the add.
    """

    def __init__(self) -> None:
        self._open: WeakKeyDictionary[RpcConnection, dict[Source, asyncio.Event]] = WeakKeyDictionary()

    @contextmanager
    def under_way(self, caller: Caller, inp: Source) -> Iterator[None]:
        """An add, from the first byte to the end."""
        adds = self._open.setdefault(caller.connection, {})
        adds[inp] = asyncio.Event()
        try:
            yield
        finally:
            adds.pop(inp).set()

    def first(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """The same handler, waiting for adds of its caller of which all has arrived."""

        @wraps(handler)
        async def patient(caller: Caller, *arguments: Any) -> Any:
            for inp, done in list(self._open.get(caller.connection, {}).items()):
                if inp.remote_ended:
                    await done.wait()
            return await handler(caller, *arguments)

        return patient


def _exchanging(blobs: Blobs, exchange: BlobExchange) -> list[Method]:
    async def changes(_caller: Caller, _args: list[JsonValue], out: Sink) -> None:
        """Ids of blobs as they arrive, from now on."""
        at = blobs.arrivals.position
        while True:
            await blobs.arrivals.wait_beyond(at)
            while found := await blobs.page(at, LISTED_A_PIECE):
                await out.send([json.dumps(info.id).encode() for info in found])
                at = found[-1].number
            at = max(at, blobs.arrivals.position)

    async def create_wants(caller: Caller, _args: list[JsonValue], out: Sink) -> None:
        """What we want and have, as it becomes known."""
        await exchange.serve_wants(caller, out)

    return [_open("blobs.changes", Kind.SOURCE, changes), _open("blobs.createWants", Kind.SOURCE, create_wants)]


def _reading(blobs: Blobs, exchange: BlobExchange) -> list[Method]:
    async def has(caller: Caller, args: list[JsonValue]) -> JsonValue:
        """Whether a blob is held, or a list of answers for a list of ids; to old peers it is a want too."""
        first = args[0] if args else None
        asked = [_blob(item) for item in first] if isinstance(first, list) else [_blob(first)]
        if not caller.local:
            await exchange.asked(caller, asked)
        if not isinstance(first, list):
            return blobs.has(asked[0])
        held = await blobs.sizes(asked)
        return [blob in held for blob in asked]

    async def size(_caller: Caller, args: list[JsonValue]) -> JsonValue:
        """Bytes of a blob, null when it is not held; or a list of answers for a list of ids."""
        first = args[0] if args else None
        if isinstance(first, list):
            asked = [_blob(item) for item in first]
            held = await blobs.sizes(asked)
            return [held.get(blob) for blob in asked]
        return blobs.size(_blob(first))

    async def get(_caller: Caller, args: list[JsonValue], out: Sink) -> None:
        """A blob by id, or by `{key|hash|id, size, max}`, which must fit."""
        opts = options.options(args, bare="key")
        await _send(blobs, opts, 0, ALL_OF_IT, out)

    async def get_slice(_caller: Caller, args: list[JsonValue], out: Sink) -> None:
        """Bytes `start` to `end` of a blob, half-open; else as `get`."""
        opts = options.options(args, bare="key")
        start, end = options.whole(opts, "start"), options.whole(opts, "end")
        if (start or 0) < 0 or (end is not None and end < (start or 0)):
            raise RemoteVisible("options start and end: expected 0 <= start <= end")
        await _send(blobs, opts, start or 0, ALL_OF_IT if end is None else end, out)

    return [
        _open("blobs.has", Kind.ASYNC, has),
        _open("blobs.size", Kind.ASYNC, size),
        _open("blobs.get", Kind.SOURCE, get),
        _open("blobs.getSlice", Kind.SOURCE, get_slice),
    ]


def _listing(blobs: Blobs) -> list[Method]:
    async def ls(_caller: Caller, args: list[JsonValue], out: Sink) -> None:
        """Ids in the order of arrival, or `{id, size, ts}` with `meta`, `long` or `size`; `old: false`, `live`."""
        opts = options.options(args)
        long = any(options.flag(opts, name, False) for name in ("meta", "long", "size"))
        shown: Callable[[BlobInfo], JsonValue] = _meta if long else (lambda info: info.id)
        at = 0 if options.flag(opts, "old", True) else blobs.arrivals.position
        live = options.flag(opts, "live", False)
        while True:
            while found := await blobs.page(at, LISTED_A_PIECE):
                await out.send([json.dumps(shown(info), separators=(",", ":")).encode() for info in found])
                at = found[-1].number
            if not live:
                return
            await blobs.arrivals.wait_beyond(at)

    async def meta(_caller: Caller, args: list[JsonValue]) -> JsonValue:
        """`{id, size, ts}` of a blob, ts being when it came in ms since 1970; null when it is not held."""
        found = blobs.info(_first(args))
        return None if found is None else _meta(found)

    return [local("blobs.ls", Kind.SOURCE, ls), local("blobs.meta", Kind.ASYNC, meta)]


def _adding(blobs: Blobs, adds: _Adds) -> Method:
    async def add(caller: Caller, args: list[JsonValue], inp: Source) -> None:
        """Take in a blob; the id it must have may be given. The id is told before the end, once it is on the disk."""
        expected = None if not args or args[0] is None else _first(args)
        with adds.under_way(caller, inp):
            info = await take_in(inp, expected)
        await caller.connection.stream_sends(inp.call, BodyType.JSON, [json.dumps(info.id).encode()])

    async def take_in(inp: Source, expected: str | None) -> BlobInfo:
        async with blobs.adding(expected=expected) as writer:
            while batch := await inp.read_batch():
                for body in batch:
                    if body.kind is BodyType.JSON:
                        raise RemoteVisible("blobs.add: expected bytes, not JSON")
                    await writer.write(body.data)
            return await writer.commit()

    return local("blobs.add", Kind.SINK, add)


def _removing(blobs: Blobs) -> Method:
    async def rm(_caller: Caller, args: list[JsonValue]) -> bool:
        """Remove a blob, whoever's it is."""
        blob = _first(args)
        if not await blobs.remove(blob):
            raise NotFound(f"blob not found: {blob}")
        return True

    return local("blobs.rm", Kind.ASYNC, rm)


def _wanting(blobs: Blobs) -> list[Method]:
    async def want(_caller: Caller, args: list[JsonValue]) -> bool:
        """Ask for a blob; answers true once it is held, or with `{nowait: true}` at once whether it is."""
        blob = _first(args)
        found = await blobs.want(blob)
        if options.flag(options.options(args[1:]), "nowait", False):
            return found is not None
        await blobs.arrived(blob)
        return True

    async def push(_caller: Caller, args: list[JsonValue]) -> bool:
        """Have a blob announced until other nodes hold it."""
        await blobs.push(_first(args))
        return True

    return [local("blobs.want", Kind.ASYNC, want), local("blobs.push", Kind.ASYNC, push)]


async def _send(blobs: Blobs, opts: options.Options, start: int, end: int, out: Sink) -> None:
    blob = _blob(next((opts[name] for name in ("key", "hash", "id") if opts.get(name) is not None), None))
    wanted, most = options.whole(opts, "size"), options.whole(opts, "max")
    async with blobs.reading(blob) as reader:
        held = reader.info.size
        if wanted is not None and wanted != held:
            raise RemoteVisible(f"the blob {blob} has {held} bytes, not {wanted}")
        if most is not None and held > most:
            raise TooLarge(held, most, "bytes", f"the blob {blob}")
        async for pieces in reader.batches(start, end):
            await out.send(pieces, BodyType.BINARY)


def _open(name: str, kind: Kind, handler: Callable[..., Any]) -> Method:
    """A method for every caller; only what it says of blobs is told to them, nothing of our disk."""

    @wraps(handler)
    async def careful(*arguments: Any) -> Any:
        try:
            return await handler(*arguments)
        except (NotFound, TooLarge) as error:
            raise RemoteVisible(str(error)) from error

    return Method(tuple(name.split(".")), kind, Who.ANON, careful)


def _first(args: list[JsonValue]) -> str:
    return _blob(args[0] if args else None)


def _blob(value: JsonValue) -> str:
    """A blob id in any spelling, also with a query, as its canonical string."""
    if isinstance(value, str):
        try:
            return str(BlobRef.parse(value.partition("?")[0]))
        except InvalidRef:
            pass
    raise RemoteVisible("expected a blob id")


def _meta(info: BlobInfo) -> dict[str, JsonValue]:
    return {"id": info.id, "size": info.size, "ts": info.added}
