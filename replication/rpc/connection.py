"""One peer's muxrpc connection: moves bytes between a stream, the pure machine and the handlers.

Back-pressure both ways: a full queue stops the reading of the socket, and ``send`` waits while too much is
unsent. A peer that calls too often is simply read more slowly. Every handler runs in a task of its own, and
whatever it raises ends its call and nothing else.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence

from feeds.errors import InvalidJson
from feeds.message import JsonValue
from replication.errors import ConnectionClosed, RemoteCallError, RemoteError, RpcProtocolError
from replication.limits import DEFAULT_LIMITS, Limits
from replication.rpc.bodies import Body, BodyType, Payload
from replication.rpc.calls import Kind, Name, Request
from replication.rpc.methods import Caller, MethodTable, Who
from replication.rpc.patience import Patience
from replication.rpc.protocol import Ended, Event, Goodbye, Items, Reply, RpcProtocol
from replication.rpc.serving import CallServer
from replication.rpc.streams import Duplex, RpcStream, Sink, Source
from replication.transport import ByteStream

__all__ = ["Duplex", "RpcConnection", "Sink", "Source"]


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
        self._stream = stream
        self._table = table
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._protocol = RpcProtocol(limits=limits, max_json_of=table.max_json)
        self._replies: dict[int, asyncio.Future[Body]] = {}
        self._streams: dict[int, RpcStream] = {}
        self._server = CallServer(self, self._protocol, table, self.caller, limits)
        self._queued = 0
        self._full: set[int] = set()
        self._room = asyncio.Event()
        self._room.set()
        self._patience = Patience(limits, self._loop.time())
        self._watch: asyncio.TimerHandle | None = None
        self._over = False
        self._closing = False
        self._said_goodbye = False

    @property
    def peername(self) -> str:
        return self._stream.peername

    @property
    def bytes_in(self) -> int:
        return self._stream.bytes_in

    @property
    def breaches(self) -> Counter[str]:
        """How often which limit held the peer back."""
        return self._server.breaches

    @property
    def silent_for(self) -> float:
        """Seconds since the peer was last heard."""
        return self._loop.time() - self._patience.heard_at

    @property
    def bytes_out(self) -> int:
        return self._stream.bytes_out

    # life

    async def run(self) -> None:
        """Serve and receive until the connection ends; the reason, if it was not a goodbye, is in ``error``."""
        self._watch_patience()
        try:
            await self._receive()
        except RemoteError as error:
            if error.limit:
                self.breaches[error.limit] += 1
            if isinstance(error, RpcProtocolError):
                self.error = error
                self.abort(str(error))
            elif not self._said_goodbye:
                self.error = error
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
        """Until the end. What arrived is not held while the next is awaited: many peers are idle after much."""
        while await self._digest(await self._stream.read()):
            pass

    async def _digest(self, data: bytes) -> bool:
        """Act on what arrived, then wait until there is room for more; False at the end."""
        if not data:
            return False
        refused = self._protocol.refused
        events = self._protocol.receive(data)
        self._patience.heard(self._loop.time(), whole=bool(events), received=self.bytes_in)
        for event in events:
            if isinstance(event, Goodbye):
                return False
            if isinstance(event, Request):
                await self._server.admit(1)
            if not self._closing:
                self._take(event)
        self.write(self._protocol.take_output())
        await self._server.admit(self._protocol.refused - refused)
        await self._room.wait()
        return True

    async def _shut(self) -> None:
        """Fail what is pending, stop the handlers and close."""
        self._over = True
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
        try:
            await self._server.stop()
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
        body = await self.call_body(name, args, kind=kind, max_json=max_json)
        try:
            return body.value()
        except InvalidJson as error:
            raise RpcProtocolError(f"the answer to {name} is not JSON: {error}") from None

    async def call_body(
        self, name: str | Name, args: Sequence[JsonValue] = (), *, kind: Kind = Kind.ASYNC, max_json: int | None = None
    ) -> Body:
        """As `call`, with the answer as it was on the wire."""
        call = self._request(name, args, kind, max_json)
        future: asyncio.Future[Body] = self._loop.create_future()
        self._replies[call] = future
        try:
            return await future
        finally:
            self._replies.pop(call, None)
            self._protocol.give_up(call)

    def source(self, name: str | Name, args: Sequence[JsonValue] = (), *, max_json: int | None = None) -> Source:
        """Call a source method and read what it gives."""
        source = Source(self, self._request(name, args, Kind.SOURCE, max_json))
        self.add_stream(source)
        return source

    def sink(self, name: str | Name, args: Sequence[JsonValue] = ()) -> Sink:
        """Call a sink method and send to it; ``end`` and then ``finished`` tell how it went."""
        sink = Sink(self, self._request(name, args, Kind.SINK, None))
        self.add_stream(sink)
        return sink

    def duplex(self, name: str | Name, args: Sequence[JsonValue] = (), *, max_json: int | None = None) -> Duplex:
        """Call a duplex method."""
        duplex = Duplex(self, self._request(name, args, Kind.DUPLEX, max_json))
        self.add_stream(duplex)
        return duplex

    def _request(self, name: str | Name, args: Sequence[JsonValue], kind: Kind, max_json: int | None) -> int:
        if self._closing or self._over:
            raise ConnectionClosed("the connection is closed")
        parts = tuple(name.split(".")) if isinstance(name, str) else name
        call, request = self._protocol.request(parts, args, kind, max_json=max_json)
        self._stream.write(request)
        return call

    # what streams and served calls ask of us

    def write(self, data: bytes) -> None:
        """Queue frames, which may be none."""
        self._stream.write(data)

    async def drain(self) -> None:
        """Wait until little enough is unsent; raises ``ConnectionClosed`` if it never will be."""
        await self._stream.drain()

    def add_stream(self, stream: RpcStream) -> None:
        """Give what arrives under the stream's number to it."""
        self._streams[stream.call] = stream

    def remove_stream(self, call: int) -> None:
        """Nobody reads or writes this stream any more; end our side if that was not done."""
        stream = self._streams.pop(call, None)
        if stream is not None:
            self.stream_took(stream, stream.discard())
            self._stream.write(self._protocol.end(call))

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
                self._server.serve(event)
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
        if not isinstance(stream, Source):
            self._server.cancel(call)  # the reader of a source that we serve has gone
        self._forget_if_over(call)

    def _forget_if_over(self, call: int) -> None:
        if not self._protocol.is_open(call) and not self._server.serves(call):
            self._streams.pop(call, None)

    def _check_room(self) -> None:
        full = self._full or self._queued > self._limits.peer_buffers
        if full and not self._closing:
            if self._room.is_set():
                self.breaches["stream_queue" if self._full else "peer_buffers"] += 1
            self._room.clear()
        else:
            self._room.set()

    def _watch_patience(self) -> None:
        reading = self._room.is_set()
        partial = self._protocol.partial or getattr(self._stream, "partial", False)
        exhausted = self._patience.exhausted(self._loop.time(), partial=partial, reading=reading)
        if exhausted is not None:
            self.breaches[exhausted.limit] += 1
            self.abort(exhausted.reason)
        else:
            self._watch = self._loop.call_later(self._patience.pause, self._watch_patience)
