"""Timelines, channels and types: what was written, newest first, and what it is about.

A timeline is ordered by the earlier of the time that an author claims and the time we received the message; both are in
each message. Feeds that we block are left out.
"""

import sqlite3
from collections.abc import Callable
from typing import Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.models import ChannelList, EarlyMessageList, MessageList, TypeList
from api.muting import INCLUDE_MUTED, left_out
from api.openapi import describe, listing
from api.paging import NEWEST_FIRST, PAGE, Chunk, Mark, is_descending, list_answer, slice_of
from api.parameters import Parameter, flag
from api.places import mark_of, pair_in
from api.selection import has_link
from api.services import Services, services_of
from feeds import early_posts
from feeds.conversation import normalise_channel
from feeds.early_posts import EarlyPost
from feeds.formats.registry import format_of_feed
from feeds.log import entries_at
from feeds.views import channels, links, message_types, timeline
from feeds.views.placing import Spot
from feeds.views.profiles import said_of
from feeds.views.timeline import Page

__all__ = ["router"]

router: Final = APIRouter(tags=["timelines"])

REPLIES: Final = Parameter("replies", flag(), "0 leaves replies out; they are in if not given")
FOLLOWED: Final = Parameter("followed", flag(), "1: only of feeds that we follow")
MENTIONS_LIMIT: Final = 50_000
"""Newest mentions that are put in order of time."""
_CHANNEL_PATH: Final = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "Channel or hashtag, in any spelling",
    "schema": {"type": "string", "maxLength": 200},
}

Reader = Callable[[sqlite3.Connection, Spot | None, int, bool], Page]
"""(connection, start, limit, descending) -> places."""


@router.get(
    "/v1/timelines/home",
    summary="What we and the feeds that we follow wrote",
    responses=listing(MessageList, "A page of posts"),
    openapi_extra=describe(REPLIES, INCLUDE_MUTED, *NEWEST_FIRST),
)
async def home(request: Request) -> Response:
    services = services_of(request)
    hidden = set(left_out(request))
    return await _posts(request, only=[services.me, *(set(services.graph.follows(services.me)) - hidden)])


@router.get(
    "/v1/timelines/public",
    summary="What everybody wrote",
    responses=listing(MessageList, "A page of posts"),
    openapi_extra=describe(REPLIES, INCLUDE_MUTED, *NEWEST_FIRST),
)
async def public(request: Request) -> Response:
    return await _posts(request, only=None)


async def _posts(request: Request, *, only: list[str] | None) -> Response:
    replies = REPLIES.of(request) is not False
    hidden = left_out(request) if only is None else ()

    def read(connection: sqlite3.Connection, start: Spot | None, limit: int, descending: bool) -> Page:
        return timeline.page(
            connection, start, limit, only=only, without=hidden, replies=replies, descending=descending
        )

    return await _answer(request, read, name="public" if only is None else "home")


@router.get(
    "/v1/timelines/early",
    summary="The newest posts of feeds whose history is still on its way",
    responses=listing(EarlyMessageList, "A page of posts"),
    openapi_extra=describe(FOLLOWED, REPLIES, INCLUDE_MUTED, *NEWEST_FIRST),
)
async def early(request: Request) -> Response:
    services = services_of(request)
    followed = services.graph.follows(services.me) if FOLLOWED.of(request) else None
    hidden, replies = left_out(request), REPLIES.of(request) is not False
    descending = is_descending(request, newest_first=True)

    async def fetch(mark: Mark | None, limit: int) -> Chunk:
        def job(connection: sqlite3.Connection) -> Chunk:
            posts, following = early_posts.page(
                connection,
                pair_in(mark),
                limit,
                only=followed,
                without=hidden,
                replies=replies,
                descending=descending,
            )
            words = _words(connection, {post.author for post in posts}, services.me)
            return Chunk([_early(post, words) for post in posts], mark_of(following))

        return await services.database.read(job)

    return await list_answer(request, fetch, name="early", kind=str, newest_first=True)


def _words(connection: sqlite3.Connection, authors: set[str], me: str) -> dict[str, dict[str, str]]:
    """The name and image that early messages give to authors who have none by any other."""
    found = early_posts.own_words(connection, authors, format_of_feed(me))
    for field in ("name", "image"):
        for feed in said_of(connection, found, field):
            found[feed].pop(field, None)
    return found


