"""Live events over one long answer; `api.events` explains how."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query
from starlette.requests import Request
from starlette.responses import Response

from api.errors import Problem
from api.events import EventStream, StreamFilter
from api.ids import feed_id
from api.services import services_of

__all__ = ["router"]

router: Final = APIRouter(tags=["stream"])

_LISTS: Final = "Separated by commas, or the parameter repeated."


@router.get(
    "/v1/stream",
    summary="Live events",
    responses={
        200: {"description": "Server-sent events `message`, `peer`, `sync`", "content": {"text/event-stream": {}}}
    },
)
async def stream(
    request: Request,
    types: Annotated[
        list[str] | None, Query(description=f"Kinds of events (message, peer, sync) or types of messages. {_LISTS}")
    ] = None,
    feeds: Annotated[list[str] | None, Query(description=f"Only messages of these feeds. {_LISTS}")] = None,
    since: Annotated[int | None, Query(ge=0, le=2**53, description="Messages after this position first")] = None,
    last_event_id: Annotated[str | None, Header(description="Sent by a reader that connects again")] = None,
) -> Response:
    wanted = StreamFilter.parse(_split(types), map(feed_id, _split(feeds)))
    return EventStream(request.app, services_of(request), wanted, _resumed(last_event_id, since))


def _split(values: Iterable[str] | None) -> Iterator[str]:
    for value in values or ():
        yield from (part.strip() for part in value.split(",") if part.strip())


def _resumed(last_event_id: str | None, since: int | None) -> int | None:
    """Where to begin: what a reader has seen goes before what its URL says."""
    if last_event_id is None or not last_event_id.strip():
        return since
    if not last_event_id.isascii() or not last_event_id.isdigit() or len(last_event_id) > 16:
        raise Problem("invalid-header", "Last-Event-ID must be the id of an event of this stream.")
    return int(last_event_id)
