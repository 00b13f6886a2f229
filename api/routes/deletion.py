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
from api.services import services_of
from feeds import hiding

__all__ = ["FEED_NOTE", "MESSAGE_NOTE", "router"]

router: Final = APIRouter(prefix="/v1", tags=["deletion"])

MESSAGE_NOTE: Final = (
    "This node no longer shows the message. Everybody else who has it keeps it, and nobody can take it back from them. "
    "The signed bytes stay in this node's log too, and go to peers with the rest of the feed, because the messages "
    "after it cannot be verified without them."
)
FEED_NOTE: Final = (
    "This node no longer shows the feed and no longer replicates it. Everybody else who has it keeps it. "
    "What is already here stays on the disk unseen; PUT on the same address shows it again."
)


@router.delete(
    "/messages/{id:path}",
    summary="Hide a message on this node",
    responses=also(200, Deleted, "What that means, in words", Form.MSGPACK),
    openapi_extra=describe(path=MESSAGE_PATH),
)
async def delete_message(request: Request) -> Response:
    services, message = services_of(request), message_in(request)
    now = int(services.now() * 1000)
    if not await services.database.write(
        lambda connection: hiding.hide_message(connection, message, now), durable=True
    ):
        raise Problem("message-not-found", f"This node does not have {message}.")
    await services.mailbox.forget()
    return document(request, {"id": message, "deleted": "here", "note": MESSAGE_NOTE})


@router.delete(
    "/feeds/{id:path}",
    summary="Hide a feed on this node and replicate it no longer",
    responses=also(200, Deleted, "What that means, in words", Form.MSGPACK),
    openapi_extra=describe(path=FEED_PATH),
)
async def delete_feed(request: Request) -> Response:
    services, feed = services_of(request), feed_in(request)
    if feed == services.me:
        raise Problem("own-feed", "Our own feed cannot be deleted: a node is nothing without it.")
    now = int(services.now() * 1000)
    if not await services.database.write(lambda connection: hiding.hide_feed(connection, feed, now), durable=True):
        raise Problem("feed-not-found", f"This node has no messages of {feed}.")
    await services.replication.request(feed, False)
    await services.mailbox.forget()
    return document(request, {"id": feed, "deleted": "here", "note": FEED_NOTE})


@router.put(
    "/feeds/{id:path}",
    summary="Show a deleted feed again",
    responses=also(200, Restored, "It is replicated again if the social graph says so", Form.MSGPACK),
    openapi_extra=describe(path=FEED_PATH),
)
async def restore_feed(request: Request) -> Response:
    services, feed = services_of(request), feed_in(request)
    if services.log.feed(feed) is None:
        raise Problem("feed-not-found", f"This node has no messages of {feed}.")
    if await services.database.write(lambda connection: hiding.show_feed(connection, feed), durable=True):
        await services.replication.unrequest(feed)
        await services.mailbox.forget()
    return document(request, {"id": feed})