def _early(post: EarlyPost, words: dict[str, dict[str, str]]) -> bytes:
    meta = orjson.dumps({"early": True, **words.get(post.author, {})})
    return b'{"key":"%b","value":%b,"timestamp":%d,"meta":%b}' % (post.id.encode(), post.text, post.received, meta)


@router.get(
    "/v1/timelines/mentions",
    summary="What mentions us",
    responses=listing(MessageList, "A page of messages"),
    openapi_extra=describe(INCLUDE_MUTED, *NEWEST_FIRST),
)
async def mentions(request: Request) -> Response:
    services = services_of(request)
    hidden = [services.me, *left_out(request)]

    def read(connection: sqlite3.Connection, start: Spot | None, limit: int, descending: bool) -> Page:
        found = links.backlinks(connection, services.me, rel="mentions", limit=MENTIONS_LIMIT, descending=True)
        positions = list({link.position for link in found})
        return timeline.sort_by_time(connection, positions, start, limit, without=hidden, descending=descending)

    return await _answer(request, read, name="mentions", mentioning=services.me)


@router.get(
    "/v1/timelines/channels/{name:path}",
    summary="What was written in a channel or with a hashtag",
    responses=listing(MessageList, "A page of messages"),
    openapi_extra=describe(INCLUDE_MUTED, *NEWEST_FIRST, path=_CHANNEL_PATH),
)
async def channel(request: Request) -> Response:
    name = normalise_channel(request.path_params["name"])
    hidden = left_out(request)

    def read(connection: sqlite3.Connection, start: Spot | None, limit: int, descending: bool) -> Page:
        if name is None:
            return Page([], None)
        found = channels.spots_in(connection, name, start, limit + 1, without=hidden, descending=descending)
        return Page(found[:limit], found[limit - 1] if len(found) > limit else None)

    return await _answer(request, read, name="channel")


async def _answer(request: Request, read: Reader, *, name: str, mentioning: str | None = None) -> Response:
    """mentioning -- what a message must truly mention: the index of links goes by how an id begins."""
    services = services_of(request)
    descending = is_descending(request, newest_first=True)

    async def fetch(mark: Mark | None, limit: int) -> Chunk:
        place = pair_in(mark)

        def job(connection: sqlite3.Connection) -> Chunk:
            page = read(connection, None if place is None else Spot(*place), limit, descending)
            entries = entries_at(connection, [spot.position for spot in page.spots])
            if mentioning is not None:
                entries = [entry for entry in entries if has_link(entry.text, mentioning, "mentions")]
            return Chunk([entry.as_kvt() for entry in entries], mark_of(page.following))

        return await services.database.read(job)

    return await list_answer(request, fetch, name=name, kind=str, newest_first=True)


@router.get(
    "/v1/channels",
    summary="Channels and hashtags known",
    responses=listing(ChannelList, "Those with most messages first"),
    openapi_extra=describe(*PAGE),
)
async def list_channels(request: Request) -> Response:
    services = services_of(request)

    def job(connection: sqlite3.Connection) -> list[bytes]:
        ours = channels.subscriptions(connection, services.me)
        return [
            orjson.dumps({**channel._asdict(), "subscribed": channel.name in ours})
            for channel in channels.list_channels(connection)
        ]

    return await _in_order(request, await services.database.read(job), name="channels")


@router.get(
    "/v1/types",
    summary="Types of messages held",
    responses=listing(TypeList, "The most frequent first"),
    openapi_extra=describe(*PAGE),
)
async def list_types(request: Request) -> Response:
    counted = await _types(services_of(request))
    return await _in_order(request, counted, name="types")


async def _types(services: Services) -> list[bytes]:
    counted = await services.database.read(message_types.counts)
    return [orjson.dumps({"type": name, "messages": messages}) for name, messages in counted.items()]


async def _in_order(request: Request, items: list[bytes], *, name: str) -> Response:
    """`desc` turns the list round."""
    return await list_answer(request, slice_of(items[::-1] if is_descending(request) else items), name=name)
