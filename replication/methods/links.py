"""links: which messages point where (protocol.md section 19, a local method).

`dest` and `source` are ids, or a sigil for any id of that kind; `rel` is the name under which the link stands. With a
whole `dest` the index answers; otherwise the messages of `source`, or all of them, are read through.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple

from feeds import content as contents
from feeds.errors import InvalidJson
from feeds.log import Entry
from feeds.message import JsonValue
from feeds.refs import is_blob, is_feed, is_message
from feeds.views.links import links_to
from replication.errors import RemoteVisible
from replication.methods import options
from replication.methods.local import local
from replication.methods.options import Options
from replication.methods.services import MethodServices
from replication.rpc.bodies import decode_json
from replication.rpc.methods import Caller, Kind, Method
from replication.rpc.streams import Sink

AT_ONCE = 200
INDEXED_AT_ONCE = 1000
"""More than the links that one message can hold, so that a page always ends behind a whole message."""


class _Link(NamedTuple):
    source: str
    dest: str
    rel: str
    id: str
    position: int


@dataclass(frozen=True, slots=True)
class _Query:
    source: str | None
    dest: str | None
    rel: str | None

    def fits(self, link: _Link) -> bool:
        return (
            (self.source is None or link.source.startswith(self.source))
            and (self.dest is None or link.dest.startswith(self.dest))
            and (self.rel is None or link.rel == self.rel)
        )


def methods(services: MethodServices) -> list[Method]:
    """For the node's own user."""

    async def links(_caller: Caller, args: list[JsonValue], out: Sink) -> None:
        """`{source, dest, rel, key}` of each link, with `value` and `timestamp` if values are asked for."""
        opts = options.options(args)
        await _Links(services, opts, out).run()

    return [local("links", Kind.SOURCE, links)]


class _Links:
    """One stream of links."""

    def __init__(self, services: MethodServices, opts: Options, out: Sink) -> None:
        self._services = services
        self._query = _Query(_end(opts, "source"), _end(opts, "dest"), options.text(opts, "rel"))
        self._keys = options.flag(opts, "keys", True)
        self._values = options.flag(opts, "values", False)
        self._meta = options.flag(opts, "meta", True)
        self._old = options.flag(opts, "old", True)
        self._live = options.flag(opts, "live", False)
        self._reverse = options.flag(opts, "reverse", False)
        self._left = options.limit(opts)
        self._out = out

    async def run(self) -> None:
        position = self._services.log.position
        if self._old:
            dest = self._query.dest
            whole = dest is not None and len(dest) > 1
            async for page in self._indexed(dest or "") if whole else self._scanned(position):
                await self._send(page)
                if self._left == 0:
                    return
        log = self._services.log
        while self._live and self._left != 0:
            await self._services.live.wait_beyond(position)
            end = log.position
            entries = await log.entries_after(position, AT_ONCE)
            await self._send([link for entry in entries for link in _links_of(entry)])
            position = entries[-1].position if len(entries) == AT_ONCE else max(end, position)

    async def _indexed(self, dest: str) -> AsyncIterator[list[_Link]]:
        """Pages from the index of links."""
        after = 0
        while True:
            found = await self._services.database.read(
                lambda connection, after=after: links_to(  # type: ignore[misc]
                    connection, dest, after=after, limit=INDEXED_AT_ONCE, descending=self._reverse
                )
            )
            full = len(found) == INDEXED_AT_ONCE
            whole = [link for link in found if not full or link.position != found[-1].position]
            yield [_Link(link.source, link.dest, _rel(link.rel), link.id, link.position) for link in whole]
            if not full:
                return
            after = whole[-1].position

    async def _scanned(self, end: int) -> AsyncIterator[list[_Link]]:
        """Pages from the messages themselves, up to a position."""
        source = self._query.source
        author = source if source is not None and len(source) > 1 else None
        position = 0
        while True:
            entries = await self._services.log.entries_after(position, AT_ONCE, author=author, descending=self._reverse)
            yield [link for entry in entries if entry.position <= end for link in _links_of(entry)]
            if len(entries) < AT_ONCE:
                return
            position = entries[-1].position

    async def _send(self, links: list[_Link]) -> None:
        fitting = [link for link in links if self._query.fits(link)][: self._left]
        if self._left is not None:
            self._left -= len(fitting)
        if fitting:
            await self._out.send([await self._rendered(link) for link in fitting])

    async def _rendered(self, link: _Link) -> bytes:
        parts: dict[str, str] = {}
        if self._meta:
            parts |= {"source": link.source, "dest": link.dest, "rel": link.rel}
        if self._keys:
            parts["key"] = link.id
        text = json.dumps(parts, separators=(",", ":"), ensure_ascii=False).encode()
        entry = await self._services.log.get(link.id) if self._values else None
        if entry is None:
            return text
        comma = b"," if parts else b""
        return text[:-1] + comma + b'"value":%b,"timestamp":%d}' % (entry.text, entry.received)


def _end(opts: Options, name: str) -> str | None:
    """An end of a link: an id or a sigil."""
    value = options.text(opts, name)
    if value is None or value in ("@", "%", "&") or is_feed(value) or is_message(value) or is_blob(value):
        return value
    raise RemoteVisible(f"option {name}: expected an id, or one of @ % &")


def _rel(path: str) -> str:
    """The name of a link as the old sbot knows it: the last name on the way, `link` itself left out."""
    return path.removesuffix(".link").rpartition(".")[2]


def _links_of(entry: Entry) -> list[_Link]:
    """The links in one message."""
    try:
        value = decode_json(entry.text, depth=10_000)
    except InvalidJson:
        return []
    content = value.get("content") if isinstance(value, dict) else None
    if not isinstance(content, dict):
        return []
    return [
        _Link(entry.author, found.target, _rel(found.path), entry.id, entry.position)
        for found in contents.links(content)
    ]
