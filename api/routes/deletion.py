"""Deleting here: what nobody is to see on this node any more. What others hold, nobody can take back.

The answers say so in words, since people who press a button of this name may expect more than anybody can do.
"""

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document
from api.errors import Problem
from api.ids import FEED_PATH, MESSAGE_PATH, feed_in, message_in
from api.models import Deleted, Restored
from api.negotiation import Form
from api.openapi import also, describe
from api.parameters import Parameter, flag
from api.services import services_of
from feeds import hiding

__all__ = ["ERASED_FEED_NOTE", "ERASED_MESSAGE_NOTE", "FEED_NOTE", "MESSAGE_NOTE", "router"]

router: Final = APIRouter(prefix="/v1", tags=["deletion"])

ERASE: Final = Parameter("erase", flag(), "1 takes the bytes off this disk as well; that cannot be undone")

MESSAGE_NOTE: Final = (
    "This node no longer shows the message. Everybody else who has it keeps it, and nobody can take it back from them. "
    "The signed bytes stay in this node's log too, and go to peers with the rest of the feed, because the messages "
    "after it cannot be verified without them."
)
ERASED_MESSAGE_NOTE: Final = (
    "The bytes of the message are gone from this node, which can no longer give the messages after it to peers that "
    "lack it. Everybody else who has it keeps it, and nobody can take it back from them."
)
FEED_NOTE: Final = (
    "This node no longer shows the feed and no longer replicates it. Everybody else who has it keeps it. "
    "What is already here stays on the disk unseen; PUT on the same address shows it again."
)
ERASED_FEED_NOTE: Final = (
    "The bytes of the feed's messages are gone from this node, and it no longer replicates the feed. Everybody else "
    "who has it keeps it. After PUT on the same address it is fetched again from its first message on."
)


@router.delete(
    "/messages/{id:path}",
    summary="Hide a message on this node, or erase it here",
    responses=also(200, Deleted, "What that means, in words", Form.MSGPACK),
    openapi_extra=describe(ERASE, path=MESSAGE_PATH),
)
async def delete_message(request: Request) -> Response:
    services, message = services_of(request), message_in(request)
    now = int(services.now() * 1000)
    erase = bool(ERASE.of(request))
    found = services.database.peek(lambda connection: hiding.place_in_feed(connection, message))
    if found is None:
        raise Problem("message-not-found", f"This node does not have {message}.")
    position, author = found
    if erase and author == services.me:
        raise Problem("own-feed", "A message of our own feed can be hidden but not erased: peers fetch it from here.")
    await services.database.write(lambda connection: hiding.hide_message(connection, message, now), durable=True)
    erased = (await services.erasing.erase([position], now=now)).messages if erase else 0
    await services.mailbox.forget()
    note = ERASED_MESSAGE_NOTE if erase else MESSAGE_NOTE
    return document(request, {"id": message, "deleted": "here", "erased": erased, "note": note})


@router.delete(
    "/feeds/{id:path}",
    summary="Hide a feed on this node, or erase it here, and replicate it no longer",
    responses=also(200, Deleted, "What that means, in words", Form.MSGPACK),
    openapi_extra=describe(ERASE, path=FEED_PATH),
)
async def delete_feed(request: Request) -> Response:
    services, feed = services_of(request), feed_in(request)
    erase = bool(ERASE.of(request))
    if feed == services.me:
        raise Problem("own-feed", "Our own feed cannot be deleted: a node is nothing without it.")
    now = int(services.now() * 1000)
    if not await services.database.write(lambda connection: hiding.hide_feed(connection, feed, now), durable=True):
        raise Problem("feed-not-found", f"This node has no messages of {feed}.")
    await services.replication.request(feed, False)
    erased = (await services.erasing.erase_feed(feed, now=now)).messages if erase else 0
    await services.mailbox.forget()
    note = ERASED_FEED_NOTE if erase else FEED_NOTE
    return document(request, {"id": feed, "deleted": "here", "erased": erased, "note": note})


@router.put(
    "/feeds/{id:path}",
    summary="Show a deleted feed again; where some of it was erased, fetch it again",
    responses=also(200, Restored, "It is replicated again if the social graph says so", Form.MSGPACK),
    openapi_extra=describe(path=FEED_PATH),
)
async def restore_feed(request: Request) -> Response:
    services, feed = services_of(request), feed_in(request)
    if services.log.feed(feed) is None:
        raise Problem("feed-not-found", f"This node has no messages of {feed}.")
    shown = await services.database.write(lambda connection: hiding.show_feed(connection, feed), durable=True)
    anew = services.log.hole(feed) is not None and services.log.feed_state(feed) == "open"
    if anew:
        await services.erasing.begin_anew(feed, now=int(services.now() * 1000))
    if shown:
        await services.replication.unrequest(feed)
    if shown or anew:
        await services.mailbox.forget()
    return document(request, {"id": feed, "anew": anew})
