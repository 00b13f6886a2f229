"""Tokens for other programs: each may do only what it was made for, until it ends or is revoked."""

from typing import Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document
from api.bodies import Body, read_object, wrong
from api.errors import Problem
from api.models import NewToken, TokenBody, TokenList
from api.negotiation import Form
from api.openapi import also, describe, listing
from api.paging import PAGE, is_descending, list_answer, slice_of
from api.scopes import TokenScope, require
from api.services import services_of
from api.tokens import MAX_SECONDS, Token, Tokens

__all__ = ["router"]

router: Final = APIRouter(prefix="/v1/tokens", tags=["tokens"])

LONGEST_NAME: Final = 100
_TOKEN_PATH: Final = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "Id of a token; not the token itself",
    "schema": {"type": "string", "maxLength": 64},
}


@router.get(
    "",
    summary="Tokens, without their secrets",
    responses=listing(TokenList, "The oldest first"),
    openapi_extra=describe(*PAGE),
)
async def list_tokens(request: Request) -> Response:
    items = [orjson.dumps(_shown(token)) for token in _tokens(request).all()]
    if is_descending(request):
        items.reverse()
    return await list_answer(request, slice_of(items), name="tokens")


@router.post(
    "",
    status_code=201,
    summary="Make a token",
    responses=also(201, NewToken, "With the token, which is never shown again", Form.MSGPACK),
    openapi_extra=describe(body=TokenBody),
)
async def create(request: Request) -> Response:
    body = await read_object(request, services_of(request).settings)
    body.only("name", "scopes", "expires_in")
    name = body.text("name").strip()
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise wrong("name", f"must be 1 to {LONGEST_NAME} printable characters")
    scopes = _scopes(body)
    for scope in scopes:  # nobody hands on what it does not have
        require(request, scope)
    token, secret = await _tokens(request).create(name, scopes, _expires_in(body))
    return document(request, {**_shown(token), "token": secret}, status=201)


@router.delete("/{id}", status_code=204, summary="Revoke a token", openapi_extra=describe(path=_TOKEN_PATH))
async def revoke(request: Request) -> Response:
    if not await _tokens(request).revoke(request.path_params["id"]):
        raise Problem("token-not-found", "There is no token with this id; GET /v1/tokens lists them.")
    return Response(status_code=204)


def _tokens(request: Request) -> Tokens:
    tokens: Tokens = request.app.state.tokens
    return tokens


def _scopes(body: Body) -> set[TokenScope]:
    given = body.required("scopes")
    known = {str(scope): scope for scope in TokenScope}
    if not isinstance(given, list) or not given:
        raise wrong("scopes", f"must be a list of {', '.join(known)}")
    scopes = set()
    for one in given:
        if not isinstance(one, str) or one not in known:
            raise wrong("scopes", f"must be a list of {', '.join(known)}")
        scopes.add(known[one])
    return scopes


def _expires_in(body: Body) -> int | None:
    seconds = body.get("expires_in")
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 < seconds <= MAX_SECONDS:
        raise wrong("expires_in", f"must be a whole number of seconds from 1 to {MAX_SECONDS}")
    return seconds


def _shown(token: Token) -> dict[str, object]:
    return {**token._asdict(), "scopes": [str(scope) for scope in token.scopes]}
