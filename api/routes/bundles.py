"""Offline sync by file: what we have, bundles made for others, and what their bundles hold, looked at or taken in."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.answers import disconnected, document
from api.bodies import Body, body_timeout, read_object, wrong
from api.models import BundleClock, BundleContents, BundleExport, BundleImport
from api.negotiation import Form
from api.openapi import also, describe
from api.services import Services, services_of
from feeds.errors import InvalidRef
from feeds.refs import FeedRef
from replication.errors import InvalidBundle
from replication.offline import SMALLEST_PART, ExportOptions, Known, known_of

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/bundles", tags=["bundles"])

CLOCK_BYTES: Final = 64 * 1024 * 1024
"""Bytes of a body that holds a receiver's clock."""
DRAIN_SECONDS: Final = 8.0
MOST_HOPS: Final = 100
MEMBERS: Final = ("for", "feeds", "hops", "blobs", "max_bytes", "packed", "part", "series", "format")
_BYTES: Final = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_FILE: Final = {"requestBody": {"required": True, "content": _BYTES}}


@router.get(
    "/clock",
    summary="What this node has and wants, for whoever makes a bundle for it",
    responses=also(200, BundleClock, "A clock file", Form.MSGPACK),
)
async def clock(request: Request) -> Response:
    return document(request, await services_of(request).bundles.clock())


@router.post(
    "/export",
    summary="Make a bundle",
    responses={200: {"description": "The bundle, as it is made", "content": _BYTES}},
    openapi_extra=describe(body=BundleExport),
)
async def export(request: Request) -> Response:
    services = services_of(request)
    order = await read_object(request, replace(services.settings, body_limit=CLOCK_BYTES))
    options = _options(order)
    if order.get("format") not in (None, "bundle", "jsonl"):
        raise wrong("format", "must be bundle or jsonl")
    if order.get("format") == "jsonl":
        return _Made(services, services.bundles.json_lines(options), Form.NDJSON)
    return _Made(services, services.bundles.export(options), "application/octet-stream")


@router.post(
    "/inspect",
    summary="What a bundle holds, without taking it in",
    responses=also(200, BundleContents, "What it says; only the signature was verified", Form.MSGPACK),
    openapi_extra=_FILE,
)
async def inspect(request: Request) -> Response:
    services = services_of(request)
    body = _body(request, services)
    contents = await services.bundles.inspect(body)
    await _drain(body)
    return document(request, contents.as_json())


@router.post(
    "/import",
    summary="Take in a bundle, or JSON lines of messages",
    responses=also(200, BundleImport, "What became of it; damage is told in `problem`", Form.MSGPACK),
    openapi_extra=_FILE,
)
async def take_in(request: Request) -> Response:
    services = services_of(request)
    body = _body(request, services)
    report = await services.bundles.take_in(body)
    await _drain(body)
    return document(request, report.as_json())


def _options(order: Body) -> ExportOptions:
    """What a body asks for. Raises Problem invalid-body."""
    order.only(*MEMBERS)
    known = Known()
    if order.get("for") is not None:
        try:
            known = known_of(order.get("for"))
        except InvalidBundle as error:
            raise wrong("for", str(error)) from None
    series = order.optional_text("series") or ""
    if len(series) > 64 or not series.isprintable():
        raise wrong("series", "must have at most 64 characters, all of them printable")
    return ExportOptions(
        known=known,
        feeds=_feeds(order),
        hops=_number(order, "hops", 0, MOST_HOPS),
        blobs=order.get("blobs") is None or order.flag("blobs"),
        max_bytes=_number(order, "max_bytes", SMALLEST_PART, 1 << 50),
        packed=order.get("packed") is None or order.flag("packed"),
        part=_number(order, "part", 1, 1_000_000) or 1,
        series=series,
    )


def _feeds(order: Body) -> list[str] | None:
    value = order.get("feeds")
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(feed, str) for feed in value):
        raise wrong("feeds", "must be a list of feed ids")
    try:
        return [str(FeedRef.parse(str(feed))) for feed in value]
    except InvalidRef as error:
        raise wrong("feeds", f"must hold only feed ids ({error})") from None


def _number(order: Body, name: str, low: int, high: int) -> int | None:
    value: Any = order.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not low <= value <= high or value % 1:
        raise wrong(name, f"must be a whole number from {low} to {high}")
    return int(value)


class _Made(Response):
    """An answer that is made while it is sent; when the node stops, it is cut off and not ended."""

    def __init__(self, services: Services, pieces: AsyncGenerator[bytes, None], media_type: str) -> None:
        super().__init__(None, 200, media_type=media_type)
        del self.headers["content-length"]
        self._stopping: Final = services.stopping
        self._pieces: Final = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for piece in self._pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                if gone.done() or self._stopping.is_set():
                    return
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            await self._pieces.aclose()


async def _drain(body: AsyncIterator[bytes]) -> None:
    """Read what is left after damage, but not for ever: a client that still sends would not see the answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in body:
                pass


async def _body(request: Request, services: Services) -> AsyncIterator[bytes]:
    """The body as it comes, of any length, with a wait for each piece. Raises Problem body-timeout."""
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(services.settings.body_timeout):
                piece = await anext(stream, None)
        except TimeoutError:
            raise body_timeout(services.settings.body_timeout) from None
        if piece is None:
            return
        if piece:
            yield piece
