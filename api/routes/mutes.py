"""Muting: not to be shown somebody's messages, and nobody is told."""

from typing import Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.errors import Problem
from api.ids import FEED_PATH, feed_in
from api.models import MuteList
from api.openapi import describe, listing
from api.paging import PAGE, is_descending, list_answer, slice_of
from api.services import services_of
from feeds import hiding

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1", tags=["profiles"])

_FEED: Final = describe(path=FEED_PATH)


@router.put("/profiles/{id:path}/mute", status_code=204, summary="Mute a feed, here only", openapi_extra=_FEED)
async def mute(request: Request) -> Response:
    services, feed = services_of(request), feed_in(request)
    if feed == services.me:
        raise Problem("own-feed", "Our own feed cannot be muted.")
    now = int(services.now() * 1000)
    await services.database.write(lambda connection: hiding.mute(connection, feed, now), durable=True)
    return Response(status_code=204)


@router.delete("/profiles/{id:path}/mute", status_code=204, summary="Mute a feed no longer", openapi_extra=_FEED)
async def unmute(request: Request) -> Response:
    services, feed = services_of(request), feed_in(request)
    await services.database.write(lambda connection: hiding.unmute(connection, feed), durable=True)
    return Response(status_code=204)


@router.get(
    "/mutes",
    summary="Muted feeds",
    responses=listing(MuteList, "The first one muted first"),
    openapi_extra=describe(*PAGE),
)
async def list_mutes(request: Request) -> Response:
    found = await services_of(request).database.read(hiding.muted)
    items = [orjson.dumps({"id": one.feed, "since": one.at}) for one in found]
    if is_descending(request):
        items.reverse()
    return await list_answer(request, slice_of(items), name="mutes")
