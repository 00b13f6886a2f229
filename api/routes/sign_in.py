"""Signing in with one's feed: to sites as their user (`/v1/sign-in`), and of others to a site of ours (`/v1/auth`).

A site is a program beside this node that has its token. It shows a challenge or takes the login page's query, and gets
a session; the proof goes between the two nodes. Nothing is signed unless the user of this node asked for it here.
"""

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.answers import document
from api.bodies import read_object, wrong
from api.errors import Problem
from api.ids import feed_id
from api.models import AuthChallenge, AuthSession, AuthState, SignInBody, SignInStart, SolveBody, Solved, VisitorBody
from api.negotiation import Form
from api.openapi import also, describe
from api.services import Services, services_of
from feeds.message import JsonValue
from feeds.sign_in import is_nonce, login_query, parse_start, start_uri
from feeds.ssb_uris import to_standard_base64, to_url_safe_base64
from replication.address import parse_address
from replication.errors import RemoteError
from replication.peer_info import PeerState
from replication.sign_in import NONCE_SECONDS, SESSION_SECONDS

__all__ = ["router"]

router: Final = APIRouter(tags=["sign-in"])

_TOKEN: Final = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The `id` of a challenge, or a session",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]=?$"},
}


# --- our user signs in somewhere ------------------------------------------------------------------------------------


@router.post(
    "/v1/sign-in/start",
    summary="Begin to sign in to a site",
    responses=also(200, SignInStart, "What to open its login page with", Form.MSGPACK),
    openapi_extra=describe(body=SignInBody),
)
async def start(request: Request) -> Response:
    services = services_of(request)
    server = await _server_in(request)
    cc = services.sign_in.begin(server)
    value = {
        "server": server,
        "client": services.me,
        "cc": cc,
        "query": login_query(services.me, cc),
        "expires_in": NONCE_SECONDS,
    }
    return document(request, value)


@router.post(
    "/v1/sign-in/solve",
    summary="Sign in to the site that shows a link",
    responses=also(200, Solved, "What the site said", Form.MSGPACK),
    openapi_extra=describe(body=SolveBody),
)
async def solve(request: Request) -> Response:
    services = services_of(request)
    body = await read_object(request, services.settings)
    body.only("uri")
    server, sc, address = parse_start(body.text("uri"))
    if address is not None and not _connected(services, server):
        if parse_address(address).key != server:
            raise Problem("invalid-address", "The address in the link is not that of the site which it names.")
        await services.peers.dial(address)
    cc, solution = services.sign_in.solve(server, sc)
    accepted = await _ask(services, server, "httpAuth.sendSolution", [sc, cc, solution])
    return document(request, {"server": server, "accepted": accepted is True})


@router.post(
    "/v1/sign-in/end",
    status_code=204,
    summary="Sign out of a site, everywhere",
    openapi_extra=describe(body=SignInBody),
)
async def end(request: Request) -> Response:
    server = await _server_in(request)
    await _ask(services_of(request), server, "httpAuth.invalidateAllSolutions", [])
    return Response(status_code=204)


async def _server_in(request: Request) -> str:
    body = await read_object(request, services_of(request).settings)
    body.only("server")
    return feed_id(body.text("server"))


# --- others sign in to a site of ours ---------------------------------------------------------------------------------


@router.post(
    "/v1/auth/challenges",
    status_code=201,
    summary="A link by which somebody can sign in",
    responses=also(201, AuthChallenge, "To be shown, and asked after", Form.MSGPACK),
)
async def challenge(request: Request) -> Response:
    services = services_of(request)
    sc = services.sign_in.challenge()
    value = {"id": to_url_safe_base64(sc), "uri": start_uri(services.me, sc), "expires_in": NONCE_SECONDS}
    return document(request, value, status=201)


@router.get(
    "/v1/auth/challenges/{id}",
    summary="Whether somebody has signed in with a link",
    responses=also(200, AuthState, "The session, once there is one", Form.MSGPACK),
    openapi_extra=describe(path=_TOKEN),
)
async def challenge_state(request: Request) -> Response:
    services = services_of(request)
    visit = services.sign_in.visit(_token_in(request))
    if visit is None:
        raise Problem("sign-in-not-found", "This challenge is not ours, or too old.")
    if visit.session is None:
        left = services.sign_in.seconds_left(visit.ends)
        return document(request, {"state": "waiting", "feed": None, "session": None, "expires_in": left})
    return document(request, {"state": "solved", **_session(services, visit.session)})


@router.post(
    "/v1/auth/request",
    summary="Have the node of somebody who opened the login page prove who it is",
    responses=also(200, AuthSession, "A session", Form.MSGPACK),
    openapi_extra=describe(body=VisitorBody),
)
async def request_solution(request: Request) -> Response:
    services = services_of(request)
    body = await read_object(request, services.settings)
    body.only("feed", "cc")
    client, cc = feed_id(body.text("feed")), body.text("cc")
    if not is_nonce(cc):
        raise wrong("cc", "must be base64 of 32 bytes")
    sc = services.sign_in.challenge()
    solution = await _ask(services, client, "httpAuth.requestSolution", [sc, cc])
    if not services.sign_in.accept(client, sc, cc, solution):
        raise Problem("sign-in-refused", f"{client} did not prove that it wants to sign in.")
    visit = services.sign_in.visit(sc)
    assert visit is not None
    assert visit.session is not None
    return document(request, _session(services, visit.session))


@router.get(
    "/v1/auth/sessions/{id}",
    summary="Who is signed in with a session",
    responses=also(200, AuthSession, "The session", Form.MSGPACK),
    openapi_extra=describe(path=_TOKEN),
)
async def session(request: Request) -> Response:
    return document(request, _session(services_of(request), _token_in(request)))


@router.delete("/v1/auth/sessions/{id}", status_code=204, summary="End a session", openapi_extra=describe(path=_TOKEN))
async def end_session(request: Request) -> Response:
    if not services_of(request).sign_in.end(_token_in(request)):
        raise _over()
    return Response(status_code=204)


def _token_in(request: Request) -> str:
    """Nonces are inside as the protocol spells them; paths have the URL-safe spelling."""
    return to_standard_base64(request.path_params["id"].rstrip("=")) + "="


def _session(services: Services, token: str) -> dict[str, object]:
    found = services.sign_in.session(token)
    if found is None:
        raise _over()
    left = min(SESSION_SECONDS, services.sign_in.seconds_left(found.ends))
    return {"feed": found.feed, "session": to_url_safe_base64(token), "expires_in": left}


def _over() -> Problem:
    return Problem("sign-in-not-found", "This session is over, or never was.")


# --- the other node ---------------------------------------------------------------------------------------------------


def _connected(services: Services, peer: str) -> bool:
    return any(info.id == peer and info.state is PeerState.CONNECTED for info in services.peers.peers())


async def _ask(services: Services, peer: str, method: str, args: list[JsonValue]) -> object:
    if not _connected(services, peer):
        raise Problem("peer-not-found", f"There is no connection to {peer}.")
    try:
        return await services.peers.call(peer, method, args)
    except RemoteError as error:
        raise Problem("sign-in-failed", f"{peer} did not answer as it should: {str(error)[:200]}") from None
