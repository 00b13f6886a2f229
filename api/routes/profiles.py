"""What is said of a feed, the social graph around it, and our own relation to it.

Following and blocking are messages that we publish.
"""

from collections.abc import Sequence
from sqlite3 import Connection
from typing import Final, Literal

import orjson
from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.answers import written
from api.errors import Problem
from api.ids import FEED_PATH, feed_in, message_path
from api.models import ContactList, GivenNameList, Message, Profile
from api.naming import chosen
from api.negotiation import Form
from api.openapi import also, describe, listing
from api.paging import PAGE, is_descending, list_answer, slice_of
from api.services import Services, services_of
from feeds.log import entries_at
from feeds.message import JsonObject
from feeds.names import Chosen, Said, as_json, short_id
from feeds.views.profiles import Claim, claims_about

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/profiles", tags=["profiles"])

_PUBLISHED: Final = also(201, Message, "The contact message") | {204: {"description": "It was so already"}}
_FEED: Final = describe(path=FEED_PATH)
MAX_CLAIMS: Final = 1000


@router.get(
    "/{id:path}/names",
    summary="Which names a feed is given, and by whom",
    responses=listing(GivenNameList, "Names, ours first, then its own, then the newest"),
    openapi_extra=describe(*PAGE, path=FEED_PATH),
)
async def names(request: Request) -> Response:
    services, feed = services_of(request), feed_in(request)
    told = [claim for claim in await _claims(services, feed) if claim["field"] == "name"]
    items = [
        as_json({"name": claim["value"], **{key: claim[key] for key in ("author", "message", "timestamp")}}).encode()
        for claim in told
    ]
    if is_descending(request):
        items.reverse()
    return await list_answer(request, slice_of(items), name="given-names")


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


@router.get(
    "/{id:path}",
    summary="What a feed is called, looks like, and says of itself",
    responses=also(200, Profile, "The profile, with who said what", Form.MSGPACK),
    openapi_extra=_FEED,
)
async def profile(request: Request) -> Response:
    services = services_of(request)
    if request.path_params["id"].endswith(("/follow", "/block", "/mute")):
        raise HTTPException(405)  # what those take, the application knows
    feed = feed_in(request)
    claims = await _claims(services, feed)
    shown = _profile(services, feed, claims[:MAX_CLAIMS], truncated=len(claims) > MAX_CLAIMS)
    return written(request, as_json(shown).encode())


def _profile(services: Services, feed: str, claims: Sequence[JsonObject], *, truncated: bool) -> dict[str, object]:
    """The words that count, whose they are, and all that are known."""
    words: dict[str, Chosen] = {}
    for field in ("name", "image", "description"):
        said = [Said(str(claim["author"]), str(claim["value"])) for claim in claims if claim["field"] == field]
        words[field] = chosen(services, said, feed)
    hosting = [claim for claim in claims if claim["field"] == "publicWebHosting" and claim["author"] == feed]
    graph, me = services.graph, services.me
    return {
        "id": feed,
        "name": words["name"].value or short_id(feed),
        "image": words["image"].value,
        "description": words["description"].value,
        "public_web_hosting": hosting[0]["value"] if hosting else None,
        "from": {field: {"who": str(word.teller), "authors": word.authors} for field, word in words.items()},
        "following": graph.is_following(me, feed),
        "blocking": graph.is_blocking(me, feed),
        "follows_us": graph.is_following(feed, me),
        "claims": list(claims),
        "truncated": truncated,
    }


async def _claims(services: Services, feed: str) -> list[JsonObject]:
    """What is said of a feed, one more than is shown; the message and the time it was received beside each."""

    def read(connection: Connection) -> tuple[list[Claim], dict[int, tuple[str, int]]]:
        found = claims_about(connection, feed, first=(services.me, feed), limit=MAX_CLAIMS + 1)
        entries = entries_at(connection, sorted({claim.position for claim in found}))
        return found, {entry.position: (entry.id, entry.received) for entry in entries}

    found, places = await services.database.read(read)
    return [
        {
            "field": claim.field,
            "value": claim.value,
            "author": claim.author,
            "message": places[claim.position][0],
            "timestamp": places[claim.position][1],
        }
        for claim in sorted(found, key=lambda claim: (claim.author != services.me, claim.author != feed))
        if claim.position in places
    ]
