"""Private threads. What is answered here is decrypted for this answer and stands nowhere else."""

from typing import Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.errors import Problem
from api.ids import MESSAGE_PATH, message_in
from api.letters import WORDS
from api.models import PrivateMessageList, PrivateThreadList
from api.openapi import describe, listing
from api.paging import NEWEST_FIRST, PAGE, Chunk, Mark, is_descending, list_answer, slice_of
from api.services import Services, services_of
from feeds.mailbox import PrivateThread, Wanted

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/private", tags=["private"])

MOST_FOUND: Final = 10_000
"""Messages that a search for threads looks through the finds of."""


@router.get(
    "",
    summary="Private threads, the one that grew last first",
    responses=listing(PrivateThreadList, "A page of threads"),
    openapi_extra=describe(WORDS, *NEWEST_FIRST),
)
async def list_threads(request: Request) -> Response:
    services = services_of(request)
    words = WORDS.of(request)
    threads = await services.mailbox.threads()
    if words is not None:
        found = await services.mailbox.find(Wanted(words=words), limit=MOST_FOUND, descending=True)
        positions = {one.entry.position for one in found}
        threads = [t for t in threads if any(letter.position in positions for letter in t.letters)]
    descending = is_descending(request, newest_first=True)
    if not descending:
        threads.reverse()

    async def fetch(mark: Mark | None, limit: int) -> Chunk:
        """Marks are positions of the last message: a thread that grows meanwhile moves out of the pages to come."""
        left = threads
        if mark is not None:
            at = int(mark)
            left = [t for t in threads if (t.latest.position < at if descending else t.latest.position > at)]
        page = left[:limit]
        items = [await _summary(services, thread) for thread in page]
        return Chunk(items, page[-1].latest.position if len(left) > limit else None)

    return await list_answer(request, fetch, name="private", newest_first=True)


async def _summary(services: Services, thread: PrivateThread) -> bytes:
    (last,) = await services.mailbox.read([thread.latest]) or (None,)
    head = orjson.dumps(
        {
            "id": thread.root,
            "messages": len(thread.letters),
            "recps": thread.recipients,
            "tips": thread.tips,
        }
    )
    return b'%b,"last":%b}' % (head[:-1], b"null" if last is None else last.as_kvt())


@router.get(
    "/{id:path}",
    summary="A private thread: each message after those it answers",
    responses=listing(PrivateMessageList, "A page of messages"),
    openapi_extra=describe(*PAGE, path=MESSAGE_PATH),
)
async def one_thread(request: Request) -> Response:
    services = services_of(request)
    root = message_in(request)
    thread = await services.mailbox.thread(root)
    if thread is None:
        raise Problem("message-not-found", f"This node can read no private message in the thread {root}.")
    letters = list(thread.letters)
    if is_descending(request):
        letters.reverse()
    items = [one.as_kvt() for one in await services.mailbox.read(letters)]
    members = {"recps": thread.recipients, "tips": thread.tips}
    return await list_answer(request, slice_of(items), name="private-thread", members=members)
