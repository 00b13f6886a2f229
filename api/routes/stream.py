"""Live events over one long answer; `api.events` explains how."""

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.events import EventStream, StreamFilter
from api.ids import feed_id
from api.letters import PRIVATE
from api.openapi import describe
from api.parameters import Parameter, listed, text, whole
from api.scopes import GRANT
from api.services import services_of

__all__ = ["router"]

router: Final = APIRouter(tags=["stream"])

_LISTS: Final = "Separated by commas, or the parameter repeated."
TYPES: Final = Parameter(
    "types", text(4096), f"Kinds of events (message, peer, sync, blob) or types of messages. {_LISTS}"
)
FEEDS: Final = Parameter("feeds", text(65536), f"Only messages of these feeds. {_LISTS}")
SINCE: Final = Parameter("since", whole(0, 2**53), "Messages after this position first")
LAST_EVENT_ID: Final = Parameter(
    "Last-Event-ID", whole(0, 2**53), "Sent by a reader that connects again; goes before `since`", "header"
)


@router.get(
    "/v1/stream",
    summary="Live events",
    responses={200: {"description": "Events `message`, `peer`, `sync`, `blob`", "content": {"text/event-stream": {}}}},
    openapi_extra=describe(TYPES, FEEDS, PRIVATE, SINCE, LAST_EVENT_ID),
)
async def stream(request: Request) -> Response:
    wanted = StreamFilter.parse(
        listed(TYPES, request), map(feed_id, listed(FEEDS, request)), private=bool(PRIVATE.of(request))
    )
    since = LAST_EVENT_ID.of(request)
    if since is None:
        since = SINCE.of(request)
    return EventStream(request.app, services_of(request), wanted, since, request.scope[GRANT])
