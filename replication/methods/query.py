"""query.* and backlinks.*: queries of old programs over the log (protocol.md section 19, local methods).

What a query means is said in `replication.map_filter_reduce`. Here is chosen how the messages are found: by what they
point to, by author or by type if the first filter names one, otherwise the log is read through; page by page, so that
nothing else waits. Messages come in the order of receipt, or of their claimed times if the first filter compares those.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from feeds import content as contents
from feeds.claimed_times import FIRST, LAST, Claim
from feeds.errors import InvalidJson
from feeds.log import Entry, entries_at
from feeds.message import JsonObject, JsonValue
from feeds.views.links import backlinks
from replication.errors import RemoteVisible
from replication.map_filter_reduce import Pipeline, compile_query, first_filter
from replication.methods import options
from replication.methods.local import local
from replication.methods.options import Options, Shape
from replication.methods.services import MethodServices
from replication.methods.streams import claimed_time, first_received
from replication.rpc.bodies import decode_json, encode_json
from replication.rpc.methods import Caller, Kind, Method
from replication.rpc.streams import Sink

AT_ONCE = 200
DEPTH_MAX = 200
"""Messages that nest deeper are left out: no query that is allowed reaches so far."""
REL_MAX = 100
_COMPARED = ("$gt", "$gte", "$lt", "$lte")


@dataclass(frozen=True, slots=True)
class Plan:
    """How the messages of a query are found. The query's own filter is still put to each of them."""

    author: str | None = None
    type: str | None = None
    dest: str | None = None
    """They point here."""
    rel: str | None = None
    """... by this path in their content."""
    since: float | None = None
    """Received at this time or later, in ms."""
    claimed: bool = False
    """In the order of claimed times."""

    @property
    def index(self) -> str | None:
        """The name of the index for people, None when everything is read."""
        names = ("links",) if self.dest else tuple(name for name in ("author", "type") if getattr(self, name))
        return "+".join(names) or ("claimed" if self.claimed else "received" if self.since is not None else None)


def plan_for(rule: JsonValue) -> Plan:
    """Choose by what the first filter of a query says."""
    if not isinstance(rule, dict):
        return Plan()
    value = _object(rule, "value")
    content = _object(value, "content")
    dest = _exact(rule.get("dest"))
    if dest is not None and contents.target_of(dest) == dest:
        return Plan(dest=dest)
    for path, target in _targets(content, ""):
        if path not in ("type", "channel"):
            return Plan(dest=target, rel=path)
    plan = Plan(author=_exact(value.get("author")), type=_exact(content.get("type")))
    if plan.index is None and any(_compares(given) for given in (rule.get("rts"), value.get("timestamp"))):
        return Plan(claimed=True)
    since = rule.get("timestamp")
    bounds = [since[name] for name in ("$gt", "$gte") if name in since] if isinstance(since, dict) else []
    numbers = [bound for bound in bounds if isinstance(bound, int | float) and not isinstance(bound, bool)]
    return replace(plan, since=max(numbers, default=None)) if plan.index is None else plan


def _object(given: Mapping[str, JsonValue], name: str) -> JsonObject:
    found = given.get(name)
    return found if isinstance(found, dict) else {}


def _exact(rule: JsonValue) -> str | None:
    if isinstance(rule, dict) and set(rule) == {"$eq"}:
        rule = rule["$eq"]
    return rule if isinstance(rule, str) else None


def _compares(rule: JsonValue) -> bool:
    return isinstance(rule, dict) and any(name in rule for name in _COMPARED)


def _targets(rule: JsonObject, path: str) -> list[tuple[str, str]]:
    """Ids that a filter of contents asks for by their path."""
    found: list[tuple[str, str]] = []
    for name, below in rule.items():
        here = f"{path}.{name}" if path else name
        target = _exact(below)
        if target is not None and len(here) <= REL_MAX and here.isascii() and contents.target_of(target) == target:
            found.append((here, target))
        elif isinstance(below, dict) and not any(each.startswith("$") for each in below):
            found += _targets(below, here)
    return found


def methods(services: MethodServices) -> list[Method]:
    """All for the node's own user."""

    async def read(_caller: Caller, args: list[JsonValue], out: Sink) -> None:
        """What a query brings of all messages, `{key, value, timestamp, rts}` each."""
        opts = _options(args)
        await _Reading(services, opts, out).run()

    async def read_backlinks(_caller: Caller, args: list[JsonValue], out: Sink) -> None:
        """The same for messages that point to `dest`, which the query's first filter must name."""
        opts = _options(args)
        plan = plan_for(first_filter(opts.get("query") or []))
        if plan.dest is None or plan.rel is not None:
            raise RemoteVisible("backlinks.read: expected {query: [{$filter: {dest: id}}]}")
        await _Reading(services, opts, out).run()

    async def explain(_caller: Caller, args: list[JsonValue]) -> dict[str, Any]:
        """Which index a query uses (`scan`: none, everything is read)."""
        opts = _options(args)
        compile_query(opts.get("query") or [])
        plan = plan_for(first_filter(opts.get("query") or []))
        shape = _shape(opts)
        told: dict[str, Any] = {"scan": True} if plan.index is None else {"index": plan.index}
        return told | {"reverse": shape.reverse, "live": shape.live, "old": shape.old, "sync": shape.sync}

    return [
        local("query.read", Kind.SOURCE, read),
        local("query.explain", Kind.SYNC, explain),
        local("backlinks.read", Kind.SOURCE, read_backlinks),
    ]


def _options(args: list[JsonValue]) -> Options:
    """The options; the query may be given as JSON text, and alone."""
    opts = options.options(args, bare="query")
    query = opts.get("query")
    if isinstance(query, str):
        try:
            return {**opts, "query": decode_json(query.encode("utf-8", "surrogatepass"))}
        except InvalidJson as error:
            raise RemoteVisible(f"option query: {error}") from None
    return opts


