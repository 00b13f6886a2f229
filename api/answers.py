"""Answers: JSON made by orjson or taken from the store as it is, the same as msgpack, and NDJSON as a stream."""

from collections.abc import AsyncIterator, Mapping
from typing import Final

import msgpack
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.negotiation import Form, form
from feeds.canonical_json import parse

__all__ = ["NDJSON_HEADERS", "NdjsonResponse", "document", "unpacked"]


def document(
    request: Request, value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON document, or the same as msgpack where the client asks for that."""
    headers = {"Vary": "Accept", **(headers or {})}
    if form(request.headers.get("accept"), (Form.JSON, Form.MSGPACK)) is Form.MSGPACK:
        return Response(msgpack.packb(value), status, headers, Form.MSGPACK)
    return Response(orjson.dumps(value), status, headers, Form.JSON)


def unpacked(text: bytes) -> object:
    """A stored JSON text as values, for msgpack. Numbers beyond 64 bits become doubles, as JavaScript reads them."""
    return _bounded(parse(text))


def _bounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _bounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_bounded(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value)
    return value


NDJSON_HEADERS: Final = [(b"content-type", b"application/x-ndjson"), (b"vary", b"Accept")]


class NdjsonResponse(Response):
    """Lines as they come. `send` waits while the client does not read, so nothing piles up here."""

    def __init__(self, lines: AsyncIterator[bytes]) -> None:
        super().__init__()
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await send({"type": "http.response.start", "status": 200, "headers": NDJSON_HEADERS})
        async for lines in self._lines:
            await send({"type": "http.response.body", "body": lines, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
