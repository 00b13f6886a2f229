"""Replication: how far it has come, one feed in detail, and asking for a feed by hand."""

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document
from api.bodies import read_object
from api.errors import Problem
from api.ids import FEED_PATH, feed_id, feed_in
from api.models import FeedReplication, Preview, Replication, RequestBody, Requested
from api.negotiation import Form
from api.openapi import also, describe
from api.parameters import Parameter, whole
from api.services import services_of

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/replication", tags=["replication"])

HOPS: Final = Parameter("hops", whole(0, 32), "The number of hops to think of")


@router.get("", summary="Sync progress", responses=also(200, Replication, "Totals and peers", Form.MSGPACK))
async def overview(request: Request) -> Response:
    return document(request, services_of(request).replication.status())


@router.post(
    "/request",
    summary="Replicate a feed, or not, by hand",
    responses=also(200, Requested, "Kept over a restart", Form.MSGPACK),
    openapi_extra=describe(body=RequestBody),
)
async def ask(request: Request) -> Response:
    services = services_of(request)
    order = await read_object(request, services.settings)
    order.only("feed", "replicate")
    feed, replicate = feed_id(order.text("feed")), order.flag("replicate")
    if feed == services.me and not replicate:
        raise Problem("invalid-body", "Our own feed is always replicated.")
    await services.replication.request(feed, replicate)
    return document(request, {"feed": feed, "replicate": replicate})


@router.get(
    "/preview",
    summary="What another number of hops would fetch",
    responses=also(200, Preview, "As far as it can be told before", Form.MSGPACK),
    openapi_extra=describe(HOPS),
)
async def preview(request: Request) -> Response:
    services = services_of(request)
    hops = HOPS.of(request)
    if hops is None:
        raise HOPS.refusal("must be given")
    return document(request, services.replication.preview(hops, services.blobs.totals()))


@router.get(
    "/{id:path}",
    summary="One feed in detail",
    responses=also(200, FeedReplication, "Now", Form.MSGPACK),
    openapi_extra=describe(path=FEED_PATH),
)
async def one_feed(request: Request) -> Response:
    if request.path_params["id"] == "request":  # the path above, which cannot be read; no feed has this id
        raise Problem("method-not-allowed", "This path takes POST.", headers={"Allow": "POST"}, allow="POST")
    return document(request, services_of(request).replication.feed_status(feed_in(request)))
