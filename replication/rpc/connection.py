"""One peer's muxrpc connection: moves bytes between a stream, the pure machine and the handlers.

Back-pressure both ways: a full queue stops the reading of the socket, and ``send`` waits while too much is
unsent. A peer that calls too often is simply read more slowly. Every handler runs in a task of its own, and
whatever it raises ends its call and nothing else.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any

from feeds.errors import InvalidJson
from feeds.message import JsonValue
from replication.errors import ConnectionClosed, RemoteCallError, RemoteError, RemoteVisible, RpcProtocolError
from replication.limits import DEFAULT_LIMITS, Limits
from replication.rpc.bodies import Body, BodyType, Payload, encode_body
from replication.rpc.calls import Kind, Name, Request
from replication.rpc.methods import Caller, Method, MethodTable, Pool, Who
from replication.rpc.protocol import Ended, Event, Goodbye, Items, Reply, RpcProtocol
from replication.rpc.rate import TokenBucket
from replication.rpc.streams import Duplex, RpcStream, Sink, Source
from replication.transport import ByteStream

__all__ = ["Duplex", "RpcConnection", "Sink", "Source"]

log = logging.getLogger(__name__)

_INTERNAL = "internal error"
_HALF_FRAME_STEP = 64 * 1024


class RpcConnection:
    """Calls in both directions with one peer. ``run`` must be running for anything to happen."""

    def __init__(
        self,
        stream: ByteStream,
        table: MethodTable,
        *,
        remote_id: str | None,
        local: bool = False,
        is_client: bool = False,
        rights: frozenset[Who] = frozenset({Who.ANON}),
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """``is_client``: we dialled. ``local``: the peer is the node's own user and may do everything."""
        self.remote_id = remote_id
        self.is_client = is_client
        self.caller = Caller(remote_id, local, self, rights)
        self.closed = asyncio.Event()
        self.error: RemoteError | None = None
        self.breaches: Counter[str] = Counter()
        self._stream = stream
        self._table = table
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._protocol = RpcProtocol(limits=limits, max_json_of=table.max_json)
        self._replies: dict[int, asyncio.Future[Body]] = {}
        self._streams: dict[int, RpcStream] = {}
        self._handlers: dict[int, asyncio.Task[None]] = {}
        self._open: Counter[Pool] = Counter()
        self._bucket = TokenBucket(limits.calls_per_second, limits.call_burst, self._loop.time())
        self._in_flight = 0
        self._queued = 0
        self._full: set[int] = set()
        self._room = asyncio.Event()
        self._room.set()
        self._heard = self._loop.time()
        self._half_seen: float | None = None
        self._last_whole = (self._loop.time(), 0)
        self._watch: asyncio.TimerHandle | None = None
        self._closing = False
        self._said_goodbye = False

    @property
    def peername(self) -> str:
        return self._stream.peername

    @property
    def bytes_in(self) -> int:
        return self._stream.bytes_in

    @property
    def bytes_out(self) -> int:
        return self._stream.bytes_out

    # life

    async def run(self) -> None:
        """Serve and receive until the connection ends; the reason, if it was not a goodbye, is in ``error``."""
        self._watch_patience()
        try:
            await self._receive()
        except RpcProtocolError as error:
            self.error = error
            self.abort(str(error))
        except RemoteError as error:
            self.error = error if self._said_goodbye is False else None
        finally:
            await self._shut()

    async def close(self) -> None:
        """Say goodbye, send what is queued (for a short time at most) and close."""
        if not self._closing:
            self._closing = self._said_goodbye = True
            self._stream.write(self._protocol.goodbye())
            self._check_room()
        await self._stream.close()

    def abort(self, reason: str = "closed by us") -> None:
        """Cut the connection at once."""
        self._closing = True
        self._check_room()
        self._stream.abort(reason)

    async def _receive(self) -> None:
        while True:
            data = await self._stream.read()
            if not data:
                return
            refused = self._protocol.refused
            events = self._protocol.receive(data)
            self._heard = self._loop.time()
            if events or self.bytes_in - self._last_whole[1] >= _HALF_FRAME_STEP:
                self._last_whole = self._heard, self.bytes_in
            for event in events:
                if isinstance(event, Goodbye):
                    return
                if isinstance(event, Request):
                    await self._admit(1)
                self._take(event)
            if output := self._protocol.take_output():
                self._stream.write(output)
            await self._admit(self._protocol.refused - refused)
            if not self._room.is_set():
                await self._room.wait()

    async def _shut(self) -> None:
        """Fail what is pending, stop the handlers and close."""
        if self._watch is not None:
            self._watch.cancel()
        reason = str(self.error) if self.error is not None else "the connection was closed"
        for future in self._replies.values():
            if not future.done():
                future.set_exception(ConnectionClosed(reason))
                future.exception()  # a caller that was cancelled meanwhile does not look
        self._replies.clear()
        for stream in self._streams.values():
            stream.finish(ConnectionClosed(reason))
        handlers = list(self._handlers.values())
        for task in handlers:
            task.cancel()
        try:
            await asyncio.gather(*handlers, return_exceptions=True)
            await self.close()
        finally:
            self._stream.abort()
            self._streams.clear()
            self.closed.set()

    # our calls

    async def call(
        self, name: str | Name, args: Sequence[JsonValue] = (), *, kind: Kind = Kind.ASYNC, max_json: int | None = None
    ) -> Payload:
        """Call an async or sync method; ``name`` as ``"blobs.has"`` or a tuple.

        Raises ``RemoteCallError`` with the peer's words, ``ConnectionClosed``, or ``RpcProtocolError`` if the
        answer cannot be read.
        """
        call = self._request(name, args, kind, max_json)
        future: asyncio.Future[Body] = self._loop.create_future()
        self._replies[call] = future
        try:
            body = await future
        finally:
            self._replies.pop(call, None)
            self._protocol.give_up(call)
        try:
            return body.value()
        except InvalidJson as error:
            raise RpcProtocolError(f"the answer to {name} is not JSON: {error}") from None

    def source(self, name: str | Name, args: Sequence[JsonValue] = (), *, max_json: int | None = None) -> Source:
        """Call a source method and read what it gives."""
        source = Source(self, self._request(name, args, Kind.SOURCE, max_json))
        self._streams[source.call] = source
        return source

    def sink(self, name: str | Name, args: Sequence[JsonValue] = ()) -> Sink:
        """Call a sink method and send to it; ``end`` and then ``finished`` tell how it went."""
        sink = Sink(self, self._request(name, args, Kind.SINK, None))
        self._streams[sink.call] = sink
        return sink

    def duplex(self, name: str | Name, args: Sequence[JsonValue] = (), *, max_json: int | None = None) -> Duplex:
        """Call a duplex method."""
        duplex = Duplex(self, self._request(name, args, Kind.DUPLEX, max_json))
        self._streams[duplex.call] = duplex
        return duplex

    def _request(self, name: str | Name, args: Sequence[JsonValue], kind: Kind, max_json: int | None) -> int:
        if self._closing or self.closed.is_set():
            raise ConnectionClosed("the connection is closed")
        parts = tuple(name.split(".")) if isinstance(name, str) else name
        call, request = self._protocol.request(parts, args, kind, max_json=max_json)
        self._stream.write(request)
        return call

    # what streams ask of us

    def stream_took(self, stream: RpcStream, size: int) -> None:
        self._queued -= size
        self._full.discard(stream.call)
        self._check_room()

    async def stream_sends(self, call: int, kind: BodyType, bodies: Sequence[bytes]) -> None:
        self._stream.write(self._protocol.items(call, kind, bodies))
        await self._stream.drain()

    async def stream_ends(self, call: int, error: str | None) -> None:
        self._stream.write(self._protocol.end(call, error))
        self._forget_if_over(call)

    # events

    def _take(self, event: Event) -> None:
        match event:
            case Items(call, kind, bodies):
                stream = self._streams.get(call)
                if stream is not None:
                    self._queued += stream.deliver(kind, bodies)
                    if stream.waiting > self._limits.stream_queue:
                        self._full.add(call)
                    self._check_room()
            case Reply(call, answer):
                self._answered(call, answer)
            case Ended(call, error):
                self._ended(call, error)
            case Request():
                self._serve(event)
            case Goodbye():
                pass

    def _answered(self, call: int, answer: Body | RemoteCallError) -> None:
        future = self._replies.pop(call, None)
        if future is None or future.done():
            return
        if isinstance(answer, RemoteCallError):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    def _ended(self, call: int, error: RemoteCallError | None) -> None:
        stream = self._streams.get(call)
        if stream is None:
            return
        stream.finish(error)
        task = self._handlers.get(call)
        if task is not None and not isinstance(stream, Source):
            task.cancel()  # the reader of a source that we serve has gone
        self._forget_if_over(call)

    def _forget_if_over(self, call: int) -> None:
        if not self._protocol.is_open(call) and call not in self._handlers:
            self._streams.pop(call, None)

    def _check_room(self) -> None:
        full = self._full or self._queued > self._limits.peer_buffers
        if full and not self._closing:
            self._room.clear()
        else:
            self._room.set()

    # serving

    async def _admit(self, calls: int) -> None:
        """Read on only as fast as the peer may call."""
        wait = 0.0
        for _ in range(calls):
            wait = self._bucket.take(self._loop.time())
        if wait > 0.0:
            self.breaches["calls a second"] += 1
            await asyncio.sleep(wait)

    def _serve(self, request: Request) -> None:
        try:
            method = self._table.find(request.name, self.caller)
            self._check_kind(request, method)
            self._check_bounds(method, request.size)
        except RemoteVisible as error:
            self._refuse(request, str(error))
            return
        if not self._protocol.settle(request.call, method.kind):
            return
        job: Coroutine[Any, Any, None]
        if method.kind.is_stream:
            stream = {Kind.SOURCE: Sink, Kind.SINK: Source, Kind.DUPLEX: Duplex}[method.kind](self, request.call)
            self._streams[request.call] = stream
            job = self._serve_stream(request, method, stream)
        else:
            job = self._serve_async(request, method)
        task = self._loop.create_task(job)
        self._handlers[request.call] = task
        self._in_flight += request.size
        self._open[method.pool] += method.kind.is_stream
        task.add_done_callback(lambda _task: self._served(request, method))

    def _check_kind(self, request: Request, method: Method) -> None:
        asked = request.kind or (Kind.DUPLEX if request.stream else Kind.ASYNC)
        fits = request.stream == method.kind.is_stream and (
            request.kind is None or not request.stream or asked is method.kind
        )
        if not fits:
            raise RemoteVisible(f"method:{','.join(request.name)} is {method.kind.value}, not {asked.value}")

    def _check_bounds(self, method: Method, size: int) -> None:
        limits = self._limits
        if not method.kind.is_stream:
            bound, counted = limits.calls_in_flight, len(self._handlers)
        elif method.pool is Pool.HISTORY:
            bound, counted = limits.history_streams, self._open[Pool.HISTORY]
        else:
            bound, counted = limits.open_streams, self._open[Pool.STREAMS]
        if counted >= bound or self._in_flight + size > limits.calls_in_flight_size:
            self.breaches["open calls"] += 1
            raise RemoteVisible("too many calls at once")

    def _refuse(self, request: Request, reason: str) -> None:
        refuse = self._protocol.end if request.stream else self._protocol.reply_error
        self._stream.write(refuse(request.call, reason))

    async def _serve_async(self, request: Request, method: Method) -> None:
        try:
            await self._stream.drain()  # whoever does not read its answers is not served on
            body = encode_body(await method.handler(self.caller, request.args))
        except RemoteVisible as error:
            self._stream.write(self._protocol.reply_error(request.call, str(error)))
        except ConnectionClosed as gone:
            log.debug("serving %s for %s stopped: %s", ".".join(request.name), self.peername, gone)
            self._stream.write(self._protocol.reply_error(request.call, _INTERNAL))
        except Exception:
            log.exception("serving %s for %s failed", ".".join(request.name), self.peername)
            self._stream.write(self._protocol.reply_error(request.call, _INTERNAL))
        else:
            self._stream.write(self._protocol.reply(request.call, body))

    async def _serve_stream(self, request: Request, method: Method, stream: RpcStream) -> None:
        error: str | None = None
        try:
            await method.handler(self.caller, request.args, stream)
        except RemoteVisible as refused:
            error = str(refused)
        except RemoteError as gone:
            error = "stream ended"
            log.debug("serving %s for %s stopped: %s", ".".join(request.name), self.peername, gone)
        except Exception:
            error = _INTERNAL
            log.exception("serving %s for %s failed", ".".join(request.name), self.peername)
        self._stream.write(self._protocol.end(request.call, error))

    def _served(self, request: Request, method: Method) -> None:
        """The handler has returned, failed, or was cancelled - perhaps before its first step."""
        self._handlers.pop(request.call, None)
        self._in_flight -= request.size
        self._open[method.pool] -= method.kind.is_stream
        stream = self._streams.pop(request.call, None)
        if stream is not None:
            self.stream_took(stream, stream.discard())
            self._stream.write(self._protocol.end(request.call))

    # patience

    def _watch_patience(self) -> None:
        """Cut a link that is silent, or in the middle of one frame, for too long."""
        now, limits = self._loop.time(), self._limits
        if not self._room.is_set():
            self._heard, self._half_seen = now, None  # it is we who do not read
        elif not (self._protocol.partial or getattr(self._stream, "partial", False)):
            self._half_seen = None
        elif self._half_seen is None:
            self._half_seen = now
        if now - self._heard > limits.silence_timeout:
            self.abort(f"nothing was heard for {limits.silence_timeout:g} s")
        elif self._half_seen and now - max(self._half_seen, self._last_whole[0]) > limits.half_frame_timeout:
            self.abort(f"a frame was not completed in {limits.half_frame_timeout:g} s")
        else:
            pause = min(limits.silence_timeout, limits.half_frame_timeout) / 4
            self._watch = self._loop.call_later(pause, self._watch_patience)
