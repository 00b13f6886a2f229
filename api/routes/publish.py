"""Publishing any content on our own feed."""

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api import publishing
from api.bodies import Body, wrong
from api.models import PublishBody
from api.publishing import PUBLISHED, Letter, takes
from api.services import Services

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/messages", tags=["messages"])


@router.post(
    "",
    status_code=201,
    summary="Publish a message on our own feed",
    responses=PUBLISHED,
    openapi_extra=takes(PublishBody),
)
async def publish(request: Request) -> Response:
    return await publishing.publish(request, _letter)


async def _letter(_services: Services, order: Body) -> Letter:
    """The content as it was sent."""
    order.only("content", "recps")
    recps = order.get("recps")
    if not isinstance(recps, list | None):
        raise wrong("recps", "must be a list")
    content = order.required("content")
    if not isinstance(content, dict | str):
        raise wrong("content", "must be an object, or an already encrypted message")
    return Letter(content, recps)
