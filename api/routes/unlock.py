"""Our own feed's lock: why it is on, what is missing, and taking it off by hand."""

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document
from api.bodies import read_object, wrong
from api.models import OwnFeedState, UnlockBody
from api.negotiation import Form
from api.openapi import also, describe
from api.services import Services, services_of

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/admin/unlock", tags=["admin"])


@router.get(
    "",
    summary="Why our feed is locked, and what became of earlier locks",
    responses=also(200, OwnFeedState, "Now", Form.MSGPACK),
)
async def show(request: Request) -> Response:
    return document(request, await _state(services_of(request)))


@router.post(
    "",
    summary="Open our locked feed by hand",
    responses=also(200, OwnFeedState, "It is open", Form.MSGPACK),
    openapi_extra=describe(body=UnlockBody),
)
async def unlock(request: Request) -> Response:
    services = services_of(request)
    order = await read_object(request, services.settings)
    order.only("sequence")
    sequence = order.required("sequence")
    if type(sequence) is not int or sequence < 0:
        raise wrong("sequence", "must be the sequence of the last message of our feed")
    await services.publishing.unlock(sequence)
    return document(request, await _state(services))


async def _state(services: Services) -> dict[str, object]:
    return services.publishing.status() | {"history": await services.publishing.history()}
