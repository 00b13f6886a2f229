"""The social graph around a feed, and our own relation to it: following and blocking are messages that we publish."""

from typing import Final, Literal

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.errors import Problem
from api.ids import FEED_PATH, feed_in, message_path
from api.models import ContactList, Message
from api.negotiation import Form
from api.openapi import also, describe, listing
from api.paging import PAGE, is_descending, list_answer, slice_of
from api.services import services_of
from feeds.message import JsonObject

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/profiles", tags=["profiles"])

_PUBLISHED: Final = also(201, Message, "The contact message") | {204: {"description": "It was so already"}}
_FEED: Final = describe(path=FEED_PATH)


@router.get(
    "/{id:path}/follows",
    summary="Whom a feed follows",
    responses=listing(ContactList, "Feed ids"),
    openapi_extra=describe(*PAGE, path=FEED_PATH),
)
async def follows(request: Request) -> Response:
    return await _feeds(request, services_of(request).graph.follows(feed_in(request)))


@router.get(
    "/{id:path}/followers",
    summary="Who follows a feed",
    responses=listing(ContactList, "Feed ids"),
    openapi_extra=describe(*PAGE, path=FEED_PATH),
)
async def followers(request: Request) -> Response:
    return await _feeds(request, services_of(request).graph.followers(feed_in(request)))


@router.get(
    "/{id:path}/blocks",
    summary="Whom a feed blocks",
    responses=listing(ContactList, "Feed ids"),
    openapi_extra=describe(*PAGE, path=FEED_PATH),
)
async def blocks(request: Request) -> Response:
    return await _feeds(request, services_of(request).graph.blocks(feed_in(request)))


@router.put("/{id:path}/follow", status_code=201, summary="Follow a feed", responses=_PUBLISHED, openapi_extra=_FEED)
async def follow(request: Request) -> Response:
    return await _relate(request, "following", True)


@router.delete(
    "/{id:path}/follow", status_code=201, summary="Follow a feed no longer", responses=_PUBLISHED, openapi_extra=_FEED
)
async def unfollow(request: Request) -> Response:
    return await _relate(request, "following", False)


@router.put("/{id:path}/block", status_code=201, summary="Block a feed", responses=_PUBLISHED, openapi_extra=_FEED)
async def block(request: Request) -> Response:
    return await _relate(request, "blocking", True)


@router.delete(
    "/{id:path}/block", status_code=201, summary="Block a feed no longer", responses=_PUBLISHED, openapi_extra=_FEED
)
async def unblock(request: Request) -> Response:
    return await _relate(request, "blocking", False)


async def _relate(request: Request, relation: Literal["following", "blocking"], wanted: bool) -> Response:
    """Publish the contact message that makes a relation so, unless it is so already.

    The newest contact message replaces the whole of what we said before, so following ends blocking and the other way
    round: nobody can be followed and blocked at once.
    """
    services = services_of(request)
    feed = feed_in(request)
    if feed == services.me:
        raise Problem("invalid-message", "A feed cannot follow or block itself.", field="content")
    graph = services.graph
    holds = graph.is_following if relation == "following" else graph.is_blocking
    if holds(services.me, feed) is wanted:
        return Response(status_code=204)
    content: JsonObject = {"type": "contact", "contact": feed, relation: wanted}
    entry = await services.ingest.publish(content)
    headers = {"Location": message_path(entry.id), "ETag": f'"{entry.id}"'}
    return Response(entry.as_kvt(), 201, headers, Form.JSON)


async def _feeds(request: Request, feeds: list[str]) -> Response:
    items = [orjson.dumps({"id": feed}) for feed in sorted(feeds, reverse=is_descending(request))]
    return await list_answer(request, slice_of(items), name="contacts")
