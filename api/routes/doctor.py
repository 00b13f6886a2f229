"""The doctor: what is wrong with this node, and what to do."""

from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document
from api.models import Examination
from api.negotiation import Form
from api.openapi import also, describe
from api.services import services_of

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/doctor", tags=["admin"])


@router.get(
    "",
    summary="Examine the node: files, clock, ports, peers, views, feed",
    responses=also(200, Examination, "Every check, in order; it dials itself for some", Form.MSGPACK),
    openapi_extra=describe(),
)
async def examine(request: Request) -> Response:
    return _examination(request, await services_of(request).doctor.examine())


@router.post(
    "",
    summary="Examine the node and mend what is safe to mend: rights of files, views, manifest.json, the log file",
    responses=also(200, Examination, "Every check after that, with what was done in `fixed`", Form.MSGPACK),
    openapi_extra=describe(),
)
async def mend(request: Request) -> Response:
    return _examination(request, await services_of(request).doctor.mend())


def _examination(request: Request, findings: list[dict[str, Any]]) -> Response:
    states = [finding["state"] for finding in findings]
    return document(request, {"ok": "failed" not in states, "checks": findings})
