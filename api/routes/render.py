"""Markdown to HTML, for programs that show messages and want no parser of their own."""

import asyncio
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document
from api.bodies import read_object
from api.errors import Problem
from api.markdown import LONGEST, render
from api.models import RenderBody, Rendered
from api.negotiation import Form
from api.openapi import also, describe
from api.services import services_of

__all__ = ["router"]

router: Final = APIRouter(tags=["messages"])


@router.post(
    "/v1/render",
    summary="Markdown as safe HTML",
    responses=also(200, Rendered, "HTML that may be put into a page", Form.MSGPACK),
    openapi_extra=describe(body=RenderBody),
)
async def render_text(request: Request) -> Response:
    body = await read_object(request, services_of(request).settings)
    body.only("text")
    text = body.text("text")
    if len(text) > LONGEST:
        detail = f"A text to render may have at most {LONGEST} characters."
        raise Problem("body-too-large", detail, limit=LONGEST)
    return document(request, {"html": await asyncio.to_thread(render, text)})
