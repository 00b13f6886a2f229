"""Answers: JSON made by orjson or taken from the store as it is, the same as msgpack, and NDJSON as a stream."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.errors import Problem
from api.negotiation import Form, form
from feeds.canonical_json import parse

__all__ = ["NdjsonResponse", "disconnected", "document", "document_form", "line_safe", "packed", "unpacked", "written"]

READING: Final = frozenset({"GET", "HEAD"})
_LINE_ENDS: Final = tuple((end.encode(), b"\\u%04x" % ord(end)) for end in ("\x85", "\u2028", "\u2029"))
_NDJSON_HEADERS: Final = [(b"content-type", b"application/x-ndjson"), (b"vary", b"Accept")]


def document(
    request: Request, value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON document, or the same as msgpack where the client asks for that."""
    headers = {"Vary": "Accept", **(headers or {})}
    if document_form(request) is Form.MSGPACK:
        return Response(packed(value), status, headers, Form.MSGPACK)
    return Response(orjson.dumps(value), status, headers, Form.JSON)


def written(request: Request, text: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The same of a document that is at hand as a JSON text."""
    headers = {"Vary": "Accept", **(headers or {})}
    if document_form(request) is Form.MSGPACK:
        return Response(packed(unpacked(text)), status, headers, Form.MSGPACK)
    return Response(text, status, headers, Form.JSON)


def document_form(request: Request) -> Form:
    """JSON or msgpack. Raises Problem not-acceptable, but only where nothing was done yet.

    What was written is done, and its answer may hold what is told once: it comes as JSON to whoever would rather not.
    """
    try:
        return form(request.headers.get("accept"), (Form.JSON, Form.MSGPACK))
    except Problem:
        if request.method in READING:
            raise
        return Form.JSON


def packed(value: object) -> bytes:
    """A value as msgpack. Strings there are UTF-8, which has no lone surrogates: each becomes U+FFFD."""
    try:
        return msgspec.msgpack.encode(value)
    except UnicodeEncodeError:
        return msgspec.msgpack.encode(_replaced(value))


def _replaced(value: object) -> object:
    if isinstance(value, dict):
        return {_replaced(key): _replaced(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value


def unpacked(text: bytes) -> object:
    """A stored JSON text as values, for msgpack."""
    return parse(text)


def line_safe(texts: bytes) -> bytes:
    """JSON texts in which nothing looks like the end of a line to readers that go by Unicode (Python's are among them).

    JSON leaves U+0085, U+2028 and U+2029 as they are in strings, and they stand nowhere else; escaped there they mean
    the same.
    """
    for raw, escaped in _LINE_ENDS:
        texts = texts.replace(raw, escaped)
    return texts


class NdjsonResponse(Response):
    """Lines as they come. `send` waits while the client does not read, so nothing piles up here.

    stopping -- the node stops: the answer is left unfinished, which the reader sees as a cut connection.
    """

    def __init__(self, lines: AsyncIterator[bytes], stopping: asyncio.Event) -> None:
        super().__init__()
        self._lines = lines
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _NDJSON_HEADERS})
            async for lines in self._lines:
                await send({"type": "http.response.body", "body": line_safe(lines), "more_body": True})
                if gone.done() or self._stopping.is_set():
                    return
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()


async def disconnected(receive: Receive) -> None:
    """Returns once the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
