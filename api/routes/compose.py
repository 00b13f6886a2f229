"""Publishing what people do every day: posts and replies, votes, names and pictures, follows and blocks.

Each takes what its user means and fills in the rest as deployed clients do. An answer to a private message is private
to those who could read that message, and an answer to one that we cannot read is refused, so that nothing becomes
public by accident.
"""

import asyncio
from collections.abc import Iterable, Sequence
from sqlite3 import Connection
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api import publishing
from api.bodies import Body, wrong
from api.errors import Problem
from api.ids import any_id, blob_id, feed_id, message_id
from api.media_types import HEAD_SIZE, UNKNOWN, media_type
from api.models import AboutBody, ContactBody, PostBody, VoteBody
from api.publishing import PUBLISHED, Letter, takes
from api.services import MESSAGE_UNITS, Services, hidden_feeds
from feeds import composing, replying
from feeds.canonical_json import utf16_units
from feeds.composing import BlobFacts, Spot
from feeds.conversation import normalise_channel
from feeds.errors import NotFound, TooLarge
from feeds.message import JsonObject, JsonValue
from feeds.private.stored import boxed_content
from feeds.replying import Answered

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1", tags=["publishing"])

LONGEST_EXPRESSION: Final = 64
LONGEST_NAME: Final = 256
_RELATIONS: Final = ("following", "blocking")
_ABOUT_FIELDS: Final = ("name", "description", "image")


@router.post(
    "/posts",
    status_code=201,
    summary="Publish a post or a reply",
    responses=PUBLISHED,
    openapi_extra=takes(PostBody),
)
async def post(request: Request) -> Response:
    return await publishing.publish(request, _post)


@router.post(
    "/votes",
    status_code=201,
    summary="Publish a vote about a message",
    responses=PUBLISHED,
    openapi_extra=takes(VoteBody),
)
async def vote(request: Request) -> Response:
    return await publishing.publish(request, _vote)


@router.post(
    "/abouts",
    status_code=201,
    summary="Publish a name, description or image",
    responses=PUBLISHED,
    openapi_extra=takes(AboutBody),
)
async def about(request: Request) -> Response:
    return await publishing.publish(request, _about)


@router.post(
    "/contacts",
    status_code=201,
    summary="Publish whether we follow or block a feed",
    responses=PUBLISHED,
    openapi_extra=takes(ContactBody),
)
async def contact(request: Request) -> Response:
    return await publishing.publish(request, _contact)


# --- posts ------------------------------------------------------------------------------------------------------------


async def _post(services: Services, order: Body) -> Letter:
    order.only("text", "reply_to", "channel", "recps", "content_warning", "mentions")
    text = order.text("text")
    if not text.strip():
        raise wrong("text", "must not be empty")
    if (units := utf16_units(text)) > MESSAGE_UNITS:  # before it is parsed
        raise TooLarge(units, MESSAGE_UNITS, "UTF-16 units")
    channel = order.optional_text("channel")
    if channel is not None and normalise_channel(channel) is None:
        raise wrong("channel", "has no character that a channel's name may have")
    recps, mentions = _recps(order), _mentions(order.get("mentions"))
    reply_to = order.optional_text("reply_to")
    answered = None if reply_to is None else await _answered(services, "reply_to", message_id(reply_to))
    if answered is not None:
        recps = recps if recps is not None else answered.recipients
        channel = channel if channel is not None else answered.channel
    found = await asyncio.to_thread(composing.find_mentions, text)
    named = [str(mention["link"]) for mention in [*found, *mentions]]
    content = composing.post(
        text,
        reply=None if answered is None else answered.spot,
        channel=channel,
        content_warning=order.optional_text("content_warning"),
        found=found,
        mentions=mentions,
        blobs=await _held(services, named),
    )
    return Letter(content, None if recps is None else list(recps))


def _recps(order: Body) -> Sequence[JsonValue] | None:
    """Whom a message is for: canonical ids, or objects with one. How many may be, the box says."""
    recps = order.get("recps")
    if recps is None:
        return None
    if not isinstance(recps, list):
        raise wrong("recps", "must be a list of feed ids")
    found: list[JsonValue] = []
    for one in recps:
        link = one.get("link") if isinstance(one, dict) else one
        if not isinstance(link, str):
            raise wrong("recps", "must be a list of feed ids, or of objects with a feed id as `link`")
        feed = feed_id(link)
        found.append({**one, "link": feed} if isinstance(one, dict) else feed)
    return found


