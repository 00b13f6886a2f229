"""Invites: those that this node gives out, and redeeming those of others."""

from dataclasses import asdict
from typing import Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document
from api.bodies import Body, read_object, wrong
from api.errors import Problem
from api.ids import FEED_PATH, feed_in
from api.models import AcceptBody, AcceptedInvite, InviteBody, InviteList, NewInvite
from api.negotiation import Form
from api.openapi import also, describe, listing
from api.paging import PAGE, is_descending, list_answer, slice_of
from api.qr import svg
from api.services import services_of
from replication.address import parse_invite
from replication.invites import LONGEST_NOTE, MOST_SECONDS, MOST_USES, Invite

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/invites", tags=["invites"])

LONGEST_CODE: Final = 2000


@router.get(
    "",
    summary="Invites of this node, ended ones too",
    responses=listing(InviteList, "The oldest first"),
    openapi_extra=describe(*PAGE),
)
async def list_invites(request: Request) -> Response:
    invites = services_of(request).inviting.invites
    items = [orjson.dumps(_shown(invite, invites.now)) for invite in invites.all()]
    if is_descending(request):
        items.reverse()
    return await list_answer(request, slice_of(items), name="invites")


@router.post(
    "",
    status_code=201,
    summary="Make an invite",
    responses=also(201, NewInvite, "With the code, which is never shown again", Form.MSGPACK),
    openapi_extra=describe(body=InviteBody),
)
async def create(request: Request) -> Response:
    services = services_of(request)
    body = await read_object(request, services.settings)
    body.only("uses", "note", "expires_in", "external", "modern")
    note = body.optional_text("note") or ""
    if len(note) > LONGEST_NOTE:
        raise wrong("note", f"must have at most {LONGEST_NOTE} characters")
    uses, expires_in = _whole(body, "uses", MOST_USES), _whole(body, "expires_in", MOST_SECONDS)
    modern = body.flag("modern") if body.has("modern") else False
    inviting = services.inviting
    address = inviting.advertised(body.optional_text("external") or "")
    made, code = await inviting.invites.create(address, uses=uses or 1, note=note, expires_in=expires_in, modern=modern)
    return document(request, {**_shown(made, inviting.invites.now), "invite": code}, status=201)


@router.post(
    "/accept",
    summary="Redeem an invite of another node",
    responses=also(200, AcceptedInvite, "The pub follows us, and we follow it", Form.MSGPACK),
    openapi_extra=describe(body=AcceptBody),
)
async def accept(request: Request) -> Response:
    joined = await services_of(request).inviting.joining.accept(await _code_in(request))
    value = {
        "pub": joined.pub,
        "address": joined.address,
        "already": joined.already,
        "messages": [entry.id for entry in joined.messages],
    }
    return document(request, value)


@router.post(
    "/qr",
    summary="An invite as a picture to scan",
    responses={200: {"description": "The picture", "content": {"image/svg+xml": {"schema": {"type": "string"}}}}},
    openapi_extra=describe(body=AcceptBody),
)
async def picture(request: Request) -> Response:
    code = await _code_in(request)
    parse_invite(code)
    return Response(svg(code), media_type="image/svg+xml", headers={"Cache-Control": "no-store"})


@router.delete("/{id:path}", status_code=204, summary="Revoke an invite", openapi_extra=describe(path=FEED_PATH))
async def revoke(request: Request) -> Response:
    if not await services_of(request).inviting.invites.revoke(feed_in(request)):
        raise Problem("invite-not-found", "There is no such invite to revoke; GET /v1/invites lists them.")
    return Response(status_code=204)


async def _code_in(request: Request) -> str:
    body = await read_object(request, services_of(request).settings)
    body.only("invite")
    code = body.text("invite")
    if not 0 < len(code) <= LONGEST_CODE or not code.isascii():
        raise wrong("invite", f"must have 1 to {LONGEST_CODE} ASCII characters")
    return code


def _whole(body: Body, name: str, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
        raise wrong(name, f"must be a whole number from 1 to {most}")
    return value


def _shown(invite: Invite, now: int) -> dict[str, object]:
    told = asdict(invite)
    del told["revoked"]
    return told | {"state": invite.state(now)}
