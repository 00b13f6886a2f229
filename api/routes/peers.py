"""Peers: who is connected, connect to another, hang up."""

from typing import Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document
from api.bodies import read_object
from api.errors import Problem
from api.ids import FEED_PATH, feed_in
from api.models import AddressBody, Connected, KnownPeerList, PeerList
from api.negotiation import Form
from api.openapi import also, describe, listing
from api.paging import PAGE, is_descending, list_answer, slice_of
from api.services import services_of

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/peers", tags=["peers"])


@router.get(
    "",
    summary="Connections and remembered addresses",
    responses=listing(PeerList, "A page of peers"),
    openapi_extra=describe(*PAGE),
)
async def list_peers(request: Request) -> Response:
    peers = services_of(request).peers.peers()
    peers.sort(key=lambda peer: (peer.since, peer.id), reverse=is_descending(request))
    return await list_answer(request, slice_of([orjson.dumps(peer) for peer in peers]), name="peers")


@router.get(
    "/known",
    summary="Every known address, and what the scheduler makes of it",
    responses=listing(KnownPeerList, "A page of addresses, those heard of first before others"),
    openapi_extra=describe(*PAGE),
)
async def list_known(request: Request) -> Response:
    known = services_of(request).peers.known_peers()
    known.sort(key=lambda each: (each.first_heard, each.address), reverse=is_descending(request))
    return await list_answer(request, slice_of([orjson.dumps(each) for each in known]), name="known peers")


@router.post(
    "",
    summary="Connect to a peer",
    responses=also(200, Connected, "The handshake is done", Form.MSGPACK),
    openapi_extra=describe(body=AddressBody),
)
async def connect(request: Request) -> Response:
    services = services_of(request)
    order = await read_object(request, services.settings)
    order.only("address")
    peer = await services.peers.dial(order.text("address"))
    return document(request, {"id": peer.id, "state": "connected", "address": peer.address})


@router.delete("/{id:path}", status_code=204, summary="Hang up", openapi_extra=describe(path=FEED_PATH))
async def disconnect(request: Request) -> Response:
    peer = feed_in(request)
    if not await services_of(request).peers.disconnect(peer):
        raise Problem("peer-not-found", f"There is no connection to {peer}.")
    return Response(status_code=204)
