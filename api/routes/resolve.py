"""Anything pasted: what it is, and whether it is here."""

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import written
from api.holding import is_held
from api.models import Resolved
from api.negotiation import Form
from api.openapi import also, describe
from api.parameters import Parameter, text
from api.pasted import Pasted, read_pasted
from api.services import Services, services_of
from feeds.names import as_json

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/resolve", tags=["messages"])

REF: Final = Parameter("ref", text(4096), "An id in any spelling, an ssb: URI, an invite, an address or a link")


@router.get(
    "",
    summary="What a pasted text is",
    responses=also(200, Resolved, "What it is, and whether it is here", Form.MSGPACK),
    openapi_extra=describe(REF),
)
async def resolve(request: Request) -> Response:
    given = REF.of(request)
    if given is None:
        raise REF.refusal("must be given")
    pasted = read_pasted(given)
    if pasted.kind == "unknown" and " " in given:  # an unencoded + of an id or a key; no host has one
        encoded = read_pasted(given.strip().replace(" ", "+"))
        pasted = pasted if "+" in (encoded.host or "") else encoded
    return written(request, as_json(await _resolved(services_of(request), pasted)).encode())


async def _resolved(services: Services, pasted: Pasted) -> dict[str, object]:
    held = [ref for ref in pasted.ids if await is_held(services, ref)]
    ref = next(iter(held or pasted.ids), None)
    is_open = pasted.kind == "id"  # 32 bytes that may be the id of anything: what is here decides
    if is_open and not held:
        ref = None
    return {
        "kind": held[0].kind if is_open and held else pasted.kind,
        "id": None if ref is None else str(ref),
        "uri": None if ref is None else ref.uri,
        "held": bool(held) if pasted.ids else None,
        "address": pasted.address,
        "host": pasted.host,
        "alias": pasted.alias,
        "action": pasted.action,
    }
