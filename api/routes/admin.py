"""Care of the store: views made anew, and the database file made small again."""

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document
from api.bodies import read_object, wrong
from api.models import ReindexBody, Reindexing, Vacuumed
from api.negotiation import Form
from api.openapi import also, describe
from api.services import services_of
from feeds.message import JsonValue

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/admin", tags=["admin"])


@router.post(
    "/reindex",
    summary="Make views anew from the log",
    responses=also(202, Reindexing, "Begun; /v1/status tells how far it is", Form.MSGPACK),
    openapi_extra=describe(body=ReindexBody),
)
async def reindex(request: Request) -> Response:
    services = services_of(request)
    known = services.indexer.names
    wanted: JsonValue = None
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        order = await read_object(request, services.settings)
        order.only("views")
        wanted = order.get("views")
    if wanted is None:
        wanted = [*known]
    names = [name for name in wanted if isinstance(name, str)] if isinstance(wanted, list) else []
    if not names or wanted != names:
        raise wrong("views", "must be a list of names of views, at least one; leave it out for all")
    for name in names:
        if name not in known:
            raise wrong("views", f"must be of {', '.join(known)}")
    begun = await services.indexer.rebuild(names)
    return document(request, {"views": begun, "messages": services.log.position}, status=202)


@router.post(
    "/vacuum",
    summary="Write the database file anew without what was deleted",
    responses=also(200, Vacuumed, "Done; nothing could be written meanwhile", Form.MSGPACK),
)
async def vacuum(request: Request) -> Response:
    return document(request, {"freed_bytes": await services_of(request).database.vacuum()})