def _mentions(given: JsonValue) -> list[JsonObject]:
    """What is mentioned besides the ids in the text: ids, hashtags, or objects {link, name?, …}."""
    if given is None:
        return []
    if not isinstance(given, list):
        raise wrong("mentions", "must be a list")
    mentions: list[JsonObject] = []
    for one in given:
        mention: JsonObject = one if isinstance(one, dict) else {"link": one}
        link = mention.get("link")
        if not isinstance(link, str):
            raise wrong("mentions", "must be a list of ids, hashtags, or objects with one as `link`")
        mentions.append({**mention, "link": _hashtag(link) if link.startswith("#") else any_id(link)})
    return mentions


def _hashtag(tag: str) -> str:
    name = normalise_channel(tag)
    if name is None:
        raise wrong("mentions", "has a hashtag without a name")
    return f"#{name}"


async def _answered(services: Services, member: str, message: str) -> Answered:
    """Where an answer to a message stands and whom it is for."""
    entry = await services.log.get(message)
    if entry is None:
        raise Problem("message-not-found", f"This node does not have {message}, so it cannot say what it belongs to.")
    if boxed_content(entry.text) is None:
        hidden = hidden_feeds(services, muted=False)

        def read(connection: Connection) -> Answered:
            return replying.answered_in_public(connection, entry, without=hidden)

        return await services.database.read(read)
    letter = services.mailbox.open(entry)
    if letter is None:
        raise wrong(member, "is a private message for others, and answering it in public would tell of it")
    return replying.answered_in_private(letter, await replying.private_thread(services.mailbox, letter))


async def _held(services: Services, links: Iterable[str]) -> dict[str, BlobFacts]:
    """What is known of those blobs that are here."""
    facts = {}
    for link in dict.fromkeys(links):
        if link.startswith("&"):
            try:
                async with services.blobs.reading(link) as blob:
                    kind = media_type(await blob.read(0, HEAD_SIZE))
                    facts[link] = BlobFacts(blob.info.size, None if kind == UNKNOWN else kind)
            except NotFound:
                continue
    return facts


# --- votes ------------------------------------------------------------------------------------------------------------


async def _vote(services: Services, order: Body) -> Letter:
    order.only("message", "value", "expression")
    message = message_id(order.text("message"))
    value = order.get("value") if order.has("value") else 1
    if isinstance(value, bool) or value not in (1, 0, -1):
        raise wrong("value", "must be 1, 0 or -1")
    expression = order.optional_text("expression")
    if expression is not None and utf16_units(expression) > LONGEST_EXPRESSION:
        raise wrong("expression", f"must have at most {LONGEST_EXPRESSION} characters")
    answered = await _answered(services, "message", message)
    spot = Spot(answered.spot.root, [message])
    assert isinstance(value, int | float)
    content = composing.vote(message, int(value), expression, spot=spot, channel=answered.channel)
    return Letter(content, None if answered.recipients is None else list(answered.recipients))


# --- abouts -----------------------------------------------------------------------------------------------------------


async def _about(services: Services, order: Body) -> Letter:
    order.only("about", *_ABOUT_FIELDS)
    given = order.optional_text("about")
    subject = services.me if given is None else any_id(given)
    fields = {name: order.optional_text(name) for name in _ABOUT_FIELDS if order.has(name)}
    if not fields:
        raise wrong("name", "or description or image must be there, or nothing would be said")
    for field, value in fields.items():
        if value is not None and not value.strip():
            raise wrong(field, "must not be empty; null takes back what was said before")
    name = fields.get("name")
    if name is not None and utf16_units(name) > LONGEST_NAME:
        raise wrong("name", f"must have at most {LONGEST_NAME} characters")
    image = fields.get("image")
    if image is None:
        return Letter(composing.about(subject, fields))
    fields["image"] = link = blob_id(image)
    return Letter(composing.about(subject, fields, (await _held(services, [link])).get(link)))


# --- contacts ---------------------------------------------------------------------------------------------------------


async def _contact(services: Services, order: Body) -> Letter:
    order.only("contact", *_RELATIONS)
    feed = feed_id(order.text("contact"))
    if feed == services.me:
        raise Problem("invalid-message", "A feed cannot follow or block itself.", field="content")
    asked = {name: order.flag(name) for name in _RELATIONS if order.has(name)}
    if not asked:
        raise wrong("following", "or blocking must be there")
    if all(asked.get(name) for name in _RELATIONS):
        raise wrong("blocking", "and following cannot both be true")
    graph, me = services.graph, services.me
    following = asked.get("following", graph.is_following(me, feed) and not asked.get("blocking", False))
    blocking = asked.get("blocking", graph.is_blocking(me, feed) and not following)
    return Letter(composing.contact(feed, following=following, blocking=blocking))
