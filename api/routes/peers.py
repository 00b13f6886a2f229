"""Peers: who is connected, connect to another, hang up."""

from typing import Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document
from api.bodies import read_object
from api.errors import Problem
from api.ids import FeedPath, feed_id
from api.models import AddressBody, Connected, PeerList
from api.openapi import also, body, listing
from api.paging import Cursor, Limit, Order, list_answer, slice_of
from api.services import services_of

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/peers", tags=["peers"])


@router.get("", summary="Connections and remembered addresses", responses=listing(PeerList, "A page of peers"))
async def list_peers(request: Request, limit: Limit = None, cursor: Cursor = None, order: Order = "asc") -> Response:
    peers = sorted(services_of(request).peers.peers(), key=lambda peer: (peer.since, peer.id), reverse=order == "desc")
    fetch = slice_of([orjson.dumps(peer) for peer in peers])
    return await list_answer(request, fetch, kind=int, name=f"peers.{order}", limit=limit, cursor=cursor)


@router.post(
    "",
    summary="Connect to a peer",
    responses=also(200, Connected, "The handshake is done"),
    openapi_extra=body(AddressBody),
)
async def connect(request: Request) -> Response:
    services = services_of(request)
    order = await read_object(request, services.settings)
    order.only("address")
    peer = await services.peers.dial(order.text("address"))
    return document(request, {"id": peer.id, "state": "connected", "address": peer.address})


@router.delete("/{id:path}", status_code=204, summary="Hang up")
async def disconnect(request: Request, id: FeedPath) -> Response:
    peer = feed_id(id)
    if not await services_of(request).peers.disconnect(peer):
        raise Problem("peer-not-found", f"There is no connection to {peer}.")
    return Response(status_code=204)
