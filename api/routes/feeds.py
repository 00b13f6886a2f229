"""Feeds: those this node knows, and a feed's messages by sequence."""

from typing import Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document
from api.errors import Problem
from api.ids import FEED_PATH, feed_in
from api.models import Feed, FeedList, ForkProof, MessageList
from api.negotiation import Form
from api.openapi import also, describe, listing
from api.paging import PAGE, Chunk, Mark, is_descending, list_answer
from api.parameters import Parameter, whole
from api.services import Services, feed_state, services_of
from feeds import fork_proof, hiding
from feeds.log import FeedInfo

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/feeds", tags=["feeds"])


AFTER: Final = Parameter("after", whole(0, 2**53), "Only messages after this sequence")


@router.get(
    "",
    summary="Feeds known",
    responses=listing(FeedList, "In the order they were first seen"),
    openapi_extra=describe(*PAGE),
)
async def list_feeds(request: Request) -> Response:
    services = services_of(request)
    deleted = set(services.database.peek(hiding.deleted_feeds))
    feeds = [feed for feed in services.log.feeds() if feed.id not in deleted]
    if services.log.feed(services.me) is None:
        feeds.append(_empty(services.me))
    if is_descending(request):
        feeds.reverse()
    places = {feed.id: place for place, feed in enumerate(feeds)}

    async def fetch(mark: Mark | None, limit: int) -> Chunk:
        start = 0 if mark is None else places.get(str(mark), len(feeds)) + 1
        chosen = feeds[start : start + limit]
        more = start + limit < len(feeds)
        return Chunk([orjson.dumps(_shown(services, feed)) for feed in chosen], chosen[-1].id if more else None)

    return await list_answer(request, fetch, name="feeds", kind=str)


@router.get(
    "/{id:path}/messages",
    summary="A feed's messages by sequence",
    responses=listing(MessageList, "A page of messages"),
    openapi_extra=describe(AFTER, *PAGE, path=FEED_PATH),
)
async def feed_messages(request: Request) -> Response:
    services = services_of(request)
    feed = _known(services, feed_in(request)).id
    fetch = _FeedFetch(services, feed, AFTER.of(request) or 0, descending=is_descending(request))
    return await list_answer(request, fetch, name="feed")


@router.get(
    "/{id:path}/proof",
    summary="Proof that a feed is forked",
    responses=also(200, ForkProof, "Two messages that contradict each other", Form.MSGPACK),
    openapi_extra=describe(path=FEED_PATH),
)
async def proof(request: Request) -> Response:
    feed = feed_in(request)
    fork = await services_of(request).log.fork(feed)
    if fork is None:
        raise Problem("not-found", f"No fork of {feed} is known here.")
    return document(request, fork_proof.export(feed, fork.sequence, fork.first, fork.second))


@router.get(
    "/{id:path}",
    summary="One feed",
    responses=also(200, Feed, "How far we hold it", Form.MSGPACK),
    openapi_extra=describe(path=FEED_PATH),
)
async def one_feed(request: Request) -> Response:
    services = services_of(request)
    return document(request, _shown(services, _known(services, feed_in(request))))


class _FeedFetch:
    """A feed's messages after a sequence, up to where the feed ends now; marks are sequences."""

    def __init__(self, services: Services, feed: str, after: int, *, descending: bool) -> None:
        self._log = services.log
        self._feed = feed
        self._after = after
        self._end = services.log.sequence(feed)
        self._descending = descending

    async def __call__(self, mark: Mark | None, limit: int) -> Chunk:
        if self._descending:
            return await self._backwards(self._end if mark is None else min(int(mark) - 1, self._end), limit)
        return await self._forwards(self._after if mark is None else max(int(mark), self._after), limit)

    async def _forwards(self, after: int, limit: int) -> Chunk:
        """A feed's messages come in order, so those after a sequence are those after its position."""
        if after >= self._end:
            return Chunk([], None)
        start = await self._log.at(self._feed, after) if after else None
        position = 0 if start is None else start.position
        entries = await self._log.entries_after(position, min(limit, self._end - after), author=self._feed)
        more = bool(entries) and entries[-1].sequence < self._end
        return Chunk([entry.as_kvt() for entry in entries], entries[-1].sequence if more else None)

    async def _backwards(self, last: int, limit: int) -> Chunk:
        if last <= self._after:
            return Chunk([], None)
        start = await self._log.at(self._feed, last)
        if start is None:
            return Chunk([], None)
        wanted = min(limit, last - self._after)
        entries = await self._log.entries_after(start.position + 1, wanted, author=self._feed, descending=True)
        more = bool(entries) and entries[-1].sequence > self._after + 1
        return Chunk([entry.as_kvt() for entry in entries], entries[-1].sequence if more else None)


def _known(services: Services, feed: str) -> FeedInfo:
    if services.database.peek(lambda connection: hiding.is_feed_deleted(connection, feed)):
        raise Problem("feed-deleted", f"{feed} was deleted on this node; PUT on this address shows it again.")
    info = services.log.feed(feed)
    if info is None:
        if feed != services.me:
            raise Problem("feed-not-found", f"This node has no messages of {feed}.")
        info = _empty(feed)
    return info


def _empty(feed: str) -> FeedInfo:
    """Our own feed before its first message."""
    return FeedInfo(feed, 0, 0, 0, "open")


def _shown(services: Services, feed: FeedInfo) -> dict[str, object]:
    return {**feed._asdict(), "state": feed_state(services, feed.id)}
