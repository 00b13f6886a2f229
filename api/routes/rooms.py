"""Rooms: those that this node is in, joining and leaving, and names in them."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document
from api.bodies import read_object, wrong
from api.errors import Problem
from api.ids import FEED_PATH, feed_in
from api.models import AliasBody, AliasLinkBody, ConsumedAlias, JoinRoomBody, OwnAlias, Room, RoomList
from api.negotiation import Form
from api.openapi import also, describe, listing
from api.paging import PAGE, is_descending, list_answer, slice_of
from api.services import services_of

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1", tags=["rooms"])

LONGEST: Final = 4096
ALIAS_PATH: Final[Mapping[str, Any]] = {
    "name": "alias",
    "in": "path",
    "required": True,
    "description": "A name in the room",
    "schema": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"},
}


@router.get(
    "/rooms",
    summary="Rooms, and who is in them",
    responses=listing(RoomList, "The one joined first before others"),
    openapi_extra=describe(*PAGE),
)
async def list_rooms(request: Request) -> Response:
    items = [orjson.dumps(room) for room in await services_of(request).rooms.all()]
    if is_descending(request):
        items.reverse()
    return await list_answer(request, slice_of(items), name="rooms")


@router.post(
    "/rooms",
    summary="Join a room",
    responses=also(200, Room, "We are in the room", Form.MSGPACK),
    openapi_extra=describe(body=JoinRoomBody),
)
async def join(request: Request) -> Response:
    services = services_of(request)
    body = await read_object(request, services.settings)
    body.only("address", "invite")
    if body.has("address") == body.has("invite"):
        raise wrong("address", "or invite must be given, one of them")
    text = body.text("address" if body.has("address") else "invite")
    return document(request, orjson.loads(orjson.dumps(await services.rooms.join(_short(text)))))


@router.post(
    "/rooms/{id:path}/aliases",
    status_code=201,
    summary="Take a name in a room",
    responses=also(201, OwnAlias, "The room leads from its page to us", Form.MSGPACK),
    openapi_extra=describe(path=FEED_PATH, body=AliasBody),
)
async def register(request: Request) -> Response:
    services = services_of(request)
    room = feed_in(request)
    body = await read_object(request, services.settings)
    body.only("alias")
    return document(request, await services.rooms.register(room, body.text("alias")), status=201)


@router.delete(
    "/rooms/{id:path}/aliases/{alias}",
    status_code=204,
    summary="Give a name in a room back",
    openapi_extra={"parameters": [dict(FEED_PATH), dict(ALIAS_PATH)]},
)
async def revoke(request: Request) -> Response:
    await services_of(request).rooms.revoke(feed_in(request), request.path_params["alias"])
    return Response(status_code=204)


@router.delete("/rooms/{id:path}", status_code=204, summary="Leave a room", openapi_extra=describe(path=FEED_PATH))
async def leave(request: Request) -> Response:
    room = feed_in(request)
    if not await services_of(request).rooms.leave(room):
        raise Problem("room-not-found", f"{room} is no room of this node; GET /v1/rooms lists them.")
    return Response(status_code=204)


@router.post(
    "/aliases/consume",
    summary="Connect to whom an alias leads to",
    responses=also(200, ConsumedAlias, "The signature is right, and the peer is connected", Form.MSGPACK),
    openapi_extra=describe(body=AliasLinkBody),
)
async def consume(request: Request) -> Response:
    services = services_of(request)
    body = await read_object(request, services.settings)
    body.only("link")
    alias = await services.rooms.consume(_short(body.text("link")))
    return document(request, {"alias": alias.alias, "user": alias.user, "room": alias.room, "address": alias.address})


def _short(text: str) -> str:
    if not 0 < len(text) <= LONGEST:
        raise wrong("text", f"must have 1 to {LONGEST} characters")
    return text
