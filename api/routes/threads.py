"""Threads: a list of them by latest reply, and a whole one in causal order."""

import sqlite3
from typing import Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import written
from api.errors import Problem
from api.ids import MESSAGE_PATH, message_in
from api.models import Thread, ThreadList
from api.muting import INCLUDE_MUTED, left_out
from api.negotiation import Form
from api.openapi import also, describe, listing
from api.paging import CURSOR, LIMIT, Chunk, Mark, list_answer
from api.places import mark_of, pair_in
from api.services import services_of
from feeds import thread_reading
from feeds.thread_reading import ThreadPage, ThreadReply, ThreadSummary
from feeds.views.placing import Spot

__all__ = ["router", "thread_document"]

router: Final = APIRouter(prefix="/v1/threads", tags=["threads"])


@router.get(
    "",
    summary="Threads by latest reply",
    responses=listing(ThreadList, "The one replied to last comes first"),
    openapi_extra=describe(INCLUDE_MUTED, LIMIT, CURSOR),
)
async def list_threads(request: Request) -> Response:
    services = services_of(request)
    hidden = left_out(request)

    async def fetch(mark: Mark | None, limit: int) -> Chunk:
        end, _, place = str(mark or "").partition("/")
        start = pair_in(place) if mark is not None else None
        end_pair = pair_in(end) if mark is not None else (services.log.position, 0)
        assert end_pair is not None

        def job(connection: sqlite3.Connection) -> ThreadPage:
            return thread_reading.list_threads(
                connection,
                None if start is None else Spot(*start),
                limit,
                last_position=end_pair[0],
                without=hidden,
            )

        page = await services.database.read(job)
        following = mark_of(page.following)
        return Chunk(
            [_summary(thread) for thread in page.threads],
            None if following is None else f"{mark_of(end_pair)}/{following}",
        )

    return await list_answer(request, fetch, name="threads", kind=str, newest_first=True)


def _summary(thread: ThreadSummary) -> bytes:
    return b'{"id":%b,"root":%b,"replies":%d,"authors":%b,"latest":%b,"time":%d}' % (
        orjson.dumps(thread.id),
        b"null" if thread.first is None else thread.first.as_kvt(),
        thread.replies,
        orjson.dumps(thread.authors),
        b"null" if thread.latest is None else thread.latest.as_kvt(),
        thread.time,
    )


@router.get(
    "/{id:path}",
    summary="A whole thread in causal order",
    responses=also(200, Thread, "The thread", Form.MSGPACK),
    openapi_extra=describe(path=MESSAGE_PATH),
)
async def one_thread(request: Request) -> Response:
    services = services_of(request)
    root = message_in(request)
    thread = await services.database.read(lambda connection: thread_reading.read_thread(connection, root))
    if thread is None:
        raise Problem("message-not-found", f"This node has neither {root} nor a reply to it.")
    return written(request, thread_document(thread, set(services.graph.blocks(services.me))))


def thread_document(thread: thread_reading.Thread, hidden: set[str]) -> bytes:
    """A thread as JSON; messages of hidden feeds are in their places and marked."""
    authors = dict.fromkeys(turn.entry.author for turn in thread.turns)
    frame = {
        "id": thread.id,
        "parent": thread.parent,
        "replies": sum(turn.entry.id != thread.id for turn in thread.turns),
        "authors": list(authors),
        "missing": thread.missing,
        "truncated": thread.truncated,
    }
    items = b",".join(_item(turn, blocked=turn.entry.author in hidden) for turn in thread.turns)
    return b'%b,"items":[%b]}' % (orjson.dumps(frame)[:-1], items)


def _item(turn: ThreadReply, *, blocked: bool) -> bytes:
    marks = orjson.dumps({"missing": turn.missing, "replies": turn.replies, "blocked": blocked})
    return b"%b,%b" % (turn.entry.as_kvt()[:-1], marks[1:])
