"""A call of one of this node's muxrpc methods as an answer: a value, or the items of a stream as they come.

A reader that is slow holds the method back, one that leaves ends it. What goes wrong before the answer has begun is a
problem; after that the answer is cut, so that the reader sees that something is missing.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, Final

import orjson
from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.answers import disconnected, line_safe
from api.errors import Problem
from api.negotiation import Form
from api.services import Services
from feeds.message import JsonValue
from replication.errors import ConnectionClosed, RemoteCallError, StreamEnded
from replication.limits import DEFAULT_LIMITS
from replication.rpc.bodies import Body, BodyType
from replication.rpc.calls import Kind, Name
from replication.rpc.connection import RpcConnection

__all__ = ["BYTES", "RpcAnswer"]

BYTES: Final = "application/octet-stream"
FIRST_ITEM: Final = 0.5
"""Seconds to wait for the first item of a stream before the answer begins without it: until then an error can be
told as a problem."""
_INTERNAL: Final = "internal error"
"""What the server of calls tells of an error that is not the caller's."""


class RpcAnswer(Response):
    """The answer of one call. Raises Problem too-many-streams when too many are under way.

    body -- what goes into a sink; raw -- the bytes of a stream as they are, instead of lines.
    """

    def __init__(
        self,
        app: FastAPI,
        services: Services,
        name: Name,
        kind: Kind,
        args: Sequence[JsonValue],
        *,
        body: AsyncIterator[bytes] | None = None,
        raw: bool = False,
    ) -> None:
        super().__init__()
        self._under_way: Final[set[RpcAnswer]] = app.state.calls
        limit = services.settings.streams
        if len(self._under_way) >= limit:
            raise Problem("too-many-streams", f"At most {limit} calls may be under way.", headers={"Retry-After": "5"})
        self._services: Final = services
        self._name: Final = name
        self._kind: Final = kind
        self._args: Final = args
        self._body: Final = body
        self._raw: Final = raw

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._under_way.add(self)
        try:
            async with self._services.rpc.connected() as connection:
                if self._body is not None:
                    await self._fill(connection, self._body)
                    await Response(status_code=204)(scope, receive, send)
                    return
                over = asyncio.ensure_future(_over(receive, self._services.stopping))
                try:
                    if self._kind is Kind.SOURCE:
                        await self._stream(connection, over, send)
                    else:
                        answer = await self._value(connection, over)
                        await answer(scope, receive, send)
                finally:
                    over.cancel()
        except RemoteCallError as error:
            raise self._failure(error) from None
        except ConnectionClosed:
            raise Problem("stopping", "The node is stopping.") from None
        finally:
            self._under_way.discard(self)

    async def _value(self, connection: RpcConnection, over: "asyncio.Future[None]") -> Response:
        """The answer of an async method, unless the client leaves before."""
        call = asyncio.ensure_future(connection.call_body(self._name, self._args, kind=self._kind))
        await _first(call, over)
        if not call.done():
            call.cancel()
            raise self._ended()
        body = call.result()
        if body.kind is BodyType.BINARY:
            return Response(body.data, media_type=BYTES)
        return Response(_json(body), media_type=Form.JSON)

    async def _stream(self, connection: RpcConnection, over: "asyncio.Future[None]", send: Send) -> None:
        """The items of a source. The next ones are read when the client has taken those before."""
        source = connection.source(self._name, self._args)
        content_type = BYTES if self._raw else Form.NDJSON
        headers = [(b"content-type", content_type.encode()), (b"vary", b"Accept")]
        begun = False
        while True:
            batch = asyncio.ensure_future(source.read_batch())
            try:
                await _first(batch, over, timeout=None if begun else FIRST_ITEM)
                if not begun and not over.done() and not (batch.done() and batch.exception()):
                    begun = True
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                    if not batch.done():  # so that the client has the headers
                        await send({"type": "http.response.body", "body": b"", "more_body": True})
                        await _first(batch, over)
                if over.done():
                    raise self._ended()
                items = batch.result()
            finally:
                if not batch.cancel() and not batch.cancelled():
                    batch.exception()  # what nobody waits for any more is no news
            if not items:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            await send({"type": "http.response.body", "body": self._written(items), "more_body": True})

    def _written(self, items: Sequence[Body]) -> bytes:
        if self._raw:
            return b"".join(body.data for body in items)
        return line_safe(b"".join(_json(body) + b"\n" for body in items))

    async def _fill(self, connection: RpcConnection, pieces: AsyncIterator[bytes]) -> None:
        """Send the request's body into a sink, and wait until that has taken it."""
        sink = connection.sink(self._name, self._args)
        size = DEFAULT_LIMITS.blob_piece
        with suppress(StreamEnded):  # the method has seen enough; `finished` tells how it ended
            async for piece in pieces:
                await sink.send([piece[at : at + size] for at in range(0, len(piece), size)], BodyType.BINARY)
            await sink.end()
        await sink.finished()

    def _ended(self) -> Exception:
        """Nobody waits for the rest any more, or may."""
        if self._services.stopping.is_set():
            return Problem("stopping", "The node is stopping.")
        return ClientDisconnect()

    def _failure(self, error: RemoteCallError) -> Problem:
        name = ".".join(self._name)
        if error.message == _INTERNAL:  # the log has it
            return Problem("internal-error", f"{name} failed. The node's log says why.")
        return Problem("rpc-failed", f"{name}: {error.message}", method=name, error=error.message)


async def _over(receive: Receive, stopping: asyncio.Event) -> None:
    """Returns once the client is gone or the node stops."""
    waiting = [asyncio.ensure_future(disconnected(receive)), asyncio.ensure_future(stopping.wait())]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()


async def _first(*waiting: "asyncio.Future[Any]", timeout: float | None = None) -> None:
    """Returns once one of them is done."""
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=timeout)


def _json(body: Body) -> bytes:
    """An item as JSON: bytes as base64, texts as strings, the rest as it is."""
    match body.kind:
        case BodyType.BINARY:
            return orjson.dumps(base64.b64encode(body.data).decode())
        case BodyType.TEXT:
            return orjson.dumps(body.data.decode(errors="replace"))
        case BodyType.JSON:
            return body.data
