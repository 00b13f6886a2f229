"""What others say of a message: votes, and every message that points to it."""

import sqlite3
from collections import Counter
from typing import Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.errors import Problem
from api.ids import MESSAGE_PATH, message_in
from api.models import BacklinkList, VoteList
from api.openapi import describe, listing
from api.paging import PAGE, Chunk, Mark, is_descending, list_answer, slice_of
from api.parameters import Parameter, text
from api.places import mark_of, pair_in
from api.selection import has_link
from api.services import services_of
from feeds.log import entries_at, entry_of
from feeds.views import links, votes
from feeds.views.votes import CastVote

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/messages", tags=["messages"])

REL: Final = Parameter("rel", text(200), "Path inside the content, as a whole (`vote.link`) or its first name (`vote`)")


@router.get(
    "/{id:path}/votes",
    summary="Who thinks what of a message",
    responses=listing(VoteList, "The last vote of each author, with totals"),
    openapi_extra=describe(*PAGE, path=MESSAGE_PATH),
)
async def message_votes(request: Request) -> Response:
    message = message_in(request)

    def job(connection: sqlite3.Connection) -> tuple[bool, list[CastVote]]:
        found = votes.votes_of(connection, message)
        return bool(found) or entry_of(connection, message) is not None, found

    known, found = await services_of(request).database.read(job)
    if not known:
        raise Problem("message-not-found", f"This node has neither {message} nor a vote about it.")
    totals = {
        "up": sum(vote.value > 0 for vote in found),
        "down": sum(vote.value < 0 for vote in found),
        "expressions": dict(Counter(vote.expression for vote in found).most_common()),
    }
    if is_descending(request):
        found.reverse()
    items = [orjson.dumps(_shown(vote)) for vote in found]
    return await list_answer(request, slice_of(items), name="votes", members={"id": message, "totals": totals})


def _shown(vote: CastVote) -> dict[str, object]:
    return {
        "key": vote.id,
        "author": vote.author,
        "value": vote.value,
        "expression": vote.expression,
        "claimed": vote.timestamp,
        "timestamp": vote.received,
    }


@router.get(
    "/{id:path}/backlinks",
    summary="Messages that point to a message",
    responses=listing(BacklinkList, "One for each link, in order of arrival"),
    openapi_extra=describe(REL, *PAGE, path=MESSAGE_PATH),
)
async def message_backlinks(request: Request) -> Response:
    services = services_of(request)
    message, rel, descending = message_in(request), REL.of(request), is_descending(request)

    async def fetch(mark: Mark | None, limit: int) -> Chunk:
        after = pair_in(mark)

        def job(connection: sqlite3.Connection) -> Chunk:
            found = links.backlinks(connection, message, rel=rel, after=after, limit=limit + 1, descending=descending)
            more = len(found) > limit
            found = found[:limit]
            entries = {entry.position: entry for entry in entries_at(connection, [link.position for link in found])}
            items = [
                b'%b,"rel":%b}' % (entry.as_kvt()[:-1], orjson.dumps(link.rel))
                for link in found
                if (entry := entries.get(link.position)) is not None and has_link(entry.text, message, link.rel)
            ]
            return Chunk(items, mark_of((found[-1].position, found[-1].number)) if more else None)

        return await services.database.read(job)

    return await list_answer(request, fetch, name="backlinks", kind=str)
