"""Serving one peer's calls: finding the method, the bounds, a task for each handler, and how its end is told.

Whatever a handler raises ends its call and nothing else. A peer that calls too often is read more slowly,
one that has too much open is refused, and one that does not read its answers is not served on.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Protocol

from replication.errors import ConnectionClosed, RemoteError, RemoteVisible
from replication.limits import Limits
from replication.rpc.bodies import encode_body
from replication.rpc.calls import Kind, Request
from replication.rpc.methods import Caller, Method, MethodTable, Pool
from replication.rpc.protocol import RpcProtocol
from replication.rpc.rate import TokenBucket
from replication.rpc.streams import Duplex, RpcStream, Sink, Source, StreamHost

log = logging.getLogger(__name__)

_INTERNAL = "internal error"
_LIMIT = {Pool.CALLS: "calls_in_flight", Pool.STREAMS: "open_streams", Pool.HISTORY: "history_streams"}
_OUR_END: dict[Kind, type[RpcStream]] = {Kind.SOURCE: Sink, Kind.SINK: Source, Kind.DUPLEX: Duplex}


class CallHost(StreamHost, Protocol):
    """What serving asks of the connection."""

    @property
    def peername(self) -> str: ...

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    def add_stream(self, stream: RpcStream) -> None: ...

    def remove_stream(self, call: int) -> None: ...


class CallServer:
    """The calls of one peer that are being served."""

    def __init__(
        self, host: CallHost, protocol: RpcProtocol, table: MethodTable, caller: Caller, limits: Limits
    ) -> None:
        self.breaches: Counter[str] = Counter()
        self._host = host
        self._protocol = protocol
        self._table = table
        self._caller = caller
        self._limits = limits
        self._bounds = {
            Pool.CALLS: limits.calls_in_flight,
            Pool.STREAMS: limits.open_streams,
            Pool.HISTORY: limits.history_streams,
        }
        self._loop = asyncio.get_running_loop()
        self._bucket = TokenBucket(limits.calls_per_second, limits.call_burst, self._loop.time())
        self._handlers: dict[int, asyncio.Task[None]] = {}
        self._open: Counter[Pool] = Counter()
        self._in_flight = 0

    def serves(self, call: int) -> bool:
        """Whether a handler is at work on this call."""
        return call in self._handlers

    def cancel(self, call: int) -> None:
        """The peer does not want what the handler makes."""
        task = self._handlers.get(call)
        if task is not None:
            task.cancel()

    async def stop(self) -> None:
        """Cancel all handlers and wait for them."""
        handlers = list(self._handlers.values())
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)

    async def admit(self, calls: int) -> None:
        """Wait as long as the peer must for having made so many calls more."""
        wait = 0.0
        for _ in range(calls):
            wait = self._bucket.take(self._loop.time())
        if wait > 0.0:
            self.breaches["calls_per_second"] += 1
            await asyncio.sleep(wait)

    def serve(self, request: Request) -> None:
        """Answer a call, now with a refusal or later by its handler's task."""
        try:
            method = self._table.find(request.name, self._caller)
            self._check_kind(request, method)
            self._check_bounds(method, request.size)
        except RemoteVisible as error:
            self._refuse(request, str(error))
            return
        if not self._protocol.settle(request.call, method.kind):
            return
        job: Coroutine[Any, Any, None]
        if method.kind.is_stream:
            stream = _OUR_END[method.kind](self._host, request.call)
            self._host.add_stream(stream)
            job = self._serve_stream(request, method, stream)
        else:
            job = self._serve_async(request, method)
        task = self._loop.create_task(job)
        self._handlers[request.call] = task
        self._in_flight += request.size
        self._open[_pool(method)] += 1
        task.add_done_callback(lambda _task: self._served(request, method))

    def _check_kind(self, request: Request, method: Method) -> None:
        asked = request.kind or (Kind.DUPLEX if request.stream else Kind.ASYNC)
        fits = request.stream == method.kind.is_stream and (
            request.kind is None or not request.stream or asked is method.kind
        )
        if not fits:
            raise RemoteVisible(f"method:{','.join(request.name)} is {method.kind.value}, not {asked.value}")

    def _check_bounds(self, method: Method, size: int) -> None:
        pool = _pool(method)
        limit = _LIMIT[pool] if self._open[pool] >= self._bounds[pool] else ""
        if not limit and self._in_flight + size > self._limits.calls_in_flight_size:
            limit = "calls_in_flight_size"
        if limit:
            self.breaches[limit] += 1
            raise RemoteVisible("too many calls at once")

    def _refuse(self, request: Request, reason: str) -> None:
        refuse = self._protocol.end if request.stream else self._protocol.reply_error
        self._host.write(refuse(request.call, reason))

    async def _serve_async(self, request: Request, method: Method) -> None:
        try:
            await self._host.drain()  # whoever does not read its answers is not served on
            body = encode_body(await method.handler(self._caller, request.args))
        except RemoteVisible as error:
            self._host.write(self._protocol.reply_error(request.call, str(error)))
        except ConnectionClosed as gone:
            log.debug("serving %s for %s stopped: %s", ".".join(request.name), self._host.peername, gone)
            self._host.write(self._protocol.reply_error(request.call, _INTERNAL))
        except Exception:
            log.exception("serving %s for %s failed", ".".join(request.name), self._host.peername)
            self._host.write(self._protocol.reply_error(request.call, _INTERNAL))
        else:
            self._host.write(self._protocol.reply(request.call, body))

    async def _serve_stream(self, request: Request, method: Method, stream: RpcStream) -> None:
        error: str | None = None
        try:
            await method.handler(self._caller, request.args, stream)
        except RemoteVisible as refused:
            error = str(refused)
        except RemoteError as gone:
            error = "stream ended"
            log.debug("serving %s for %s stopped: %s", ".".join(request.name), self._host.peername, gone)
        except Exception:
            error = _INTERNAL
            log.exception("serving %s for %s failed", ".".join(request.name), self._host.peername)
        self._host.write(self._protocol.end(request.call, error))

    def _served(self, request: Request, method: Method) -> None:
        """The handler has returned, failed, or was cancelled - perhaps before its first step."""
        self._handlers.pop(request.call, None)
        self._in_flight -= request.size
        self._open[_pool(method)] -= 1
        self._host.remove_stream(request.call)


def _pool(method: Method) -> Pool:
    return method.pool if method.kind.is_stream else Pool.CALLS
