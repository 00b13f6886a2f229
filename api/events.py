"""Server-sent events: what happens on the node, as it happens, with a place to resume from.

A stream keeps nothing but its cursor, a position of the log. A commit only wakes it; it reads the new messages from the
log in chunks and hands the server the next chunk once the last one is taken, so a slow reader costs one chunk and loses
nothing. Peer events are not stored anywhere; they wait in a short queue, and a reader that lets it run over is cut.

    event: message   data: the message        id: its position
    event: peer      data: the peer           id: the position up to which messages were sent
    event: sync      data: the sync progress  id: the same
    event: blob      data: a blob that came   id: the same
"""

import asyncio
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec
import orjson
from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.answers import disconnected, line_safe, unpacked
from api.errors import Problem
from api.scopes import Grant
from api.services import Services, sync_progress
from api.tokens import Tokens
from feeds.live import Live
from feeds.log import Entry
from feeds.mailbox import OpenedEntry
from replication.peer_info import PeerEvent

__all__ = ["EVENTS", "EventStream", "StreamFilter", "open_streams"]

EVENTS: Final = ("message", "peer", "sync", "blob")
CHUNK: Final = 200
QUEUE: Final = 1000
"""Peer events that may wait for a reader."""
SYNC_INTERVAL: Final = 1.0
"""Seconds between two sync events at least."""
SYNC_LOOK: Final = 5.0
"""Seconds after which sync progress is looked at although nothing was stored: peers may have said what they have."""
HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


@dataclass(frozen=True, slots=True)
class StreamFilter:
    """What a reader wants. None: all of it. Types and feeds narrow the messages."""

    events: frozenset[str] = frozenset(EVENTS)
    types: frozenset[str] | None = None
    feeds: frozenset[str] | None = None
    private: bool = False
    """Messages that we can decrypt are given, and chosen by type, in plain."""

    @classmethod
    def parse(cls, types: Iterable[str], feeds: Iterable[str], *, private: bool = False) -> "StreamFilter":
        """`types` names kinds of events, types of messages, or both; a type of messages asks for message events."""
        named = frozenset(types)
        chosen = frozenset(feeds) or None
        kinds = named - frozenset(EVENTS)
        if not named:
            return cls(feeds=chosen, private=private)
        events = named & frozenset(EVENTS)
        if kinds and "message" not in events:
            return cls(events | {"message"}, kinds, chosen, private)
        return cls(events, None, chosen, private)

    @property
    def author(self) -> str | None:
        """The one feed asked for, where the log can look it up itself."""
        return next(iter(self.feeds)) if self.feeds is not None and len(self.feeds) == 1 else None

    @property
    def type(self) -> str | None:
        """The one type asked for, where the log can look it up itself: it knows none of private messages."""
        if self.types is None or len(self.types) != 1 or self.private:
            return None
        return next(iter(self.types))

    def passes(self, entry: Entry, opened: OpenedEntry | None) -> bool:
        """Whether a message is wanted; opened -- the same in plain, where that is asked for and possible."""
        if self.feeds is not None and entry.author not in self.feeds:
            return False
        if self.types is None:
            return True
        return (_type_of(entry.text) if opened is None else opened.type) in self.types


class _Content(msgspec.Struct):
    type: str | None = None


class _Typed(msgspec.Struct):
    """The one member of a message's value that filtering by type reads."""

    content: _Content | str


_read_type: Final = msgspec.json.Decoder(_Typed).decode


def _type_of(text: bytes) -> str | None:
    """Type of the content, None for an encrypted one."""
    try:
        content: object = _read_type(text).content
    except msgspec.MsgspecError:
        value = unpacked(text)
        inner = value.get("content") if isinstance(value, dict) else None
        kind = inner.get("type") if isinstance(inner, dict) else None
        return kind if isinstance(kind, str) else None
    return content.type if isinstance(content, _Content) else None


def open_streams(app: FastAPI) -> int:
    """How many event streams of this application are open."""
    streams: set[EventStream] = app.state.streams
    return len(streams)