def _shape(opts: Options) -> Shape:
    """As in the old sbot, `old: false` means live, and a limit of 0 none."""
    shape = options.shape(opts)
    return replace(shape, live=shape.live or not shape.old, limit=shape.limit or None)


class _Item(dict[str, Any]):
    """A message as queries see it, with its own text to send if nothing was changed."""

    __slots__ = ("text",)
    text: bytes


class _Reading:
    """One call of query.read."""

    def __init__(self, services: MethodServices, opts: Options, out: Sink) -> None:
        query = opts.get("query") or []
        self._services = services
        self._out = out
        self._pipeline: Pipeline = compile_query(query)
        self._plan = plan_for(first_filter(query))
        self._shape = _shape(opts)
        self._left = self._shape.limit
        self._mailbox = services.mailbox if options.flag(opts, "private", False) else None
        if self._shape.live and self._pipeline.gathers:
            raise RemoteVisible("$reduce and $sort answer at the end, and a live stream has none: leave out live")

    async def run(self) -> None:
        end = self._services.log.position
        if self._shape.old:
            async for page in self._pages(end):
                await self._send(self._pipeline.push(await self._items(page)))
                if self._left == 0:
                    return
                await asyncio.sleep(0)
            await self._send(await asyncio.to_thread(self._pipeline.finish))  # to sort many takes a while
        if self._shape.live and self._left != 0:
            if self._shape.sync:
                await self._out.send([b'{"sync":true}'])
            await self._follow(end)

    async def _follow(self, position: int) -> None:
        log = self._services.log
        while self._left != 0:
            await self._services.live.wait_beyond(position)
            end = log.position
            entries = await log.entries_after(position, AT_ONCE)
            await self._send(self._pipeline.push(await self._items(entries)))
            position = entries[-1].position if len(entries) == AT_ONCE else max(end, position)

    # Finding.

    def _pages(self, end: int) -> AsyncIterator[Sequence[Entry]]:
        behind = self._services.indexer.behind  # a view that is made anew lacks what is there
        if "message_types" in behind:
            self._plan = replace(self._plan, type=None)
        if self._plan.dest is not None and "links" not in behind:
            return self._linking(self._plan.dest, end)
        return self._by_claim(end) if self._plan.claimed else self._in_order(end)

    async def _in_order(self, end: int) -> AsyncIterator[Sequence[Entry]]:
        log, plan, reverse = self._services.log, self._plan, self._shape.reverse
        position = 0
        if plan.since is not None and not reverse:
            position = await first_received(log, plan.since) - 1
        while True:
            entries = await log.entries_after(position, AT_ONCE, author=plan.author, type=plan.type, descending=reverse)
            yield [entry for entry in entries if entry.position <= end]
            if len(entries) < AT_ONCE or (not reverse and entries[-1].position >= end):
                return
            if reverse and plan.since is not None and entries[-1].received < plan.since:
                return
            position = entries[-1].position

    async def _by_claim(self, end: int) -> AsyncIterator[Sequence[Entry]]:
        reverse = self._shape.reverse
        place: Claim | None = LAST if reverse else FIRST
        far = FIRST.time if reverse else LAST.time
        while place is not None:
            entries, place = await self._services.log.in_claimed_order(place, far, AT_ONCE, end=end, descending=reverse)
            yield entries

    async def _linking(self, dest: str, end: int) -> AsyncIterator[Sequence[Entry]]:
        mark: tuple[int, int] | None = None
        before = 0
        while True:
            found = await self._services.database.read(
                lambda connection, mark=mark: backlinks(  # type: ignore[misc]
                    connection, dest, rel=self._plan.rel, after=mark, limit=AT_ONCE, descending=self._shape.reverse
                )
            )
            positions = [at for at in dict.fromkeys(link.position for link in found) if at <= end and at != before]
            yield await self._services.database.read(
                lambda connection, positions=positions: entries_at(connection, positions)  # type: ignore[misc]
            )
            if len(found) < AT_ONCE:
                return
            before, mark = found[-1].position, (found[-1].position, found[-1].number)

    # Showing.

    async def _items(self, entries: Sequence[Entry]) -> list[_Item]:
        opened = {} if self._mailbox is None else await self._mailbox.opened_of(entries)
        items = []
        for entry in entries:
            letter = opened.get(entry.position)
            item = _item(entry.as_kvt() if letter is None else letter.as_kvt(), claimed_time(entry), entry.received)
            if item is not None and self._points(item):
                items.append(item)
        return items

    def _points(self, item: _Item) -> bool:
        """Whether a message points where the query's `dest` is, which it then has as a member."""
        dest = self._plan.dest
        if dest is None or self._plan.rel is not None:
            return True
        content = item["value"].get("content")
        if not isinstance(content, dict) or all(found.target != dest for found in contents.links(content)):
            return False
        item["dest"] = dest
        item.text = item.text[:-1] + b',"dest":' + encode_json(dest) + b"}"
        return True

    async def _send(self, values: list[Any]) -> None:
        if self._left is not None:
            values = values[: self._left]
            self._left -= len(values)
        if values:
            await self._out.send([value.text if isinstance(value, _Item) else encode_json(value) for value in values])


def _item(text: bytes, claimed: float, received: int) -> _Item | None:
    try:
        value = decode_json(text, depth=DEPTH_MAX)
    except InvalidJson:
        return None
    if not isinstance(value, dict):
        return None
    item = _Item(value)
    item["rts"] = min(claimed, received) or received
    item.text = text[:-1] + b',"rts":' + encode_json(item["rts"]) + b"}"
    return item
