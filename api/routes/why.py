"""Why something is fetched, or is not: `replication.why` says what the answer holds."""

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document
from api.holding import named_here
from api.ids import ANY_PATH
from api.models import Why
from api.negotiation import Form
from api.openapi import also, describe
from api.services import services_of

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/why", tags=["replication"])


@router.get(
    "/{id:path}",
    summary="Why something is fetched, or is not",
    responses=also(200, Why, "What is known", Form.MSGPACK),
    openapi_extra=describe(path=ANY_PATH),
)
async def why(request: Request) -> Response:
    services = services_of(request)
    id = await named_here(services, request.path_params["id"].partition("?")[0])
    return document(request, await services.explainer.why(id))