class EventStream(Response):
    """One open stream as an answer. Raises Problem too-many-streams when made while too many are open."""

    def __init__(self, app: FastAPI, services: Services, wanted: StreamFilter, since: int | None, grant: Grant) -> None:
        super().__init__()
        self._open: Final[set[EventStream]] = app.state.streams
        if len(self._open) >= services.settings.streams:
            raise Problem(
                "too-many-streams",
                f"At most {services.settings.streams} event streams may be open.",
                headers={"Retry-After": "5"},
            )
        self._services: Final = services
        self._tokens: Final[Tokens] = app.state.tokens
        self._grant: Final = grant
        self._wanted: Final = wanted
        end = services.log.position
        self._cursor = end if since is None else min(since, end)
        self._wake: Final = asyncio.Event()
        self._peers: Final[deque[PeerEvent]] = deque()
        self._overrun = False
        self._gone = False
        self._blobs = services.blobs.arrivals.position
        self._progress = b""
        self._sync_due = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        self._open.add(self)
        unsubscribe = self._services.peers.subscribe(self._peer_event)
        watchers = [
            asyncio.create_task(self._watch_reader(receive)),
            asyncio.create_task(self._watch(self._services.live, self._cursor)),
            asyncio.create_task(self._watch(self._services.blobs.arrivals, self._blobs)),
            asyncio.create_task(self._watch_end()),
        ]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await send({"type": "http.response.body", "body": b": open\n\n", "more_body": True})
            await self._run(send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._open.discard(self)
            unsubscribe()
            for watcher in watchers:
                watcher.cancel()

    def _over(self) -> bool:
        return self._gone or self._overrun or self._services.stopping.is_set()

    async def _run(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        interval = self._services.settings.ping_interval
        next_ping = loop.time() + interval
        while not self._over():
            self._wake.clear()
            if not self._tokens.holds(self._grant):
                return  # revoked, or over
            await self._send_messages(send)
            await self._send_peers(send)
            await self._send_blobs(send)
            next_sync = await self._send_sync(send, loop.time())
            if loop.time() >= next_ping:
                next_ping = loop.time() + interval
                await _write(send, b": ping\n\n")
            if self._over():
                return
            timer = loop.call_at(min(next_ping, next_sync), self._wake.set)
            await self._wake.wait()
            timer.cancel()

    async def _send_messages(self, send: Send) -> None:
        """Everything committed since the cursor that passes the filter."""
        log = self._services.log
        if "message" not in self._wanted.events:
            self._cursor = log.position
        while not self._over() and self._cursor < log.position:
            end = log.position
            entries = await log.entries_after(self._cursor, CHUNK, author=self._wanted.author, type=self._wanted.type)
            last = entries[-1].position if entries else 0
            # A chunk that is not full found all there was, which reaches at least to the end seen before it.
            self._cursor = last if len(entries) == CHUNK else max(end, last)
            await _write(send, b"".join(map(self._message, entries)))

    def _message(self, entry: Entry) -> bytes:
        """A message as an event, nothing when it does not pass."""
        opened = self._services.mailbox.open(entry) if self._wanted.private else None
        if not self._wanted.passes(entry, opened):
            return b""
        return _message_event(entry.position, entry.as_kvt() if opened is None else opened.as_kvt())

    async def _send_peers(self, send: Send) -> None:
        while self._peers and not self._over():
            event = self._peers.popleft()
            await _write(send, self._event(b"peer", orjson.dumps({"event": event.kind, "peer": event.info})))

    async def _send_blobs(self, send: Send) -> None:
        """Every blob that came since the last look and is still here."""
        blobs = self._services.blobs
        if "blob" not in self._wanted.events:
            self._blobs = blobs.arrivals.position
        while not self._over() and self._blobs < (end := blobs.arrivals.position):
            found = await blobs.page(self._blobs, CHUNK)
            self._blobs = found[-1].number if found else end
            events = (self._event(b"blob", orjson.dumps({"id": blob.id, "size": blob.size})) for blob in found)
            await _write(send, b"".join(events))

    async def _send_sync(self, send: Send, now: float) -> float:
        """Sync progress where it changed, not more often than SYNC_INTERVAL; when to look again."""
        if "sync" not in self._wanted.events:
            return math.inf
        if now < self._sync_due:
            return self._sync_due
        self._sync_due = now + SYNC_INTERVAL
        progress = orjson.dumps({"position": self._services.log.position, **sync_progress(self._services)})
        if progress != self._progress:
            self._progress = progress
            await _write(send, self._event(b"sync", progress))
        return now + SYNC_LOOK

    def _event(self, name: bytes, data: bytes) -> bytes:
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (self._cursor, name, data)

    def _peer_event(self, event: PeerEvent) -> None:
        if "peer" in self._wanted.events:
            self._peers.append(event)
            self._overrun = len(self._peers) > QUEUE
        self._wake.set()

    async def _watch_reader(self, receive: Receive) -> None:
        await disconnected(receive)
        self._gone = True
        self._wake.set()

    async def _watch(self, live: Live, position: int) -> None:
        while True:
            position = await live.wait_beyond(position)
            self._wake.set()

    async def _watch_end(self) -> None:
        await self._services.stopping.wait()
        self._wake.set()


def _message_event(position: int, message: bytes) -> bytes:
    return b"id: %d\nevent: message\ndata: %b\n\n" % (position, message)


async def _write(send: Send, text: bytes) -> None:
    if text:
        await send({"type": "http.response.body", "body": line_safe(text), "more_body": True})
